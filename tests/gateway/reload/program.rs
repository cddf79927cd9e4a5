//! The program itself: its signals, and what its log says of a change.

use http::{Method, StatusCode};

use crate::support::collector::{Collector, Kind};
use crate::support::living::{Files, app};
use crate::support::process::{Program, Serving};
use crate::support::{CLIENT_ID, STREAM, World, eventually, is_there, left_out, path};

const NEXT: &str = "canary-secret-of-tomorrow-4f6d8c3b1a0f9e8d7c6b";

/// The program as it follows a folder of files.
async fn following(world: &World, files: &Files) -> Serving {
    let file = files.path("gateway.toml");
    let flags = ["--config", file.to_str().unwrap()];
    Serving::started(Program::start(&flags, &ports(&world.vendor.url()))).await
}

fn ports(upstream: &str) -> [(&'static str, &str); 3] {
    [
        ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
        ("CONTACTS_GATEWAY__UPSTREAM__URL", upstream),
    ]
}

impl Serving {
    async fn reloads(&self, outcome: &str) -> u32 {
        let metrics = self.operate(Method::GET, "/metrics").await.text();
        let series = format!("contacts_gateway_config_reloads_total{{outcome=\"{outcome}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap().parse().unwrap()
    }

    async fn reloaded(&self, outcome: &str, times: u32) {
        eventually(&format!("{times} reloads are {outcome}"), async || {
            (self.reloads(outcome).await == times).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn sighup_reads_everything_again_where_there_is_no_file_of_settings() {
    let world = World::with_vendor("", |vendor| vendor.apps.push(app(NEXT))).await;
    let files = Files::new();
    let secret = files.path("client_secret");
    let entry =
        format!("[{{ stream = {STREAM:?}, client_id = {CLIENT_ID:?}, secret_file = {secret:?} }}]");
    let url = world.vendor.url();
    let env = [
        &ports(&url)[..],
        &[("CONTACTS_GATEWAY__CREDENTIALS", &entry)],
    ]
    .concat();
    let serving = Serving::started(Program::start(&[], &env)).await;
    serving.program.signal("HUP");
    serving.reloaded("ok", 1).await;
    files.put("client_secret", "");
    serving.reloaded("failed", 1).await;
    serving.program.signal("HUP");
    serving.reloaded("failed", 2).await;
    files.put("client_secret", NEXT);
    serving.reloaded("ok", 2).await;
    assert_eq!(serving.get(&path("cl-n6-a")).await.status, StatusCode::OK);
    let log = serving.program.log();
    assert!(!log.contains("canary-secret"), "{log}");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_in_one_line_and_the_rest_is_in_use() {
    let (world, files) = (World::new().await, Files::new());
    files.settings("");
    let mut serving = following(&world, &files).await;
    let settings = "[listen]\nmax_connections = 7\nallowed_hosts = [\"other\"]\n[cache]\nmax_bytes = \"1MiB\"\n\
                    [telemetry]\nlog_format = \"text\"";
    for times in 1..=2 {
        files.settings(&format!("{settings}\n[upstream]\ntimeout = \"{times}0s\""));
        serving.reloaded("ok", times).await;
    }
    let line = serving.program.line("needs a restart").await;
    let named = "needs a restart: listen.max_connections, cache.max_bytes, telemetry.log_format\"";
    assert!(line.contains(named), "{line}");
    let refused = serving.get(&path("cl-n6-a")).await;
    refused.is_problem(421, "misdirected");
    let status = serving.operate(Method::GET, "/status").await.json();
    assert_eq!(status["cache"]["max_bytes"], 64 << 20);
    files.settings("");
    serving.reloaded("ok", 3).await;
    let log = serving.program.log();
    assert_eq!(log.matches("needs a restart").count(), 2, "{log}");
}

#[tokio::test]
async fn every_mistake_is_told_with_its_file_and_line() {
    let (world, files) = (World::new().await, Files::new());
    files.settings("");
    let mut serving = following(&world, &files).await;
    files.settings("[cache]\nfresh_for = 60\nfresh = \"1s\"\n[listen]\nhttp2 = \"no\"");
    let line = serving.program.line("nothing changes").await;
    let file = files.path("gateway.toml");
    for at in [
        ":2:1: cache.fresh_for: ",
        ":3:1: cache.fresh: ",
        ":5:1: listen.http2: ",
    ] {
        let mistake = format!("{}{at}", file.display());
        assert!(line.contains(&mistake), "{mistake} in {line}");
    }
    assert_eq!(serving.get(&path("cl-n6-a")).await.status, StatusCode::OK);
    files.settings(
        "[[credentials]]\nstream = \"*\"\nclient_id = \"cs-1\"\nsecret_file = \"/nowhere\"",
    );
    let line = serving.program.line("/nowhere").await;
    assert!(
        line.contains("credentials[0] (stream \\\"*\\\"): secret_file: /nowhere: cannot be read"),
        "{line}"
    );
}

#[tokio::test]
async fn the_level_of_the_log_changes() {
    let (world, files) = (World::new().await, Files::new());
    files.settings("");
    let mut serving = following(&world, &files).await;
    let calls = |serving: &Serving| serving.program.log().matches("called the vendor").count();
    serving.get(&path("cl-n6-a")).await;
    serving.program.line("called the vendor").await;
    files.settings("telemetry.log = \"error\"");
    serving.reloaded("ok", 1).await;
    serving.get(&path("cl-n6-b")).await;
    files.settings("telemetry.log = \"info\"");
    serving.reloaded("ok", 2).await;
    serving.get(&path("cl-n6-c")).await;
    eventually("the third is told", async || {
        (calls(&serving) == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_log_that_tells_less_takes_no_span_away() {
    let (world, files) = (World::new().await, Files::new());
    let collector = Collector::start().await;
    let url = &collector.url;
    let traced = format!("[telemetry]\notlp_endpoint = {url:?}\ntrace_ratio = 1\n");
    files.settings(&traced);
    let mut serving = following(&world, &files).await;
    serving.get(&path("cl-n6-a")).await;
    files.settings(&(traced + "log = \"error\"\n"));
    serving.reloaded("ok", 1).await;
    serving.get(&path("cl-n6-b")).await;
    serving.program.signal("TERM");
    assert_eq!(serving.program.ended().await.code, Some(0));
    let requests = collector.spans().into_iter();
    let requests = requests.filter(|span| span.kind == Kind::Server);
    assert_eq!(requests.count(), 2);
}

/// Of a user who may have no watches, as on a machine with many pods.
#[tokio::test]
async fn where_nobody_can_be_told_of_changes_that_is_said_and_they_are_looked_for() {
    const NO_WATCHES: &str = "echo 0 > /proc/sys/user/max_inotify_instances";
    let allowed = std::process::Command::new("unshare")
        .args(["-Ur", "sh", "-c", NO_WATCHES])
        .status();
    if !is_there("unshare") || !allowed.is_ok_and(|status| status.success()) {
        left_out("unshare, and namespaces of users");
        return;
    }
    let (world, files) = (World::new().await, Files::new());
    files.settings("");
    let run = format!("{NO_WATCHES}; exec \"$@\"");
    let file = files.path("gateway.toml");
    let program = [
        env!("CARGO_BIN_EXE_contacts-gateway"),
        "--config",
        file.to_str().unwrap(),
    ];
    let args = [&["-Ur", "sh", "-c", &run, "gateway"][..], &program].concat();
    let url = world.vendor.url();
    let mut serving = Serving::started(Program::of("unshare", &args, &ports(&url))).await;
    serving
        .program
        .line("changes of files are not told here")
        .await;
    files.settings("listen.allowed_hosts = [\"other\"]");
    serving.reloaded("ok", 1).await;
    serving
        .get(&path("cl-n6-a"))
        .await
        .is_problem(421, "misdirected");
    files.settings("");
    serving.program.signal("HUP");
    serving.reloaded("ok", 2).await;
    assert_eq!(serving.get(&path("cl-n6-a")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn settings_that_can_be_read_only_once_stay_and_secrets_are_read_again() {
    let world = World::with_vendor("", |vendor| vendor.apps.push(app(NEXT))).await;
    let files = Files::new();
    files.settings("cache.fresh_for = \"7s\"");
    let file = files.path("gateway.toml");
    // In place of the shell, so that it ends with the test.
    let run = format!("exec \"$@\" --config <(cat {file:?})");
    let args = ["-c", &run, "bash", env!("CARGO_BIN_EXE_contacts-gateway")];
    let url = world.vendor.url();
    let serving = Serving::started(Program::of("bash", &args, &ports(&url))).await;
    files.put("client_secret", NEXT);
    serving.reloaded("ok", 1).await;
    serving.get(&path("cl-n6-a")).await;
    let hit = serving.get(&path("cl-n6-a")).await;
    assert!(hit.cache_status().starts_with("hit; ttl="), "{hit:?}");
}
