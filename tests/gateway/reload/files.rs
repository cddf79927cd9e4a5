//! How files change, and what becomes of those that cannot be used.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{self, App, Vendor};
use http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::support::living::{Files, Living, Mounted, whole};
use crate::support::{Folder, Running, STREAM, World, eventually, path};

const SHORT: &str = "cache.fresh_for = \"10s\"";
const LONG: &str = "cache.fresh_for = \"20s\"";

/// That a new page is fresh for so long.
async fn is_fresh_for(living: &Living, seconds: u32, list: &str) {
    living.world.get(list).await;
    let hit = living.world.get(list).await;
    assert_eq!(hit.cache_status(), format!("hit; ttl={seconds}"));
}

#[tokio::test]
async fn a_file_may_be_written_over_replaced_removed_and_made_again() {
    let living = Living::with("").await;
    let text = |settings| whole(settings, &living.files.path("client_secret"));
    let file = living.files.path("gateway.toml");
    living
        .changing(|_| fs::write(&file, text(SHORT)).unwrap())
        .await;
    is_fresh_for(&living, 10, "cl-n6-a").await;
    living.settings(LONG).await;
    is_fresh_for(&living, 20, "cl-n6-b").await;
    living.failing(|_| fs::remove_file(&file).unwrap()).await;
    is_fresh_for(&living, 20, "cl-n6-c").await;
    living
        .changing(|_| fs::write(&file, text(SHORT)).unwrap())
        .await;
    is_fresh_for(&living, 10, "cl-n6-d").await;
}

#[tokio::test]
async fn a_folder_may_be_removed_and_made_again_with_what_is_in_it() {
    let living = Living::with("").await;
    let text = |settings| whole(settings, &living.files.path("client_secret"));
    let (folder, away) = (living.files.path("inner"), living.files.path("away"));
    fs::create_dir(&folder).unwrap();
    let file = folder.join("gateway.toml");
    fs::write(&file, text(SHORT)).unwrap();
    let outer = living.files.path("gateway.toml");
    living
        .changing(|_| {
            fs::remove_file(&outer).unwrap();
            std::os::unix::fs::symlink(&file, &outer).unwrap();
        })
        .await;
    is_fresh_for(&living, 10, "cl-n6-a").await;
    for (n, (settings, seconds)) in [(LONG, 20), (SHORT, 10)].into_iter().enumerate() {
        living
            .failing(|_| fs::remove_dir_all(&folder).unwrap())
            .await;
        living
            .changing(|_| {
                fs::create_dir(&folder).unwrap();
                fs::write(&file, text(settings)).unwrap();
            })
            .await;
        is_fresh_for(&living, seconds, &format!("cl-n6-{n}")).await;
    }
    living
        .failing(|_| fs::rename(&folder, &away).unwrap())
        .await;
    living
        .changing(|_| fs::rename(&away, &folder).unwrap())
        .await;
    is_fresh_for(&living, 10, "cl-n6-z").await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_so_until_a_good_one_comes() {
    let living = Living::with(SHORT).await;
    let before = living.status().await;
    living
        .failing(|files| files.settings("cache.fresh_for = \"soon\"\nlisten.http2 = 1"))
        .await;
    let status = living.status().await;
    let told = status["last_reload"].as_str().unwrap();
    assert!(told.starts_with("failed: "), "{told}");
    assert!(told.contains("gateway.toml:1:"), "{told}");
    assert!(told.ends_with("(and 1 more, see the log)"), "{told}");
    assert_eq!(status["hash"], before["hash"]);
    let gateway = &living.world.gateway;
    let good = async || {
        gateway
            .metric("contacts_gateway_config_last_reload_successful")
            .await
    };
    let since = async || {
        let series = "contacts_gateway_config_last_reload_success_timestamp_seconds";
        gateway.metric(series).await
    };
    assert_eq!(good().await, 0.0);
    let began = since().await;
    is_fresh_for(&living, 10, "cl-n6-a").await;
    living.world.hand.forward(std::time::Duration::from_secs(5));
    // What was good before is good again.
    living.settings(SHORT).await;
    assert_eq!((good().await, since().await), (1.0, began + 5.0));
    let status = living.status().await;
    assert_eq!(status["last_reload"], "ok");
    assert_eq!(status["hash"], before["hash"]);
    assert_ne!(status["loaded_at"], before["loaded_at"]);
}

#[tokio::test]
async fn a_file_that_is_half_written_is_read_again_when_it_is_whole() {
    let living = Living::with(SHORT).await;
    let file = living.files.path("gateway.toml");
    let text = whole(LONG, &living.files.path("client_secret"));
    let (half, rest) = text.split_at(text.find("client_id").unwrap() + 12);
    let write = |text: &str, over: bool| {
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(over)
            .append(!over)
            .open(&file);
        file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    };
    // Emptied is as bad as half.
    living.failing(|_| fs::write(&file, "").unwrap()).await;
    living.failing(|_| write(half, false)).await;
    is_fresh_for(&living, 10, "cl-n6-a").await;
    living.changing(|_| write(rest, false)).await;
    is_fresh_for(&living, 20, "cl-n6-b").await;
    living.failing(|files| files.put("client_secret", "")).await;
    assert_eq!(living.world.get("cl-n6-c").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_says_nothing_new_is_no_reload() {
    let living = Living::with(SHORT).await;
    let before = living.status().await;
    living.files.settings(SHORT);
    living.files.put("a neighbour", "of theirs");
    living.files.settings(&format!("# As before.\n{SHORT}"));
    living.settings(LONG).await;
    assert_eq!(living.reloads("ok").await, 1.0);
    assert_ne!(living.status().await["hash"], before["hash"]);
}

#[tokio::test]
async fn a_request_goes_by_the_old_settings_or_by_the_new_ones_and_never_by_a_mix() {
    let settings = |tag: &str| {
        format!("[upstream]\nextra_query = [\"{tag}\"]\nforward_headers = [\"x-{tag}\"]")
    };
    let many = |vendor: &mut vendor::Settings, _: &Files| vendor.limit.calls = 1_000_000;
    let living = Living::with_vendor(&settings("a"), many).await;
    let done = CancellationToken::new();
    let load = |tag: &'static str| {
        let (gateway, done) = (&living.world.gateway, done.clone());
        async move {
            let mut statuses = [0, 0];
            for n in 0.. {
                if done.is_cancelled() {
                    break;
                }
                let path = format!("{}&{tag}=1", path(&format!("cl-n1-{n}")));
                let both = [("x-a", "1"), ("x-b", "1")];
                let status = gateway.send(Method::GET, &path, &both).await.status;
                statuses[usize::from(status != StatusCode::OK)] += 1;
            }
            statuses
        }
    };
    let changes = async {
        for n in 0..20 {
            living.settings(&settings(["b", "a"][n % 2])).await;
        }
        done.cancel();
    };
    let (a, b, ()) = tokio::join!(load("a"), load("b"), changes);
    assert!(a.iter().chain(&b).all(|n| *n > 0), "{a:?}, {b:?}");
    for seen in living.world.vendor.requests() {
        let sent = ["a", "b"].map(|tag| seen.headers.contains_key(format!("x-{tag}")));
        let asked = ["a", "b"].map(|tag| seen.target.ends_with(&format!("&{tag}=1")));
        assert_eq!(sent, asked, "{seen:?}");
    }
}

/// The settings say which secret is meant, so that one without the other would be refused by the vendor.
#[tokio::test]
async fn no_request_fails_while_a_mounted_folder_is_turned_twenty_times() {
    let folder = Folder::new();
    let mount = folder.path().join("mounted");
    let files = |n: usize| {
        let secret = mount.join("secret");
        let settings = format!(
            "cache.fresh_for = \"{}s\"\ncache.usable_for = \"100s\"\nallowance.calls = 100000\n[upstream]\nforward_headers = [\"x-{n}\"]\n\
             extra_query = [\"q{n}\", \"q\"]\n[[credentials]]\nstream = {STREAM:?}\nclient_id = \"cs-{n}\"\nsecret_file = {secret:?}\n",
            10 + n,
        );
        [
            ("gateway.toml", settings),
            ("secret", format!("0123456789-0123456789-0123456789-{n}")),
        ]
    };
    let mut mounted = Mounted::new(mount.clone(), &files(0));
    let (clock, hand) = Clock::by_hand();
    let app = |n: usize| {
        let [_, (_, secret)] = files(n);
        App::hs256(
            STREAM.parse().unwrap(),
            &format!("cs-{n}"),
            secret.as_bytes(),
        )
    };
    let vendor = Vendor::start(vendor::Settings {
        apps: (0..=20).map(app).collect(),
        limit: vendor::Limit {
            calls: 1_000_000,
            ..vendor::Limit::default()
        },
        clock: clock.clone(),
        ..vendor::Settings::default()
    });
    let vendor = vendor.unwrap();
    let file = mounted.path("gateway.toml");
    let gateway = Running::following(&vendor.url(), &file, clock).await;
    let world = World {
        vendor,
        gateway,
        hand,
    };
    let done = CancellationToken::new();
    let load = |kind: &'static str| {
        let (world, done) = (&world, done.clone());
        async move {
            let mut asked = 0;
            while !done.is_cancelled() {
                let list = match kind {
                    "hits" => "cl-n6-hit".to_owned(),
                    _ => format!("cl-n1-{kind}{asked}"),
                };
                let answer = world.gateway.get(&format!("{}&q=1", path(&list))).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                asked += 1;
            }
            asked
        }
    };
    let turns = async {
        for n in 1..=20 {
            let series = "contacts_gateway_config_reloads_total{outcome=\"ok\"}";
            let before = world.gateway.metric(series).await;
            mounted.turn(&files(n));
            eventually("it is in use", async || {
                (world.gateway.metric(series).await > before).then_some(())
            })
            .await;
        }
        done.cancel();
    };
    let (hits, a, b, ()) = tokio::join!(load("hits"), load("a"), load("b"), turns);
    assert!(hits > 20 && a > 20 && b > 20, "{hits}, {a}, {b}");
    let failed = "contacts_gateway_config_reloads_total{outcome=\"failed\"}";
    assert_eq!(world.gateway.metric(failed).await, 0.0);
    let ok = "contacts_gateway_config_reloads_total{outcome=\"ok\"}";
    assert_eq!(world.gateway.metric(ok).await, 20.0);
    // Not one call was made with the one's id and the other's secret, or it would have been repeated.
    let minted = "contacts_gateway_upstream_calls_total{outcome=\"ok\",reason=\"miss\"}";
    assert_eq!(
        world.gateway.metric(minted).await,
        world.vendor.calls() as f64
    );
}
