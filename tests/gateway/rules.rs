//! What callers may ask: ids, accounts, numbers, parameters; and that the same page is the same page.

use http::Method;

use crate::support::{ACCOUNT, STREAM, World, path, path_of};

const OTHER: &str = "67777ce93e25326494e90002";

/// The path of a list without its query.
fn bare(list: &str) -> String {
    let path = path(list);
    path.split_once('?').unwrap().0.to_owned()
}

/// Path and query of every call that the vendor got.
fn targets(world: &World) -> Vec<String> {
    let requests = world.vendor.requests();
    requests.into_iter().map(|seen| seen.target).collect()
}

/// That a target is refused as a bad request whose detail says this, and costs no call.
async fn is_bad(world: &World, target: &str, fields: &[(&str, &str)], says: &str) {
    let answer = world.gateway.send(Method::GET, target, fields).await;
    let detail = answer.text();
    assert_eq!(answer.status, 400, "{target} {fields:?}: {detail}");
    answer.is_problem(400, "bad-request");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(says), "{target} {fields:?}: {detail}");
    assert_eq!(world.vendor.calls(), 0, "{target} {fields:?}");
}

#[tokio::test]
async fn both_of_the_vendors_paths_are_served_and_each_is_asked_for_its_own() {
    let world = World::new().await;
    let v1 = path("cl-n6-a");
    let v2 = v1.replace("/agentassist/api/v1/", "/campaign/api/v2/");
    for path in [&v1, &v2, &v1, &v2] {
        assert_eq!(world.gateway.get(path).await.status, 200, "{path}");
    }
    assert_eq!(targets(&world), [v1, v2]);
}

#[tokio::test]
async fn no_other_path_is_served() {
    let world = World::new().await;
    let good = bare("cl-n6-a");
    for (other, want) in [
        ("/".to_owned(), "root"),
        (format!("{good}/"), "a slash behind"),
        (format!("/{good}"), "two slashes before"),
        (good.replace("/campaign/", "//campaign/"), "two within"),
        (good.replace("/public/", "/public/./"), "a dot segment"),
        (good.replace("/public/", "/x/../public/"), "a way up"),
        (format!("{good}/x.css"), "a suffix"),
        (format!("{good}.css"), "an extension"),
        (format!("{good};x=1"), "path parameters"),
        (format!("{good}%00"), "a NUL"),
        (format!("{good}%3FaccountId={ACCOUNT}"), "an escaped ?"),
        (good.replace("getAll", "getall"), "case"),
        (good.replace("/campaign/", "%2Fcampaign/"), "an escaped /"),
        (good.replace("getAll", "%67etAll"), "an escaped letter"),
        (good.replace("cl-n6-a", "cl-n6/a"), "a slash in an id"),
        (good.replace("/v1/", "/v2/"), "the other version's"),
        (good.replace("/v1/", "/v3/"), "no version's"),
    ] {
        let answer = world
            .gateway
            .get(&format!("{other}?accountId={ACCOUNT}"))
            .await;
        assert_eq!(answer.status, 404, "{want}: {other}");
        answer.is_problem(404, "not-found");
    }
    assert_eq!(world.vendor.calls(), 0);
}

#[tokio::test]
async fn an_id_is_path_safe_or_refused_by_name() {
    let world = World::new().await;
    let too_long = "a".repeat(129);
    for bad in [
        "", ".", "..", "a%2Fb", "%61", "a%00", "%2e%2e", "a;b", "a:b", "a@b", "a~b", "a+b", "a,b",
        "a*", "a!b", "a$b", "a'b", "a(b)", "%C3%A4", "\u{e4}", &too_long,
    ] {
        let list = path_of(STREAM, bad, ACCOUNT);
        is_bad(&world, &list, &[], "contactListId").await;
        let stream = path_of(bad, "cl-n6-a", ACCOUNT);
        is_bad(&world, &stream, &[], "streamId").await;
        let account = path_of(STREAM, "cl-n6-a", bad);
        is_bad(&world, &account, &[], "accountId").await;
        is_bad(&world, &bare("cl-n6-a"), &[("accountid", bad)], "accountId").await;
    }
}

#[tokio::test]
async fn an_id_may_hold_any_of_its_letters_and_case_tells_ids_apart() {
    let world = World::new().await;
    let longest = "a".repeat(128);
    for list in ["a", "A", "0", "...", ".a", "-", "_", "A.b_c-9", &longest] {
        assert_eq!(world.get(list).await.status, 200, "{list}");
        assert_eq!(targets(&world).last(), Some(&path(list)));
    }
    assert_eq!(world.vendor.calls(), 9);
    let unknown = world.gateway.get(&path_of(&longest, "a", ACCOUNT)).await;
    unknown.is_problem(404, "stream-unknown");
}

#[tokio::test]
async fn the_account_stands_in_the_query_or_in_a_header_or_in_both() {
    let world = World::new().await;
    let (without, with) = (bare("cl-n6-a"), path("cl-n6-a"));
    for (target, fields) in [
        (&without, &[("accountId", ACCOUNT)][..]),
        (&with, &[]),
        (&with, &[("accountId", ACCOUNT)]),
        (&without, &[("accountId", ACCOUNT), ("AccountID", ACCOUNT)]),
    ] {
        let answer = world.gateway.send(Method::GET, target, fields).await;
        assert_eq!(answer.status, 200, "{target} {fields:?}");
    }
    assert_eq!(targets(&world), [with]);
    assert_eq!(world.vendor.requests()[0].headers["accountid"], ACCOUNT);
}

#[tokio::test]
async fn an_account_that_contradicts_itself_anywhere_or_is_missing_is_refused() {
    let world = World::new().await;
    let (without, with) = (bare("cl-n6-a"), path("cl-n6-a"));
    let twice = |other: &str| format!("{with}&accountId={other}");
    let (a, b) = (("accountid", ACCOUNT), ("accountid", OTHER));
    for (target, fields) in [
        (with.clone(), &[b][..]),
        (with.clone(), &[a, b]),
        (with.clone(), &[b, a]),
        (without.clone(), &[a, b]),
        (without.clone(), &[b, a]),
        (twice(OTHER), &[]),
        (twice(OTHER), &[a]),
        (twice(ACCOUNT), &[]),
        (twice(""), &[]),
        (without.clone(), &[]),
        (format!("{without}?"), &[]),
        (format!("{without}?accountId"), &[]),
        (format!("{without}?accountId="), &[a]),
        (with.clone(), &[("accountid", "")]),
        (format!("{without}?accountId={ACCOUNT},{ACCOUNT}"), &[]),
        (
            without.clone(),
            &[(
                "accountid",
                "67777ce93e25326494e90001, 67777ce93e25326494e90001",
            )],
        ),
        // Another name, not another spelling.
        (format!("{without}?accountid={ACCOUNT}"), &[]),
        (format!("{without}?%61ccountId={ACCOUNT}"), &[]),
    ] {
        let says = if target.contains("accountid=") {
            "accountid"
        } else {
            "ccountId"
        };
        is_bad(&world, &target, fields, says).await;
    }
}

#[tokio::test]
async fn a_page_is_the_same_however_its_numbers_are_written() {
    let world = World::new().await;
    let (bare, list) = (bare("cl-n200-a"), path("cl-n200-a"));
    for (spellings, sent) in [
        (&["", "&skip=0", "&skip=000", "&"][..], ""),
        (
            &["&skip=5", "&skip=05", "&skip=0000000000000000000000005"],
            "&skip=5",
        ),
        (
            &[
                "&limit=10",
                "&limit=010",
                "&limit=10&skip=0",
                "&skip=00&limit=10",
            ],
            "&limit=10",
        ),
        (
            &[
                "&skip=5&limit=10",
                "&limit=10&skip=5",
                "&limit=0010&&skip=05",
            ],
            "&skip=5&limit=10",
        ),
        // What the vendor takes for granted is not for us to know.
        (&["&limit=50"], "&limit=50"),
        (
            &["&skip=18446744073709551615"],
            "&skip=18446744073709551615",
        ),
    ] {
        for spelling in spellings {
            let answer = world.gateway.get(&format!("{list}{spelling}")).await;
            assert_eq!(answer.status, 200, "{spelling}");
            let behind = format!("{bare}?{}&accountId={ACCOUNT}", spelling.trim_matches('&'));
            assert_eq!(world.gateway.get(&behind).await.status, 200, "{behind}");
        }
        assert_eq!(targets(&world).last(), Some(&format!("{list}{sent}")));
    }
    assert_eq!(world.vendor.calls(), 6);
}

#[tokio::test]
async fn a_number_that_is_none_is_refused_by_name() {
    let world = World::new().await;
    let list = path("cl-n200-a");
    for bad in [
        "",
        "-1",
        "-0",
        "+1",
        "1.0",
        "1e3",
        "0x10",
        "1_000",
        "ten",
        "%31",
        "1%20",
        "+",
        "1,2",
        "18446744073709551616",
        "99999999999999999999999999",
        "\u{661}",
    ] {
        is_bad(&world, &format!("{list}&skip={bad}"), &[], "skip").await;
        is_bad(&world, &format!("{list}&limit={bad}"), &[], "limit").await;
    }
    for bad in ["limit=0", "limit=000", "limit"] {
        is_bad(&world, &format!("{list}&{bad}"), &[], "limit").await;
    }
    is_bad(&world, &format!("{list}&skip"), &[], "skip").await;
}

#[tokio::test]
async fn a_parameter_given_twice_is_refused_by_name() {
    let world = World::with("[upstream]\nextra_query = [\"lang\"]").await;
    let list = path("cl-n200-a");
    for (twice, name) in [
        ("skip=1&skip=1", "skip"),
        ("skip=0&skip=0", "skip"),
        ("limit=1&skip=1&limit=2", "limit"),
        ("lang=de&lang=de", "lang"),
        ("lang&lang=de", "lang"),
    ] {
        is_bad(&world, &format!("{list}&{twice}"), &[], name).await;
    }
}

#[tokio::test]
async fn a_parameter_nobody_allowed_is_refused_by_name() {
    let world = World::new().await;
    let list = path("cl-n200-a");
    for (parameter, name) in [
        ("lang=de", "lang"),
        ("_=1700000000", "_"),
        ("Skip=1", "Skip"),
        ("LIMIT=1", "LIMIT"),
        ("skip[]=1", "skip[]"),
        ("skip%20=1", "skip%20"),
        ("%73kip=1", "%73kip"),
        ("auth=x", "auth"),
        ("skip=1;limit=2", "skip"),
        ("?skip=1", "?skip"),
        ("=1", "query parameter"),
    ] {
        is_bad(&world, &format!("{list}&{parameter}"), &[], name).await;
    }
    let long = "x".repeat(5_000);
    let answer = world.gateway.get(&format!("{list}&{long}=1")).await;
    answer.is_problem(400, "bad-request");
    assert!(answer.body.len() < 1_000, "a long name is not echoed whole");
}

#[tokio::test]
async fn a_parameter_that_is_allowed_is_sent_on_and_tells_pages_apart() {
    let world = World::with("[upstream]\nextra_query = [\"lang\", \"tag\"]").await;
    let list = path("cl-n6-a");
    for (spellings, sent) in [
        (
            &[
                "&lang=de&tag=a%20b",
                "&tag=a%20b&lang=de",
                "&skip=0&tag=a%20b&lang=de",
            ][..],
            "&lang=de&tag=a%20b",
        ),
        (&["&lang=en&tag=a%20b"], "&lang=en&tag=a%20b"),
        (&["&lang=de"], "&lang=de"),
        (&["&lang=DE"], "&lang=DE"),
        (&["&lang=0de&skip=01"], "&skip=1&lang=0de"),
        (&[""], ""),
    ] {
        for spelling in spellings {
            let answer = world.gateway.get(&format!("{list}{spelling}")).await;
            assert_eq!(answer.status, 200, "{spelling}");
        }
        assert_eq!(targets(&world).last(), Some(&format!("{list}{sent}")));
    }
    assert_eq!(world.vendor.calls(), 6);
    let other = world.gateway.get(&format!("{list}&lang=de&x=1")).await;
    other.is_problem(400, "bad-request");
}

#[tokio::test]
async fn a_parameter_that_no_target_can_hold_as_it_is_does_not_reach_the_vendor() {
    let world = World::with("[upstream]\nextra_query = [\"lang\"]").await;
    let list = path("cl-n6-a");
    is_bad(&world, &format!("{list}&lang=français"), &[], "lang").await;
    let encoded = format!("{list}&lang=fran%C3%A7ais");
    assert_eq!(world.gateway.get(&encoded).await.status, 200);
    assert_eq!(targets(&world), [encoded]);
}

#[tokio::test]
async fn an_iid_that_is_not_the_paths_stream_is_refused() {
    let world = World::new().await;
    let list = path("cl-n6-a");
    let (same, other) = (("iid", STREAM), ("iid", "st-other"));
    for fields in [
        &[other][..],
        &[same, other],
        &[other, same],
        &[("iid", "")],
        &[("iid", "ST-0603182c-7ffb-53c3-b307-47ca14b90001")],
    ] {
        is_bad(&world, &list, fields, "iid").await;
    }
    for method in [Method::GET, Method::HEAD, "PURGE".parse().unwrap()] {
        let answer = world.gateway.send(method.clone(), &list, &[same]).await;
        assert_eq!(answer.status, 200, "{method}");
        let answer = world.gateway.send(method.clone(), &list, &[other]).await;
        assert_eq!(answer.status, 400, "{method}");
    }
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn a_rule_is_kept_for_what_is_in_memory_too() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    let list = path("cl-n6-a");
    for (target, fields) in [
        (list.clone(), &[("iid", "st-other")][..]),
        (list.clone(), &[("accountid", OTHER)]),
        (format!("{list}&skip=0&skip=0"), &[]),
        (format!("{list}&x=1"), &[]),
    ] {
        let answer = world.gateway.send(Method::GET, &target, fields).await;
        answer.is_problem(400, "bad-request");
    }
}
