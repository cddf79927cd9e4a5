//! How pages are fetched at present. Hides that settings change while fetches wait for their turn.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::cache::policy::Rules;

/// How pages are fetched that are fetched from now on. A fetch goes by what holds when it begins, which may be long after
/// it was asked for; so this outlives each set of settings, and whoever waits for a turn holds nothing older.
#[derive(Debug)]
pub struct Ways<S>(Arc<ArcSwapOption<Way<S>>>);

/// How a page is fetched: both parts are of the same settings.
#[derive(Debug)]
pub struct Way<S> {
    /// What is kept, and for how long.
    pub rules: Arc<Rules>,
    /// Where fetches go.
    pub upstream: S,
}

impl<S> Ways<S> {
    pub(super) fn now(&self) -> Option<Arc<Way<S>>> {
        self.0.load_full()
    }

    /// From now on this way.
    pub fn turn(&self, way: Way<S>) {
        self.0.store(Some(Arc::new(way)));
    }
}

/// None at first.
impl<S> Default for Ways<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S> Clone for Ways<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
