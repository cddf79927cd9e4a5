//! Many replicas act as one gateway, through a real Redis; and each goes on alone while there is none.

use std::time::Duration;

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{self, App, Vendor};
use futures_util::future::join_all;
use http::{Method, StatusCode};

use crate::support::redis::Redis;
use crate::support::{ACCOUNT, Answer, CLIENT_ID, Running, SECRET, STREAM, eventually, path};

mod away;
mod back;
mod calls;
mod costs;
mod forgets;
mod late;
mod lone;
mod pages;
mod pauses;
mod protocol;
mod quiet;
mod stores;

/// Replicas before one vendor.
struct Replicas {
    vendor: Vendor,
    all: Vec<Running>,
}

impl Replicas {
    /// So many, with these settings.
    async fn start(number: usize, settings: &str) -> Self {
        Self::before(number, settings, |_| {}).await
    }

    /// Before a vendor that is set up differently.
    async fn before(
        number: usize,
        settings: &str,
        change: impl FnOnce(&mut vendor::Settings),
    ) -> Self {
        let app = App::hs256(STREAM.parse().unwrap(), CLIENT_ID, SECRET.as_bytes());
        let mut own = vendor::Settings {
            apps: vec![app],
            numbered: true,
            ..vendor::Settings::default()
        };
        change(&mut own);
        let vendor = Vendor::start(own).unwrap();
        let mut replicas = Self {
            vendor,
            all: Vec::new(),
        };
        for _ in 0..number {
            replicas.add(settings).await;
        }
        replicas
    }

    async fn add(&mut self, settings: &str) -> &Running {
        let another = Running::before(&self.vendor.url(), settings, Clock::system()).await;
        self.all.push(another);
        self.all.last().unwrap()
    }

    /// Asks one of them for a list.
    async fn get(&self, replica: usize, list: &str) -> Answer {
        self.all[replica].get(&path(list)).await
    }

    /// Waits until for each of them the store is there, or is not.
    async fn are(&self, up: &[bool]) {
        for (replica, up) in self.all.iter().zip(up) {
            eventually("the store is there or away", async || {
                (replica.parts.fleet.standing().up == *up).then_some(())
            })
            .await;
        }
    }

    /// Waits until each sees so many, itself included.
    async fn see(&self, number: u32) {
        for replica in &self.all {
            eventually(&format!("{number} replicas see each other"), async || {
                let standing = replica.parts.fleet.standing();
                (standing.up && standing.replicas == number).then_some(())
            })
            .await;
        }
    }
}

/// Which call of the vendor's brought an answer.
fn call_of(answer: &Answer) -> u64 {
    let text = answer.text();
    let (_, rest) = text
        .split_once("(call ")
        .expect("the vendor numbers its answers");
    rest.split_once(')').unwrap().0.parse().unwrap()
}
