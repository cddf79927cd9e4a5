//! Which runs a list has, so that a forget finds them without looking through all there are.
//!
//! Hides how that takes little memory: most lists have one.

use foldhash::HashSet;

use super::run::RunKey;

/// What is known of one list. It is kept while the list has pages or fetches under way.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    runs: Runs,
    /// How many are under way.
    pub(super) fetches: u32,
    /// Another one after every forget.
    pub(super) generation: u32,
}

#[derive(Debug, Default)]
enum Runs {
    #[default]
    None,
    One(RunKey),
    /// A set is larger than a key, and few lists have one.
    Many(Box<HashSet<RunKey>>),
}

impl Shelf {
    /// Without fetches a generation protects nothing.
    pub(super) fn is_needed(&self) -> bool {
        self.fetches > 0 || !matches!(self.runs, Runs::None)
    }

    /// A run is put onto the list's shelf. Tells whether it was not there.
    pub(super) fn put(&mut self, run: &RunKey) -> bool {
        match &mut self.runs {
            Runs::None => self.runs = Runs::One(run.clone()),
            Runs::One(one) if one == run => return false,
            Runs::One(one) => {
                let both = [one.clone(), run.clone()];
                self.runs = Runs::Many(Box::new(both.into_iter().collect()));
            }
            Runs::Many(many) => return !many.contains(run) && many.insert(run.clone()),
        }
        true
    }

    /// A run is taken off it, if it is there.
    pub(super) fn take(&mut self, run: &RunKey) {
        match &mut self.runs {
            Runs::One(one) if one == run => self.runs = Runs::None,
            Runs::Many(many) => {
                many.remove(run);
                // Nor does a list take room for runs that it once had.
                many.shrink_to(2 * many.len());
                if many.is_empty() {
                    self.runs = Runs::None;
                }
            }
            Runs::None | Runs::One(_) => {}
        }
    }

    /// All are taken off it.
    pub(super) fn clear(&mut self) -> Vec<RunKey> {
        match std::mem::take(&mut self.runs) {
            Runs::None => Vec::new(),
            Runs::One(one) => vec![one],
            Runs::Many(many) => many.into_iter().collect(),
        }
    }
}

#[cfg(test)]
impl Shelf {
    /// All that are on it.
    pub(super) fn runs(&self) -> HashSet<RunKey> {
        match &self.runs {
            Runs::None => HashSet::default(),
            Runs::One(one) => [one.clone()].into_iter().collect(),
            Runs::Many(many) => HashSet::clone(many),
        }
    }
}
