//! How fetches at other replicas end, for those who wait for them.

use tokio::sync::broadcast;

use super::Shared;

/// That another replica has fetched a page, or failed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    pub(super) page: String,
    /// What went wrong, by its name; nothing where the page is there.
    pub problem: Option<String>,
}

/// Hears how the fetch of a page at another replica ends, if that is after a moment.
#[derive(Debug)]
pub struct Landings {
    page: String,
    heard: broadcast::Receiver<Landing>,
}

impl Landings {
    /// From this moment on. `page`: what the page is called.
    pub(super) fn of(shared: &Shared, page: String) -> Self {
        Self {
            page,
            heard: shared.landings.subscribe(),
        }
    }

    /// Waits for the next word of this page; nothing where words were missed.
    pub async fn next(&mut self) -> Option<Landing> {
        loop {
            match self.heard.recv().await {
                Ok(landing) if landing.page == self.page => return Some(landing),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}
