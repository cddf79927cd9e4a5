//! Pages behind memory: who starts cold has what the others have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contacts_gateway::vendor::Behaviour;

use super::*;
use crate::support::Folder;

#[tokio::test]
async fn a_replica_that_starts_cold_has_what_the_others_have() {
    let Some(redis) = Redis::start() else { return };
    let mut replicas = Replicas::start(1, &redis.shared()).await;
    let first = replicas.get(0, "cl-n6-a").await;
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    stored(&redis, 1).await;
    replicas.add(&redis.shared()).await;
    let cold = replicas.get(1, "cl-n6-a").await;
    assert_eq!((cold.status, &cold.body), (StatusCode::OK, &first.body));
    assert!(
        cold.cache_status().starts_with("hit; ttl="),
        "{}",
        cold.cache_status()
    );
    for field in ["etag", "content-type", "date"] {
        assert_eq!(cold.field(field), first.field(field), "{field}");
    }
    assert_eq!(replicas.vendor.calls(), 1);
}

#[tokio::test]
async fn a_page_grows_old_on_its_way_through_the_store() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared() + "[cache]\nfresh_for = \"1s\"\n";
    let mut replicas = Replicas::start(1, &settings).await;
    replicas.get(0, "cl-n6-a").await;
    stored(&redis, 1).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    replicas.add(&settings).await;
    let cold = replicas.get(1, "cl-n6-a").await;
    assert!(
        cold.cache_status().starts_with("hit; ttl=-"),
        "{}",
        cold.cache_status()
    );
    assert!(
        cold.field("age").parse::<u64>().unwrap() >= 2,
        "{}",
        cold.field("age")
    );
}

#[tokio::test]
async fn a_page_is_as_old_as_it_is_by_whatever_clock() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(1, &redis.shared()).await;
    replicas.get(0, "cl-n6-a").await;
    stored(&redis, 1).await;
    for ahead in [0, 30] {
        let (clock, hand) = Clock::by_hand();
        hand.forward(Duration::from_secs(ahead));
        let other = Running::before(&replicas.vendor.url(), &redis.shared(), clock).await;
        let answer = other.get(&path("cl-n6-a")).await;
        assert!(
            answer.cache_status().starts_with("hit; ttl="),
            "{}",
            answer.cache_status()
        );
        assert!(
            answer.field("age").parse::<u64>().unwrap() < 10,
            "{}",
            answer.field("age")
        );
    }
    assert_eq!(replicas.vendor.calls(), 1);
}

#[tokio::test]
async fn nothing_of_an_account_a_list_or_a_contact_can_be_read_in_the_store() {
    let Some(redis) = Redis::start() else { return };
    let folder = Folder::new();
    let settings = redis.shared() + &key_file(&folder, "keys", &[("k1", 1)]);
    let replicas = Replicas::start(1, &settings).await;
    let answer = replicas.get(0, "cl-n6-a").await;
    assert!(
        answer.text().contains("999"),
        "there is a phone number in it"
    );
    stored(&redis, 1).await;
    replicas.all[0]
        .send(Method::from_bytes(b"PURGE").unwrap(), &path("cl-n6-b"), &[])
        .await;
    let all = redis.all();
    for (secret, what) in [
        (ACCOUNT, "an account"),
        (STREAM, "a stream"),
        ("cl-n6-a", "a list"),
        ("cl-n6-b", "a list that was forgotten"),
        ("999", "a phone number"),
        ("success", "a body"),
    ] {
        // Of times and hashes digits may be anywhere.
        let found = if what == "a phone number" {
            all.contains("+999")
        } else {
            all.contains(secret)
        };
        assert!(!found, "{what} in {all}");
    }
}

#[tokio::test]
async fn pages_are_had_while_keys_are_turned_over_and_never_with_a_wrong_one() {
    let Some(redis) = Redis::start() else { return };
    let folder = Folder::new();
    let with = |name: &str, keys: &[(&str, u8)]| redis.shared() + &key_file(&folder, name, keys);
    let mut replicas = Replicas::start(1, &with("old", &[("k1", 1)])).await;
    replicas.get(0, "cl-n6-a").await;
    stored(&redis, 1).await;
    replicas.add(&with("both", &[("k2", 2), ("k1", 1)])).await;
    assert!(
        replicas
            .get(1, "cl-n6-a")
            .await
            .cache_status()
            .starts_with("hit")
    );
    replicas.get(1, "cl-n6-b").await;
    stored(&redis, 2).await;
    // It knows the last key, so it is one of them, but not the one that sealed the second page.
    let missed = replicas.get(0, "cl-n6-b").await;
    assert_eq!(
        (missed.status, replicas.vendor.calls()),
        (StatusCode::OK, 3)
    );
    let errors = "contacts_gateway_shared_errors_total{operation=\"decode\"}";
    assert!(replicas.all[0].metric(errors).await >= 1.0);
    // One with another last key is none of them.
    let stranger = replicas.add(&with("other", &[("k1", 9)])).await;
    assert!(!stranger.parts.fleet.standing().up);
    assert_eq!(replicas.get(2, "cl-n6-a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_entry_that_is_not_whole_is_a_miss_and_counted() {
    let Some(redis) = Redis::start() else { return };
    let mut replicas = Replicas::start(1, &redis.shared()).await;
    let first = replicas.get(0, "cl-n6-a").await;
    stored(&redis, 1).await;
    let key = page_keys(&redis).pop().unwrap();
    redis.cli(&["setrange", &key, "40", "garbage"]);
    replicas.add(&redis.shared()).await;
    let cold = replicas.get(1, "cl-n6-a").await;
    assert_eq!(cold.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!((call_of(&first), call_of(&cold)), (1, 2));
    let errors = "contacts_gateway_shared_errors_total{operation=\"decode\"}";
    assert!(replicas.all[1].metric(errors).await >= 1.0);
}

#[tokio::test]
async fn an_entry_goes_when_its_page_is_of_no_more_use() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared()
        + "[cache]\nfresh_for = \"10s\"\nusable_for = \"20s\"\nstale_if_error = \"30s\"\n";
    let replicas = Replicas::start(1, &settings).await;
    replicas.get(0, "cl-n6-a").await;
    stored(&redis, 1).await;
    for key in page_keys(&redis) {
        let left: u64 = redis.cli(&["pttl", &key]).parse().unwrap();
        assert!((20_000..=30_000).contains(&left), "{left}");
    }
}

/// For longer than a caller has time for, nobody else fetches what one replica fetches.
const LONG_CALLS: &str = "[upstream]\ntimeout = \"60s\"\n";

#[tokio::test]
async fn nobody_waits_for_a_page_that_is_too_large_to_be_shared() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(2, &(redis.shared() + LONG_CALLS)).await;
    replicas.see(2).await;
    let mut dice = 88_172_645_463_325_252_u64;
    let noise = std::iter::repeat_with(|| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        char::from(b'0' + (dice >> 20) as u8 % 64)
    });
    let noise: String = noise.filter(|char| *char != '\\').take(3_000_000).collect();
    let results = r#""status":"success","data":{"results":[]}"#;
    replicas.vendor.behave(Behaviour {
        delay: Duration::from_millis(300),
        body: Some(format!(r#"{{{results},"noise":"{noise}"}}"#)),
        status: Some(StatusCode::OK),
        ..Behaviour::default()
    });
    let (first, second) = tokio::join!(replicas.get(0, "cl-n6-a"), async {
        eventually("it is fetched", async || {
            (replicas.vendor.calls() == 1).then_some(())
        })
        .await;
        replicas.get(1, "cl-n6-a").await
    });
    assert_eq!(
        (first.status, second.status),
        (StatusCode::OK, StatusCode::OK)
    );
    assert_eq!(replicas.vendor.calls(), 2);
}

#[tokio::test]
async fn nobody_waits_for_a_fetch_that_was_let_go_after_its_caller_had_hung_up() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(2, &(redis.shared() + LONG_CALLS)).await;
    replicas.see(2).await;
    replicas.get(0, "cl-n6-warm").await;
    let waits = async |callers: u64| {
        eventually("who waits", async || {
            let status = replicas.all[0].operate(Method::GET, "/status").await.json();
            (status["accounts"][ACCOUNT]["waiting"] == callers).then_some(())
        })
        .await;
    };
    redis.cli(&["client", "pause", "10000", "write"]);
    tokio::select! {
        _ = replicas.get(0, "cl-n6-a") => panic!("answered"),
        () = waits(1) => {}
    }
    waits(0).await;
    redis.cli(&["client", "unpause"]);
    let other = replicas.get(1, "cl-n6-a").await;
    assert_eq!(other.status, StatusCode::OK, "{}", other.text());
    assert_eq!(replicas.vendor.calls(), 2);
}

/// Waits until the store has so many pages.
pub(super) async fn stored(redis: &Redis, pages: usize) {
    eventually(&format!("the store has {pages} pages"), async || {
        (page_keys(redis).len() == pages).then_some(())
    })
    .await;
}

/// The names of the pages.
pub(super) fn page_keys(redis: &Redis) -> Vec<String> {
    let page = |key: &String| redis.cli(&["type", key]) == "string" && !key.contains("lease");
    redis.keys().into_iter().filter(page).collect()
}

/// A setting that names a file with these keys.
fn key_file(folder: &Folder, name: &str, keys: &[(&str, u8)]) -> String {
    let line = |(id, byte): &(&str, u8)| format!("{id}:{}\n", STANDARD.encode([*byte; 32]));
    let file = folder.put(name, &keys.iter().map(line).collect::<String>());
    format!("encryption_key_file = {file:?}\n")
}
