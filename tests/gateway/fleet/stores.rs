//! The store may be one server, a cluster, or whatever the sentinels say; encrypted, and with a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::generate_simple_self_signed;

use super::forgets::purge;
use super::pages::stored;
use super::*;
use crate::support::Folder;
use crate::support::redis::{Cluster, Watched, shared};

#[tokio::test]
async fn replicas_share_by_a_cluster_while_its_slots_move() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let replicas = Replicas::start(2, &shared(&cluster.url())).await;
    replicas.see(2).await;
    let one_of_many = async |round: usize| {
        for n in 0..20 {
            let list = format!("cl-n6-{round}-{n}");
            let first = replicas.get(0, &list).await;
            assert_eq!(first.status, StatusCode::OK, "{}", first.text());
            eventually("the other has it", async || {
                (call_of(&replicas.get(1, &list).await) == call_of(&first)).then_some(())
            })
            .await;
        }
    };
    one_of_many(0).await;
    assert_eq!(replicas.vendor.calls(), 20);
    // Everything of an account is in one slot.
    let keys: Vec<_> = cluster.nodes.iter().flat_map(Redis::keys).collect();
    let account = keys.iter().find(|key| key.ends_with(":calls")).unwrap();
    let (home, slot) = cluster.home(account);
    cluster.move_slot(&slot, home, (home + 1) % 3);
    one_of_many(1).await;
    assert_eq!(replicas.vendor.calls(), 40, "nothing is fetched twice");
    let before = call_of(&replicas.get(1, "cl-n6-1-3").await);
    assert_eq!(purge(&replicas.all[0], "cl-n6-1-3").await, 1);
    eventually("the other forgets", async || {
        (call_of(&replicas.get(1, "cl-n6-1-3").await) > before).then_some(())
    })
    .await;
    assert!(
        replicas
            .all
            .iter()
            .all(|replica| replica.parts.fleet.standing().up)
    );
}

#[tokio::test]
async fn an_account_whose_node_alone_has_died_gets_each_replicas_part() {
    // By the prefix the account is at a node that is not the fleet's.
    for prefix in ["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8"] {
        let Some(mut cluster) = Cluster::start() else {
            return;
        };
        for node in &cluster.nodes {
            node.cli(&["config", "set", "cluster-require-full-coverage", "no"]);
        }
        let settings = shared(&cluster.url()) + &format!("prefix = {prefix:?}\n");
        let settings = settings.replace("\"2s\"", "\"200ms\"")
            + "[allowance]\nwindow = \"2s\"\nqueue_deadline = \"14s\"\n";
        let replicas = Replicas::before(2, &settings, |vendor| vendor.limit.calls = 1_000).await;
        replicas.see(2).await;
        replicas.get(0, "cl-n6-a").await;
        let at = |what: &str| {
            let has = |node: &Redis| node.keys().iter().any(|key| key.contains(what));
            cluster.nodes.iter().position(has).unwrap()
        };
        let (fleet, account) = (at("{fleet}:seats"), at(":calls"));
        if fleet == account {
            continue;
        }
        cluster.nodes[account].kill();
        for replica in 0..2 {
            // The first before its deadline, the second then at once.
            let answer = replicas.get(replica, "cl-n6-b").await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        cluster.nodes[account].start_again();
        replicas.see(2).await;
        return;
    }
    panic!("the account is always at the fleet's node");
}

#[tokio::test]
async fn replicas_follow_the_primary_that_the_sentinels_name() {
    let Some(mut watched) = Watched::start() else {
        return;
    };
    // A window that is over before a caller's patience is: one that is alone does not know what the other made of it.
    let settings = shared(&watched.url())
        + "[allowance]\ncalls = 3000\nwindow = \"2s\"\nqueue_deadline = \"12s\"\n";
    let replicas = Replicas::start(2, &settings).await;
    replicas.see(2).await;
    let first = replicas.get(0, "cl-n6-a").await;
    stored(&watched.servers[1], 1).await;
    watched.servers[0].kill();
    let alone = replicas.all.iter().map(async |replica| {
        eventually("it is missed", async || {
            (!replica.parts.fleet.standing().up).then_some(())
        })
        .await;
        let alone = replica.get(&path("cl-n6-meanwhile")).await;
        assert_eq!(alone.status, StatusCode::OK, "{}", alone.text());
    });
    join_all(alone).await;
    replicas.see(2).await;
    assert_eq!(
        call_of(&replicas.get(1, "cl-n6-a").await),
        call_of(&first),
        "the replica had it"
    );
    let second = replicas.get(0, "cl-n6-b").await;
    assert_eq!(call_of(&replicas.get(1, "cl-n6-b").await), call_of(&second));
}

#[tokio::test]
async fn the_way_to_the_store_is_encrypted_and_asks_for_a_password() {
    let folder = Folder::new();
    let own = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = folder.put("certificate.pem", &pem("CERTIFICATE", own.cert.der()));
    let key = folder.put(
        "key.pem",
        &pem("PRIVATE KEY", &own.signing_key.serialize_der()),
    );
    let port = crate::support::redis::free_port().to_string();
    let Some(redis) = Redis::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-auth-clients",
        "no",
    ]) else {
        return;
    };
    // No more than operators are told to allow.
    let user = include_str!("../../../README.md").lines();
    let mut user = user.filter(|line| line.trim().starts_with("ACL SETUSER "));
    let user = user.next().unwrap().replace("PASSWORD", "canary-password");
    let user: Vec<_> = user.split_whitespace().collect();
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fleet/scripts");
    for script in std::fs::read_dir(scripts).unwrap() {
        let script = std::fs::read_to_string(script.unwrap().path()).unwrap();
        for call in script.split("redis.call('").skip(1) {
            let command = call.split('\'').next().unwrap().to_lowercase();
            assert!(user.contains(&&*format!("+{command}")), "{command}");
        }
    }
    redis.cli(&user);
    redis.cli(&["acl", "setuser", "default", "off"]);
    let url = format!("rediss://127.0.0.1:{port}");
    let password = folder.put("password", "canary-password\n");
    let with = |password: &std::path::Path, ca: &std::path::Path| {
        shared(&url)
            + &format!("username = \"gateway\"\npassword_file = {password:?}\nca_file = {ca:?}\n")
    };
    let mut replicas = Replicas::start(2, &with(&password, &certificate)).await;
    replicas.see(2).await;
    let first = replicas.get(0, "cl-n6-a").await;
    eventually("the other has it", async || {
        (call_of(&replicas.get(1, "cl-n6-a").await) == call_of(&first)).then_some(())
    })
    .await;
    let shown = format!("{:?}", replicas.all[0].parts.fleet);
    assert!(!shown.contains("canary"), "{shown}");
    // Nobody is let in by another password, and nobody trusts another certificate.
    let wrong = folder.put("wrong", "wrong");
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = folder.put("other.pem", &pem("CERTIFICATE", other.cert.der()));
    for settings in [with(&wrong, &certificate), with(&password, &other)] {
        let refused = replicas.add(&settings).await;
        assert!(!refused.parts.fleet.standing().up);
        assert_eq!(refused.get(&path("cl-n6-b")).await.status, StatusCode::OK);
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {what}-----\n{}\n-----END {what}-----\n",
        STANDARD.encode(der)
    )
}
