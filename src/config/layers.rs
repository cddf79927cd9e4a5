//! Three layers of settings laid over each other, and where each value of them was written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::{Spanned, Table, Value};

use super::mistake::{Mistake, Place, Way, unknown_key};
use super::{DEFAULTS, LISTS};

/// The settings as they are written so far, and what is wrong with them.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) table: Table,
    pub(super) mistakes: Vec<Mistake>,
    /// Where the keys stand that were written by somebody; who has no place is a default.
    places: BTreeMap<String, (Way, Place)>,
}

impl Layers {
    /// The lowest layer, complete.
    pub(super) fn of_defaults() -> Self {
        let mut layers = Self::default();
        layers.add_text(BUILT_IN, DEFAULTS);
        layers.places.clear();
        for list in LISTS {
            layers.table.insert(list.into(), Value::Array(Vec::new()));
        }
        layers
    }

    /// Lays a file over what is there.
    pub(super) fn add_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned()),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        match text {
            Ok(text) => self.add_text(&name, &text),
            Err(what) => self.note(Place::whole(&name), &Way::default(), what),
        }
    }

    /// Lays a text over what is there; its name stands for it in mistakes.
    pub(super) fn add_text(&mut self, name: &str, text: &str) {
        let place = |offset: usize| Place::in_text(name, text, offset);
        let (document, errors) = DeTable::parse_recoverable(text);
        let table = match errors.is_empty() {
            true => Table::deserialize(Deserializer::from(document.clone())).map_err(|e| vec![e]),
            false => Err(errors),
        };
        match table {
            Ok(table) => {
                each_key(&Way::default(), document.get_ref(), &mut |way, span| {
                    self.put_place(way, place(span.start));
                });
                lay_over(&mut self.table, table);
            }
            Err(errors) => {
                for error in errors {
                    let offset = error.span().map_or(0, |span| span.start);
                    let what = format!("not TOML: {}", why(&error));
                    self.note(place(offset), &Way::default(), what);
                }
            }
        }
    }

    /// Lays the variables that begin with [`PREFIX`] over what is there.
    pub(super) fn add_environment(&mut self, env: impl Iterator<Item = (String, String)>) {
        // In order of their names, so that a table comes before the keys in it.
        let mut named: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (name, value) in env {
            let Some(key) = name
                .to_ascii_lowercase()
                .strip_prefix(PREFIX)
                .map(str::to_owned)
            else {
                continue;
            };
            if let Some((other, _)) = named.get(&key) {
                let what = format!("names the same key as {other}: set one of them");
                self.note(Place::variable(&name), &Way::default(), what);
            } else {
                named.insert(key, (name, value));
            }
        }
        let known = Value::Table(self.table.clone());
        for (key, (name, text)) in named {
            let mut way = Way::default();
            match variable(&known, &key, &text, &mut way) {
                Ok(value) => {
                    self.put_value_places(&way, &value, &Place::variable(&name));
                    lay_over(&mut self.table, way.overlay(value));
                }
                Err(what) => self.note(Place::variable(&name), &way, what),
            }
        }
    }

    fn note(&mut self, place: Place, way: &Way, what: impl Into<String>) {
        self.mistakes.push(Mistake {
            place: place.text,
            key: way.to_string(),
            what: what.into(),
            order: place.order,
        });
    }

    /// Notes a mistake where the key was written, or the nearest table around it.
    pub(super) fn note_at(&mut self, way: &Way, what: impl Into<String>) {
        let mut around = std::iter::successors(Some(way.clone()), Way::parent);
        let place = around.find_map(|way| self.place(&way).cloned());
        self.note(place.unwrap_or_else(|| Place::whole(BUILT_IN)), way, what);
    }

    /// Where a key was written, unless it is a default.
    pub(super) fn place(&self, way: &Way) -> Option<&Place> {
        let (_, place) = self.places.get(&way.to_string())?;
        Some(place)
    }

    fn put_place(&mut self, way: &Way, place: Place) {
        self.places.insert(way.to_string(), (way.clone(), place));
    }

    fn put_value_places(&mut self, way: &Way, value: &Value, place: &Place) {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    self.put_value_places(&way.key(key), value, place);
                }
            }
            _ => self.places.retain(|_, (other, _)| !other.starts_with(way)),
        }
        self.put_place(way, place.clone());
    }
}

/// Whether a variable of this name is a setting, OpenTelemetry's own included.
pub(super) fn is_setting(name: &str) -> bool {
    name.starts_with("OTEL_") || name.to_ascii_lowercase().starts_with(PREFIX)
}

/// What a variable sets its key to. The way is led to that key, or to where it leads nowhere.
fn variable(known: &Value, key: &str, text: &str, way: &mut Way) -> Result<Value, String> {
    let mut here = known;
    for step in key.split("__") {
        match here {
            Value::Table(table) => {
                *way = way.key(step);
                let keys = || table.keys().map(String::as_str);
                here = table.get(step).ok_or_else(|| unknown_key(step, keys()))?;
            }
            Value::Array(_) => return Err("is a list, which is set as a whole".into()),
            _ => return Err("is no table: no key stands in it".into()),
        }
    }
    let tables = LISTS.contains(&key);
    match here {
        Value::String(_) => Ok(text.into()),
        Value::Array(_) if !tables && !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty()).map(Value::from);
            Ok(Value::Array(items.collect()))
        }
        Value::Array(_) | Value::Table(_) => toml_value(text).map_err(|error| {
            let example = match (here.is_table(), tables) {
                (true, _) => "{ key = \"value\" }",
                (false, true) => "[{ key = \"value\" }]",
                (false, false) => "[\"value\"]",
            };
            format!("not a TOML value such as {example}: {}", why(&error))
        }),
        // What is neither a number nor true or false stays a text, and is refused like one in a file.
        _ => Ok(toml_value(text).unwrap_or_else(|_| text.into())),
    }
}

fn toml_value(text: &str) -> Result<Value, toml::de::Error> {
    let value = DeValue::parse(text.trim())?;
    Value::deserialize(toml::de::ValueDeserializer::from(value))
}

/// What the parser says; but a number beyond all bounds is not repeated, since it may stand for a secret.
fn why(error: &toml::de::Error) -> &str {
    match error.message() {
        message if message.starts_with("invalid type") => "a number is too large",
        message => message,
    }
}

fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn each_key(way: &Way, table: &DeTable<'_>, see: &mut impl FnMut(&Way, Range<usize>)) {
    for (key, value) in table.iter() {
        let way = way.key(key.get_ref());
        see(&way, key.span());
        each_in(&way, value, see);
    }
}

fn each_in(way: &Way, value: &Spanned<DeValue<'_>>, see: &mut impl FnMut(&Way, Range<usize>)) {
    match value.get_ref() {
        DeValue::Table(table) => each_key(way, table, see),
        DeValue::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let way = way.index(i);
                see(&way, item.span());
                each_in(&way, item, see);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

/// What the names of variables begin with, whatever their case.
const PREFIX: &str = "contacts_gateway__";

/// The name of the defaults, where something is wrong with them.
const BUILT_IN: &str = "built-in defaults";
