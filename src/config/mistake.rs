//! What is wrong, with which key, and where it is written; and how that is said.

use std::fmt;

use toml::{Table, Value};

/// A mistake in the settings. Its text is one line: where, which key, what is wrong and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// A file with line and column, or a variable of the environment.
    pub place: String,
    /// The key with all its tables, for example `credentials[1].algorithm`; empty where it is about no key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// Mistakes are told in this order.
    pub(super) order: usize,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.place, &self.key, &self.what];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        for (i, part) in parts.enumerate() {
            f.write_str(if i == 0 { "" } else { ": " })?;
            // File names and quoted keys may hold anything; this stays one line, and moves no cursor.
            for c in part.chars() {
                match c.is_control() {
                    true => write!(f, "{}", c.escape_default())?,
                    false => write!(f, "{c}")?,
                }
            }
        }
        Ok(())
    }
}

/// Everything that was found wrong with the settings, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(super) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.order);
        Self(mistakes)
    }

    /// One after the other: those of the file from its top to its end, then those of the environment.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n" })?;
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

/// Where something is written.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) text: String,
    pub(super) order: usize,
}

impl Place {
    /// At an offset of a text.
    pub(super) fn in_text(name: &str, text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count())
            + 1;
        Self {
            text: format!("{name}:{line}:{column}"),
            order: offset,
        }
    }

    /// A variable of the environment.
    pub(super) fn variable(name: &str) -> Self {
        Self {
            text: format!("environment variable {name}"),
            order: usize::MAX,
        }
    }

    /// A file, or the defaults, as a whole.
    pub(super) fn whole(name: &str) -> Self {
        Self {
            text: name.into(),
            order: 0,
        }
    }
}

/// A step from a table or list to what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The way from the root to a value: `credentials[1].algorithm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Way(pub(super) Vec<Step>);

impl Way {
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.into()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    pub(super) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// Tables around a value, so that it stands here; of a way without lists.
    pub(super) fn overlay(&self, value: Value) -> Table {
        let around = self.0.iter().rev().fold(value, |value, step| match step {
            Step::Key(key) => Value::Table(Table::from_iter([(key.clone(), value)])),
            Step::Index(_) => value,
        });
        match around {
            Value::Table(table) => table,
            _ => Table::new(),
        }
    }

    pub(super) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether what stands here may be a secret, or may have been taken for the place to write one.
    pub(super) fn suggests_a_secret(&self) -> bool {
        let last = self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.to_lowercase()),
            Step::Index(_) => None,
        });
        last.is_some_and(|key| SECRET.iter().any(|part| key.contains(part)))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |key: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
            !key.is_empty() && key.bytes().all(plain)
        };
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    f.write_str(if i == 0 { "" } else { "." })?;
                    match bare(key) {
                        true => f.write_str(key)?,
                        false => write!(f, "{key:?}")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Says that a key is not known: with the one that it is probably meant to be, else with all there are.
pub(super) fn unknown_key<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known
        .iter()
        .map(|known| (edits(key, known), known))
        .min()
        .filter(|(edits, known)| *edits <= known.len().div_ceil(4));
    match near {
        Some((_, near)) => format!("unknown key (did you mean {near}?)"),
        None => format!("unknown key (known keys: {})", known.join(", ")),
    }
}

/// How many letters must be put in, taken out or replaced (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let from = from.to_lowercase();
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

const SECRET: [&str; 7] = [
    "secret",
    "password",
    "passphrase",
    "token",
    "key",
    "credential",
    "auth",
];
