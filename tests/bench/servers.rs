//! What stands between the callers and the vendor: the gateway, or nginx in its place. Each a process, ended by its id.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::load::{ACCOUNT, STREAM};

pub(crate) const CLIENT_ID: &str = "cs-8a3c5a5e-0000-5000-8000-000000000001";
/// It opens nothing but the stand-in.
pub(crate) const SECRET: &str = "0e4d5ac9d1e84f6d8c3b1a0f9e8d7c6b7f0c1d5b2a9e4f6d";

/// The settings, ten times faster.
const SETTINGS: &str = r#"
[cache]
fresh_for = "6s"
usable_for = "360s"
stale_if_error = "360s"
[allowance]
window = "6100ms"
pause = "6s"
queue_deadline = "500ms"
[telemetry]
log = "error"
"#;

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The program of this package.
    Ours,
    /// What there is without it.
    Nginx,
}

/// A process at work. It ends, and its folder goes, when this is dropped.
pub(crate) struct Server {
    kind: Kind,
    child: Child,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
}

impl Server {
    /// Starts one before this vendor, and waits until it takes connections. `shared`: where a gateway meets others, if
    /// there are any.
    pub(crate) fn start(kind: Kind, vendor: SocketAddr, call_timeout: &str, shared: &str) -> Self {
        let address = free_address();
        let name = format!(
            "contacts-gateway-bench-{}-{}",
            std::process::id(),
            address.port()
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut command = match kind {
            Kind::Ours => {
                let mut command = ours(&folder, address, vendor, call_timeout);
                command.env("CONTACTS_GATEWAY__SHARED__URL", shared);
                command
            }
            Kind::Nginx => nginx(&folder, address, vendor),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            kind,
            child,
            address,
            folder,
        };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return server;
            }
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{kind:?} ended: {ended:?}");
            sleep(Duration::from_millis(50));
        }
        panic!("{kind:?} takes no connections");
    }

    /// The processor time that it took so far, its children's included.
    pub(crate) fn cpu(&self) -> Duration {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().map(str::to_owned);
        children.chain([pid.to_string()]).map(|pid| cpu(&pid)).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.kind == Kind::Nginx {
            // Asked, it ends its workers as well; killed, it would leave them behind.
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            for _ in 0..100 {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    break;
                }
                sleep(Duration::from_millis(50));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The processor time of a process, "self" for this one. Linux only; elsewhere nothing.
pub(crate) fn cpu(pid: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything. After it come state, parent and so on; in hundredths of a second.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields = after.split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * fields.filter_map(|f| f.parse::<u64>().ok()).sum::<u64>())
}

/// Whether nginx can be had.
pub(crate) fn has_nginx() -> bool {
    let version = Command::new("nginx")
        .arg("-v")
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

fn ours(folder: &Path, address: SocketAddr, vendor: SocketAddr, call_timeout: &str) -> Command {
    let file = settings(folder, "");
    let mut command = program(&file);
    command
        .env("CONTACTS_GATEWAY__LISTEN__ADDRESS", address.to_string())
        .env("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0")
        .env(
            "CONTACTS_GATEWAY__UPSTREAM__URL",
            format!("http://{vendor}"),
        )
        .env("CONTACTS_GATEWAY__UPSTREAM__TIMEOUT", call_timeout)
        .env("CONTACTS_GATEWAY__UPSTREAM__CONNECT_TIMEOUT", "500ms");
    command
}

fn settings(folder: &Path, more: &str) -> PathBuf {
    let (secret, file) = (folder.join("client_secret"), folder.join("gateway.toml"));
    fs::write(&secret, SECRET).unwrap();
    let app = format!(
        "[[credentials]]\nstream = {STREAM:?}\nclient_id = {CLIENT_ID:?}\nsecret_file = {secret:?}\n"
    );
    fs::write(&file, format!("{SETTINGS}{app}{more}")).unwrap();
    file
}

fn program(settings: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_contacts-gateway"));
    program.env_clear().arg("--config").arg(settings);
    program
}

/// The best that nginx can do here: one call a page at a time, stale pages while one is under way and after failures and
/// refusals. It cannot mint tokens, so it is given one. It counts in whole seconds, which makes its pages some 0.5 s older
/// here than a tenth of what they would be in life.
fn nginx(folder: &Path, address: SocketAddr, vendor: SocketAddr) -> Command {
    let file = settings(folder, "token_lifetime = \"1h\"\n");
    let minted = program(&file)
        .args(["token", "--stream", STREAM])
        .output()
        .unwrap();
    let token = String::from_utf8(minted.stdout).unwrap();
    let (token, at) = (token.trim(), folder.display());
    let text = format!(
        r#"
daemon off;
worker_processes 1;
pid {at}/pid;
error_log {at}/log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {at}/body;
    proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi;
    scgi_temp_path {at}/scgi;
    proxy_cache_path {at}/cache levels=1 keys_zone=pages:10m max_size=64m inactive=360s use_temp_path=off;
    upstream vendor {{ server {vendor}; keepalive 64; }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://vendor;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header auth "{token}";
            proxy_set_header iid "{STREAM}";
            proxy_set_header accountId "{ACCOUNT}";
            proxy_cache pages;
            proxy_cache_key $request_uri;
            proxy_cache_valid 200 6s;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 5s;
            proxy_cache_lock_age 5s;
            proxy_cache_background_update on;
            proxy_cache_use_stale updating error timeout invalid_header http_500 http_502 http_503 http_504 http_429;
        }}
    }}
}}
"#
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text).unwrap();
    // Its workers, of another user where it is started by root, write here.
    if cfg!(unix) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("nginx");
    command
        .args(["-p"])
        .arg(folder)
        .arg("-c")
        .arg(file)
        .arg("-e")
        .arg(folder.join("log"));
    command
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
