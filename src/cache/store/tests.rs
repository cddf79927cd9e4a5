//! The store beside a simple model of it, through whatever happens in whatever order.

use super::*;

impl Store {
    /// Drops a page as moka does of itself, for want of room.
    pub(in super::super) fn evict(&self, key: &PageKey) {
        self.pages.invalidate(key);
        locked(&self.dropped).push(key.clone());
    }
}
