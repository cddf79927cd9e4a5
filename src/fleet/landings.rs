//! How fetches at other replicas end, for those who wait for them.

use tokio::sync::broadcast;

use super::Fleet;
use super::names::Name;
use crate::contacts::{Forwarded, PageKey};

/// That another replica has fetched a page, or failed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    pub(super) page: String,
    /// What went wrong, by its name; nothing where the page is there.
    pub problem: Option<String>,
}

/// Hears of landings from a moment on.
pub struct Landings {
    page: String,
    heard: broadcast::Receiver<Landing>,
}

impl Fleet {
    /// Hears how a page's fetch at another replica ends, if that is after this moment.
    pub fn landings(&self, key: &PageKey, sent: &Forwarded) -> Option<Landings> {
        let shared = &self.0.as_deref()?.shared;
        let Name { page, .. } = shared.names.page(key, sent);
        Some(Landings {
            page,
            heard: shared.landings.subscribe(),
        })
    }
}

impl Landings {
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
