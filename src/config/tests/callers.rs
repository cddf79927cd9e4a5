//! Who calls, and the TLS by which callers are known.

use super::*;

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
