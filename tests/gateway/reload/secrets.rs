//! Secrets and authorities that change.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Message, Vendor};
use http::StatusCode;
use jsonwebtoken::{DecodingKey, Validation};

use crate::support::authority::{Authority, named};
use crate::support::living::{Living, app};
use crate::support::{SECRET, eventually};

/// As long as the first.
const NEXT: &str = "canary-secret-of-tomorrow-4f6d8c3b1a0f9e8d7c6b";

/// Which of the secrets each call's token was made with, in order.
fn signed(vendor: &Vendor) -> Vec<&'static str> {
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let by = |token: &str| {
        let good = |secret: &str| {
            let key = DecodingKey::from_secret(secret.as_bytes());
            jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).is_ok()
        };
        match (good(SECRET), good(NEXT)) {
            (true, _) => "first",
            (_, true) => "next",
            _ => "neither",
        }
    };
    let calls = vendor.requests();
    let tokens = calls.iter().map(|seen| seen.headers["auth"].to_str());
    tokens.map(|token| by(token.unwrap())).collect()
}

#[tokio::test]
async fn a_new_secret_signs_the_next_call() {
    let living = Living::with_vendor("", |vendor, _| vendor.apps.push(app(NEXT))).await;
    let before = living.status().await;
    living.world.get("cl-n6-a").await;
    living.secret(NEXT).await;
    living.world.get("cl-n6-b").await;
    assert_eq!(signed(&living.world.vendor), ["first", "next"]);
    let hash = living.status().await["hash"].clone();
    let (hash, before) = (hash.as_str().unwrap(), before["hash"].as_str().unwrap());
    assert_ne!(hash, before);
    let half = |hash: &str| hash.split_once('-').unwrap().0.to_owned();
    assert_eq!(half(hash), half(before), "the settings are the same");
}

#[tokio::test]
async fn a_vendor_who_does_not_know_the_new_secret_yet_is_shown_the_old_one() {
    let living = Living::with("").await;
    let world = &living.world;
    world.get("cl-n6-a").await;
    living.secret(NEXT).await;
    for list in ["cl-n6-b", "cl-n6-c"] {
        assert_eq!(world.get(list).await.status, StatusCode::OK);
    }
    // Once it is known which one is taken, no call is made for nothing.
    assert_eq!(signed(&world.vendor), ["first", "next", "first", "first"]);
    world.vendor.accept(vec![app(NEXT)]);
    for list in ["cl-n6-d", "cl-n6-e"] {
        assert_eq!(world.get(list).await.status, StatusCode::OK);
    }
    assert_eq!(signed(&world.vendor)[4..], ["first", "next", "next"]);
}

#[tokio::test]
async fn the_old_secret_is_not_shown_for_longer_than_a_change_takes() {
    let living = Living::with("").await;
    let world = &living.world;
    living.secret(NEXT).await;
    world.hand.forward(Duration::from_secs(5 * 60 - 1));
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
    assert_eq!(signed(&world.vendor), ["next", "first"]);
    world.hand.forward(Duration::from_secs(1));
    let refused = world.get("cl-n6-b").await;
    refused.is_problem(502, "credentials-refused");
    assert_eq!(signed(&world.vendor)[2..], ["next"]);
}

#[tokio::test]
async fn where_the_allowance_has_no_second_call_the_next_one_begins_with_the_other_secret() {
    let one = "[allowance]\ncalls = 1\nfloor = 1\nreserve = 0\nqueue_deadline = \"0s\"";
    let living = Living::with(one).await;
    let world = &living.world;
    living.secret(NEXT).await;
    world.hand.forward(Duration::from_secs(61));
    let refused = world.get("cl-n6-a").await;
    refused.is_problem(502, "credentials-refused");
    assert_eq!(signed(&world.vendor), ["next"]);
    for list in ["cl-n6-a", "cl-n6-b"] {
        world.hand.forward(Duration::from_secs(61));
        assert_eq!(world.get(list).await.status, StatusCode::OK);
    }
    assert_eq!(signed(&world.vendor), ["next", "first", "first"]);
    world.vendor.accept(vec![app(NEXT)]);
    for list in ["cl-n6-c", "cl-n6-d", "cl-n6-e"] {
        world.hand.forward(Duration::from_secs(61));
        world.get(list).await;
    }
    assert_eq!(signed(&world.vendor)[3..], ["first", "next", "next"]);
}

#[tokio::test]
async fn a_secret_that_is_not_taken_yet_costs_one_call_while_calls_are_paced() {
    let living = Living::with("[allowance]\nqueue_deadline = \"0s\"").await;
    let world = &living.world;
    world.get("cl-n6-a").await;
    world.vendor.behave(Behaviour {
        refuse: Some(Message::PerMinute),
        times: Some(1),
        ..Behaviour::default()
    });
    let refused = world.get("cl-n6-b").await;
    refused.is_problem(503, "upstream-refused");
    // What stayed wanted ends the pause.
    world.hand.forward(Duration::from_secs(60));
    eventually("the pause is over", async || {
        (world.vendor.calls() == 3).then_some(())
    })
    .await;
    world.is_at_rest(true).await;
    living.secret(NEXT).await;
    let mut statuses = Vec::new();
    for list in ["cl-n6-c", "cl-n6-d", "cl-n6-e"] {
        world.hand.forward(Duration::from_secs(10));
        statuses.push(world.get(list).await.status.as_u16());
    }
    assert_eq!(statuses, [502, 200, 200]);
    assert_eq!(signed(&world.vendor)[3..], ["next", "first", "first"]);
}

#[tokio::test]
async fn an_account_rests_though_secrets_change_where_neither_is_taken() {
    let few = "calls = 1\nwindow = \"1s\"\nfloor = 1\nreserve = 0\nqueue_deadline = \"0s\"";
    let living = Living::with(&format!("[allowance]\n{few}")).await;
    let world = &living.world;
    world.hand.forward(Duration::from_secs(1));
    assert_eq!(world.get("cl-n6").await.status, StatusCode::OK);
    living.secret(NEXT).await;
    world.vendor.accept(vec![app("canary-secret-of-nobody")]);
    let mut answers = Vec::new();
    for list in ["cl-n6-a", "cl-n6-b", "cl-n6-c", "cl-n6-d", "cl-n6-e"] {
        world.hand.forward(Duration::from_secs(1));
        answers.push(world.get(list).await);
    }
    // The first call alone fails for a secret beside which there may be a good one.
    let tried = ["next", "first", "next", "first"];
    assert_eq!(signed(&world.vendor)[1..], tried);
    answers[4].is_problem(503, "upstream-resting");
}

#[tokio::test]
async fn callers_at_once_do_not_make_the_account_rest_while_secrets_change() {
    let living = Living::with("").await;
    let world = &living.world;
    world.get("cl-n6-a").await;
    living.secret(NEXT).await;
    let lists: Vec<_> = (0..20).map(|n| format!("cl-n1-{n}")).collect();
    let answers = lists.iter().map(|list| world.get(list));
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
}

#[tokio::test]
async fn connections_that_an_old_authority_vouched_for_are_not_used_again() {
    let authority = Authority::new();
    let living = Living::with_vendor("upstream.ca_file = \"FOLDER/ca.pem\"", |vendor, files| {
        authority.file(files.folder());
        vendor.tls = authority.server(named("127.0.0.1"), &["http/1.1"]);
    });
    let living = living.await;
    let world = &living.world;
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
    assert_eq!(world.vendor.open_connections(), 1);
    let other = Authority::new();
    living
        .changing(|files| drop(other.file(files.folder())))
        .await;
    eventually("the old connection is closed", async || {
        (world.vendor.open_connections() == 0).then_some(())
    })
    .await;
    let refused = world.get("cl-n6-b").await;
    refused.is_problem(502, "upstream-failed");
    living
        .changing(|files| drop(authority.file(files.folder())))
        .await;
    assert_eq!(world.get("cl-n6-c").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_new_secret_needs_no_new_connection() {
    let living = Living::with_vendor("", |vendor, _| vendor.apps.push(app(NEXT))).await;
    let vendor = &living.world.vendor;
    living.world.get("cl-n6-a").await;
    let before = vendor.stats().accepted_connections;
    living.secret(NEXT).await;
    living.world.get("cl-n6-b").await;
    assert_eq!(vendor.stats().accepted_connections, before);
}
