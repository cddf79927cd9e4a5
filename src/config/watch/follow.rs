//! Who tells of files. Hides what the system has to be asked for, which is what happens to names in folders.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

#[cfg(target_os = "linux")]
mod told;
#[cfg(not(target_os = "linux"))]
#[path = "follow/untold.rs"]
mod told;

/// Follows the names of files, until it is dropped.
#[derive(Debug)]
pub(super) struct Following {
    told: Option<told::Told>,
    /// Why not all of them are.
    pub(super) error: Option<io::Error>,
}

impl Following {
    /// Made anew for each reading: a folder that was made again is another one than it was, and so are links. Call it
    /// inside a Tokio runtime.
    pub(super) fn new(files: &[PathBuf]) -> Self {
        let names: BTreeSet<_> = files.iter().flat_map(|file| names(file)).collect();
        match told::Told::of(&names) {
            Ok((told, error)) => Self {
                told: Some(told),
                error,
            },
            Err(error) => Self {
                told: None,
                error: Some(error),
            },
        }
    }

    /// Waits until something happened that may be about one of the files.
    pub(super) async fn stirs(&mut self) {
        let Some(told) = &mut self.told else {
            return std::future::pending().await;
        };
        if let Err(error) = told.next().await {
            self.error = Some(error);
            self.told = None;
        }
    }
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
