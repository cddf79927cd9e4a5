//! What the vendor's refusals teach is not lost with the store.

use contacts_gateway::vendor::{Behaviour, Message};
use serde_json::Value;

use super::*;

/// A pause that is not over before a test is, and patience until the others leave this one's part free.
const LONG_PAUSE: &str = "[allowance]\npause = \"60s\"\nqueue_deadline = \"10s\"\n";

impl Replicas {
    /// Two that have made a call each.
    async fn two(settings: &str) -> Self {
        let replicas = Self::before(2, settings, |vendor| vendor.limit.calls = 1_000).await;
        replicas.see(2).await;
        for (replica, list) in [(0, "cl-n6-a"), (1, "cl-n6-b")] {
            let answer = replicas.get(replica, list).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        replicas
    }

    /// The next call is refused after so long.
    fn refuses(&self, delay: Duration) {
        self.vendor.behave(Behaviour {
            refuse: Some(Message::PerMinute),
            times: Some(1),
            delay,
            ..Behaviour::default()
        });
    }

    /// Waits until one of them knows of the pause. Tells how the account stands there.
    async fn pauses(&self, replica: usize) -> Value {
        let replica = &self.all[replica];
        eventually("it knows of the pause", async || {
            let status = replica.operate(Method::GET, "/status").await.json();
            let account = &status["accounts"][ACCOUNT];
            (account["paused_for_seconds"].as_f64()? > 20.0).then(|| account.clone())
        })
        .await
    }

    /// None of them calls the vendor any more, and each knows why.
    async fn all_pause(&self, limit: &Value) {
        let calls = self.vendor.calls();
        for (replica, list) in [(0, "cl-n6-d"), (1, "cl-n6-e"), (0, "cl-n6-f")] {
            let answer = self.get(replica, list).await;
            answer.is_problem(503, "allowance-spent");
        }
        for replica in 0..2 {
            let account = self.pauses(replica).await;
            assert_eq!(
                (&account["limit"], &account["refusals"]),
                (limit, &1.into())
            );
        }
        assert_eq!(self.vendor.calls(), calls);
    }
}

#[tokio::test]
async fn a_pause_is_not_over_because_the_store_was_started_again_with_nothing() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let settings = redis.shared() + LONG_PAUSE;
    let mut replicas = Replicas::two(&settings).await;
    replicas.refuses(Duration::ZERO);
    let refused = replicas.get(0, "cl-n6-c").await;
    refused.is_problem(503, "upstream-refused");
    let limit = replicas.pauses(1).await["limit"].clone();
    redis.kill();
    replicas.are(&[false; 2]).await;
    redis.start_again();
    replicas.see(2).await;
    // One that does not know of it is the first to ask.
    let ignorant = replicas.add(&settings).await;
    assert_eq!(ignorant.get(&path("cl-n6-g")).await.status, StatusCode::OK);
    replicas.all_pause(&limit).await;
    assert_eq!(replicas.pauses(2).await["limit"], limit);
}

#[tokio::test]
async fn what_was_learnt_from_a_refusal_outlives_a_store_that_was_emptied() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared() + &LONG_PAUSE.replace("60s", "1s");
    let replicas = Replicas::two(&settings).await;
    replicas.refuses(Duration::ZERO);
    let refused = replicas.get(0, "cl-n6-c").await;
    refused.is_problem(503, "upstream-refused");
    let learnt = async |replica: usize| {
        let status = replicas.all[replica].operate(Method::GET, "/status");
        let account = status.await.json()["accounts"][ACCOUNT].clone();
        (account["limit"].clone(), account["refusals"].clone())
    };
    let before = learnt(0).await;
    assert_eq!(before.1, 1);
    eventually("the other hears of it", async || {
        (learnt(1).await == before).then_some(())
    })
    .await;
    redis.cli(&["flushall"]);
    for (replica, list) in [(1, "cl-n6-d"), (0, "cl-n6-e")] {
        let answer = replicas.get(replica, list).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let tasks = &replicas.all[replica].parts.tasks;
        eventually("it is told", async || tasks.is_empty().then_some(())).await;
        assert_eq!(learnt(replica).await, before);
    }
}

#[tokio::test]
async fn a_refusal_that_one_met_alone_is_everybodys_once_the_store_is_back() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared().replace("\"2s\"", "\"200ms\"") + LONG_PAUSE;
    let replicas = Replicas::two(&settings).await;
    redis.signal("STOP");
    replicas.are(&[false; 2]).await;
    replicas.refuses(Duration::ZERO);
    let refused = replicas.get(0, "cl-n6-c").await;
    refused.is_problem(503, "upstream-refused");
    let limit = replicas.pauses(0).await["limit"].clone();
    redis.signal("CONT");
    replicas.see(2).await;
    // Who is back after it was told hears of it with its next question.
    replicas.all_pause(&limit).await;
}

#[tokio::test]
async fn a_refusal_that_the_store_did_not_hear_of_is_told_again() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared().replace("\"2s\"", "\"200ms\"") + LONG_PAUSE;
    let replicas = Replicas::two(&settings).await;
    let before = replicas.vendor.calls();
    replicas.refuses(Duration::from_millis(300));
    let (refused, ()) = tokio::join!(replicas.get(0, "cl-n6-c"), async {
        eventually("the vendor is asked", async || {
            (replicas.vendor.calls() > before).then_some(())
        })
        .await;
        redis.cli(&["client", "pause", "700", "write"]);
    });
    refused.is_problem(503, "upstream-refused");
    let limit = replicas.pauses(0).await["limit"].clone();
    replicas.pauses(1).await;
    replicas.are(&[true; 2]).await;
    replicas.all_pause(&limit).await;
}
