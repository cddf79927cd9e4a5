//! Who callers are, by their certificates.

use http::Method;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};

use super::Private;
use crate::support::authority::{Authority, at, named};
use crate::support::callers::caller;
use crate::support::secure::Caller;
use crate::support::{eventually, path};

/// A `[[callers]]` entry for whoever has this name, with these settings (TOML) besides.
fn certified(name: &str, san: &str, settings: &str) -> String {
    format!("[[callers]]\nname = {name:?}\ncertificate = {san:?}\n{settings}\n")
}

const A: &str = "spiffe://example.org/a";

fn bearer(name: &str) -> String {
    format!("Bearer token-of-{name}")
}

#[tokio::test]
async fn a_caller_is_who_the_certificate_says_by_uri_or_host_over_both_protocols() {
    let settings = certified("uri", A, "") + &certified("host", "Host.example", "");
    let private = Private::asking(&settings).await;
    for (params, name) in [(at(A), "uri"), (named("host.EXAMPLE"), "host")] {
        let issued = private.callers.issue(params);
        for protocol in ["h2", "http/1.1"] {
            let caller = private.caller(Some(&issued)).speaking(&[protocol]);
            let mut connection = private.keep(&caller).await.unwrap();
            for _ in 0..2 {
                let answer = connection.get(&path("cl-n6-a")).await.unwrap();
                assert_eq!(answer.status, 200, "{name} by {protocol}");
            }
        }
        let series = format!("contacts_gateway_caller_requests_total{{caller={name:?}}}");
        assert_eq!(private.living.world.gateway.metric(&series).await, 4.0);
    }
}

#[tokio::test]
async fn without_a_good_certificate_nobody_gets_as_far_as_asking() {
    let private = Private::asking(&certified("a", A, "")).await;
    let stranger = Authority::new();
    let mut expired = at(A);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = at(A);
    early.not_before = date_time_ymd(4000, 1, 1);
    let mut for_servers = at(A);
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (what, issued) in [
        ("none", None),
        ("of another authority", Some(stranger.issue(at(A)))),
        (
            "the port's own authority's",
            Some(private.authority.issue(at(A))),
        ),
        ("expired", Some(private.callers.issue(expired))),
        ("not yet valid", Some(private.callers.issue(early))),
        ("for servers", Some(private.callers.issue(for_servers))),
    ] {
        for protocol in ["h2", "http/1.1"] {
            let caller = private.caller(issued.as_ref()).speaking(&[protocol]);
            let asked = private.get(&caller, &path("cl-n6-a")).await;
            assert!(asked.is_err(), "{what}: {asked:?}");
        }
    }
    let distrustful = Caller::new(&stranger, None);
    assert!(private.keep(&distrustful).await.is_err());
    for (outcome, n) in [
        ("client_certificate", 12.0),
        ("server_certificate", 1.0),
        ("failed", 0.0),
        ("ok", 0.0),
    ] {
        let series = format!("contacts_gateway_handshakes_total{{outcome={outcome:?}}}");
        eventually(&format!("{n} are {outcome}"), async || {
            let counted = private.living.world.gateway.metric(&series).await;
            (counted == n).then_some(())
        })
        .await;
    }
    assert_eq!(private.living.world.vendor.calls(), 0);
    let good = private.callers.issue(at(A));
    let good = private.caller(Some(&good));
    let answer = private.get(&good, &path("cl-n6-a")).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_certificate_of_nobody_leaves_it_to_the_token_and_two_callers_in_one_are_none() {
    let settings = certified("a", A, "") + &certified("b", "b.example", "") + &caller("c", "");
    let private = Private::asking(&settings).await;
    let mut both = at(A);
    both.subject_alt_names
        .extend(named("b.example").subject_alt_names);
    let nobody = || at("spiffe://example.org/nobody");
    let (c, unknown) = (bearer("c"), bearer("nobody"));
    for (what, params, token, status) in [
        ("a's", at(A), None, 200),
        ("a's, and a token of nobody", at(A), Some(&unknown), 200),
        ("a's, and the token of another", at(A), Some(&c), 401),
        ("nobody's", nobody(), None, 401),
        ("nobody's, and a token", nobody(), Some(&c), 200),
        (
            "nobody's, and a token of nobody",
            nobody(),
            Some(&unknown),
            401,
        ),
        (
            "nameless, and a token",
            CertificateParams::default(),
            Some(&c),
            200,
        ),
        ("of two", both, None, 401),
        ("in other letters", at("spiffe://example.org/A"), None, 401),
        (
            "with more behind it",
            at("spiffe://example.org/a/b"),
            None,
            401,
        ),
    ] {
        let caller = private.caller(Some(&private.callers.issue(params)));
        let sent = token.map(|token| ("authorization", token.as_str()));
        let sent: Vec<_> = sent.into_iter().collect();
        let list = path("cl-n6-a");
        let answer = private.send(&caller, Method::GET, &list, &sent).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, status, "{what}");
        if status == 401 {
            answer.is_problem(401, "caller-unknown");
        }
    }
}

#[tokio::test]
async fn quotas_and_rights_are_those_of_the_certificates_entry() {
    let limited = "requests_per_minute = 6\nstreams = [\"st-other\"]";
    let settings =
        certified("limited", A, limited) + &certified("free", "b.example", "may_purge = true");
    let private = Private::asking(&settings).await;
    let limited = private.caller(Some(&private.callers.issue(at(A))));
    let free = private.caller(Some(&private.callers.issue(named("b.example"))));
    let list = path("cl-n6-a");
    let refused = private.get(&limited, &list).await.unwrap();
    refused.is_problem(403, "caller-forbidden");
    let refused = private.get(&limited, &list).await.unwrap();
    refused.is_problem(429, "quota-spent");
    assert_eq!(private.get(&free, &list).await.unwrap().status, 200);
    let purge = "PURGE".parse().unwrap();
    let purged = private.send(&free, purge, &list, &[]).await.unwrap();
    assert_eq!(purged.json()["forgotten"], 1);
}

#[tokio::test]
async fn tokens_are_known_over_tls_too() {
    let private = Private::open(&caller("c", "")).await;
    let stranger = private.caller(None);
    let refused = private.get(&stranger, &path("cl-n6-a")).await.unwrap();
    refused.is_problem(401, "caller-unknown");
    let token = bearer("c");
    let sent = [("authorization", token.as_str())];
    let list = path("cl-n6-a");
    let answer = private.send(&stranger, Method::GET, &list, &sent).await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn who_a_connection_belongs_to_follows_the_settings() {
    let entry = |name: &str| certified(name, A, "");
    let asking = |callers: &str| {
        format!(
            "listen.tls = {{ {}, client_ca_file = \"FOLDER/callers.crt\" }}\n{callers}",
            super::SHOWN
        )
    };
    let private = Private::with(&asking(&entry("before"))).await;
    let caller = private.caller(Some(&private.callers.issue(at(A))));
    let mut kept = private.keep(&caller).await.unwrap();
    assert_eq!(kept.get(&path("cl-n6-a")).await.unwrap().status, 200);
    private
        .living
        .settings(&asking(&certified("other", "b.example", "")))
        .await;
    let refused = kept.get(&path("cl-n6-a")).await.unwrap();
    refused.is_problem(401, "caller-unknown");
    private.living.settings(&asking(&entry("after"))).await;
    assert_eq!(kept.get(&path("cl-n6-a")).await.unwrap().status, 200);
}
