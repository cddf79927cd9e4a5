//! What is wrong with settings, and how it is told.

use super::*;

#[test]
fn a_mistake_is_told_with_its_place_its_key_and_what_to_write() {
    for (file, want) in [
        (
            "[cache]\n  fresh_fro = \"1s\"",
            "f.toml:2:3: cache.fresh_fro: unknown key (did you mean fresh_for?)",
        ),
        (
            "[telemetry]\ncolour = true",
            "f.toml:2:1: telemetry.colour: unknown key (known keys: log, log_format, otlp_endpoint, trace_ratio)",
        ),
        (
            "# ü\n[sharing]\nurl = 1",
            "f.toml:2:2: sharing: unknown key (known keys: listen, admin, upstream, credentials, cache, allowance, shared, callers, telemetry)",
        ),
        (
            "listen.\"a b\" = 1",
            "f.toml:1:8: listen.\"a b\": unknown key (known keys: address, tls, max_connections, max_in_flight, \
             allowed_hosts, http2, header_timeout, deadline, drain_delay, drain_for)",
        ),
        (
            "cache.fresh_for = 60",
            "f.toml:1:7: cache.fresh_for: integer `60` cannot be used: expected a duration as text, \
             such as \"60s\", \"1h 30m\" or \"250ms\"",
        ),
        (
            "cache.max_bytes = 60",
            "f.toml:1:7: cache.max_bytes: integer `60` cannot be used: expected a size as text, \
             such as \"64MiB\" or \"512KiB\"",
        ),
        (
            "listen.max_in_flight = \"60\"",
            "f.toml:1:8: listen.max_in_flight: string \"60\" cannot be used: expected a whole number, 1 or more",
        ),
        (
            "listen.http2 = 1",
            "f.toml:1:8: listen.http2: integer `1` cannot be used: expected true or false",
        ),
        (
            "cache = 3",
            "f.toml:1:1: cache: integer `3` cannot be used: expected a table",
        ),
        (
            "telemetry.log = 3",
            "f.toml:1:11: telemetry.log: cannot be used: expected a text in quotes",
        ),
        (
            "telemetry.log_format = \"xml\"",
            "f.toml:1:11: telemetry.log_format: `xml` cannot be used: expected one of `auto`, `json`, `text`",
        ),
        (
            "listen.address = \"8080\"",
            "f.toml:1:8: listen.address: cannot be used: expected an address and a port, such as \"127.0.0.1:8080\"",
        ),
        (
            "[cache\n",
            "f.toml:1:7: not TOML: unclosed table, expected `]`",
        ),
        ("a = 1\na = 2", "f.toml:2:1: not TOML: duplicate key"),
        (
            "[[credentials]]\nstream = \"a\"",
            "f.toml:1:1: credentials[0].client_id: is missing: there is no default for it",
        ),
    ] {
        assert_eq!(mistakes(file, &[]), [want], "of {file}");
    }
}

#[test]
fn nonsense_is_refused_with_what_is_wrong_with_it() {
    for (file, key, why) in [
        (
            "listen.deadline = \"0s\"",
            "listen.deadline",
            "more than zero",
        ),
        (
            "listen.deadline = \"-1s\"",
            "listen.deadline",
            "no duration",
        ),
        (
            "cache.fresh_for = \"10 parsecs\"",
            "cache.fresh_for",
            "\"parsecs\"",
        ),
        (
            "cache.max_bytes = \"0MiB\"",
            "cache.max_bytes",
            "more than zero",
        ),
        ("cache.max_bytes = \"64\"", "cache.max_bytes", "\"64MiB\""),
        (
            "listen.max_in_flight = 0",
            "listen.max_in_flight",
            "1 or more",
        ),
        (
            "listen.max_in_flight = -1",
            "listen.max_in_flight",
            "1 or more",
        ),
        (
            "upstream.url = \"https://h/path\"",
            "upstream.url",
            "no path",
        ),
        (
            "upstream.forward_headers = [\"Accept\", \"Authorization\"]",
            "upstream.forward_headers[1]",
            "never sent on",
        ),
        (
            "upstream.extra_query = [\"skip\"]",
            "upstream.extra_query[0]",
            "always understood",
        ),
        (
            "telemetry.otlp_endpoint = \"collector:4318\"",
            "telemetry.otlp_endpoint",
            "must be http or https",
        ),
        (
            "telemetry.otlp_endpoint = \"http://me:word@collector\"",
            "telemetry.otlp_endpoint",
            "no user and no password",
        ),
        (
            "telemetry.trace_ratio = 1.5",
            "telemetry.trace_ratio",
            "from 0 to 1",
        ),
        (
            "listen.max_in_flight = 99999999999999999999",
            "1:24: not TOML",
            "too large",
        ),
    ] {
        let told = mistakes(file, &[]);
        assert!(told.len() == 1 && told[0].contains(key), "{told:?}");
        assert!(told[0].contains(why), "{told:?}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_from_its_top_to_its_end() {
    let file = r#"[telemetry]
log = "loud"
[cache]
fresh_for = 60
fresh = "1s"
usable_for = "soon"
[upstream]
forward_headers = ["Cookie", "Accept", "Host"]
[[credentials]]
stream = "a"
client_id = "a"
[[credentials]]
algorithm = "none"
jti = "no"
strem = "b"
[[credentials]]
stream = "c"
client_id = 5
"#;
    let told = mistakes(file, &[]);
    let places: Vec<&str> = told
        .iter()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "telemetry.log",
            "cache.fresh_for",
            "cache.fresh",
            "cache.usable_for",
            "upstream.forward_headers[0]",
            "upstream.forward_headers[2]",
            "credentials[1].stream",
            "credentials[1].client_id",
            "credentials[1].algorithm",
            "credentials[1].jti",
            "credentials[1].strem",
            "credentials[2].client_id",
        ],
        "{told:#?}"
    );
    assert!(told[11].starts_with("f.toml:18:1: "), "{}", told[11]);
}

#[test]
fn a_mistake_in_the_environment_is_told_with_the_variable_as_it_was_written() {
    for (name, value, want) in [
        (
            "CONTACTS_GATEWAY__CACHE__FRESH_FRO",
            "1s",
            "cache.fresh_fro: unknown key (did you mean fresh_for?)",
        ),
        (
            "Contacts_Gateway__Nonsense__X",
            "1",
            "nonsense: unknown key (known keys: admin, allowance, cache, callers, credentials, listen, shared, telemetry, upstream)",
        ),
        (
            "CONTACTS_GATEWAY__CACHE__FRESH_FOR",
            "60",
            "cache.fresh_for: \"60\" has no unit: write a duration as text, such as \"60s\", \"1h 30m\" or \"250ms\"",
        ),
        (
            "CONTACTS_GATEWAY__CACHE__FRESH_FOR__X",
            "60",
            "cache.fresh_for: is no table: no key stands in it",
        ),
        (
            "CONTACTS_GATEWAY__CREDENTIALS__0__STREAM",
            "a",
            "credentials: is a list, which is set as a whole",
        ),
        (
            "CONTACTS_GATEWAY__CREDENTIALS",
            "[{ stream = \"a\" }]",
            "credentials[0].client_id: is missing: there is no default for it",
        ),
        (
            "CONTACTS_GATEWAY__CREDENTIALS",
            "hunter2",
            "credentials: not a TOML value such as [{ key = \"value\" }]: string values must be quoted, expected literal string",
        ),
        (
            "CONTACTS_GATEWAY__LISTEN__HTTP2",
            "yes",
            "listen.http2: string \"yes\" cannot be used: expected true or false",
        ),
        (
            "CONTACTS_GATEWAY__LISTEN__MAX_IN_FLIGHT",
            "",
            "listen.max_in_flight: string \"\" cannot be used: expected a whole number, 1 or more",
        ),
    ] {
        let want = format!("environment variable {name}: {want}");
        assert_eq!(mistakes("", &[(name, value)]), [want]);
    }
}

#[test]
fn whatever_stands_at_a_key_is_taken_or_is_a_mistake_about_that_key() {
    let entries = [
        (
            "credentials",
            "client_id = \"a\"\nstream = \"a\"\n".to_owned(),
        ),
        ("callers", caller("a", 'a')),
    ];
    let values = [
        "0",
        "-1",
        "1.5",
        "nan",
        "true",
        "1979-05-27",
        "\"\"",
        "\"x\"",
        "[]",
        "[1]",
        "[[[\"x\"]]]",
        "{}",
        "{ a = 1 }",
        "[{ a = { b = [] } }, 3]",
    ];
    let mut keys: Vec<String> = Vec::new();
    let schema = Config::schema();
    for (section, schema) in schema["properties"].as_object().unwrap() {
        keys.push(section.clone());
        let inner = schema["properties"].as_object().into_iter().flatten();
        keys.extend(inner.map(|(key, _)| format!("{section}.{key}")));
    }
    for (key, value) in keys.iter().flat_map(|key| values.map(|value| (key, value))) {
        for line in load(&format!("{key} = {value}"), &[])
            .err()
            .iter()
            .flat_map(Mistakes::iter)
        {
            assert!(
                line.key.starts_with(key.as_str()),
                "{key} = {value}: {line}"
            );
            assert!(
                line.place.starts_with("f.toml:1:"),
                "{key} = {value}: {line}"
            );
        }
    }
    for (list, entry) in &entries {
        let known = &schema["properties"][list]["items"]["properties"];
        let keys = known.as_object().unwrap().keys();
        for (key, value) in keys.flat_map(|key| values.map(|value| (key, value))) {
            let others: String = entry
                .lines()
                .filter(|line| !line.starts_with(key.as_str()) && !line.starts_with('['))
                .map(|line| format!("{line}\n"))
                .collect();
            let one = format!("[[{list}]]\n{others}{key} = {value}\n");
            for line in load(&one.repeat(2), &[])
                .err()
                .iter()
                .flat_map(Mistakes::iter)
            {
                assert!(line.key.starts_with(list), "{key} = {value}: {line}");
            }
        }
    }
}
#[test]
fn two_variables_for_one_key_are_refused() {
    let told = mistakes(
        "",
        &[
            ("CONTACTS_GATEWAY__LISTEN__HTTP2", "true"),
            ("contacts_gateway__listen__http2", "false"),
        ],
    );
    assert_eq!(
        told,
        [
            "environment variable contacts_gateway__listen__http2: names the same key as \
          CONTACTS_GATEWAY__LISTEN__HTTP2: set one of them"
        ]
    );
}

#[test]
fn a_rule_between_keys_is_told_at_the_one_that_was_written() {
    for (file, want) in [
        (
            "cache.fresh_for = \"2h\"",
            "1:7: cache.fresh_for: 2h is more than cache.usable_for, which is 1h",
        ),
        (
            "cache.usable_for = \"1s\"",
            "1:7: cache.usable_for: 1s is less than cache.fresh_for, which is 1m",
        ),
        (
            "cache.stale_if_error = \"5m\"",
            "1:7: cache.stale_if_error: 5m is less than cache.usable_for, which is 1h",
        ),
        (
            "upstream.connect_timeout = \"20s\"",
            "1:10: upstream.connect_timeout: 20s is more than upstream.timeout, which is 10s",
        ),
        (
            "[allowance]\ncalls = 19\nfloor = 20",
            "3:1: allowance.floor: 20 is more than allowance.calls, which is 19",
        ),
        (
            "allowance.calls = 1000001",
            "1:11: allowance.calls: 1000001 is more than 1000000: memory is kept for each call of a window",
        ),
        (
            "allowance.floor = 60",
            "1:11: allowance.floor: 60 is more than allowance.calls, which is 59",
        ),
        (
            "allowance.reserve = 59",
            "1:11: allowance.reserve: 59 is not less than allowance.calls, which is 59",
        ),
        (
            "allowance.hourly = 58",
            "1:11: allowance.hourly: 58 is less than allowance.calls, which is 59",
        ),
        (
            "admin.address = \"127.0.0.1:8080\"",
            "1:7: admin.address: takes the port of listen.address, 127.0.0.1:8080",
        ),
        (
            "listen.address = \"0.0.0.0:9090\"",
            "1:8: listen.address: takes the port of admin.address, 127.0.0.1:9090",
        ),
    ] {
        assert_eq!(mistakes(file, &[]), [format!("f.toml:{want}")]);
    }
    let few = load("allowance.calls = 19", &[]).unwrap();
    assert_eq!(few.allowance.floor.get(), 19, "by itself it is no more");
    assert_eq!(few.to_toml(), load(&few.to_toml(), &[]).unwrap().to_toml());
    let least = "[allowance]\ncalls = 1\nfloor = 1\nreserve = 0\nhourly = 1";
    assert!(load(least, &[]).is_ok());
    let any = "listen.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"";
    assert!(load(any, &[]).is_ok(), "port 0 is a new one each time");
}

#[test]
fn a_rule_about_a_key_that_is_wrong_by_itself_says_nothing() {
    let file = "cache.fresh_for = \"soon\"\ncache.usable_for = \"1s\"";
    assert_eq!(mistakes(file, &[]).len(), 1);
}

#[test]
fn what_may_be_a_secret_is_never_repeated() {
    for file in [
        "credentials = \"hunter2\"",
        "credentials = [\"hunter2\"]",
        "[[credentials]]\nstream = \"a\"\nclient_id = \"a\"\nclient_secret = \"hunter2\"",
        "[[credentials]]\nstream = \"a\"\nclient_id = \"a\"\ntoken_lifetime = \"hunter2\"",
        "[[credentials]]\nstream = \"a\"\nclient_id = \"a\"\nsecret_file = 7777",
        "[[credentials]]\nstream = \"a\"\nclient_id = \"a\"\nsecret_file = 77777777777777777777",
        "[[credentials]]\nsecret = \"hunter2\nstream = \"a\"",
        "[[callers]]\nname = \"a\"\ntoken_sha256 = \"hunter2\"",
        "[[callers]]\nname = \"a\"\ntoken = \"hunter2\"",
        "[[callers]]\nname = \"a\"\ntoken_sha256 = 7777",
        "upstream.url = \"https://hunter2@host\"",
    ] {
        let told = mistakes(file, &[]).join("\n");
        assert!(
            !told.contains("hunter2") && !told.contains("7777"),
            "{told}"
        );
    }
}

#[test]
fn the_words_of_a_mistake_are_not_taken_for_a_secret() {
    let hint = "write a duration as text, such as \"60s\", \"1h 30m\" or \"250ms\"";
    for (value, what) in [
        ("0s", "must be more than zero"),
        ("e", "*** is no duration"),
    ] {
        let file = format!(
            "[[credentials]]\nstream = \"a\"\nclient_id = \"a\"\nsecret_env = \"A\"\ntoken_lifetime = \"{value}\""
        );
        let want = format!("f.toml:5:1: credentials[0].token_lifetime: {what}: {hint}");
        assert_eq!(mistakes(&file, &[]), [want]);
    }
}

#[test]
fn a_mistake_is_one_line_whatever_stands_in_the_file() {
    for file in ["\"a\\nb\" = 1", "cache.fresh_for = \"a\\nb\\u001b[2J\""] {
        let told = load(file, &[]).unwrap_err();
        let line = told.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let path = Path::new("no/such/file.toml");
    let told = Config::load(Some(path), std::iter::empty()).unwrap_err();
    let line = told.to_string();
    assert!(
        line.starts_with("no/such/file.toml: cannot be read: "),
        "{line}"
    );
}
