//! What of requests goes to a collector, by OTLP over HTTP.

use std::time::Duration;

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::Behaviour;

use crate::support::collector::{Collector, Kind, Span};
use crate::support::{Answer, World};

mod collectors;
mod context;
mod tree;
mod variables;

/// A gateway whose requests are all traced, and the collector.
struct Traced {
    world: World,
    collector: Collector,
}

impl Traced {
    async fn new() -> Self {
        Self::with("").await
    }

    /// With these settings (TOML) besides.
    async fn with(settings: &str) -> Self {
        Self::at(1.0, settings).await
    }

    /// With this ratio.
    async fn at(ratio: f64, settings: &str) -> Self {
        let collector = Collector::start().await;
        let telemetry = exporting(&collector.url, ratio);
        let world = World::with(&(telemetry + settings)).await;
        Self { world, collector }
    }

    /// Asks for a list, as somebody does who is in a trace.
    async fn get_in(&self, list: &str, traceparent: &str) -> Answer {
        let fields = [("traceparent", traceparent)];
        self.world.get_with(list, &fields).await
    }

    /// Lets it leave, and tells what it handed over by then.
    async fn spans(mut self) -> Spans {
        self.world.is_at_rest(true).await;
        self.world.gateway.leaves().await;
        Spans(self.collector.spans())
    }
}

/// All that came.
#[derive(Debug)]
struct Spans(Vec<Span>);

impl Spans {
    /// Those of a name that begins so, in the order they ended.
    fn named(&self, name: &str) -> Vec<&Span> {
        let named = self.0.iter().filter(|span| span.name.starts_with(name));
        named.collect()
    }

    /// The only one.
    #[track_caller]
    fn the(&self, name: &str) -> &Span {
        let found = self.named(name);
        assert_eq!(found.len(), 1, "{name} in {self:#?}");
        found[0]
    }

    /// The only one of a kind.
    #[track_caller]
    fn of(&self, kind: Kind) -> &Span {
        let found: Vec<_> = self.0.iter().filter(|span| span.kind == kind).collect();
        assert_eq!(found.len(), 1, "{kind:?} in {self:#?}");
        found[0]
    }

    /// Those of kind SERVER.
    fn requests(&self) -> Vec<&Span> {
        let server = |span: &&Span| span.kind == Kind::Server;
        self.0.iter().filter(server).collect()
    }
}

fn exporting(url: &str, ratio: f64) -> String {
    format!("[telemetry]\notlp_endpoint = {url:?}\ntrace_ratio = {ratio}\n")
}

/// A vendor that takes its time, by the machine's clock.
fn slow() -> Behaviour {
    Behaviour {
        delay: Duration::from_millis(200),
        ..Behaviour::default()
    }
}

/// A vendor that goes by the machine's clock, as the real program does, and has calls to spare.
async fn vendor() -> World {
    World::with_vendor("", |vendor| {
        vendor.clock = Clock::system();
        vendor.limit.calls = 1000;
    })
    .await
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const FOLLOWED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_FOLLOWED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const ROUTE: &str =
    "/agentassist/api/v1/public/{streamId}/campaign/contactList/{contactListId}/getAllContacts";
