//! What loading tells of entries that cannot be used, and which entry a stream finds.

use super::*;
use crate::upstream::pem;
use crate::upstream::test_keys::{self as keys, Folder};

#[test]
fn an_entry_needs_no_more_than_a_stream_a_client_id_and_a_secret() {
    let settings = entry("stream = '*'\nclient_id = 'cs-1'\nsecret_file = '/run/secret'").unwrap();
    assert_eq!(settings.stream, Stream::Any);
    assert_eq!(settings.algorithm, Algorithm::Hs256);
    assert_eq!(settings.subject.as_str(), "contacts-gateway");
    assert_eq!(settings.token_lifetime, Duration::from_secs(300));
    assert!(!settings.jti);
    assert!(settings.encrypt_to_file.as_os_str().is_empty());
}

#[test]
fn an_entry_refuses_what_it_does_not_know_or_cannot_be() {
    for (key, value) in [
        ("stream", "'st/1'"),
        ("stream", "''"),
        ("client_id", "''"),
        ("client_id", "' '"),
        ("subject", "''"),
        ("algorithm", "'none'"),
        ("algorithm", "'hs256'"),
        ("token_lifetime", "'0s'"),
        ("token_lifetime", "300"),
        ("jti", "'yes'"),
        ("secret", "'s3cret'"),
    ] {
        let mut table: toml::Table = toml::from_str("stream = '*'\nclient_id = 'cs-1'").unwrap();
        let changed: toml::Table = toml::from_str(&format!("{key} = {value}")).unwrap();
        table.extend(changed);
        assert!(
            Settings::deserialize(table).is_err(),
            "{key} = {value} is refused"
        );
    }
}

#[test]
fn the_schema_tells_the_defaults_as_they_are_written() {
    let schema = schemars::schema_for!(Settings).to_value();
    for (key, want) in [
        ("algorithm", "HS256"),
        ("subject", "contacts-gateway"),
        ("token_lifetime", "5m"),
        ("encrypt_to_file", ""),
    ] {
        assert_eq!(schema["properties"][key]["default"], want, "{key}");
    }
    assert_eq!(
        schema["required"],
        serde_json::json!(["stream", "client_id"])
    );
    for (key, property) in schema["properties"].as_object().unwrap() {
        assert!(property["description"].is_string(), "{key} is described");
    }
}

#[test]
fn a_stream_speaks_with_its_own_credential_else_with_the_one_for_all() {
    let folder = Folder::new();
    let file = folder.holding("secret", SECRET);
    let own = settings("st-1", "HS256", "secret_file", &file);
    let all = settings("*", "HS512", "secret_file", &file);

    let both = Credentials::load(&[all, own.clone()]).unwrap();
    let streams: Vec<_> = both
        .iter()
        .map(|one| one.settings().stream.to_string())
        .collect();
    assert_eq!(streams, ["*", "st-1"]);
    let algorithm = |stream| both.find(stream).unwrap().algorithm();
    assert_eq!(algorithm("st-1"), Algorithm::Hs256);
    assert_eq!(algorithm("st-2"), Algorithm::Hs512);

    let one = Credentials::load(&[own]).unwrap();
    assert!(one.find("st-1").is_some());
    assert!(one.find("st-2").is_none());
}

#[test]
fn each_wrong_key_is_named_with_its_file_and_its_reason() {
    let folder = Folder::new();
    for (algorithm, setting, text, want) in [
        ("RS256", "secret_file", SECRET, "holds no PEM"),
        ("RS256", "key_file", SECRET, "holds no PEM"),
        ("RS256", "key_file", "", "is empty: store the secret there"),
        ("HS256", "secret_file", "\n", "is empty"),
        (
            "RS512",
            "key_file",
            keys::SMALL,
            "1024 bits: use one of 2048",
        ),
        (
            "RS256",
            "key_file",
            &keys::public(),
            "a public key: the private key belongs there",
        ),
        (
            "RS256",
            "key_file",
            keys::CERTIFICATE,
            "a certificate: the private key belongs there",
        ),
        ("RS256", "key_file", keys::EC_PKCS8, "an EC key"),
        ("RS256", "key_file", keys::ENCRYPTED, "an encrypted key"),
        (
            "HS256",
            "key_file",
            &keys::pkcs8(),
            "HS256 is keyed by a secret",
        ),
        (
            "HS256",
            "encrypt_to_file",
            &keys::pkcs8(),
            "a private key: the vendor's public key",
        ),
        ("HS256", "encrypt_to_file", keys::EC_PUBLIC, "an EC key"),
        ("HS256", "encrypt_to_file", keys::SMALL_PUBLIC, "1024 bits"),
        ("HS256", "encrypt_to_file", SECRET, "holds no PEM"),
    ] {
        let file = folder.holding("key.pem", text);
        let good = folder.holding("secret", SECRET);
        let mut entry = settings("st-1", algorithm, setting, &file);
        if setting == "encrypt_to_file" {
            entry.secret_file = good;
        }
        let shown = mistake(entry);
        let begins = format!(
            "credentials[0] (stream \"st-1\"): {setting}: {}: ",
            file.display()
        );
        assert!(shown.starts_with(&begins), "{shown}");
        assert!(shown.contains(want), "{want:?} in {shown}");
        assert!(!shown.contains('\n'), "{shown}");
        for line in text.lines().filter(|line| line.len() > 20) {
            assert!(!shown.contains(line), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_secret_comes_from_a_file_or_the_environment_and_a_key_from_either_file() {
    let folder = Folder::new();
    let secret = folder.holding("secret", SECRET);
    let (pkcs1, pkcs8) = (
        folder.holding("1.pem", keys::pkcs1()),
        folder.holding("8.pem", keys::pkcs8()),
    );
    let (clock, _hand) = Clock::by_hand();
    for (algorithm, setting, place) in [
        ("HS256", "secret_file", secret.as_path()),
        // Set for every test by cargo.
        ("HS512", "secret_env", "CARGO_MANIFEST_DIR".as_ref()),
        ("RS256", "key_file", &pkcs1),
        ("RS512", "key_file", &pkcs8),
        ("RS256", "secret_file", &pkcs8),
    ] {
        let loaded = Credentials::load(&[settings("*", algorithm, setting, place)]).unwrap();
        let credential = loaded.find("st-1").unwrap();
        let minted = credential.token(By::Own, &clock).await.unwrap();
        assert!(minted.fresh, "{algorithm} from {setting}");
    }
}

#[test]
fn a_missing_file_or_variable_is_named() {
    let folder = Folder::new();
    let missing = folder.path().join("missing");
    let shown = mistake(settings("*", "HS256", "secret_file", &missing));
    assert!(shown.contains(missing.to_str().unwrap()), "{shown}");
    assert!(shown.contains("cannot be read"), "{shown}");

    let unset = "CONTACTS_GATEWAY_TEST_UNSET".as_ref();
    let shown = mistake(settings("*", "HS256", "secret_env", unset));
    assert!(
        shown.contains("environment variable CONTACTS_GATEWAY_TEST_UNSET: is not set"),
        "{shown}"
    );
}

#[test]
fn the_secret_is_in_exactly_one_place() {
    let folder = Folder::new();
    let file = folder.holding("secret", SECRET);
    let mut entry = settings("*", "HS256", "secret_file", &file);
    entry.secret_env = "NAME".into();
    assert!(mistake(entry.clone()).contains("secret_file and secret_env are set: keep one"));
    entry.secret_env.clear();
    entry.secret_file.clear();
    assert!(mistake(entry).contains("none of secret_file, key_file and secret_env is set"));
}

#[test]
fn all_mistakes_of_all_entries_are_reported() {
    let folder = Folder::new();
    let secret = folder.holding("secret", SECRET);
    let good = settings("st-1", "HS256", "secret_file", &secret);
    let mut bad = good.clone();
    bad.algorithm = Algorithm::Rs256;
    bad.encrypt_to_file = folder.path().join("missing");
    bad.jti = true;
    bad.token_lifetime = Duration::from_millis(7_200_500);
    let mut other = good.clone();
    other.stream = Stream::Any;
    other.secret_file.clear();

    let found: Vec<_> = Credentials::load(&[good, bad, other])
        .unwrap_err()
        .into_iter()
        .map(|mistake| (mistake.entry, mistake.problem))
        .collect();
    assert!(
        matches!(
            found.as_slice(),
            [
                (1, Problem::SameStream { first: 0 }),
                (1, Problem::Fraction),
                (1, Problem::TooLongForJti),
                (
                    1,
                    Problem::WrongKey {
                        wrong: pem::Wrong::NoPem,
                        ..
                    }
                ),
                (
                    1,
                    Problem::Unreadable {
                        setting: "encrypt_to_file",
                        ..
                    }
                ),
                (2, Problem::NoSource),
            ]
        ),
        "{found:?}"
    );
}

#[test]
fn a_token_with_jti_lives_an_hour_at_most() {
    let folder = Folder::new();
    let file = folder.holding("secret", SECRET);
    for (jti, seconds, good) in [
        (true, 3600, true),
        (true, 3601, false),
        (false, 3601, true),
        (false, 86400, true),
    ] {
        let mut entry = settings("*", "HS256", "secret_file", &file);
        entry.jti = jti;
        entry.token_lifetime = Duration::from_secs(seconds);
        assert_eq!(
            Credentials::load(&[entry]).is_ok(),
            good,
            "jti {jti}, {seconds}s"
        );
    }
}

#[test]
fn a_doubtful_secret_is_used_and_warned_of() {
    let folder = Folder::new();
    let pem = keys::pkcs8();
    for (algorithm, text, want) in [
        ("HS256", &SECRET[..31], Some("shorter than the 32 bytes")),
        ("HS256", &SECRET[..32], None),
        ("HS512", &SECRET[..63], Some("shorter than the 64 bytes")),
        ("HS512", &SECRET[..64], None),
        ("HS256", &pem, Some("is the algorithm RS256 or RS512?")),
        ("RS256", &pem, None),
    ] {
        let file = folder.holding("secret", text);
        let entry = settings("st-1", algorithm, "secret_file", &file);
        let loaded = Credentials::load(&[entry]).unwrap();
        let shown: Vec<_> = loaded.warnings().iter().map(ToString::to_string).collect();
        match want {
            None => assert!(shown.is_empty(), "{shown:?}"),
            Some(want) => {
                assert_eq!(shown.len(), 1);
                assert!(shown[0].contains(want), "{shown:?}");
                assert!(shown[0].contains(file.to_str().unwrap()), "{shown:?}");
            }
        }
    }
}

#[test]
fn credentials_are_shown_with_stars() {
    let folder = Folder::new();
    let file = folder.holding("secret", SECRET);
    let mut entry = settings("st-1", "HS512", "secret_file", &file);
    entry.encrypt_to_file = folder.holding("vendor.pem", keys::public());
    let loaded = Credentials::load(&[entry]).unwrap();
    let shown = loaded.iter().next().unwrap().to_string();
    assert_eq!(
        shown,
        format!(
            "stream \"st-1\": client_id \"cs-1\", HS512, secret *** from secret_file {}, \
             subject \"contacts-gateway\", token_lifetime 5m, jti false, encrypted to {}",
            file.display(),
            folder.path().join("vendor.pem").display(),
        )
    );
    let debug = format!("{loaded:?}");
    assert!(debug.contains(&shown), "{debug}");
    assert!(!debug.contains(SECRET), "{debug}");
}

/// As long as the vendor's are not, but no algorithm asks for more.
const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz";

fn entry(text: &str) -> Result<Settings, toml::de::Error> {
    toml::from_str(text)
}

fn settings(stream: &str, algorithm: &str, setting: &str, place: &std::path::Path) -> Settings {
    let place = place.display();
    entry(&format!(
        "stream = '{stream}'\nclient_id = 'cs-1'\nalgorithm = '{algorithm}'\n{setting} = '{place}'"
    ))
    .unwrap()
}

fn mistake(entry: Settings) -> String {
    let mistakes = Credentials::load(&[entry]).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes[0].to_string()
}
