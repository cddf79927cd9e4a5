//! How often a file is read.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sources-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn of(file: &Path) -> Sources {
    let url = "CONTACTS_GATEWAY__UPSTREAM__URL";
    let env = [(url.to_owned(), "http://localhost".to_owned())];
    Sources::new(Some(file), env.into_iter())
}

fn fresh_for(sources: &Sources) -> Option<Duration> {
    Some(sources.config().ok()?.cache.fresh_for)
}

#[test]
fn a_file_that_comes_and_goes_while_it_is_read_is_read_again() {
    let folder = folder("goes");
    let (first, last) = (folder.join("first"), folder.join("last"));
    fs::write(&first, "cache.fresh_for = \"10s\"").unwrap();
    fs::write(&last, "cache.fresh_for = \"20s\"").unwrap();
    let file = folder.join("gateway.toml");
    symlink(&first, &file).unwrap();
    let sources = of(&file);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                fs::remove_file(&file).unwrap();
                symlink(&first, &file).unwrap();
            }
        });
        for _ in 0..200 {
            let read = fresh_for(&sources);
            assert!(read.is_none_or(|read| read == Duration::from_secs(10)));
        }
        done.store(true, Relaxed);
    });
    fs::remove_file(&file).unwrap();
    assert_eq!(fresh_for(&sources), None, "it is gone");
    symlink(&last, &file).unwrap();
    assert_eq!(fresh_for(&sources), Some(Duration::from_secs(20)));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_pipe_is_read_once() {
    let (read, mut write) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut write, b"cache.fresh_for = \"10s\"").unwrap();
    drop(write);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&read);
    let sources = of(&PathBuf::from(format!("/proc/self/fd/{fd}")));
    for _ in 0..3 {
        assert_eq!(fresh_for(&sources), Some(Duration::from_secs(10)));
    }
    assert!(sources.read().0.is_empty(), "nothing to follow");
}
