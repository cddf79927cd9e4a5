//! Which pages a list has, so that a forget finds them without looking through all there are.
//!
//! Hides how that takes little memory: most lists have one page, and of each only what its list's key does not say is
//! held.

use foldhash::HashSet;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::contacts::{Api, ListKey, PageKey};

/// What is known of one list. It is kept while the list has pages or fetches under way.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    parts: Parts,
    /// How many are under way.
    pub(super) fetches: u32,
    /// Another one after every forget.
    pub(super) generation: u32,
}

#[derive(Debug, Default)]
enum Parts {
    #[default]
    None,
    One(Part),
    /// A set is larger than a part, and few lists have one.
    Many(Box<HashSet<Part>>),
}

/// What tells a page from others of its list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    api: Api,
    skip: u64,
    limit: Option<NonZeroU64>,
    extra: Option<Arc<str>>,
}

impl Shelf {
    /// Without fetches a generation protects nothing.
    pub(super) fn is_needed(&self) -> bool {
        self.fetches > 0 || !matches!(self.parts, Parts::None)
    }

    /// A page is put onto the list's shelf. Tells whether it was not there.
    pub(super) fn put(&mut self, key: &PageKey) -> bool {
        let part = Part::of(key);
        match &mut self.parts {
            Parts::None => self.parts = Parts::One(part),
            Parts::One(one) if *one == part => return false,
            Parts::One(one) => {
                let both = [one.clone(), part];
                self.parts = Parts::Many(Box::new(both.into_iter().collect()));
            }
            Parts::Many(many) => return many.insert(part),
        }
        true
    }

    /// A page is taken off it, if it is there.
    pub(super) fn take(&mut self, key: &PageKey) {
        let part = Part::of(key);
        match &mut self.parts {
            Parts::One(one) if *one == part => self.parts = Parts::None,
            Parts::Many(many) => {
                many.remove(&part);
                // Nor does a list take room for pages that it once had.
                many.shrink_to(2 * many.len());
                if many.is_empty() {
                    self.parts = Parts::None;
                }
            }
            Parts::None | Parts::One(_) => {}
        }
    }

    /// All are taken off it.
    pub(super) fn clear(&mut self, list: &ListKey) -> Vec<PageKey> {
        let key = |part: Part| part.of_list(list);
        match std::mem::take(&mut self.parts) {
            Parts::None => Vec::new(),
            Parts::One(one) => vec![key(one)],
            Parts::Many(many) => many.into_iter().map(key).collect(),
        }
    }
}

#[cfg(test)]
impl Shelf {
    /// All that are on it.
    pub(super) fn pages(&self, list: &ListKey) -> HashSet<PageKey> {
        let parts = match &self.parts {
            Parts::None => Vec::new(),
            Parts::One(one) => vec![one],
            Parts::Many(many) => many.iter().collect(),
        };
        let parts = parts.into_iter().cloned();
        parts.map(|part| part.of_list(list)).collect()
    }
}

impl Part {
    fn of(key: &PageKey) -> Self {
        Self {
            api: key.api,
            skip: key.skip,
            limit: key.limit,
            extra: key.extra.clone(),
        }
    }

    fn of_list(self, list: &ListKey) -> PageKey {
        let Self {
            api,
            skip,
            limit,
            extra,
        } = self;
        PageKey {
            list: list.clone(),
            api,
            skip,
            limit,
            extra,
        }
    }
}
