//! Who a token belongs to, what an entry may say, and what it allows.

use rcgen::{CertificateParams, KeyPair, SanType};

use super::*;
use crate::clock::Clock;

/// "abc", whose digest stands in FIPS 180-2.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn sha256(text: &str) -> Result<Sha256, &'static str> {
    text.to_owned().try_into()
}

fn callers(settings: &str) -> Callers {
    #[derive(Deserialize)]
    struct Written {
        callers: Vec<Settings>,
    }
    let written: Written = toml::from_str(settings).unwrap();
    let metrics = Metrics::new().unwrap();
    Callers::new(&written.callers, &metrics, Clock::system().now())
}

#[test]
fn a_digest_is_64_hex_digits_of_either_case() {
    assert_eq!(sha256(ABC), Ok(Sha256::of(b"abc")));
    assert_eq!(sha256(&ABC.to_uppercase()), Ok(Sha256::of(b"abc")));
    for wrong in [
        "",
        "abc",
        &ABC[1..],
        &format!("{ABC}0"),
        &ABC.replace('b', "g"),
    ] {
        let refused = sha256(wrong).unwrap_err();
        assert!(refused.contains("64 hex digits"), "{refused}");
    }
    assert!(sha256(&"ä".repeat(32)).is_err(), "64 bytes, no digits");
}

#[test]
fn a_digest_is_not_shown_to_a_debugger() {
    assert_eq!(format!("{:?}", sha256(ABC).unwrap()), "***");
}

#[test]
fn a_token_finds_its_caller_wherever_that_stands() {
    let entry = |name: &str, token: &str| {
        let digest = Sha256::of(token.as_bytes()).0;
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[callers]]\nname = {name:?}\ntoken_sha256 = {digest:?}\n")
    };
    let known = callers(&(entry("a", "one") + &entry("b", "two") + &entry("c", "three")));
    let mut recent = Recent::default();
    let mut found = |token: &str| {
        let found = known.find(None, Some(token.as_bytes()), &mut recent);
        found.map(|c| c.identity.name.to_string())
    };
    for (token, name) in [
        ("one", Some("a")),
        ("two", Some("b")),
        ("three", Some("c")),
        ("One", None),
        ("one ", None),
        ("", None),
        (ABC, None),
    ] {
        let name = name.map(ToOwned::to_owned);
        assert_eq!(found(token), name, "{token:?}");
        assert_eq!(found(token), name, "{token:?} once more");
    }
    assert!(known.anonymous().is_none());
}

#[test]
fn a_name_is_plain_and_not_everybodys() {
    let name = |text: &str| Name::try_from(text.to_owned());
    for good in [
        "a",
        "campaign-service",
        "A.b_c-9",
        "Anonymous",
        &"x".repeat(64),
    ] {
        assert!(name(good).is_ok(), "{good}");
    }
    for bad in ["", "a b", "a\"b", "ä", "a/b", "anonymous", &"x".repeat(65)] {
        assert!(name(bad).is_err(), "{bad}");
    }
}

#[test]
fn rights_are_to_a_stream_and_to_an_account_and_to_purge() {
    let known = callers(&format!(
        "[[callers]]\nname = \"a\"\ntoken_sha256 = {ABC:?}\nstreams = [\"s\", \"t\"]\naccounts = [\"a\", \"*\"]\n"
    ));
    let mut recent = Recent::default();
    let caller = known.find(None, Some(b"abc"), &mut recent).unwrap();
    let list = |stream: &str| ListKey::new(stream, "cl", "any").unwrap();
    let no = |what| Err(Error::CallerForbidden(what));
    assert_eq!(caller.may(&list("s"), false), Ok(()));
    assert_eq!(caller.may(&list("S"), false), no(Forbidden::Stream));
    assert_eq!(caller.may(&list("S"), true), no(Forbidden::Stream));
    assert_eq!(caller.may(&list("t"), true), no(Forbidden::Purge));
    let anonymous = Caller::anonymous(&Metrics::new().unwrap());
    assert_eq!(anonymous.may(&list("S"), true), Ok(()));
}

#[test]
fn a_certificate_finds_its_caller_unless_what_is_shown_belongs_to_two() {
    let known = callers(&format!(
        "[[callers]]\nname = \"token\"\ntoken_sha256 = {ABC:?}\n\
         [[callers]]\nname = \"uri\"\ncertificate = \"spiffe://a/B\"\n\
         [[callers]]\nname = \"host\"\ncertificate = \"Host.example\"\n"
    ));
    let found = |names: &[&str], token: Option<&str>| {
        let mut params = CertificateParams::default();
        let names = names.iter().map(|name| match name.contains(':') {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        });
        params.subject_alt_names.extend(names);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let peer = Peer::new(Some(certificate.der()));
        known
            .find(
                Some(&peer),
                token.map(str::as_bytes),
                &mut Recent::default(),
            )
            .map(|c| c.identity.name.to_string())
    };
    for (names, token, name) in [
        (&["spiffe://a/B"][..], None, Some("uri")),
        (&["spiffe://a/b"], None, None),
        (&["host.EXAMPLE"], None, Some("host")),
        (&["sub.host.example"], None, None),
        (&["*.example"], None, None),
        (&["spiffe://a/other", "spiffe://a/B"], None, Some("uri")),
        (&["spiffe://a/B", "host.example"], None, None),
        (&[], None, None),
        (&[], Some("abc"), Some("token")),
        (&["spiffe://a/other"], Some("abc"), Some("token")),
        (&["spiffe://a/B"], Some("abc"), None),
        (&["spiffe://a/B"], Some("nobody's"), Some("uri")),
    ] {
        assert_eq!(found(names, token).as_deref(), name, "{names:?}, {token:?}");
    }
}
