//! The subcommands, each run as the real program.

use contacts_gateway::config::Config;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::support::process::{Program, Serving, ask, settings_file};
use crate::support::{ACCOUNT, Folder, SECRET, STREAM, World, path, path_of};

#[tokio::test]
async fn check_shows_what_would_be_used_with_secrets_as_stars() {
    let folder = Folder::new();
    let file = settings_file(&folder, "[cache]\nfresh_for = \"17s\"");
    let env = [("CONTACTS_GATEWAY__CACHE__USABLE_FOR", "23m")];
    for flags in [["check", "--config", &file], ["--config", &file, "check"]] {
        let ended = Program::run(&flags, &env).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        for shown in [
            "fresh_for = \"17s\"",
            "usable_for = \"23m\"",
            "max_connections = 10000",
            STREAM,
            "***",
        ] {
            assert!(ended.out.contains(shown), "{shown} in {}", ended.out);
        }
        assert!(!(ended.out + &ended.err).contains(SECRET));
    }
}

#[tokio::test]
async fn what_check_shows_is_a_settings_file_that_checks_the_same() {
    let folder = Folder::new();
    let file = settings_file(&folder, "[listen]\nallowed_hosts = [\"a\", \"b\"]");
    let shown = Program::run(&["check", "--config", &file], &[]).await.out;
    let again = folder.put("shown.toml", &shown);
    let again = again.to_str().unwrap();
    let ended = Program::run(&["check", "--config", again], &[]).await;
    assert_eq!((ended.code, ended.out), (Some(0), shown));
}

#[tokio::test]
async fn check_tells_each_mistake_in_a_line_and_ends_with_78() {
    let no_secret =
        "[[credentials]]\nstream = \"*\"\nclient_id = \"cs-1\"\nsecret_file = \"/none\"";
    type Env = &'static [(&'static str, &'static str)];
    let rows: [(&str, Env, &[&str]); 6] = [
        (
            "[cache]\nfresh = \"1s\"",
            &[],
            &["gateway.toml:2:1: cache.fresh: "],
        ),
        (
            "[cache]\nfresh_for = \"1 parsec\"\nmax_bytes = 5",
            &[],
            &["2:1: cache.fresh_for: ", "3:1: cache.max_bytes: "],
        ),
        ("[cache", &[], &["not TOML"]),
        (
            "",
            &[("CONTACTS_GATEWAY__LISTEN__ADDRESS", "here")],
            &["environment variable CONTACTS_GATEWAY__LISTEN__ADDRESS: listen.address: "],
        ),
        (
            "",
            &[("CONTACTS_GATEWAY__LISTEN__ADRESS", "127.0.0.1:0")],
            &["environment variable CONTACTS_GATEWAY__LISTEN__ADRESS: "],
        ),
        (no_secret, &[], &["credentials[0] "]),
    ];
    let folder = Folder::new();
    for (settings, env, says) in rows {
        let file = folder.put("gateway.toml", settings);
        for subcommand in ["check", "serve"] {
            let flags = [subcommand, "--config", file.to_str().unwrap()];
            let ended = Program::run(&flags, env).await;
            assert_eq!(ended.code, Some(78), "{settings}: {}", ended.err);
            let lines: Vec<_> = ended.err.lines().collect();
            assert_eq!(lines.len(), says.len(), "{lines:#?}");
            for (line, says) in lines.iter().zip(says) {
                assert!(line.contains(says), "{says} in {line}");
            }
            assert_eq!(ended.out, "");
        }
    }
    let ended = Program::run(&["check", "--config", "/none.toml"], &[]).await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.err.starts_with("/none.toml: "), "{}", ended.err);
}

#[tokio::test]
async fn health_is_0_while_the_gateway_is_ready_and_1_otherwise() {
    let world = World::new().await;
    let settings = "[listen]\ndrain_delay = \"1h\"";
    let mut serving = Serving::before(&world.vendor.url(), settings).await;
    let health = async |address: &str| {
        let env = [("CONTACTS_GATEWAY__ADMIN__ADDRESS", address)];
        Program::run(&["health"], &env).await
    };
    assert_eq!(health(&serving.operators).await.code, Some(0));
    let anywhere = serving.operators.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(health(&anywhere).await.code, Some(0), "{anywhere}");
    serving.program.signal("TERM");
    serving.program.line("unready").await;
    let ended = health(&serving.operators).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("503"), "{}", ended.err);
    serving.program.signal("TERM");
    serving.program.ended().await;
    let ended = health(&serving.operators).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains(&serving.operators), "{}", ended.err);
}

#[tokio::test]
async fn a_minted_token_opens_the_vendor() {
    let world = World::with_vendor("", |vendor| {
        vendor.clock = contacts_gateway::clock::Clock::system();
    })
    .await;
    let folder = Folder::new();
    let file = settings_file(&folder, "");
    let flags = ["token", "--stream", STREAM, "--config", &file];
    let ended = Program::run(&flags, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let token = ended.out.strip_suffix('\n').unwrap();
    let fields = [("auth", token), ("iid", STREAM), ("accountid", ACCOUNT)];
    let url = world.vendor.url() + &path("cl-n6-a");
    let answer = ask(Method::GET, &url, &fields).await;
    assert_eq!(answer.status, StatusCode::OK);

    let flags = ["token", "--stream", "st-unknown", "--config", &file];
    let ended = Program::run(&flags, &[]).await;
    assert_eq!((ended.code, &*ended.out), (Some(1), ""));
    assert!(ended.err.contains("[[credentials]]"), "{}", ended.err);
}

#[tokio::test]
async fn the_schema_is_one_that_both_files_in_config_keep_to() {
    let ended = Program::run(&["schema"], &[]).await;
    assert_eq!(ended.code, Some(0));
    let schema: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(schema, Config::schema());
    let settings = |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap());
    let default = settings(include_str!("../../config/default.toml")).unwrap();
    let example = settings(include_str!("../../config/example.toml")).unwrap();
    for settings in [&default, &example] {
        assert_eq!(wrong(&schema, settings), None);
    }
    for (table, key, value) in [
        ("cache", "fresh", Value::from("1s")),
        ("cache", "fresh_for", 1.into()),
        ("listen", "max_connections", 0.into()),
        ("telemetry", "log", "loud".into()),
        ("telemetry", "log_format", "loud".into()),
        ("telemetry", "trace_ratio", 1.5.into()),
    ] {
        let mut settings = default.clone();
        settings[table][key] = value;
        assert!(wrong(&schema, &settings).is_some(), "{table}.{key}");
    }
    let mut entry = example.clone();
    entry["credentials"][0]
        .as_object_mut()
        .unwrap()
        .remove("client_id");
    assert!(wrong(&schema, &entry).is_some());
}

/// What of a value breaks a schema. Patterns are the settings' own tests' business; a keyword that is not known here
/// is a mistake of the schema's.
fn wrong(schema: &Value, value: &Value) -> Option<String> {
    let schema = schema.as_object().unwrap();
    let object = value.as_object();
    let refused = |keyword: &str| Some(format!("{keyword}: {value}"));
    for (keyword, says) in schema {
        let wrong = match keyword.as_str() {
            "$schema" => {
                (says != "http://json-schema.org/draft-07/schema#").then(|| says.to_string())
            }
            "title" | "description" | "examples" | "format" | "default" | "pattern" => None,
            "type" => {
                let is = match says.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    other => panic!("type {other}"),
                };
                if is { None } else { refused(keyword) }
            }
            "const" if says != value => refused(keyword),
            "const" => None,
            "enum" if !says.as_array().unwrap().contains(value) => refused(keyword),
            "enum" => None,
            "minimum" if value.as_f64() < says.as_f64() => refused(keyword),
            "minimum" => None,
            "maximum" if value.as_f64() > says.as_f64() => refused(keyword),
            "maximum" => None,
            "oneOf" => {
                let any = says.as_array().unwrap().iter();
                if any.filter(|one| wrong(one, value).is_none()).count() == 1 {
                    None
                } else {
                    refused(keyword)
                }
            }
            "required" => {
                let mut keys = says.as_array().unwrap().iter();
                let missing = keys.find(|key| value.get(key.as_str().unwrap()).is_none());
                missing.map(|key| format!("{key} is missing"))
            }
            "additionalProperties" => {
                assert_eq!(says, false);
                let known = &schema["properties"];
                let mut keys = object.into_iter().flat_map(|object| object.keys());
                keys.find(|key| known.get(key).is_none()).cloned()
            }
            "properties" => {
                let mut values = object.into_iter().flatten();
                values.find_map(|(key, value)| wrong(says.get(key)?, value))
            }
            "items" => {
                let mut items = value.as_array().into_iter().flatten();
                items.find_map(|item| wrong(says, item))
            }
            other => panic!("the keyword {other} is not known here"),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

#[tokio::test]
async fn completions_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = Program::run(&["completions", shell], &[]).await;
        assert_eq!(ended.code, Some(0));
        for subcommand in SUBCOMMANDS {
            assert!(ended.out.contains(subcommand), "{shell}: {subcommand}");
        }
    }
}

#[tokio::test]
async fn the_stand_in_vendor_takes_the_credentials_that_it_prints() {
    let mut vendor = Program::start(&["vendor", "--calls", "1", "--window", "1h"], &[]);
    vendor.line("secret ").await;
    let shown = |name: &str| {
        let text = vendor.out();
        let mut lines = text.lines().map(|line| line.split_whitespace());
        let value = lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()));
        value.flatten().unwrap().to_owned()
    };
    let (url, stream) = (shown("url"), shown("stream"));
    let entry = format!(
        "[[credentials]]\nstream = {stream:?}\nclient_id = {:?}\nsecret_env = \"TOKEN_TEST_SECRET\"",
        shown("client_id")
    );
    let folder = Folder::new();
    let file = folder.put("gateway.toml", &entry);
    let flags = [
        "token",
        "--stream",
        &stream,
        "--config",
        file.to_str().unwrap(),
    ];
    let ended = Program::run(&flags, &[("TOKEN_TEST_SECRET", &shown("secret"))]).await;
    let fields = [
        ("auth", ended.out.trim_end()),
        ("iid", &stream),
        ("accountid", ACCOUNT),
    ];
    for (list, status) in [("cl-n6-a", 200), ("cl-n6-b", 429)] {
        let url = url.clone() + &path_of(&stream, list, ACCOUNT);
        assert_eq!(ask(Method::GET, &url, &fields).await.status, status);
    }
    vendor.signal("TERM");
    assert_eq!(vendor.ended().await.code, Some(0));
}

#[tokio::test]
async fn the_demo_prints_a_line_whose_second_answer_comes_from_memory() {
    let folder = Folder::new();
    let env = [("TMPDIR", folder.path().to_str().unwrap())];
    let mut demo = Program::start(&["demo"], &env);
    let line = demo.line("curl ").await;
    let url = line.split('\'').nth(1).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    demo.line("serving").await;
    for came_from in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl="] {
        let answer = ask(Method::GET, url, &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        let said = answer.cache_status();
        assert!(said.starts_with(came_from), "{said}");
    }
    demo.signal("INT");
    assert_eq!(demo.ended().await.code, Some(0));
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "no secret is left behind");
}

#[tokio::test]
async fn wrong_flags_end_with_2_and_say_so_on_standard_error() {
    for flags in [
        &["--nope"][..],
        &["nope"],
        &["serve", "nope"],
        &["check", "--config"],
        &["token"],
        &["token", "--stream", "a/b"],
        &["vendor", "--calls", "many"],
        &["vendor", "--window", "1"],
        &["completions", "nope"],
        &["completions"],
    ] {
        let ended = Program::run(flags, &[]).await;
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{flags:?}");
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
}

#[tokio::test]
async fn help_and_version_end_with_0() {
    let help = Program::run(&["--help"], &[]).await;
    assert_eq!(help.code, Some(0));
    for subcommand in SUBCOMMANDS {
        assert!(help.out.contains(&format!("\n  {subcommand} ")));
        let ended = Program::run(&[subcommand, "--help"], &[]).await;
        assert_eq!(ended.code, Some(0), "{subcommand}");
        assert!(ended.out.contains("--config <FILE>"), "{subcommand}");
    }
    let version = Program::run(&["--version"], &[]).await;
    let is = concat!("contacts-gateway ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((version.code, &*version.out), (Some(0), is));
}

const SUBCOMMANDS: [&str; 8] = [
    "serve",
    "check",
    "demo",
    "vendor",
    "health",
    "token",
    "schema",
    "completions",
];
