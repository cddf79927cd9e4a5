//! Tells when something else is to be read than before: a file changed, or somebody asked with SIGHUP.
//!
//! Files change in many ways: they are written over, replaced by others of their name, removed and made again, and in
//! Kubernetes a link among the folders above them is turned. So every name on the way to a file is followed, in the
//! folder that holds it, and what exactly happened there does not matter: when it is quiet again everything is read, and
//! told if it differs. Who cannot be told of changes (some file systems tell nobody, and there are limits) looks now and
//! then.

mod follow;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::warn;

use self::follow::Following;
use super::sources::{Loaded, Sources, Unusable};
use crate::secret::Print;

/// Re-reads settings and secrets.
#[derive(Debug)]
pub struct Watch {
    sources: Arc<Sources>,
    hangups: Signal,
    /// What was told last, or was there at first.
    last: Result<Print, Unusable>,
    /// Nothing before the first reading.
    following: Option<Following>,
    warned: bool,
}

/// Names are quiet for so long before files are read.
const QUIET: Duration = Duration::from_millis(100);
/// But files are read after so long, quiet or not.
const LONGEST: Duration = Duration::from_secs(1);
/// How often somebody looks who is told of changes, and somebody who is not.
const LOOKS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));
/// Readings until two in a row are the same.
const READINGS: u32 = 10;

impl Watch {
    /// Watches what is read from these sources, of which `in_use` was read before. From now on SIGHUP ends nothing. Call
    /// it inside a Tokio runtime.
    ///
    /// # Errors
    /// The system tells of no signals.
    pub fn new(sources: Sources, in_use: Print) -> io::Result<Self> {
        Ok(Self {
            sources: Arc::new(sources),
            hangups: signal(SignalKind::hangup())?,
            last: Ok(in_use),
            following: None,
            warned: false,
        })
    }

    /// What is there now, as soon as it differs from what was told last, or somebody asks.
    ///
    /// # Errors
    /// What is there cannot be used.
    pub async fn next(&mut self) -> Result<Loaded, Unusable> {
        loop {
            let asked = match &mut self.following {
                // It may have changed before anybody watched.
                None => false,
                Some(following) => stirs(&mut self.hangups, following).await,
            };
            let read = self.read().await;
            let print = print(&read);
            if asked || print != self.last {
                self.last = print;
                return read;
            }
        }
    }

    async fn read(&mut self) -> Result<Loaded, Unusable> {
        let sources = self.sources.clone();
        // Files can be slow, or far away.
        let read = tokio::task::spawn_blocking(move || settled(&sources));
        let (following, read) = match read.await {
            Ok(read) => read,
            Err(defect) => return Err(Unusable::from(defect.to_string())),
        };
        if let Some(error) = following.error.as_ref().filter(|_| !self.warned) {
            let every = humantime::format_duration(LOOKS.1);
            warn!(%error, "changes of files are not told here: they are looked for every {every}, and on SIGHUP");
            self.warned = true;
        }
        self.following = Some(following);
        read
    }
}

/// Waits until there is a reason to read. Tells whether somebody asked.
async fn stirs(hangups: &mut Signal, following: &mut Following) -> bool {
    let looks = match following.error {
        None => LOOKS.0,
        Some(_) => LOOKS.1,
    };
    tokio::select! {
        _ = hangups.recv() => return true,
        () = sleep(looks) => return false,
        () = following.stirs() => {}
    }
    let mut late = pin!(sleep(LONGEST));
    loop {
        tokio::select! {
            _ = hangups.recv() => return true,
            () = &mut late => return false,
            () = sleep(QUIET) => return false,
            () = following.stirs() => {}
        }
    }
}

/// Reads until two readings in a row are the same, so that what comes of several files is of one moment. What changes
/// after that stirs.
fn settled(sources: &Sources) -> (Following, Result<Loaded, Unusable>) {
    let (files, mut read) = sources.read();
    let mut following = Following::new(&files);
    for _ in 1..READINGS {
        let (files, again) = sources.read();
        let same = print(&read) == print(&again);
        read = again;
        if same {
            break;
        }
        following = Following::new(&files);
    }
    (following, read)
}

/// What tells one reading from another.
fn print(read: &Result<Loaded, Unusable>) -> Result<Print, Unusable> {
    read.as_ref().map(Loaded::print).map_err(Clone::clone)
}
