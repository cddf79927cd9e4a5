//! How the layers are laid over each other, and what the defaults, the schema and the program say of each key.

mod callers;
mod mistakes;

use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;

#[test]
fn each_layer_beats_the_one_below() {
    const KEY: &str = "CONTACTS_GATEWAY__CACHE__FRESH_FOR";
    let file = "[cache]\nfresh_for = \"30s\"";
    for (file, env, want) in [
        ("", vec![], 60),
        (file, vec![], 30),
        ("", vec![(KEY, "20s")], 20),
        (file, vec![(KEY, "20s")], 20),
    ] {
        let cache = load(file, &env).unwrap().cache;
        assert_eq!(cache.fresh_for, Duration::from_secs(want));
        assert_eq!(cache.usable_for, Duration::from_secs(3600), "is untouched");
    }
}

#[test]
fn a_variable_is_read_as_the_type_of_its_key() {
    let config = load(
        "[listen]\nmax_in_flight = 7\n",
        &[
            ("CONTACTS_GATEWAY__LISTEN__MAX_CONNECTIONS", "12"),
            ("Contacts_Gateway__Listen__Http2", "false"),
            ("CONTACTS_GATEWAY__LISTEN__ALLOWED_HOSTS", "[\"a.example\"]"),
            (
                "CONTACTS_GATEWAY__UPSTREAM__FORWARD_HEADERS",
                "Accept, X-Tenant,",
            ),
            ("CONTACTS_GATEWAY__UPSTREAM__CA_FILE", "12"),
            ("CONTACTS_GATEWAY__ADMIN", "{ address = \"127.0.0.1:1\" }"),
            (
                "CONTACTS_GATEWAY__CREDENTIALS",
                "[{ stream = \"s\", client_id = \"c\", secret_env = \"S\" }]",
            ),
            ("CONTACTS_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(
        config.listen.max_connections,
        NonZeroUsize::new(12).unwrap()
    );
    assert_eq!(config.listen.max_in_flight, NonZeroUsize::new(7).unwrap());
    assert!(!config.listen.http2);
    let hosts = config.listen.allowed_hosts.iter();
    assert_eq!(hosts.map(|h| h.as_str()).collect::<Vec<_>>(), ["a.example"]);
    let headers = config.upstream.forward_headers.iter();
    let headers: Vec<String> = headers.map(ToString::to_string).collect();
    assert_eq!(headers, ["accept", "x-tenant"]);
    assert_eq!(config.upstream.ca_file, Path::new("12"));
    assert_eq!(config.admin.address.port(), 1);
    assert_eq!(config.credentials[0].client_id.as_str(), "c");
}

#[test]
fn a_list_of_tables_replaces_the_one_below() {
    let file = "[[credentials]]\nstream = \"a\"\nclient_id = \"a\"\nsecret_env = \"A\"\n";
    let env = "[{ stream = \"b\", client_id = \"b\", secret_env = \"B\" }]";
    let config = load(file, &[("CONTACTS_GATEWAY__CREDENTIALS", env)]).unwrap();
    assert_eq!(config.credentials.len(), 1);
    assert_eq!(config.credentials[0].stream.to_string(), "b");
}
#[test]
fn both_files_in_config_load() {
    for (name, entries) in [("default.toml", 0), ("example.toml", 1)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name);
        let config = Config::load(Some(&path), std::iter::empty()).unwrap();
        assert_eq!(config.credentials.len(), entries, "{name}");
    }
}

#[test]
fn a_commented_entry_of_the_defaults_loads_once_it_is_uncommented() {
    for list in LISTS {
        let start = DEFAULTS.find(&format!("# [[{list}]]")).unwrap();
        let entry = DEFAULTS[start..].split("\n\n").next().unwrap();
        let entry: Vec<&str> = entry.lines().map(|line| &line[2..]).collect();
        let config = load(&entry.join("\n"), &[]).unwrap();
        assert_eq!(config.credentials.len() + config.callers.len(), 1);
        let known = &Config::schema()["properties"][list]["items"]["properties"];
        for key in known.as_object().unwrap().keys() {
            assert!(
                entry.iter().any(|line| line.contains(key)),
                "{key} is shown"
            );
        }
    }
}

#[test]
fn the_defaults_state_every_key_of_the_schema_and_nothing_else() {
    fn keys(at: &str, schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema["properties"].as_object() {
            Some(properties) => {
                for (key, schema) in properties {
                    keys(&format!("{at}.{key}"), schema, found);
                }
            }
            None => found.push(at.into()),
        }
    }
    fn stated(at: &str, value: &toml::Value, found: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    stated(&format!("{at}.{key}"), value, found);
                }
            }
            _ => found.push(at.into()),
        }
    }
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    keys("", &Config::schema(), &mut wanted);
    stated(
        "",
        &toml::Value::Table(toml::from_str(DEFAULTS).unwrap()),
        &mut found,
    );
    found.extend(LISTS.map(|list| format!(".{list}")));
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

#[test]
fn the_schema_describes_every_key_refuses_others_and_requires_only_what_has_no_default() {
    fn check(at: &str, schema: &serde_json::Value) {
        assert!(schema["description"].is_string(), "{at} is described");
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], false, "{at}");
            for (key, schema) in properties {
                check(&format!("{at}.{key}"), schema);
            }
            let required = schema["required"].as_array();
            assert_eq!(required.is_some(), at.ends_with("[]"), "{at}");
        }
        if schema["items"]["properties"].is_object() {
            check(&format!("{at}[]"), &schema["items"]);
        }
    }
    let schema = Config::schema();
    check("", &schema);
    assert_eq!(
        schema["properties"]["cache"]["properties"]["fresh_for"]["default"],
        "60s"
    );
}

#[test]
fn what_is_in_effect_reads_back_as_the_same_settings() {
    let file = "cache.fresh_for = \"30s\"\n[[credentials]]\nstream = \"a\"\nclient_id = \"a\"\nsecret_env = \"A\"\n";
    for file in ["", file, &(file.to_owned() + &caller("a", '1'))] {
        let config = load(file, &[]).unwrap();
        let again = load(&config.to_toml(), &[]).unwrap();
        assert_eq!(config.to_toml(), again.to_toml());
        assert_eq!(config.hash(), again.hash());
        assert_eq!(again.cache.fresh_for, config.cache.fresh_for);
    }
}

#[test]
fn the_hash_is_short_and_differs_where_a_setting_does() {
    let hash = load("", &[]).unwrap().hash();
    assert_eq!(hash.len(), 16);
    assert_ne!(hash, load("cache.fresh_for = \"30s\"", &[]).unwrap().hash());
}

#[test]
fn what_cannot_change_while_running_is_kept_and_named_where_the_documents_say_so() {
    let in_use = load("", &[]).unwrap();
    let other = "[listen]\naddress = \"127.0.0.1:1\"\nmax_connections = 7\nheader_timeout = \"1s\"\n\
                 [admin]\naddress = \"127.0.0.1:2\"\n\
                 [upstream]\nurl = \"http://127.0.0.1:3\"\naccept_any_body = true\npropagate_trace = true\n\
                 timeout = \"9s\"\n\
                 [cache]\nmax_bytes = \"1MiB\"\nfresh_for = \"30s\"\n\
                 [shared]\nurl = \"redis://a\"\nusername = \"b\"\npassword_file = \"c\"\nca_file = \"d\"\n\
                 encryption_key_file = \"e\"\nprefix = \"f\"\ntimeout = \"1s\"\n\
                 [telemetry]\nlog_format = \"json\"\nlog = \"debug\"\notlp_endpoint = \"http://127.0.0.1:4\"\ntrace_ratio = 0.5";
    let (config, differ) = load(other, &[]).unwrap().while_running(&in_use);
    let same = "listen.header_timeout = \"1s\"\nupstream.timeout = \"9s\"\ncache.fresh_for = \"30s\"\n\
                telemetry.log = \"debug\"";
    assert_eq!(config.to_toml(), load(same, &[]).unwrap().to_toml());
    assert_eq!(config.listen.address, in_use.listen.address);
    assert_eq!(config.cache.max_bytes, in_use.cache.max_bytes);
    assert_eq!(config.cache.fresh_for, Duration::from_secs(30));

    let mut table = "";
    let mut documented = Vec::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        } else if line.ends_with("[restart]") {
            let (key, _) = line.split_once(' ').unwrap();
            documented.push(format!("{table}.{key}"));
        }
    }
    assert_eq!(differ, documented);
    let readme = include_str!("../../README.md");
    let named: Vec<_> = differ.iter().map(|key| format!("`{key}`")).collect();
    let words = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&named.join(", ")), "{named:?}");
}

#[test]
fn authorization_goes_to_no_upstream_that_is_still_the_vendor() {
    let in_use = load("upstream.forward_headers = [\"x-tenant\"]", &[]).unwrap();
    let other =
        "[upstream]\naccept_any_body = true\nforward_headers = [\"x-a\", \"Authorization\"]";
    let other = load(other, &[]).unwrap();
    let (config, differ) = other.clone().while_running(&in_use);
    assert_eq!(config.to_toml(), in_use.to_toml());
    assert_eq!(
        differ,
        ["upstream.accept_any_body", "upstream.forward_headers"]
    );
    let (config, differ) = other.clone().while_running(&other);
    assert_eq!(config.to_toml(), other.to_toml());
    assert!(differ.is_empty(), "{differ:?}");
}

/// An entry of three lines, whose token's digest is this digit over and over.
fn caller(name: &str, digit: char) -> String {
    let digest = digit.to_string().repeat(64);
    format!("[[callers]]\nname = {name:?}\ntoken_sha256 = {digest:?}\n")
}

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let mut layers = Layers::of_defaults();
    layers.add_text("f.toml", text);
    let env = env
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    layers.add_environment(env);
    Config::from_layers(layers)
}

fn mistakes(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let told = load(text, env).unwrap_err();
    told.iter().map(ToString::to_string).collect()
}
