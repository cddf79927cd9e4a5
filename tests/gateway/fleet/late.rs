//! Calls that are on their way to the vendor long after the store let them go.

use std::sync::Arc;

use contacts_gateway::fleet::{Account, Decision, Ended, Known, News, Rules, Wish};
use tokio::sync::mpsc::unbounded_channel;

use super::protocol::join;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_601);
const LATE: Duration = Duration::from_millis(200);

fn rules(calls: u32, hourly: u32) -> Rules {
    Rules {
        window: MINUTE,
        calls,
        reserve: 0,
        hourly,
        floor: 1,
        pause: MINUTE,
        careful: MINUTE,
        lease: MINUTE,
    }
}

fn wish(member: &Arc<str>) -> Wish<'static> {
    Wish {
        page: None,
        known: 0,
        awaited: true,
        owed: 0,
        member: member.clone(),
    }
}

async fn joins(account: &Account, calls: Vec<(Arc<str>, Duration)>) {
    let known = Known {
        limit: 100.0,
        ceiling: 100.0,
        refused: None,
        refusals: 0,
        pause: None,
        calls,
        guessed: Vec::new(),
    };
    account.join(&known).await.unwrap();
}

#[tokio::test]
async fn a_call_counts_for_every_replica_from_when_it_was_on_its_way() {
    let Some(redis) = Redis::start() else { return };
    let (here, there) = (join(&redis.url()).await, join(&redis.url()).await);
    let clock = Clock::system();
    for (name, rules, for_) in [
        ("minute", rules(1, 0), MINUTE),
        ("hour", rules(100, 1), HOUR),
    ] {
        let account = here.account(name, rules.clone()).unwrap();
        let other = there.account(name, rules).unwrap();
        joins(&account, Vec::new()).await;
        joins(&other, Vec::new()).await;
        let (tell, mut told) = unbounded_channel();
        other.hear(Box::new(move |news| {
            if let News::Call(name, ago) = news {
                let _ = tell.send((name, ago));
            }
        }));
        other.listen().await.unwrap();
        let member = account.member();
        let (decision, _) = account.ask(&wish(&member)).await.unwrap();
        assert!(matches!(decision, Decision::Go(_)), "{decision:?}");
        assert_eq!(told.recv().await.unwrap().0, member);
        // A connection is made.
        tokio::time::sleep(LATE).await;
        let went = clock.now();
        let settled = account.settle(&member, Ended::Answered, Some(went));
        settled.await.unwrap();
        let (decision, _) = other.ask(&wish(&other.member())).await.unwrap();
        let Decision::Wait(time) = decision else {
            panic!("{name}: {decision:?}");
        };
        let until = clock.now() + time;
        // The store counts milliseconds.
        let due = went + for_ - Duration::from_millis(2);
        assert!(until >= due, "{name}: {:?} too early", due - until);
        assert!(time <= for_, "{name}: not of a time that is yet to come");
        let (named, ago) = told.recv().await.unwrap();
        assert_eq!(named, member);
        let latest = clock.now() - went + Duration::from_millis(2);
        assert!(ago <= latest, "{name}: {ago:?} ago, and it was {latest:?}");
    }
}

#[tokio::test]
async fn a_call_that_was_out_for_longer_than_a_window_counts_again_for_every_replica() {
    let Some(redis) = Redis::start() else { return };
    let here = join(&redis.url()).await;
    let account = here.account("minute", rules(2, 0)).unwrap();
    let late = account.member();
    joins(&account, vec![(late.clone(), MINUTE * 2)]).await;
    // The store forgets what no longer counts.
    let (decision, _) = account.ask(&wish(&account.member())).await.unwrap();
    assert!(matches!(decision, Decision::Go(_)), "{decision:?}");
    let went = Clock::system().now();
    let settled = account.settle(&late, Ended::Answered, Some(went)).await;
    assert!(settled.unwrap().is_some());
    let (decision, _) = account.ask(&wish(&account.member())).await.unwrap();
    assert!(matches!(decision, Decision::Wait(_)), "{decision:?}");
    // Nor does what is told of a call alone stay for ever.
    let keys = redis.keys();
    let calls = keys.iter().find(|key| key.ends_with(":calls")).unwrap();
    redis.cli(&["del", calls]);
    let settled = account.settle(&late, Ended::Answered, Some(Clock::system().now()));
    assert!(settled.await.unwrap().is_some());
    assert_eq!(redis.cli(&["exists", calls]), "1");
    assert_ne!(redis.cli(&["ttl", calls]), "-1");
}
