//! Keys that cannot be used: told by the program itself, before anything is served.

use super::entry;
use super::openssl::{self, Pair, RSA};
use crate::support::{Folder, STREAM, is_there, program};

/// Checks settings with these credentials. They are refused if there is something in what is said.
fn check(folder: &Folder, credentials: &str) -> (Option<i32>, String) {
    let settings = folder.put("gateway.toml", credentials);
    let ended = program(&["check", "--config", settings.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    (ended.status.code(), said)
}

#[test]
fn a_key_that_cannot_be_used_is_refused_with_its_file_and_the_reason() {
    if !is_there("openssl") {
        return;
    }
    let weak = Pair::of_bits(1024);
    let ec = openssl::text(
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout"],
        b"",
    );
    let folder = Folder::new();
    let private = folder.put("private", &RSA.pkcs8);
    let subject = [
        "req",
        "-x509",
        "-subj",
        "/CN=app",
        "-key",
        private.to_str().unwrap(),
    ];
    let certificate = openssl::text(&subject, b"");
    let locked = ["pkcs8", "-topk8", "-passout", "pass:sesame"];
    let locked = openssl::text(&locked, RSA.pkcs1.as_bytes());
    let broken = RSA.pkcs8.replace("MII", "XXX");
    let one_line = RSA.pkcs8.replace('\n', "\\n");
    for (setting, algorithm, text, reason) in [
        ("key_file", "RS256", weak.pkcs1.as_str(), "1024 bits"),
        ("key_file", "RS512", &weak.pkcs8, "1024 bits"),
        ("key_file", "RS256", &RSA.public, "a public key"),
        ("key_file", "RS256", &certificate, "a certificate"),
        ("key_file", "RS256", &ec, "an EC key"),
        ("key_file", "RS256", &locked, "encrypted"),
        ("key_file", "RS256", &broken, "damaged"),
        ("key_file", "RS256", &one_line, "real ends of lines"),
        ("key_file", "RS256", "no key at all", "no PEM"),
        ("key_file", "RS256", "", "is empty"),
        ("key_file", "HS256", &RSA.pkcs8, "secret_file"),
        (
            "secret_file",
            "RS256",
            "the secret of an HS256 app",
            "no PEM",
        ),
        ("secret_file", "HS256", "", "is empty"),
        ("secret_file", "HS256", "\n", "is empty"),
        ("secret_file", "HS512", "\r\n", "is empty"),
    ] {
        let file = folder.put("the_key", text);
        let more = format!("algorithm = {algorithm:?}\n{setting} = {file:?}");
        let (code, said) = check(&folder, &entry(STREAM, &more));
        assert_eq!(code, Some(78), "{reason}: {said}");
        assert!(
            said.contains(file.to_str().unwrap()) && said.contains(reason),
            "{reason}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{reason}: {said}");
        let inside = text
            .lines()
            .filter(|line| line.len() > 8 && !line.starts_with("-----"));
        inside.for_each(|line| assert!(!said.contains(line), "{reason}: {said}"));
    }
}

#[test]
fn a_key_that_is_missing_is_refused_with_where_it_was_looked_for() {
    let folder = Folder::new();
    let missing = folder.path().join("missing");
    for (more, place) in [
        (
            format!("secret_file = {missing:?}"),
            missing.to_str().unwrap(),
        ),
        (
            format!("algorithm = \"RS256\"\nkey_file = {missing:?}"),
            missing.to_str().unwrap(),
        ),
        (
            format!("secret_file = {:?}", folder.path()),
            folder.path().to_str().unwrap(),
        ),
        ("secret_env = \"NO_SUCH_KEY\"".into(), "NO_SUCH_KEY"),
        (String::new(), "secret_file"),
        (
            format!("secret_file = {missing:?}\nsecret_env = \"NO_SUCH_KEY\""),
            "keep one",
        ),
    ] {
        let (code, said) = check(&folder, &entry(STREAM, &more));
        assert_eq!(code, Some(78), "{more}: {said}");
        assert!(
            said.contains(place) && said.contains(STREAM),
            "{more}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{more}: {said}");
    }
}

#[test]
fn only_a_public_key_of_good_size_is_encrypted_to() {
    if !is_there("openssl") {
        return;
    }
    let folder = Folder::new();
    let secret = folder.put("secret", "a secret that is long enough for HS256");
    let weak = Pair::of_bits(1024);
    for (text, reason) in [
        (weak.public.as_str(), "1024 bits"),
        (&RSA.pkcs8, "a private key"),
        (&RSA.pkcs1, "a private key"),
        ("nothing", "no PEM"),
        ("", "is empty"),
    ] {
        let file = folder.put("platform.pem", text);
        let more = format!("secret_file = {secret:?}\nencrypt_to_file = {file:?}");
        let (code, said) = check(&folder, &entry(STREAM, &more));
        assert_eq!(code, Some(78), "{reason}: {said}");
        assert!(
            said.contains(file.to_str().unwrap()) && said.contains(reason),
            "{reason}: {said}"
        );
    }
}

#[test]
fn every_mistake_is_told_at_once_and_a_good_key_is_shown_as_stars() {
    let folder = Folder::new();
    let good = folder.put("good", super::SECRET);
    let empty = folder.put("empty", "");
    let entries = [
        entry("st-a", &format!("secret_file = {empty:?}")),
        entry("st-b", &format!("secret_file = {good:?}")),
        entry("st-b", &format!("secret_file = {good:?}")),
        entry(
            "st-c",
            &format!("algorithm = \"RS256\"\nkey_file = {good:?}"),
        ),
    ];
    let (code, said) = check(&folder, &entries.concat());
    assert_eq!((code, said.lines().count()), (Some(78), 3), "{said}");
    let (code, said) = check(&folder, &entries[1]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("***") && said.contains(good.to_str().unwrap()),
        "{said}"
    );
    assert!(!said.contains(super::SECRET), "{said}");
}
