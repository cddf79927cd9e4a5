//! One replica alone is cut off from the store, and the others are not. Together they never make more calls than they may.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::calls::{six_seconds, wanting, with_a_second_for_jitter};
use super::*;
use crate::support::Folder;
use crate::support::process::{Program, Serving, settings_file};
use crate::support::redis::{free_port, shared};

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

/// The replicas that the store knows, gone of late or not.
fn seats(redis: &Redis) -> String {
    redis.cli(&["zcard", "contacts-gateway:{fleet}:seats"])
}

#[tokio::test]
async fn a_process_that_starts_in_the_place_of_one_that_died_has_its_seat() {
    let Some(redis) = Redis::start() else { return };
    let (settings, port) = (redis.shared(), free_port());
    let replicas = Replicas::start(1, &settings).await;
    let upstream = replicas.vendor.url();
    let place = format!("127.0.0.1:{port}");
    let place = [("CONTACTS_GATEWAY__ADMIN__ADDRESS", &*place)];
    let mut dies = Serving::with_env(&upstream, &settings, &place).await;
    replicas.see(2).await;
    dies.program.signal("KILL");
    dies.program.ended().await;
    replicas.see(1).await;
    assert_eq!(seats(&redis), "2", "it might be cut off");
    let _again = Serving::with_env(&upstream, &settings, &place).await;
    replicas.see(2).await;
    assert_eq!(seats(&redis), "2");
    let _elsewhere = Serving::before(&upstream, &settings).await;
    replicas.see(3).await;
    assert_eq!(seats(&redis), "3");
}

#[tokio::test]
async fn processes_that_take_over_from_each_other_have_a_seat_each() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared();
    let replicas = Replicas::start(1, &settings).await;
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (operators, folder) = (socket.local_addr().unwrap().to_string(), Folder::new());
    let file = settings_file(&folder, &settings);
    let upstream = replicas.vendor.url();
    let env = [
        ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("CONTACTS_GATEWAY__ADMIN__ADDRESS", &*operators),
        ("CONTACTS_GATEWAY__UPSTREAM__URL", &*upstream),
    ];
    let start = || Serving::started(Program::behind(&socket, &["--config", &file], &env));
    let mut leaves = start().await;
    replicas.see(2).await;
    let _comes = start().await;
    replicas.see(3).await;
    leaves.program.signal("TERM");
    leaves.program.ended().await;
    assert_eq!(seats(&redis), "2");
}
