//! Forgetting: all of a list and nothing else, and that it beats a fetch that is under way. Who is told apart.

use std::time::Duration;

use contacts_gateway::vendor::{App, Behaviour};
use http::{Method, StatusCode};

use crate::support::{
    ACCOUNT, Answer, CLIENT_ID, Folder, SECRET, STREAM, World, answering, eventually, path, path_of,
};

const OTHER_ACCOUNT: &str = "67777ce93e25326494e90002";
const OTHER_STREAM: &str = "st-0603182c-7ffb-53c3-b307-47ca14b90002";
/// Longer than a busy machine takes for a few requests.
const LONG: Duration = Duration::from_secs(2);

/// A gateway with credentials for two streams.
async fn two_streams() -> World {
    let folder = Folder::new();
    let secret = folder.put("secret", SECRET);
    let settings = format!(
        "[[credentials]]\nstream = \"*\"\nclient_id = {CLIENT_ID:?}\nsecret_file = {secret:?}\n"
    );
    World::with_vendor(&settings, |vendor| {
        let app = |stream: &str| App::hs256(stream.parse().unwrap(), CLIENT_ID, SECRET.as_bytes());
        vendor.apps = vec![app(STREAM), app(OTHER_STREAM)];
    })
    .await
}

fn forgotten(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.field("content-type"), "application/json");
    let json = answer.json();
    assert_eq!(json.as_object().unwrap().len(), 1);
    json["forgotten"].as_u64().unwrap()
}

async fn purge(world: &World, path: &str) -> u64 {
    let method: Method = "PURGE".parse().unwrap();
    forgotten(&world.gateway.send(method, path, &[]).await)
}

async fn delete(world: &World, query: &str) -> u64 {
    let path = format!("/cache?{query}");
    forgotten(&world.gateway.operate(Method::DELETE, &path).await)
}

fn v2(path: &str) -> String {
    path.replace("/agentassist/api/v1/", "/campaign/api/v2/")
}

/// Whether a page is in memory.
async fn is_there(world: &World, path: &str) -> bool {
    let asked = [("cache-control", "only-if-cached")];
    let answer = world.gateway.send(Method::GET, path, &asked).await;
    answer.status != 504
}

fn saying(text: &str, delay: Duration) -> Behaviour {
    Behaviour {
        body: Some(format!("{{\"status\":\"success\",\"message\":\"{text}\"}}")),
        delay,
        ..Behaviour::default()
    }
}

async fn calls(world: &World, n: u64) {
    let so_many = async || (world.vendor.calls() == n).then_some(());
    eventually("the call begins", so_many).await;
}

#[tokio::test]
async fn a_purge_forgets_every_page_of_the_list_and_says_how_many() {
    let world = World::with("[upstream]\nextra_query = [\"lang\"]").await;
    let list = path("cl-n200-a");
    let pages = [
        list.clone(),
        v2(&list),
        format!("{list}&skip=50"),
        format!("{list}&skip=50&limit=10"),
        format!("{}&limit=10", v2(&list)),
        format!("{list}&lang=de"),
    ];
    for page in &pages {
        assert_eq!(world.gateway.get(page).await.status, 200);
    }
    world.vendor.behave(answering(StatusCode::BAD_REQUEST));
    let negative = format!("{list}&skip=100");
    assert_eq!(world.gateway.get(&negative).await.status, 400);
    let others = [
        path("cl-n200-b"),
        path_of(STREAM, "cl-n200-a", OTHER_ACCOUNT),
    ];
    for other in &others {
        world.gateway.get(other).await;
    }
    assert_eq!(purge(&world, &list).await, 7);
    for page in pages.iter().chain([&negative]) {
        assert!(!is_there(&world, page).await, "{page}");
    }
    for other in &others {
        assert!(is_there(&world, other).await, "{other}");
    }
}

#[tokio::test]
async fn a_purge_may_name_any_page_of_the_list_and_costs_no_call() {
    let world = World::new().await;
    let list = path("cl-n200-a");
    let page = format!("{list}&skip=50");
    let (bare, _) = list.split_once('?').unwrap();
    for (target, fields) in [
        (list.clone(), &[][..]),
        (v2(&list), &[]),
        (format!("{list}&limit=7"), &[]),
        (bare.to_owned(), &[("accountid", ACCOUNT)]),
        (list.clone(), &[("cache-control", "only-if-cached")]),
        (list.clone(), &[("if-none-match", "*")]),
    ] {
        world.gateway.get(&page).await;
        let calls = world.vendor.calls();
        let method: Method = "PURGE".parse().unwrap();
        let answer = world.gateway.send(method, &target, fields).await;
        assert_eq!(forgotten(&answer), 1, "{target}");
        assert!(!is_there(&world, &page).await, "{target}");
        assert_eq!(purge(&world, &list).await, 0, "{target}");
        assert_eq!(world.vendor.calls(), calls);
    }
}

#[tokio::test]
async fn a_negative_answer_is_forgotten_and_asked_for_again() {
    let world = World::new().await;
    assert_eq!(world.get("cl-missing").await.status, 404);
    assert_eq!(purge(&world, &path("cl-missing")).await, 1);
    let again = world.get("cl-missing").await;
    assert_eq!(again.cache_status(), "fwd=uri-miss; fwd-status=404; stored");
    assert_eq!(world.vendor.calls(), 2);
}

#[tokio::test]
async fn a_fetch_begun_before_a_forget_never_refills_the_list_and_nobody_joins_it_after() {
    for by_operator in [false, true] {
        let world = World::new().await;
        let list = path("cl-n6-a");
        world.vendor.behave(saying("before", LONG));
        let before = world.gateway.get(&list);
        let after = async {
            calls(&world, 1).await;
            let forgotten = if by_operator {
                delete(&world, &format!("stream={STREAM}")).await
            } else {
                purge(&world, &list).await
            };
            assert_eq!(forgotten, 0, "nothing was there yet");
            world.vendor.behave(saying("after", Duration::ZERO));
            world.gateway.get(&list).await
        };
        let (before, after) = tokio::join!(before, after);
        assert_eq!(
            before.json()["message"],
            "before",
            "who asked before it is answered"
        );
        assert_eq!(before.cache_status(), "fwd=uri-miss; fwd-status=200");
        assert_eq!(after.json()["message"], "after");
        assert_eq!(after.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
        assert_eq!(world.vendor.calls(), 2);
        let hit = world.gateway.get(&list).await;
        assert_eq!(hit.json()["message"], "after");
        assert_eq!(hit.cache_status(), "hit; ttl=60");
    }
}

#[tokio::test]
async fn a_fetch_that_lands_after_a_forget_leaves_the_list_empty() {
    let world = World::new().await;
    let list = path("cl-n6-a");
    world.vendor.behave(saying("before", LONG));
    let forget = async {
        calls(&world, 1).await;
        purge(&world, &list).await
    };
    let (before, _) = tokio::join!(world.gateway.get(&list), forget);
    assert_eq!(before.status, 200);
    assert!(!is_there(&world, &list).await);
}

#[tokio::test]
async fn a_refresh_begun_before_a_forget_never_refills_the_list() {
    let world = World::new().await;
    let list = path("cl-n6-a");
    world.gateway.get(&list).await;
    world.hand.forward(Duration::from_secs(120));
    world.vendor.behave(saying("before", LONG));
    let stale = world.gateway.get(&list).await;
    assert_eq!(stale.cache_status(), "hit; ttl=-60");
    calls(&world, 2).await;
    assert_eq!(purge(&world, &list).await, 1);
    let tasks = &world.gateway.parts.tasks;
    eventually("the refresh ends", async || tasks.is_empty().then_some(())).await;
    assert!(!is_there(&world, &list).await);
}

#[tokio::test]
async fn a_forget_of_one_list_leaves_the_fetches_of_others_alone() {
    let world = World::new().await;
    world.vendor.behave(saying("other", LONG));
    let other = path_of(STREAM, "cl-n6-a", OTHER_ACCOUNT);
    let forget = async {
        calls(&world, 1).await;
        purge(&world, &path("cl-n6-a")).await
    };
    let (answer, _) = tokio::join!(world.gateway.get(&other), forget);
    assert_eq!(
        answer.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
    assert!(is_there(&world, &other).await);
}

#[tokio::test]
async fn an_operator_forgets_what_the_parameters_name_and_nothing_else() {
    let pages = [
        path_of(STREAM, "cl-n6-a", ACCOUNT),
        path_of(STREAM, "cl-n6-a", OTHER_ACCOUNT),
        path_of(STREAM, "cl-n6-b", ACCOUNT),
        path_of(OTHER_STREAM, "cl-n6-a", ACCOUNT),
        v2(&path_of(STREAM, "cl-n6-a", ACCOUNT)),
    ];
    for (query, left) in [
        (format!("stream={STREAM}"), &[3][..]),
        (format!("stream={STREAM}&list=cl-n6-a"), &[2, 3]),
        (format!("stream={STREAM}&account={ACCOUNT}"), &[1, 3]),
        (
            format!("account={ACCOUNT}&list=cl-n6-a&stream={STREAM}"),
            &[1, 2, 3],
        ),
        (format!("stream={STREAM}&list=cl-n6-none"), &[0, 1, 2, 3, 4]),
        ("stream=st-none".to_owned(), &[0, 1, 2, 3, 4]),
    ] {
        let world = two_streams().await;
        for page in &pages {
            assert_eq!(world.gateway.get(page).await.status, 200);
        }
        let dropped = delete(&world, &query).await;
        assert_eq!(dropped, (pages.len() - left.len()) as u64, "{query}");
        for (at, page) in pages.iter().enumerate() {
            assert_eq!(
                is_there(&world, page).await,
                left.contains(&at),
                "{query}: {at}"
            );
        }
    }
}

#[tokio::test]
async fn an_operator_who_names_no_stream_or_something_else_is_refused_and_nothing_is_forgotten() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    for query in [
        "".to_owned(),
        "?".to_owned(),
        "?list=cl-n6-a".to_owned(),
        format!("?account={ACCOUNT}"),
        format!("?list=cl-n6-a&account={ACCOUNT}"),
        "?stream".to_owned(),
        "?stream=".to_owned(),
        "?stream=*".to_owned(),
        "?stream=a%2Fb".to_owned(),
        format!("?stream={STREAM}&list="),
        format!("?stream={STREAM}&list=.."),
        format!("?stream={STREAM}&account=a/b"),
        format!("?stream={STREAM}&stream={STREAM}"),
        format!("?stream={STREAM}&list=cl-n6-a&list=cl-n6-b"),
        format!("?stream={STREAM}&accountId={ACCOUNT}"),
        format!("?stream={STREAM}&skip=0"),
        format!("?Stream={STREAM}"),
    ] {
        let path = format!("/cache{query}");
        let answer = world.gateway.operate(Method::DELETE, &path).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(!answer.body.is_empty(), "{query}: says why");
    }
    assert!(is_there(&world, &path("cl-n6-a")).await);
}

#[tokio::test]
async fn accounts_and_streams_never_see_each_others_pages() {
    let world = two_streams().await;
    let paths = [
        ("one", path_of(STREAM, "cl-n6-a", ACCOUNT)),
        ("two", path_of(STREAM, "cl-n6-a", OTHER_ACCOUNT)),
        ("three", path_of(OTHER_STREAM, "cl-n6-a", ACCOUNT)),
        ("four", path_of(OTHER_STREAM, "cl-n6-a", OTHER_ACCOUNT)),
        ("five", v2(&path_of(STREAM, "cl-n6-a", ACCOUNT))),
    ];
    for (text, path) in &paths {
        world.vendor.behave(saying(text, Duration::ZERO));
        assert_eq!(world.gateway.get(path).await.json()["message"], *text);
    }
    for (text, path) in &paths {
        let hit = world.gateway.get(path).await;
        assert_eq!(
            (hit.json()["message"].as_str(), hit.cache_status()),
            (Some(*text), "hit; ttl=60")
        );
    }
    assert_eq!(world.vendor.calls(), 5);
}

#[tokio::test]
async fn accounts_never_share_a_fetch() {
    let world = World::new().await;
    world.vendor.behave(saying("held", LONG));
    let other = path_of(STREAM, "cl-n6-a", OTHER_ACCOUNT);
    let (one, two) = tokio::join!(world.get("cl-n6-a"), world.gateway.get(&other));
    for answer in [one, two] {
        assert_eq!(
            answer.cache_status(),
            "fwd=uri-miss; fwd-status=200; stored"
        );
    }
    let mut accounts: Vec<_> = world.vendor.stats().accounts.into_iter().collect();
    accounts.sort();
    assert_eq!(accounts, [(ACCOUNT.into(), 1), (OTHER_ACCOUNT.into(), 1)]);
}
