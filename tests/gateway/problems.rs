//! Failures in one form, and the ids that requests are known by.

use std::collections::BTreeSet;

use http::Method;
use uuid::Uuid;

use crate::support::{ACCOUNT, World, path, path_of};

#[tokio::test]
async fn a_callers_request_id_is_given_back_on_every_kind_of_answer() {
    let world = World::new().await;
    let longest = "x".repeat(128);
    for id in [
        "a",
        "A.b_c:d/e+f=g-h",
        &longest,
        "018f3b1e-7c1a-7e30-8000-0123456789ab",
    ] {
        for (method, list, want) in [
            ("GET", "cl-n6-a", 200),
            ("GET", "cl-n6-a", 200),
            ("HEAD", "cl-n6-a", 200),
            ("GET", "cl-missing", 404),
            ("GET", "..", 400),
            ("POST", "cl-n6-a", 405),
            ("PURGE", "cl-n6-a", 200),
        ] {
            let method: Method = method.parse().unwrap();
            let answer = world
                .gateway
                .send(method, &path(list), &[("x-request-id", id)])
                .await;
            assert_eq!(
                (answer.status.as_u16(), answer.field("x-request-id")),
                (want, id)
            );
        }
    }
}

#[tokio::test]
async fn any_other_request_id_is_replaced_by_a_uuid_of_version_7() {
    let world = World::new().await;
    let too_long = "x".repeat(129);
    let mut seen = BTreeSet::new();
    for id in [
        "", "a b", "a;b", "a\"b", "a,b", "{a}", "<a>", "a\tb", &too_long,
    ] {
        let answer = world.get_with("cl-n6-a", &[("x-request-id", id)]).await;
        let given = Uuid::parse_str(answer.field("x-request-id")).unwrap();
        assert_eq!(given.get_version_num(), 7, "{id:?}");
        assert!(seen.insert(given), "a new one each time");
    }
    let answer = world.get("cl-n6-a").await;
    assert!(
        seen.insert(answer.field("x-request-id").parse().unwrap()),
        "where none was sent"
    );
}

#[tokio::test]
async fn a_problem_has_the_members_of_the_contract_and_is_not_kept() {
    let world = World::new().await;
    let id = ("x-request-id", "018f3b1e-7c1a-7e30-8000-0123456789ab");
    let unknown = path_of("st-unknown", "cl-n6-a", ACCOUNT);
    let only_cached = ("cache-control", "only-if-cached");
    for (path, fields, status, name) in [
        (path(".."), &[id][..], 400, "bad-request"),
        ("/".to_owned(), &[id], 404, "not-found"),
        (unknown, &[id], 404, "stream-unknown"),
        (path("cl-n6-a"), &[id, only_cached], 504, "not-cached"),
    ] {
        let answer = world.gateway.send(Method::GET, &path, fields).await;
        answer.is_problem(status, name);
        assert_eq!(answer.field("cache-control"), "no-store");
        let problem = answer.json();
        let members: Vec<_> = problem.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["detail", "instance", "status", "title", "type"]);
    }
    assert_eq!(world.vendor.calls(), 0);
}

#[tokio::test]
async fn a_problems_instance_is_made_of_the_request_id() {
    let world = World::new().await;
    for (id, want) in [
        ("018f3b1e-7c1a-7e30-8000-0123456789ab", "urn:uuid:"),
        ("018F3B1E-7C1A-4E30-8000-0123456789AB", "urn:uuid:"),
        ("mine/1", "urn:contacts-gateway:request:"),
        // A UUID as nobody's URN spells it.
        (
            "018f3b1e7c1a7e3080000123456789ab",
            "urn:contacts-gateway:request:",
        ),
        (
            "urn:uuid:018f3b1e-7c1a-7e30-8000-0123456789ab",
            "urn:contacts-gateway:request:",
        ),
    ] {
        let answer = world.get_with("..", &[("x-request-id", id)]).await;
        assert_eq!(answer.json()["instance"], format!("{want}{id}"));
    }
    let answer = world.get("..").await;
    let own = format!("urn:uuid:{}", answer.field("x-request-id"));
    assert_eq!(answer.json()["instance"], own);
}
