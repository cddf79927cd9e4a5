//! How the layers are laid over each other, and how every mistake is told.

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
fn nonsense_about_a_caller_is_refused_with_what_is_wrong_with_it() {
    let good = caller("a", 'a');
    for (wrong, key, why) in [
        (
            "requests_per_minute = 0",
            "requests_per_minute",
            "1 or more",
        ),
        ("fetches_per_minute = -1", "fetches_per_minute", "1 or more"),
        ("share = 0", "share", "1 or more"),
        ("streams = []", "streams", "must not be empty"),
        ("accounts = []", "accounts", "must not be empty"),
        ("streams = [\"a\", \"b/c\"]", "streams[1]", "an id is"),
        ("accounts = [\"..\"]", "accounts[0]", "an id is"),
        ("streams = \"*\"", "streams", "a list in square brackets"),
        (
            "certificate = \"spiffe://a\"",
            "certificate",
            "stands beside token_sha256",
        ),
        (
            "certficate = \"spiffe://a\"",
            "certficate",
            "did you mean certificate?",
        ),
    ] {
        let told = mistakes(&format!("{good}{wrong}"), &[]);
        let key = format!("callers[0].{key}: ");
        assert!(told.len() == 1 && told[0].contains(&key), "{told:?}");
        assert!(told[0].contains(why), "{told:?}");
    }
    for (entry, key) in [
        (caller("anonymous", 'a'), "callers[0].name: "),
        (caller("a b", 'a'), "callers[0].name: "),
        (caller("a", 'g'), "callers[0].token_sha256: "),
    ] {
        let told = mistakes(&entry, &[]);
        assert!(told.len() == 1 && told[0].contains(key), "{told:?}");
    }
    let lists = "streams = [\"a\", \"b/c\"]\naccounts = [\"b/c\"]\n";
    let file = format!("{good}{lists}{}{lists}", caller("b", 'b'));
    let told = mistakes(&file, &[]);
    let keys: Vec<&str> = told
        .iter()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "callers[0].streams[1]",
            "callers[0].accounts[0]",
            "callers[1].streams[1]",
            "callers[1].accounts[0]",
        ],
        "{told:?}"
    );
    let told = mistakes("[[callers]]\nname = \"a\"", &[]);
    assert_eq!(
        told,
        ["f.toml:1:1: callers[0]: nothing tells who this is: write token_sha256, or certificate"]
    );
}

/// A port that asks for certificates.
const ASKING: &str =
    "[listen.tls]\ncertificate_file = \"c\"\nkey_file = \"k\"\nclient_ca_file = \"a\"\n";

#[test]
fn a_caller_is_known_by_a_token_or_by_a_certificate_that_is_asked_for() {
    let certified =
        |name: &str, san: &str| format!("[[callers]]\nname = {name:?}\ncertificate = {san:?}\n");
    let two = certified("a", "spiffe://a/b") + &certified("b", "Host.example") + &caller("c", '1');
    assert!(load(&(ASKING.to_owned() + &two), &[]).is_ok());
    let told = mistakes(&certified("a", "spiffe://a/b"), &[]);
    assert!(told.len() == 1 && told[0].contains("callers[0].certificate: is never seen"));
    assert!(told[0].contains("listen.tls.client_ca_file"), "{told:?}");
    for wrong in ["", "a b", "*.example", "10.0.0.1", "spiffe:"] {
        let told = mistakes(&(ASKING.to_owned() + &certified("a", wrong)), &[]);
        assert!(told.len() == 1, "{told:?}");
        assert!(
            told[0].contains("callers[0].certificate: must be a name as"),
            "{told:?}"
        );
    }
    let same = certified("a", "host.example") + &certified("b", "HOST.example");
    let told = mistakes(&(ASKING.to_owned() + &same), &[]);
    assert!(
        told.len() == 1
            && told[0].contains("callers[1].certificate: is the same as that of callers[0]"),
        "{told:?}"
    );
}

#[test]
fn tls_is_a_certificate_and_its_key_or_nothing() {
    let (certificate, key, ca) = (
        "certificate_file = \"a\"",
        "key_file = \"b\"",
        "client_ca_file = \"c\"",
    );
    for table in ["listen", "admin"] {
        let lacking = |keys: &[&str]| {
            let told = load(&format!("[{table}.tls]\n{}", keys.join("\n")), &[]);
            let told = told.err().map(|mistakes| mistakes.to_string());
            let told = told.unwrap_or_default();
            let keys = told
                .lines()
                .map(|line| line.split(": ").nth(1).unwrap().to_owned());
            keys.collect::<Vec<_>>()
        };
        let [no_certificate, no_key] =
            ["certificate_file", "key_file"].map(|key| format!("{table}.tls.{key}"));
        assert!(lacking(&[certificate, key]).is_empty());
        assert!(lacking(&[certificate, key, ca]).is_empty());
        assert_eq!(lacking(&[certificate]), [&*no_key]);
        assert_eq!(lacking(&[key]), [&*no_certificate]);
        assert_eq!(lacking(&[ca]), [no_certificate, no_key]);
    }
    let file =
        format!("listen.tls = {{ {certificate}, {key} }}\nadmin.tls = {{ {key}, {certificate} }}");
    let config = load(
        &file,
        &[("CONTACTS_GATEWAY__LISTEN__TLS__CLIENT_CA_FILE", "c")],
    )
    .unwrap();
    let files: Vec<_> = config.files().collect();
    assert_eq!(files, ["a", "b", "c", "a", "b"].map(Path::new));
}

#[test]
fn each_caller_has_a_name_and_a_token_of_its_own() {
    assert_eq!(
        load(&(caller("a", '1') + &caller("b", '2')), &[])
            .unwrap()
            .callers
            .len(),
        2
    );
    let file = caller("a", '1') + &caller("b", '2') + &caller("a", '3') + &caller("c", '2');
    assert_eq!(
        mistakes(&file, &[]),
        [
            "f.toml:8:1: callers[2].name: is the same as that of callers[0]: give each caller its own",
            "f.toml:12:1: callers[3].token_sha256: is the same as that of callers[1]: give each caller its own",
        ]
    );
    let file = "[[callers]]\nname = 5\n".to_owned() + &caller("a", '1') + &caller("a", '1');
    assert!(
        mistakes(&file, &[])
            .iter()
            .all(|line| !line.contains("same")),
        "nothing of the others where one is wrong by itself"
    );
}

#[test]
fn the_field_that_callers_are_known_by_is_not_sent_on() {
    let sent_on =
        "[upstream]\naccept_any_body = true\nforward_headers = [\"Accept\", \"authorization\"]\n";
    assert!(load(sent_on, &[]).is_ok());
    let certified = "[[callers]]\nname = \"a\"\ncertificate = \"a.example\"\n";
    assert!(load(&(sent_on.to_owned() + certified + ASKING), &[]).is_ok());
    let told = mistakes(&(sent_on.to_owned() + &caller("a", '1')), &[]);
    assert!(told.len() == 1, "{told:?}");
    assert!(
        told[0].starts_with(
            "f.toml:3:30: upstream.forward_headers[1]: \"Authorization\" is where callers show"
        ),
        "{told:?}"
    );
    let either = sent_on.replace("true", "false") + &caller("a", '1');
    let told = mistakes(&either, &[]);
    assert!(
        told.len() == 1 && told[0].contains("never sent on"),
        "{told:?}"
    );
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
