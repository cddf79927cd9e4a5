//! The real program, as a process of its own.

use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use contacts_gateway::config::environment;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::{Answer, CLIENT_ID, Folder, SECRET, STREAM, eventually};

/// The program as somebody started it. Whatever happens to the test, it does not outlive it.
pub(crate) struct Program {
    child: Child,
    out: Stream,
    err: Stream,
}

impl Program {
    /// Starts it with these flags and variables, and no settings from the environment of the tests.
    pub(crate) fn start(flags: &[&str], env: &[(&str, &str)]) -> Self {
        Self::of(env!("CARGO_BIN_EXE_contacts-gateway"), flags, env)
    }

    /// The same by way of another program, which becomes it.
    pub(crate) fn of(program: &str, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        for (name, _) in environment().filter(|(name, _)| name.starts_with("CONTACTS_GATEWAY__")) {
            command.env_remove(name);
        }
        command.args(flags).envs(env.iter().copied());
        Self::spawn(command)
    }

    /// The same with a socket that is open already, passed on as systemd does it: as file descriptor 3.
    pub(crate) fn behind(socket: &TcpListener, flags: &[&str], env: &[(&str, &str)]) -> Self {
        const PASS_ON: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
        let program = env!("CARGO_BIN_EXE_contacts-gateway");
        let mut command = Command::new("sh");
        command.args(["-c", PASS_ON, program]).args(flags);
        command.envs(env.iter().copied());
        let socket = OwnedFd::from(socket.try_clone().unwrap());
        Self::with_input(command, socket.into())
    }

    /// Starts it with a log that only the test reads, when it likes.
    pub(crate) fn unread(log: OwnedFd, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_contacts-gateway"));
        command.args(flags).envs(env.iter().copied());
        Self::with(command, Stdio::null(), log.into())
    }

    /// Starts another program.
    pub(crate) fn spawn(command: Command) -> Self {
        Self::with_input(command, Stdio::null())
    }

    fn with_input(command: Command, input: Stdio) -> Self {
        Self::with(command, input, Stdio::piped())
    }

    fn with(mut command: Command, input: Stdio, log: Stdio) -> Self {
        let piped = command.stdin(input).stdout(Stdio::piped());
        let mut child = piped.stderr(log).spawn().unwrap();
        Self {
            out: Stream::of(child.stdout.take().unwrap()),
            err: child.stderr.take().map(Stream::of).unwrap_or_default(),
            child,
        }
    }

    /// Starts it and waits until it has ended by itself.
    pub(crate) async fn run(flags: &[&str], env: &[(&str, &str)]) -> Ended {
        Self::start(flags, env).ended().await
    }

    /// What it said so far on standard output.
    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    /// What it said so far on standard error: its log.
    pub(crate) fn log(&self) -> String {
        self.err.text()
    }

    /// Waits until a line of either holds this text, and gives that line back.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        eventually(&format!("{text:?} is said"), async || {
            let said = self.out() + &self.log();
            let found = said
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned);
            let ended = found.is_none() && self.child.try_wait().unwrap().is_some();
            assert!(!ended, "it ended and never said {text:?}, but: {said}");
            found
        })
        .await
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many bytes of memory it takes, as Linux counts them (VmRSS).
    pub(crate) fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal, such as "TERM", to this very process.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success(), "{kill}");
    }

    /// Waits until it has ended by itself, or because it was told to.
    pub(crate) async fn ended(&mut self) -> Ended {
        let status = eventually("it ends", async || self.child.try_wait().unwrap()).await;
        Ended {
            code: status.code(),
            out: self.out.all(),
            err: self.err.all(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let said = self.out() + &self.log();
            let lines: Vec<_> = said.lines().rev().take(20).collect();
            eprintln!("the last that the program said, latest first: {lines:#?}");
        }
    }
}

/// How a process ended, and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What a process writes, read as it comes so that it never has to wait.
#[derive(Default)]
struct Stream(Arc<Mutex<Vec<u8>>>, Option<JoinHandle<()>>);

impl Stream {
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let reader = std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut some) {
                keep.lock().unwrap().extend_from_slice(&some[..n]);
            }
        });
        Self(kept, Some(reader))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// To its end, which comes when the process has ended.
    fn all(&mut self) -> String {
        if let Some(reader) = self.1.take() {
            reader.join().unwrap();
        }
        self.text()
    }
}

/// The program as a gateway before an upstream, with one app whose secret is [`SECRET`].
pub(crate) struct Serving {
    pub(crate) program: Program,
    /// Host and port for callers.
    pub(crate) callers: String,
    /// Host and port for operators.
    pub(crate) operators: String,
    _folder: Option<Folder>,
}

impl Serving {
    /// With these settings (TOML) over the defaults. It is ready when this returns.
    pub(crate) async fn before(upstream: &str, settings: &str) -> Self {
        Self::with_env(upstream, settings, &[]).await
    }

    /// The same with these variables besides.
    pub(crate) async fn with_env(upstream: &str, settings: &str, env: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let file = settings_file(&folder, settings);
        let own = [
            ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
            ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
            ("CONTACTS_GATEWAY__UPSTREAM__URL", upstream),
        ];
        let program = Program::start(&["--config", &file], &[&own, env].concat());
        Self {
            _folder: Some(folder),
            ..Self::started(program).await
        }
    }

    /// A program that somebody started. It is ready when this returns.
    pub(crate) async fn started(mut program: Program) -> Self {
        let line = program.line("listen.address").await;
        Self::of(program, &line)
    }

    /// A program that has said so in this line of its log.
    pub(crate) fn of(program: Program, line: &str) -> Self {
        Self {
            callers: address(line, "listen.address"),
            operators: address(line, "admin.address"),
            program,
            _folder: None,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        ask(Method::GET, &format!("http://{}{path}", self.callers), &[]).await
    }

    pub(crate) async fn operate(&self, method: Method, path: &str) -> Answer {
        ask(method, &format!("http://{}{path}", self.operators), &[]).await
    }
}

/// A settings file with one app, whose secret is [`SECRET`], after these settings. Its path.
pub(crate) fn settings_file(folder: &Folder, settings: &str) -> String {
    let secret = folder.put("client_secret", SECRET);
    let app = format!(
        "\n[[credentials]]\nstream = {STREAM:?}\nclient_id = {CLIENT_ID:?}\nsecret_file = {secret:?}\n"
    );
    let file = folder.put("gateway.toml", &(settings.to_owned() + &app));
    file.to_str().unwrap().to_owned()
}

/// Sends a request on a connection of its own.
pub(crate) async fn ask(method: Method, url: &str, fields: &[(&str, &str)]) -> Answer {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// An address out of a log line, JSON or text.
fn address(line: &str, name: &str) -> String {
    let after = line.split_once(name).unwrap().1;
    let start = after.find(|c: char| c.is_ascii_digit()).unwrap();
    let rest = &after[start..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    rest[..end.unwrap_or(rest.len())].to_owned()
}
