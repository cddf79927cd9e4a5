//! Tells when something else is to be read than before: a file changed, or somebody asked with SIGHUP.
//!
//! Files change in many ways: they are written over, replaced by others of their name, removed and made again, and in
//! Kubernetes a link among the folders above them is turned. So every name on the way to a file is followed, in the
//! folder that holds it, and what exactly happened there does not matter: when it is quiet again everything is read, and
//! told if it differs. Who cannot be told of changes (some file systems tell nobody, and there are limits) looks now and
//! then.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;

use super::sources::{Loaded, Sources, Unusable};
use crate::secret::Print;

/// Re-reads settings and secrets.
#[derive(Debug)]
pub struct Watch {
    sources: Arc<Sources>,
    hangups: Signal,
    stirred: Arc<Notify>,
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
            stirred: Arc::default(),
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
            let asked = match &self.following {
                // It may have changed before anybody watched.
                None => false,
                Some(following) => {
                    let looks = if following.complete { LOOKS.0 } else { LOOKS.1 };
                    self.stirs(looks).await
                }
            };
            let read = self.read().await;
            let print = print(&read);
            if asked || print != self.last {
                self.last = print;
                return read;
            }
        }
    }

    /// Waits until there is a reason to read. Tells whether somebody asked.
    async fn stirs(&mut self, looks: Duration) -> bool {
        tokio::select! {
            _ = self.hangups.recv() => return true,
            () = sleep(looks) => return false,
            () = self.stirred.notified() => {}
        }
        let mut late = pin!(sleep(LONGEST));
        loop {
            tokio::select! {
                _ = self.hangups.recv() => return true,
                () = &mut late => return false,
                () = sleep(QUIET) => return false,
                () = self.stirred.notified() => {}
            }
        }
    }

    async fn read(&mut self) -> Result<Loaded, Unusable> {
        let (sources, stirred) = (self.sources.clone(), self.stirred.clone());
        // Files can be slow, or far away.
        let read = tokio::task::spawn_blocking(move || settled(&sources, &stirred));
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

/// Reads until two readings in a row are the same, so that what comes of several files is of one moment. What changes
/// after that stirs.
fn settled(sources: &Sources, stirred: &Arc<Notify>) -> (Following, Result<Loaded, Unusable>) {
    let (files, mut read) = sources.read();
    let mut following = Following::new(&files, stirred);
    for _ in 1..READINGS {
        let (files, again) = sources.read();
        let same = print(&read) == print(&again);
        read = again;
        if same {
            break;
        }
        following = Following::new(&files, stirred);
    }
    (following, read)
}

/// What tells one reading from another.
fn print(read: &Result<Loaded, Unusable>) -> Result<Print, Unusable> {
    read.as_ref().map(Loaded::print).map_err(Clone::clone)
}

/// Follows names, until it is dropped.
#[derive(Debug)]
struct Following {
    _watcher: Option<RecommendedWatcher>,
    complete: bool,
    error: Option<notify::Error>,
}

impl Following {
    /// Made anew for each reading: a folder that was made again is another one than it was, and so are links.
    fn new(files: &[PathBuf], stirred: &Arc<Notify>) -> Self {
        let names: BTreeSet<_> = files.iter().flat_map(|file| names(file)).collect();
        let folders: BTreeSet<_> = names.iter().filter_map(|name| name.parent()).collect();
        // Outer folders come first, so that one that is made meanwhile is noticed.
        let folders: Vec<_> = folders.into_iter().map(Path::to_owned).collect();
        let stirred = stirred.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(&event, &names)) {
                stirred.notify_one();
            }
        });
        let (mut watcher, mut error) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error)),
        };
        if let Some(watcher) = &mut watcher {
            for folder in folders {
                match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                    Ok(()) => {}
                    // It may come later, into a folder that is there.
                    Err(missing) if matches!(missing.kind, ErrorKind::PathNotFound) => {}
                    Err(other) => error = error.or(Some(other)),
                }
            }
        }
        Self {
            _watcher: watcher,
            complete: error.is_none(),
            error,
        }
    }
}

/// Whether an event may be about one of the names, and is not only that somebody reads, as we do.
fn matters(event: &Event, names: &BTreeSet<PathBuf>) -> bool {
    let wrote = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let reads = event.kind.is_access() && event.kind != wrote;
    let ours = event.paths.is_empty() || event.paths.iter().any(|path| names.contains(path));
    event.need_rescan() || ours && !reads
}

/// Every name that is looked up on the way to a file, links included, whether it is there or not.
fn names(file: &Path) -> Vec<PathBuf> {
    /// As many as Linux follows.
    const MOST_LINKS: usize = 40;
    let mut names = Vec::new();
    let mut links = 0;
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut here = PathBuf::new();
    // The next one last.
    let mut steps = backwards(&file);
    while let Some(step) = steps.pop() {
        match Path::new(&step).components().next() {
            Some(Component::ParentDir) => {
                here.pop();
            }
            Some(Component::Normal(name)) => {
                let name = here.join(name);
                names.push(name.clone());
                match std::fs::read_link(&name) {
                    Ok(target) if links < MOST_LINKS => {
                        links += 1;
                        steps.extend(backwards(&target));
                    }
                    _ => here = name,
                }
            }
            Some(Component::CurDir) | None => {}
            Some(root) => here.push(root),
        }
    }
    names
}

fn backwards(path: &Path) -> Vec<PathBuf> {
    let steps = path.components().rev();
    steps.map(|step| PathBuf::from(step.as_os_str())).collect()
}

#[cfg(test)]
mod tests;
