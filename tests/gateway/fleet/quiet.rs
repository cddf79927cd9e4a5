//! Accounts that nobody asks for any more, and those that somebody asks for again.

use super::*;
use crate::support::path_of;

/// A window after which an account may be given back, and calls for all.
const BRIEF: &str = "[allowance]\ncalls = 3000\nwindow = \"200ms\"\n";

/// Of accounts, and that of forgets.
fn channels(redis: &Redis) -> usize {
    redis.cli(&["pubsub", "channels", "*"]).lines().count()
}

impl Replicas {
    async fn ask_for(&self, accounts: usize) {
        // Nothing is kept, or the account is for as long as that.
        let fields = [("cache-control", "no-store")];
        for n in 0..accounts {
            let path = path_of(STREAM, "cl-n1-a", &format!("account-{n}"));
            let answer = self.all[0].send(Method::GET, &path, &fields).await;
            assert_eq!(answer.status, StatusCode::OK);
        }
    }

    /// Only whoever comes next gives back what was left alone.
    fn somebody_comes(&self) {
        let _ = self.all[0].parts.accounts.desk("another");
    }

    async fn metric(&self, operation: &str) -> f64 {
        let name = "contacts_gateway_shared_errors_total";
        let series = format!("{name}{{operation=\"{operation}\"}}");
        self.all[0].metric(&series).await
    }
}

#[tokio::test]
async fn nothing_is_heard_of_an_account_that_was_given_back_until_somebody_asks_for_it_again() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(1, &(redis.shared() + BRIEF)).await;
    for accounts in [10, 1, 5] {
        replicas.ask_for(accounts).await;
        assert!(channels(&redis) > 1);
        eventually("only forgets are heard", async || {
            replicas.somebody_comes();
            (channels(&redis) == 1).then_some(())
        })
        .await;
    }
    for operation in ["connect", "subscribe", "unsubscribe"] {
        assert_eq!(replicas.metric(operation).await, 0.0, "{operation}");
    }
}

#[tokio::test]
async fn an_account_that_is_asked_for_again_at_once_is_heard_of() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(1, &(redis.shared() + BRIEF)).await;
    let desk = |name: &str| replicas.all[0].parts.accounts.desk(name);
    for _ in 0..3 {
        replicas.ask_for(1).await;
        let before = std::sync::Arc::downgrade(&desk("account-0"));
        eventually("it is given back", async || {
            replicas.somebody_comes();
            before.upgrade().is_none().then_some(())
        })
        .await;
        replicas.ask_for(1).await;
        assert_eq!(channels(&redis), 2);
    }
}

#[tokio::test]
async fn a_user_of_the_store_that_may_not_stop_to_hear_goes_on() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(1, &(redis.shared() + BRIEF)).await;
    replicas.ask_for(1).await;
    redis.cli(&["acl", "setuser", "default", "-unsubscribe"]);
    eventually("it is refused", async || {
        replicas.somebody_comes();
        (replicas.metric("unsubscribe").await > 0.0).then_some(())
    })
    .await;
    replicas.are(&[true]).await;
    replicas.ask_for(1).await;
    assert_eq!(replicas.metric("connect").await, 0.0);
    assert_eq!(channels(&redis), 2);
}
