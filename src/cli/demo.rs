//! A stand-in vendor and the gateway before it, in one process, on loopback.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Failure, Log, other, print, until_signal};
use crate::clock::Clock;
use crate::config::{Config, environment};
use crate::server::Gateway;
use crate::vendor::{self, Vendor};

/// Runs until a signal comes.
pub(super) async fn run(file: Option<&Path>, log: &Log) -> Result<(), Failure> {
    let (settings, app) = vendor::Settings::demo().map_err(other)?;
    let vendor = Vendor::start(settings).map_err(other)?;
    let drawer = Drawer::new().map_err(other)?;
    let secret_file = drawer
        .put("client_secret", app.secret.as_bytes())
        .map_err(other)?;
    // What the demo needs goes before everything; the rest is the user's to try out.
    let ours = [
        (
            "CONTACTS_GATEWAY__LISTEN__ADDRESS",
            "127.0.0.1:0".to_owned(),
        ),
        ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0".to_owned()),
        ("CONTACTS_GATEWAY__UPSTREAM__URL", vendor.url()),
        (
            "CONTACTS_GATEWAY__CREDENTIALS",
            format!(
                "[{{ stream = {:?}, client_id = {:?}, secret_file = {secret_file:?} }}]",
                app.stream.as_str(),
                app.client_id,
            ),
        ),
    ];
    let theirs = environment()
        .filter(|(name, _)| !ours.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
    let all: Vec<_> = theirs
        .chain(ours.iter().map(|(n, v)| ((*n).to_owned(), v.clone())))
        .collect();
    let config = Config::load(file, all.into_iter())
        .map_err(|mistakes| Failure::Settings(mistakes.to_string()))?;
    let clock = Clock::system();
    log.start(&config, &clock)?;

    let start = async {
        let gateway = Gateway::bind(config, clock).await?;
        let (address, admin) = (
            gateway.address().map_err(other)?,
            gateway.admin_address().map_err(other)?,
        );
        let (url, stream) = (vendor.url(), &app.stream);
        print(&format!(
            "\
This is a demonstration: the vendor in it is a stand-in, and its contacts are made up.

  the vendor   {url}   60 calls a minute, as documented
  the gateway  http://{address}   holds the secret of app {stream}
  operators    http://{admin}/metrics   and /status

Ask for a list, without a token. Ask twice: the first answer comes from the vendor, the second from memory,
and its Cache-Status says so.

  curl -i 'http://{address}/agentassist/api/v1/public/{stream}/campaign/contactList/cl-n6-demo/getAllContacts?accountId=67777ce93e25326494e90000'

Ctrl-C ends it.
"
        ))?;
        Ok(gateway)
    };
    let ended = until_signal(Box::pin(start)).await;
    vendor.shutdown().await;
    ended
}

/// A folder that only this user can open, gone when the demo is over.
struct Drawer(PathBuf);

impl Drawer {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("contacts-gateway-demo-{}", Uuid::now_v7()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn put(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        use io::Write as _;
        let path = self.0.join(name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(contents)?;
        Ok(path)
    }
}

impl Drop for Drawer {
    fn drop(&mut self) {
        // Nothing is left to tell it to if this fails.
        let _ = fs::remove_dir_all(&self.0);
    }
}
