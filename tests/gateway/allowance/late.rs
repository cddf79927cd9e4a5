//! Calls that reach the vendor long after they were let go.

use std::net::SocketAddr;

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{self, App, Vendor};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::*;
use crate::support::authority::{Authority, named};
use crate::support::{Answer, CLIENT_ID, Folder, Running, SECRET};

/// All that there are.
const CALLS: usize = 59;

/// Before the vendor. Who connects is kept waiting until it opens.
struct Door {
    address: SocketAddr,
    waiting: watch::Receiver<usize>,
    is_open: watch::Sender<bool>,
    _accepts: AbortOnDropHandle<()>,
}

impl Door {
    async fn before(vendor: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (comes, waiting) = watch::channel(0);
        let (is_open, opens) = watch::channel(false);
        let accepts = TaskTracker::new().spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut opens = opens.clone();
                comes.send_modify(|waiting| *waiting += 1);
                connections.spawn(async move {
                    let _ = opens.wait_for(|open| *open).await;
                    let mut far = TcpStream::connect(vendor).await.unwrap();
                    let ((mut from, mut to), (mut back, mut on)) = (near.split(), far.split());
                    // That one side has no more to say is not told to the other, which might not begin then.
                    let _ = tokio::join!(copy(&mut from, &mut on), copy(&mut back, &mut to));
                });
            }
        });
        Self {
            address,
            waiting,
            is_open,
            _accepts: AbortOnDropHandle::new(accepts),
        }
    }

    async fn has_waiting(&mut self, connections: usize) {
        let come = self.waiting.wait_for(|waiting| *waiting == connections);
        come.await.unwrap();
    }
}

/// A vendor behind a door, and a gateway that has made no call for a while.
async fn behind_a_door(
    settings: &str,
    change: impl FnOnce(&mut vendor::Settings),
) -> (World, Door) {
    let (clock, hand) = Clock::by_hand();
    let app = App::hs256(STREAM.parse().unwrap(), CLIENT_ID, SECRET.as_bytes());
    let mut own = vendor::Settings {
        apps: vec![app],
        clock: clock.clone(),
        ..vendor::Settings::default()
    };
    change(&mut own);
    let scheme = if own.tls.is_some() { "https" } else { "http" };
    let vendor = Vendor::start(own).unwrap();
    let door = Door::before(vendor.address()).await;
    let url = format!("{scheme}://{}", door.address);
    let settings = format!("[allowance]\nqueue_deadline = \"0s\"\n{settings}");
    let gateway = Running::before(&url, &settings, clock).await;
    let world = World {
        vendor,
        gateway,
        hand,
    };
    let _ = world.gateway.parts.accounts.desk(ACCOUNT);
    world.hand.forward(seconds(61));
    (world, door)
}

impl World {
    /// As many callers at once as there are calls, each of whom wants another page.
    async fn all_at_once(&self, round: &str) -> Vec<Answer> {
        let lists: Vec<_> = (0..CALLS).map(|n| format!("cl-n1-{round}{n}")).collect();
        join_all(lists.iter().map(|list| self.get(list))).await
    }
}

#[tokio::test]
async fn a_call_that_had_to_connect_counts_from_when_it_could_reach_the_vendor() {
    for protocol in ["h2", "http/1.1"] {
        let (authority, folder) = (Authority::new(), Folder::new());
        let trust = format!("[upstream]\nca_file = {:?}", authority.file(&folder));
        let tls = authority.server(named("127.0.0.1"), &[protocol]);
        let (world, mut door) = behind_a_door(&trust, |vendor| vendor.tls = tls).await;
        let (answers, ()) = tokio::join!(world.all_at_once("a"), async {
            door.has_waiting(CALLS).await;
            world.hand.forward(seconds(2));
            door.is_open.send_replace(true);
        });
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
        world.hand.forward(seconds(59));
        // To the vendor it is 59 seconds, over connections that are there by now.
        for refused in world.all_at_once("b").await {
            refused.is_problem(503, "allowance-spent");
            assert_eq!(refused.field("retry-after"), "2");
        }
        world.hand.forward(seconds(2));
        let answers = world.all_at_once("b").await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
        assert_eq!(world.vendor.stats().over_limit, 0, "{protocol}");
    }
}

#[tokio::test]
async fn a_call_of_which_nobody_knows_when_it_reached_the_vendor_counts_from_its_end() {
    let impatient = "[upstream]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"";
    let (world, mut door) = behind_a_door(impatient, |_| {}).await;
    let (answers, ()) = tokio::join!(world.all_at_once("a"), async {
        door.has_waiting(CALLS).await;
        world.hand.forward(seconds(10));
    });
    for answer in answers {
        answer.is_problem(504, "upstream-timed-out");
    }
    door.is_open.send_replace(true);
    world.calls_become(CALLS as u64).await;
    world.hand.forward(seconds(51));
    // A minute after they were let go, and not since.
    let refused = world.get("cl-n1-b").await;
    refused.is_problem(503, "upstream-resting");
    assert_eq!(refused.field("retry-after"), "10");
    world.hand.forward(seconds(10));
    // One to see whether the vendor answers again, for what stayed wanted, and then the others.
    world.calls_become(CALLS as u64 + 1).await;
    world.is_at_rest(true).await;
    let answers = world.all_at_once("c").await;
    let answered = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK);
    assert_eq!(answered.count(), CALLS - 1);
    assert_eq!(world.vendor.stats().over_limit, 0);
}
