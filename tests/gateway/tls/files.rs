//! Certificates, keys and authorities that change, and those that cannot be used.

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{self, Vendor};
use rcgen::SerialNumber;
use tokio_util::sync::CancellationToken;

use super::{Private, shown};
use crate::support::authority::{Authority, Issued, at, named};
use crate::support::living::{Mounted, app, whole};
use crate::support::secure::Caller;
use crate::support::{Folder, Running, SECRET, World, eventually, path, program};

/// What the port shows when it has been turned so many times.
fn numbered(authority: &Authority, n: u64) -> Issued {
    let mut params = named("127.0.0.1");
    params.serial_number = Some(SerialNumber::from(n));
    authority.issue(params)
}

#[tokio::test]
async fn no_request_fails_while_certificate_and_key_are_turned_ten_times() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let mount = folder.path().join("mounted");
    let files = |issued: &Issued| {
        let [certificate, key] = issued.pem();
        [("tls.crt", certificate), ("tls.key", key)]
    };
    let mut mounted = Mounted::new(mount.clone(), &files(&numbered(&authority, 1)));
    let tls = format!(
        "listen.tls = {{ certificate_file = {:?}, key_file = {:?} }}\n",
        mounted.path("tls.crt"),
        mounted.path("tls.key")
    );
    let secret = folder.put("client_secret", SECRET);
    let file = folder.put("gateway.toml", &whole(&tls, &secret));
    let (clock, hand) = Clock::by_hand();
    let vendor = Vendor::start(vendor::Settings {
        apps: vec![app(SECRET)],
        clock: clock.clone(),
        ..vendor::Settings::default()
    });
    let vendor = vendor.unwrap();
    let gateway = Running::following(&vendor.url(), &file, clock).await;
    let world = World {
        vendor,
        gateway,
        hand,
    };
    let (gateway, done) = (&world.gateway, CancellationToken::new());
    let caller = Caller::new(&authority, None);
    let list = path("cl-n6-a");
    let by_one_connection = async {
        let mut kept = caller.keep(gateway.place()).await.unwrap();
        let mut asked = 0;
        while !done.is_cancelled() {
            assert_eq!(kept.get(&list).await.unwrap().status, 200);
            asked += 1;
        }
        asked
    };
    let by_many = async {
        let mut asked = 0;
        while !done.is_cancelled() {
            assert_eq!(caller.get(gateway, &list).await.unwrap().status, 200);
            asked += 1;
        }
        asked
    };
    let turns = async {
        for n in 2..12 {
            let next = numbered(&authority, n);
            mounted.turn(&files(&next));
            eventually("it is shown", async || {
                let seen = caller.keep(gateway.place()).await.unwrap();
                (seen.shown == next.certificate).then_some(())
            })
            .await;
        }
        done.cancel();
    };
    let (by_one_connection, by_many, ()) = tokio::join!(by_one_connection, by_many, turns);
    assert!(
        by_one_connection > 10 && by_many > 10,
        "{by_one_connection}, {by_many}"
    );
    let failed = "contacts_gateway_config_reloads_total{outcome=\"failed\"}";
    assert_eq!(gateway.metric(failed).await, 0.0);
}

#[tokio::test]
async fn an_authority_that_is_no_longer_named_lets_nobody_in_but_those_who_are() {
    let private = Private::asking("").await;
    let next = Authority::new();
    let issued = [&private.callers, &next].map(|authority| authority.issue(at("spiffe://a/a")));
    let [old, new] = issued.each_ref().map(|issued| private.caller(Some(issued)));
    let list = path("cl-n6-a");
    let comes_in = async |caller: &Caller| private.get(caller, &list).await.is_ok();
    let mut kept = private.keep(&old).await.unwrap();
    kept.get(&list).await.unwrap();
    assert_eq!((comes_in(&old).await, comes_in(&new).await), (true, false));
    let both = private.callers.pem() + &next.pem();
    private
        .living
        .changing(|files| files.put("callers.crt", &both))
        .await;
    assert_eq!((comes_in(&old).await, comes_in(&new).await), (true, true));
    private
        .living
        .changing(|files| files.put("callers.crt", &next.pem()))
        .await;
    assert_eq!((comes_in(&old).await, comes_in(&new).await), (false, true));
    assert_eq!(kept.get(&list).await.unwrap().status, 200);
}

#[tokio::test]
async fn another_certificate_ends_the_sessions_of_the_one_before_and_other_settings_do_not() {
    let private = Private::open("").await;
    let caller = private.caller(None);
    let resumed = async || {
        let mut connection = private.keep(&caller).await.unwrap();
        connection.get(&path("cl-n6-a")).await.unwrap();
        connection.resumed
    };
    assert_eq!((resumed().await, resumed().await), (false, true));
    let settings = format!(
        "listen.tls = {{ {} }}\ncache.fresh_for = \"50s\"",
        super::SHOWN
    );
    private.living.settings(&settings).await;
    assert!(resumed().await);
    let next = private.authority.issue(named("127.0.0.1"));
    private
        .living
        .changing(|files| {
            shown(files, &next);
        })
        .await;
    eventually("it is shown", async || {
        let seen = private.keep(&private.caller(None)).await.unwrap();
        (seen.shown == next.certificate).then_some(())
    })
    .await;
    assert!(!resumed().await);
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_are_named() {
    let private = Private::asking("").await;
    let issued = private.callers.issue(at("spiffe://a/a"));
    let caller = private.caller(Some(&issued));
    let before = private.keep(&caller).await.unwrap().shown;
    let other = private.authority.issue(named("127.0.0.1"));
    let [_, key] = other.pem();
    for (name, text) in [
        ("tls.key", key.as_str()),
        ("tls.crt", ""),
        ("callers.crt", "none"),
    ] {
        private.living.failing(|files| files.put(name, text)).await;
        let status = private.living.status().await;
        let told = status["last_reload"].as_str().unwrap();
        let key = if name == "callers.crt" {
            ""
        } else {
            "listen.tls.certificate_file"
        };
        assert!(told.starts_with("failed: ") && told.contains(key), "{told}");
        let mut now = private.keep(&caller).await.unwrap();
        assert_eq!(now.shown, before);
        assert_eq!(now.get(&path("cl-n6-a")).await.unwrap().status, 200);
    }
    private
        .living
        .changing(|files| {
            files.put("callers.crt", &private.callers.pem());
            shown(files, &other);
        })
        .await;
    let now = private.keep(&caller).await.unwrap();
    assert_eq!(now.shown, other.certificate);
}

#[test]
fn what_cannot_be_used_is_named_before_anything_is_served() {
    let folder = Folder::new();
    let authority = Authority::new();
    let (one, other) = (authority.issue(named("a")), authority.issue(named("a")));
    let ([certificate, key], [_, other_key]) = (one.pem(), other.pem());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let ca = authority.pem();
    let no_authority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let all = certificate.clone() + &key;
    for (certificate, key, ca, named) in [
        (&certificate[..], &key[..], &ca[..], &[][..]),
        (&all, &all, &ca, &[]),
        (
            &certificate,
            &other_key,
            &ca,
            &["certificate_file", "not that of the key"],
        ),
        (
            &key,
            &key,
            &ca,
            &["certificate_file", "holds no certificate"],
        ),
        (
            &certificate,
            &certificate,
            &ca,
            &["key_file", "holds a certificate"],
        ),
        (&certificate, "", &ca, &["key_file", "is empty"]),
        (&certificate, "no PEM", &ca, &["key_file", "holds no PEM"]),
        (&certificate, &encrypted, &ca, &["key_file", "encrypted"]),
        (
            &certificate,
            &key,
            "",
            &["client_ca_file", "holds no certificate"],
        ),
        (&certificate, &key, no_authority, &["client_ca_file", ""]),
        (no_authority, &key, &ca, &["certificate_file", ""]),
        (
            "",
            "",
            "",
            &[
                "certificate_file",
                "holds no",
                "key_file",
                "is empty",
                "client_ca_file",
                "holds no",
            ],
        ),
    ] {
        let files = [("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)];
        let [certificate, key, ca] = files.map(|(name, text)| folder.put(name, text));
        for (port, address) in [("listen", "admin"), ("admin", "listen")] {
            let settings = format!(
                "{port}.address = \"127.0.0.1:0\"\n{address}.address = \"127.0.0.1:0\"\n[{port}.tls]\n\
                 certificate_file = {certificate:?}\nkey_file = {key:?}\nclient_ca_file = {ca:?}\n"
            );
            let settings = folder.put("gateway.toml", &settings);
            let check = program(&["--config", settings.to_str().unwrap(), "check"]);
            let ended = { check }.output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code() == Some(0), named.is_empty(), "{said}");
            assert_eq!(said.lines().count(), named.len() / 2, "{said}");
            for (line, about) in said.lines().zip(named.chunks(2)) {
                let [key, what] = about else { panic!() };
                let start = format!("{port}.tls.{key} {}/", folder.path().display());
                assert!(line.starts_with(&start) && line.contains(what), "{line}");
            }
        }
    }
}
