//! One replica alone is cut off from the store, and the others are not. Together they never make more calls than they may.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::calls::{six_seconds, wanting, with_a_second_for_jitter};
use super::*;
use crate::support::redis::shared;

/// How a replica is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Not at all.
    Not,
    /// Nothing comes through any more, and nobody says so.
    Silently,
    /// Connections end, and new ones too.
    Closed,
}

/// One replica's way to the store.
struct Relay {
    port: u16,
    cut: watch::Sender<Cut>,
    _accepts: AbortOnDropHandle<()>,
}

impl Relay {
    async fn before(redis: &Redis) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, is_cut) = watch::channel(Cut::Not);
        let store = redis.port;
        let accepts = async move {
            let tasks = TaskTracker::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tasks.spawn(pass(near, store, is_cut.clone()));
            }
        };
        Self {
            port,
            cut,
            _accepts: AbortOnDropHandle::new(TaskTracker::new().spawn(accepts)),
        }
    }

    fn cut(&self, how: Cut) {
        self.cut.send_replace(how);
    }
}

/// Passes on what is said over a connection. One that was cut off is never whole again.
async fn pass(mut near: TcpStream, store: u16, mut cut: watch::Receiver<Cut>) {
    if *cut.borrow() == Cut::Not {
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, store))
            .await
            .unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => return,
            _ = cut.wait_for(|cut| *cut != Cut::Not) => {}
        }
    }
    let _ = cut.wait_for(|cut| *cut != Cut::Silently).await;
}

/// Three replicas, of which the last has a way of its own to the store.
async fn three(redis: &Redis, relay: &Relay, settings: &str) -> Replicas {
    let quick = |shared: String| shared.replace("\"2s\"", "\"100ms\"") + settings;
    let mut replicas = Replicas::before(2, &quick(redis.shared()), six_seconds).await;
    let url = format!("redis://127.0.0.1:{}", relay.port);
    replicas.add(&quick(shared(&url))).await;
    replicas.see(3).await;
    replicas
}

impl Replicas {
    /// Calls that one of them made.
    async fn calls_of(&self, replica: usize) -> f64 {
        let metrics = self.all[replica].operate(Method::GET, "/metrics").await;
        let text = metrics.text();
        let calls = text
            .lines()
            .filter(|line| line.starts_with("contacts_gateway_upstream_calls_total{"));
        calls
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

async fn cut_off_alone_and_back(how: Cut) {
    let Some(redis) = Redis::start() else { return };
    let relay = Relay::before(&redis).await;
    let replicas = three(&redis, &relay, &with_a_second_for_jitter()).await;
    wanting(&replicas, Duration::from_secs(8)).await;
    relay.cut(how);
    wanting(&replicas, Duration::from_secs(2)).await;
    let before = replicas.calls_of(2).await;
    assert!(!replicas.all[2].parts.fleet.standing().up);
    wanting(&replicas, Duration::from_secs(12)).await;
    let alone = replicas.calls_of(2).await - before;
    relay.cut(Cut::Not);
    wanting(&replicas, Duration::from_secs(9)).await;
    replicas.see(3).await;
    let stats = replicas.vendor.stats();
    assert_eq!(stats.over_limit, 0, "{alone} alone, {stats:?}");
    // Nineteen a window, once its part is left free.
    assert!(alone >= 10.0, "it goes on alone: {alone} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_alone_and_silently_overruns_no_allowance() {
    cut_off_alone_and_back(Cut::Silently).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_connections_alone_are_closed_overruns_no_allowance() {
    cut_off_alone_and_back(Cut::Closed).await;
}
