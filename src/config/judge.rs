//! From written settings to typed ones, noting everything that cannot be.

use std::collections::BTreeMap;

use serde_path_to_error::{Error, Segment};
use toml::{Table, Value};

use super::Config;
use super::layers::Layers;
use super::mistake::{Step, Way, unknown_key};

/// Reads the settings as types.
///
/// Serde stops at the first mistake. So each one is noted, what caused it is put right in a copy, and the copy
/// is read again, until it can be read. What comes of it then is good for nothing but further checks.
pub(super) fn judge(layers: &mut Layers) -> Option<Config> {
    let defaults = Layers::of_defaults().table;
    let mut copy = Copy {
        table: layers.table.clone(),
        ..Copy::default()
    };
    loop {
        let error = match serde_path_to_error::deserialize(copy.table.clone()) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let here = way(&error);
        let (fault, what) = wording(&here, error.inner().message(), &copy);
        let at = match &fault {
            Fault::Missing(key) => here.key(key),
            Fault::Unknown | Fault::Value => here.clone(),
        };
        // What is wrong with a table or list as a whole may come of what was put right in it.
        let again = copy.mended.iter().any(|mended| mended.starts_with(&at));
        let shortened = copy.taken.contains_key(&at.to_string());
        if !again && !shortened {
            layers.note_at(&copy.written(&at), what);
        }
        if !copy.mend(&at, &fault, again, &defaults) {
            return None;
        }
    }
}

/// What kind of thing is wrong.
enum Fault {
    /// The table has no key of that name.
    Unknown,
    /// The table lacks this key.
    Missing(String),
    /// The value cannot be used.
    Value,
}

/// Settings under repair.
#[derive(Default)]
struct Copy {
    table: Table,
    mended: Vec<Way>,
    /// How many items were taken from the front of a list.
    taken: BTreeMap<String, usize>,
}

impl Copy {
    /// The way to a value in the settings as they are written, where no item is missing.
    fn written(&self, way: &Way) -> Way {
        let mut here = Way::default();
        let mut written = Way::default();
        for step in &way.0 {
            match step {
                Step::Key(key) => written = written.key(key),
                Step::Index(index) => {
                    let taken = self.taken.get(&here.to_string()).copied();
                    written = written.index(index + taken.unwrap_or_default());
                }
            }
            here.0.push(step.clone());
        }
        written
    }

    /// Puts one thing right. Each call brings the end nearer: a way is mended once, then its list gets shorter.
    fn mend(&mut self, at: &Way, fault: &Fault, again: bool, defaults: &Table) -> bool {
        let Some((Step::Key(key), false)) = at.0.last().map(|step| (step.clone(), again)) else {
            return self.take(at);
        };
        self.mended.push(at.clone());
        let default = find(defaults, at).cloned();
        let Some(table) = at
            .parent()
            .and_then(|parent| find_table(&mut self.table, &parent))
        else {
            return self.take(at);
        };
        match (fault, default) {
            // Most keys that must be there are texts; where this one is not, its whole entry goes.
            (Fault::Missing(_), None) => table.insert(key, Value::from("x")),
            (Fault::Unknown, _) | (Fault::Value, None) => table.remove(&key),
            (_, Some(default)) => table.insert(key, default),
        };
        true
    }

    /// Takes the nearest item of a list away, and those before it, which are known to be good.
    fn take(&mut self, at: &Way) -> bool {
        let index = at.0.iter().rposition(|step| matches!(step, Step::Index(_)));
        let Some((list, Step::Index(index))) = index.map(|i| (Way(at.0[..i].to_vec()), &at.0[i]))
        else {
            return false;
        };
        let Some(Value::Array(items)) = find_mut(&mut self.table, &list) else {
            return false;
        };
        items.drain(..=*index);
        // The items that are left move up, and lists in them are whole.
        let items = format!("{list}[");
        self.taken.retain(|list, _| !list.starts_with(&items));
        *self.taken.entry(list.to_string()).or_default() += index + 1;
        self.mended.retain(|way| !way.starts_with(&list));
        true
    }
}

fn way(error: &Error<toml::de::Error>) -> Way {
    error
        .path()
        .iter()
        .fold(Way::default(), |way, segment| match segment {
            Segment::Map { key } => way.key(key),
            Segment::Seq { index } => way.index(*index),
            Segment::Enum { .. } | Segment::Unknown => way,
        })
}

/// Says what serde says in words for somebody who writes settings.
fn wording(way: &Way, message: &str, copy: &Copy) -> (Fault, String) {
    let message = message.trim();
    let name = || message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("unknown field") {
        let (_, known) = message.split_once("expected").unwrap_or_default();
        let key = match way.0.last() {
            Some(Step::Key(key)) => key.as_str(),
            Some(Step::Index(_)) | None => name(),
        };
        return (
            Fault::Unknown,
            unknown_key(key, known.split('`').skip(1).step_by(2)),
        );
    }
    if message.starts_with("missing field") {
        let what = "is missing: there is no default for it".into();
        return (Fault::Missing(name().into()), what);
    }
    // "invalid type: integer `60`, expected a duration": serde's, with the value in it.
    let serdes = ["invalid type: ", "invalid value: ", "unknown variant "];
    let what = match serdes.iter().find_map(|start| message.strip_prefix(start)) {
        Some(rest) => {
            let (found, wanted) = rest.rsplit_once(", expected ").unwrap_or((rest, ""));
            let found = match way.suggests_a_secret() || found == "unit variant" {
                true => "".into(),
                false => format!("{found} "),
            };
            format!("{found}cannot be used: expected {}", plain(wanted))
        }
        None if message == "invalid socket address syntax" => {
            format!("cannot be used: expected {}", plain(message))
        }
        None => hide(way, message, copy),
    };
    (Fault::Value, what)
}

/// A message of a type's own, without the value if that may be a secret.
fn hide(way: &Way, message: &str, copy: &Copy) -> String {
    match find(&copy.table, way) {
        Some(Value::String(value)) if way.suggests_a_secret() && !value.is_empty() => {
            let quoted = format!("{value:?}");
            match message.contains(&quoted) {
                true => message.replace(&quoted, "***"),
                false => without(message, value),
            }
        }
        _ => message.into(),
    }
}

/// A message without a value, which is no part of a longer word: of the value `0s`, the message's own `60s` stays.
fn without(message: &str, value: &str) -> String {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut told, mut from) = (String::with_capacity(message.len()), 0);
    for (at, _) in message.match_indices(value) {
        let end = at + value.len();
        let begun = letter(message[..at].chars().next_back()) && letter(value.chars().next());
        let goes_on = letter(value.chars().next_back()) && letter(message[end..].chars().next());
        if !begun && !goes_on {
            told.push_str(&message[from..at]);
            told.push_str("***");
            from = end;
        }
    }
    told + &message[from..]
}

/// Rust's words for a type, in plain ones.
fn plain(wanted: &str) -> &str {
    match wanted {
        "a nonzero usize" | "a nonzero u64" | "a nonzero u32" => "a whole number, 1 or more",
        "usize" | "u64" | "u32" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list in square brackets",
        "socket address" | "invalid socket address syntax" => {
            "an address and a port, such as \"127.0.0.1:8080\""
        }
        "string only" => "a text in quotes",
        wanted if wanted.starts_with("struct ") => "a table",
        wanted => wanted,
    }
}

fn find<'a>(table: &'a Table, way: &Way) -> Option<&'a Value> {
    let (first, rest) = way.0.split_first()?;
    let Step::Key(first) = first else { return None };
    rest.iter()
        .try_fold(table.get(first)?, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(*index),
        })
}

fn find_mut<'a>(table: &'a mut Table, way: &Way) -> Option<&'a mut Value> {
    let (first, rest) = way.0.split_first()?;
    let Step::Key(first) = first else { return None };
    rest.iter()
        .try_fold(table.get_mut(first)?, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(*index),
        })
}

fn find_table<'a>(table: &'a mut Table, way: &Way) -> Option<&'a mut Table> {
    match way.0.is_empty() {
        true => Some(table),
        false => find_mut(table, way)?.as_table_mut(),
    }
}
