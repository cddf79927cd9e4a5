//! The settings' JSON Schema.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use toml::Table;

use super::layers::Layers;
use super::{Config, LISTS};

/// The schema of [`Config`], in which nothing is required that has a default, and every default is stated.
///
/// It is draft 7, without references, since editors of TOML and Helm understand that.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Config>()
        .to_value();
    let mut defaults = Layers::of_defaults().table;
    for list in LISTS {
        defaults.remove(list);
    }
    complete(&mut schema, &defaults);
    schema
}

fn complete(schema: &mut Value, defaults: &Table) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let required = |key: &Value| match key.as_str() {
        Some(key) => !defaults.contains_key(key) && !LISTS.contains(&key),
        None => true,
    };
    if let Some(Value::Array(keys)) = schema.get_mut("required") {
        keys.retain(required);
        if keys.is_empty() {
            schema.remove("required");
        }
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (key, default) in defaults {
        match (properties.get_mut(key), default) {
            (Some(property), toml::Value::Table(defaults)) => complete(property, defaults),
            (Some(Value::Object(property)), default) => state(property, default),
            (Some(_) | None, _) => {}
        }
    }
}

fn state(property: &mut Map<String, Value>, default: &toml::Value) {
    property.insert("default".into(), json!(default));
}
