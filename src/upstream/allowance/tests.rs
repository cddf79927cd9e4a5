//! What the allowance promises: figures by table, fairness in virtual time, and all of it under any sequence of events.

mod fairness;
mod learning;
mod machine;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::book::{Asker, Launch, Wishes};
use super::limit::Call;
use super::{Book, Settings};
use crate::clock::Clock;

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(super) fn settings() -> Settings {
    Settings {
        calls: NonZeroU32::new(59).unwrap(),
        window: seconds(61.0),
        reserve: 1,
        queue_deadline: seconds(5.0),
        pause: seconds(60.0),
        floor: NonZeroU32::new(20).unwrap(),
        hourly: 0,
        fleet_size: NonZeroU32::MIN,
    }
}

fn a_moment() -> Instant {
    Clock::by_hand().0.now() + Duration::from_secs(100_000)
}

fn asker(name: &str, share: u32) -> Asker {
    Asker {
        caller: name.into(),
        share,
        wishes: Wishes::default(),
    }
}

/// A call that went.
#[derive(Clone, Copy, Debug)]
struct Sent {
    key: u32,
    call: Call,
    id: u64,
}

/// Where launches note what went.
#[derive(Clone, Default)]
struct Sky(Arc<Mutex<Vec<Sent>>>);

impl Sky {
    fn launch(&self, key: u32) -> Launch<u64> {
        let sky = self.0.clone();
        Box::new(move |go, id, _| {
            let call = go.call()?;
            sky.lock().unwrap().push(Sent { key, call, id });
            Some(id)
        })
    }

    fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn book(settings: &Settings, now: Instant) -> Book<u32, u64> {
    Book::new(settings, seconds(3_600.0), now)
}
