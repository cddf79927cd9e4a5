//! What an operation asks of the store, counted there. The limits in the crate's documentation are made of this.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::forgets::purge;
use super::pages::stored;
use super::*;

#[tokio::test]
async fn each_operation_asks_the_store_as_often_as_is_said_of_it() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared()
        + "[cache]\nfresh_for = \"1h\"\n[allowance]\ncalls = 3000\nwindow = \"1s\"\n";
    let mut replicas = Replicas::before(1, &settings, |vendor| vendor.limit.calls = 100_000).await;
    let lists: Vec<_> = (0..20).map(|n| format!("cl-n50-{n}")).collect();
    // The account is joined with the first.
    replicas.get(0, "cl-n50-first").await;
    stored(&redis, 1).await;

    let miss = Counted::by(&redis);
    for list in &lists {
        replicas.get(0, list).await;
    }
    stored(&redis, 21).await;
    assert_eq!(miss.each("miss", 20), 4.0, "look, decide, settle, keep");

    let hit = Counted::by(&redis);
    for list in &lists {
        replicas.get(0, list).await;
    }
    assert_eq!(hit.each("hit", 20), 0.0);

    replicas.add(&settings).await;
    let found = Counted::by(&redis);
    for list in &lists {
        replicas.get(1, list).await;
    }
    assert_eq!(found.each("page of another replica's", 20), 1.0, "look");

    // To whom no page is fresh.
    let restless = settings.replace("fresh_for = \"1h\"", "fresh_for = \"0s\"");
    replicas.add(&restless).await;
    replicas.refreshes_all(2, &lists).await;
    let refresh = Counted::by(&redis);
    replicas.refreshes_all(2, &lists).await;
    let each = refresh.each("refresh", 20);
    assert!(
        (3.0..4.5).contains(&each),
        "decide, settle, keep, and few asked too early: {each}"
    );

    let forget = Counted::by(&redis);
    for list in &lists {
        purge(&replicas.all[0], list).await;
    }
    let each = forget.each("forget", 20);
    assert!(
        (2.0..2.2).contains(&each),
        "forget, drop, and the last word of a refresh: {each}"
    );
}

impl Replicas {
    /// One of them is asked for each list, and refreshes it behind.
    async fn refreshes_all(&self, replica: usize, lists: &[String]) {
        let before = self.vendor.calls();
        for list in lists {
            self.get(replica, list).await;
        }
        let calls = before + lists.len() as u64;
        eventually("all are refreshed", async || {
            (self.vendor.calls() == calls).then_some(())
        })
        .await;
        let tasks = &self.all[replica].parts.tasks;
        eventually("and kept", async || tasks.is_empty().then_some(())).await;
    }
}

/// What the store is asked from a moment on.
struct Counted<'a> {
    redis: &'a Redis,
    monitor: Child,
    before: [f64; 4],
}

impl<'a> Counted<'a> {
    fn by(redis: &'a Redis) -> Self {
        let port = redis.port.to_string();
        let mut monitor = Command::new("redis-cli");
        let piped = monitor
            .args(["-p", &port, "monitor"])
            .stdout(Stdio::piped());
        let mut monitor = piped.spawn().unwrap();
        // It says OK first.
        let mut first = [0; 3];
        std::io::Read::read_exact(monitor.stdout.as_mut().unwrap(), &mut first).unwrap();
        Self {
            redis,
            monitor,
            before: figures(redis),
        }
    }

    /// Commands for each of so many operations. What is asked every second whatever happens does not count.
    fn each(mut self, what: &str, operations: usize) -> f64 {
        let after = figures(self.redis);
        self.redis.cli(&["echo", "the-end"]);
        let lines = BufReader::new(self.monitor.stdout.take().unwrap()).lines();
        let lines = lines
            .map(Result::unwrap)
            .take_while(|line| !line.contains("the-end"));
        let lines: Vec<_> = lines.collect();
        let own = ["EVALSHA", "\"GET\"", "UNLINK"];
        let ours = |line: &&String| {
            own.iter().any(|own| line.contains(own))
                && !line.contains(" lua]")
                && !line.contains(":seats")
        };
        let commands = lines.iter().filter(ours).count() as f64 / operations as f64;
        // The store tells of commands over a connection too.
        let told: usize = lines.iter().map(|line| line.len() + 3).sum();
        let [received, sent, scripts, micros] = std::array::from_fn(|n| after[n] - self.before[n]);
        eprintln!(
            "{what}: {commands} commands, {:.0} bytes to the store and {:.0} from it, {:.0} µs a script",
            received / operations as f64,
            (sent - told as f64) / operations as f64,
            micros / scripts.max(1.0)
        );
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
        commands
    }
}

/// Bytes that the store has received and sent, scripts that it has run, and the time they took.
fn figures(redis: &Redis) -> [f64; 4] {
    let said = redis.cli(&["info", "stats"]) + &redis.cli(&["info", "commandstats"]);
    let after = |name: &str| {
        let (_, rest) = said.split_once(name).unwrap_or_default();
        let end = rest.find([',', '\r', '\n']).unwrap_or(rest.len());
        rest[..end].parse().unwrap_or(0.0)
    };
    let scripts = said
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"))
        .unwrap_or_default();
    let of_scripts = |name: &str| {
        let (_, rest) = scripts.split_once(name).unwrap_or_default();
        rest.split(',')
            .next()
            .unwrap_or_default()
            .parse()
            .unwrap_or(0.0)
    };
    [
        after("total_net_input_bytes:"),
        after("total_net_output_bytes:"),
        of_scripts("calls="),
        of_scripts("usec="),
    ]
}
