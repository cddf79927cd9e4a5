//! Whoever reads the log stops: the gateway serves on, and ends when it is told to.

use contacts_gateway::clock::Clock;
use http::Method;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::{Receiver, pipe};

use crate::support::process::{Program, Serving, settings_file};
use crate::support::{Folder, World, eventually, path};

/// Calls to the vendor, each of them a line: more than a pipe takes, and the queue behind it.
const CALLS: usize = 1_000;

/// A gateway whose log nobody reads after its first lines.
struct Unread {
    world: World,
    serving: Serving,
    log: Lines<BufReader<Receiver>>,
    _folder: Folder,
}

impl Unread {
    async fn start(drain_delay: &str) -> Self {
        let world = World::with_vendor("", |vendor| {
            vendor.clock = Clock::system();
            vendor.limit.calls = u32::MAX;
        })
        .await;
        let folder = Folder::new();
        let settings = format!(
            "[listen]\naddress = \"127.0.0.1:0\"\ndrain_delay = {drain_delay:?}\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [upstream]\nurl = \"{}\"\n[allowance]\ncalls = 100000\n",
            world.vendor.url()
        );
        let file = settings_file(&folder, &settings);
        let (write, read) = pipe().unwrap();
        let write = write.into_blocking_fd().unwrap();
        let program = Program::unread(write, &["--config", &file], &[]);
        let mut log = BufReader::with_capacity(512, read).lines();
        let serving = loop {
            let line = log.next_line().await.unwrap().unwrap();
            if line.contains("listen.address") {
                break Serving::of(program, &line);
            }
        };
        Self {
            world,
            serving,
            log,
            _folder: folder,
        }
    }

    /// Has it say more than there is room for.
    async fn fill(&self) {
        for n in 0..CALLS {
            let path = path(&format!("cl-n1-{n}"));
            assert_eq!(self.serving.get(&path).await.status, 200, "call {n}");
        }
    }

    /// What it says next.
    async fn line(&mut self) -> Option<Value> {
        let line = self.log.next_line().await.unwrap()?;
        Some(serde_json::from_str(&line).unwrap())
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_neither_requests_nor_signals() {
    for (drain_delay, code) in [("0s", 0), ("1h", 1)] {
        let mut unread = Unread::start(drain_delay).await;
        unread.fill().await;
        let serving = &mut unread.serving;
        assert_eq!(serving.get(&path("cl-n1-0")).await.status, 200);
        assert_eq!(serving.operate(Method::GET, "/live").await.status, 200);
        assert_eq!(serving.operate(Method::GET, "/ready").await.status, 200);
        serving.program.signal("TERM");
        if code == 1 {
            eventually("it is unready", async || {
                let ready = serving.operate(Method::GET, "/ready").await.status;
                (ready == 503).then_some(())
            })
            .await;
            serving.program.signal("INT");
        }
        let ended = serving.program.ended().await;
        assert_eq!(ended.code, Some(code), "after a delay of {drain_delay}");
    }
}

#[tokio::test]
async fn a_reader_who_comes_back_is_told_how_much_was_lost_and_where() {
    let mut unread = Unread::start("0s").await;
    unread.fill().await;
    let mut read = 0;
    let lost = loop {
        let line = unread.line().await.unwrap();
        match line["suppressed"].as_u64() {
            Some(lost) => break line["message"].as_str().map(|text| (text.to_owned(), lost)),
            None => {
                assert_eq!(line["message"], "called the vendor", "{line}");
                read += 1;
            }
        }
    };
    let (message, lost) = lost.unwrap();
    assert!(message.starts_with("the log was not read"), "{message}");
    assert_eq!(read + lost, CALLS as u64);
    assert_eq!(unread.world.vendor.calls(), CALLS as u64);
    // From here on nothing is lost, to the end.
    let later = path("cl-n1-later");
    assert_eq!(unread.serving.get(&later).await.status, 200);
    unread.serving.program.signal("TERM");
    let mut said = Vec::new();
    while let Some(line) = unread.line().await {
        said.push(line["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(said.first().unwrap(), "called the vendor");
    assert_eq!(said.last().unwrap(), "drained");
    assert_eq!(unread.serving.program.ended().await.code, Some(0));
}
