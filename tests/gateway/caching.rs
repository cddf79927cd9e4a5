//! How long pages are kept, and for whom they do at which age.

mod ages;
mod memory;
mod old;
mod revalidation;
mod table;
mod unkept;
mod variants;

use std::time::Duration;

use contacts_gateway::vendor::Behaviour;
use http::{HeaderValue, StatusCode};

use crate::support::{World, answering};

/// The default `cache.fresh_for`, `usable_for`, `stale_if_error` and `negative_for`.
const FRESH: u64 = 60;
const USABLE: u64 = 3_600;
const IF_ERROR: u64 = 86_400;
const NEGATIVE: u64 = 10;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn failing() -> Behaviour {
    answering(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A vendor whose page says this.
fn telling(text: &str) -> Behaviour {
    Behaviour {
        body: Some(format!("{{\"status\":\"success\",\"message\":\"{text}\"}}")),
        ..Behaviour::default()
    }
}

/// The same vendor, with a field more.
fn with(mut behaviour: Behaviour, name: &'static str, value: &str) -> Behaviour {
    let value = HeaderValue::from_str(value).unwrap();
    behaviour.headers.append(name, value);
    behaviour
}

/// What is served without a call, or nothing.
async fn kept(world: &World, list: &str) -> Option<String> {
    let only = [("cache-control", "only-if-cached, max-stale")];
    let answer = world.get_with(list, &only).await;
    (answer.status != StatusCode::GATEWAY_TIMEOUT).then(|| answer.text())
}
