//! inotify(7).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use futures_util::StreamExt;
use inotify::{EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

/// Tells what happens to names in folders.
#[derive(Debug)]
pub(super) struct Told {
    events: EventStream<Box<[u8]>>,
    names: HashMap<WatchDescriptor, HashSet<OsString>>,
}

/// For some events at a time, of which the longest takes less than 300 bytes.
const ROOM: usize = 4096;

impl Told {
    /// Of these names, and why not of all of them.
    pub(super) fn of(names: &BTreeSet<PathBuf>) -> io::Result<(Self, Option<io::Error>)> {
        let inotify = Inotify::init()?;
        let mut watches = inotify.watches();
        let (mut watched, mut error) = (HashMap::<_, HashSet<_>>::new(), None);
        // Outer folders come first, so that one that is made meanwhile is noticed.
        for name in names {
            let (Some(folder), Some(name)) = (name.parent(), name.file_name()) else {
                continue;
            };
            match watches.add(folder, asked_for()) {
                Ok(watch) => drop(watched.entry(watch).or_default().insert(name.into())),
                // It may come later, into a folder that is there.
                Err(missing) if missing.kind() == ErrorKind::NotFound => {}
                Err(other) => error = error.or_else(|| Some(explained(other))),
            }
        }
        let told = Self {
            events: inotify.into_event_stream([0; ROOM].into())?,
            names: watched,
        };
        Ok((told, error))
    }

    /// Waits until something happened to one of the names.
    ///
    /// # Errors
    /// Nothing more is told.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        loop {
            let event = self.events.next().await;
            if self.matters(&event.ok_or(ErrorKind::UnexpectedEof)??) {
                return Ok(());
            }
        }
    }

    fn matters(&self, event: &EventOwned) -> bool {
        match (self.names.get(&event.wd), &event.name) {
            (Some(names), Some(name)) => names.contains(name),
            // The folder itself, or more than there was room for.
            _ => true,
        }
    }
}

/// All that can make a name stand for something else. Not each piece that is written to a file, nor that somebody opens
/// one: beside the files there may be a log, or whatever else is written all the time.
fn asked_for() -> WatchMask {
    WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
}

fn explained(error: io::Error) -> io::Error {
    match error.kind() {
        // It is said of no disk.
        ErrorKind::StorageFull => io::Error::other("fs.inotify.max_user_watches is reached"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_log_beside_the_files_wakes_nobody() {
        let folder = std::env::temp_dir().join(format!("told-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, log) = (folder.join("file"), folder.join("log"));
        let mut writer = File::create(&log).unwrap();
        let (mut told, error) = Told::of(&[file.clone()].into()).unwrap();
        assert!(error.is_none(), "{error:?}");

        writer.write_all(b"a line\n").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"a line\n");
        fs::write(&file, "").unwrap();
        let event = told.events.next().await.unwrap().unwrap();
        assert_eq!(event.name, Some("file".into()), "{event:?}");
        told.next().await.unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
