//! What is to be traced and where it goes: our settings, and OpenTelemetry's own variables beneath them.
//!
//! Off is off: `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` hold whatever else is said. Otherwise
//! `telemetry.otlp_endpoint` goes before `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, that before `OTEL_EXPORTER_OTLP_ENDPOINT`; and
//! `telemetry.trace_ratio`, where somebody wrote it, before `OTEL_TRACES_SAMPLER`. What is wrong with a variable of
//! OpenTelemetry's costs that variable and a warning, as its specification wants.
//!
//! The rest of them (`…_HEADERS`, `OTEL_BSP_*`) the SDK reads itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::super::Settings;
use super::context::Parent;
use super::resource::{Attributes, attributes};

/// A collector's URL, to which `/v1/traces` is added; or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Endpoint(#[schemars(with = "String")] Option<Uri>);

/// A part of all: 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema)]
#[schemars(transparent)]
pub struct Ratio(#[schemars(range(min = 0.0, max = 1.0))] f64);

/// What OpenTelemetry's own variables say.
#[derive(Clone, Debug, Default)]
pub struct OpenTelemetry {
    off: bool,
    endpoint: Option<Uri>,
    sampler: Option<Sampler>,
    timeout: Option<Duration>,
    queue: Option<usize>,
    attributes: Attributes,
    /// What is wrong with them.
    pub warnings: Vec<String>,
}

/// How spans leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) endpoint: Uri,
    pub(super) timeout: Duration,
    pub(super) queue: usize,
    /// What spans are of.
    pub(super) attributes: Attributes,
}

/// Which requests are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sampler {
    /// Of 2⁶³ equally likely numbers, those below this are taken.
    below: u64,
    /// Whether a caller's own decision goes before.
    parent_based: bool,
}

impl Settings {
    /// The way out for spans, if there is to be one.
    pub(super) fn traces(&self) -> Option<Plan> {
        let Endpoint(own) = &self.otlp_endpoint;
        let told = &self.open_telemetry;
        let own = own.as_ref().map(|base| below(base, "v1/traces"));
        let endpoint = own
            .or_else(|| told.endpoint.clone())
            .filter(|_| !told.off)?;
        Some(Plan {
            endpoint,
            timeout: told.timeout.unwrap_or(Duration::from_secs(10)),
            queue: told.queue.unwrap_or(2048),
            attributes: told.attributes.clone(),
        })
    }

    pub(super) fn sampler(&self) -> Sampler {
        let own = Sampler::of(self.trace_ratio.0, true);
        self.open_telemetry.sampler.unwrap_or(own)
    }
}

impl OpenTelemetry {
    /// Reads them. `sampled`: whether our settings say which requests are followed.
    pub fn read<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>, sampled: bool) -> Self {
        // An empty one is the same as none.
        let set = variables.filter(|(name, value)| name.starts_with("OTEL_") && !value.is_empty());
        let mut read = Reader {
            set: set.collect(),
            warnings: Vec::new(),
        };
        let exporter = read.of(&["OTEL_TRACES_EXPORTER"], "otlp or none", exporter);
        let disabled = |text: &str| Some(text.eq_ignore_ascii_case("true"));
        let disabled = read.of(&["OTEL_SDK_DISABLED"], "true or false", disabled);
        let _ = read.of(
            &[
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                "OTEL_EXPORTER_OTLP_PROTOCOL",
            ],
            "http/protobuf, which is what is spoken",
            |text| (text == "http/protobuf").then_some(()),
        );
        let url = "an http or https URL";
        let exact = read.of(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], url, |text| {
            url_of(text).ok()
        });
        let base = |text: &str| url_of(text).ok().map(|base| below(&base, "v1/traces"));
        let base = read.of(&["OTEL_EXPORTER_OTLP_ENDPOINT"], url, base);
        // Asked for in so many words, it goes where OpenTelemetry's specification says.
        let asked = exporter == Some(true);
        let usual = asked.then(|| Uri::from_static("http://localhost:4318/v1/traces"));
        let millis =
            |text: &str| Some(Duration::from_millis(text.parse().ok().filter(|n| *n > 0)?));
        let timeout = [
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        ];
        let timeout = read.of(&timeout, "milliseconds", millis);
        let spans = |text: &str| text.parse().ok().filter(|n| *n > 0);
        let queue = read.of(&["OTEL_BSP_MAX_QUEUE_SIZE"], "a number of spans", spans);
        let pairs = "a list such as \"team=a,tier=1\", percent-encoded";
        let of_all = read.of(&["OTEL_RESOURCE_ATTRIBUTES"], pairs, attributes);
        let mut attributes = of_all.unwrap_or_default();
        let name = read.of(&["OTEL_SERVICE_NAME"], "a name", |text| Some(text.into()));
        // Last, so that it goes before the same of the attributes.
        attributes.extend(name.map(|name| ("service.name".into(), name)));
        let sampler = if sampled { None } else { read.sampler() };
        Self {
            off: exporter == Some(false) || disabled == Some(true),
            endpoint: exact.or(base).or(usual),
            sampler,
            timeout,
            queue,
            attributes,
            warnings: read.warnings,
        }
    }
}

struct Reader<'a> {
    set: BTreeMap<&'a str, &'a str>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// What the first of these variables says that is set. A value is not repeated: there could be a password in it.
    fn of<T>(
        &mut self,
        names: &[&str],
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (name, text) = names.iter().find_map(|name| self.set.get_key_value(name))?;
        let value = parse(text.trim());
        if value.is_none() {
            let warning = format!("environment variable {name}: passed over: expected {wanted}");
            self.warnings.push(warning);
        }
        value
    }

    fn sampler(&mut self) -> Option<Sampler> {
        let name = self.of(&["OTEL_TRACES_SAMPLER"], SAMPLERS, |text| {
            let (parent_based, root) = match text.strip_prefix("parentbased_") {
                Some(root) => (true, root),
                None => (false, text),
            };
            let ratio = match root {
                "always_on" => Some(1.0),
                "always_off" => Some(0.0),
                "traceidratio" => None,
                _ => return None,
            };
            Some((parent_based, ratio))
        });
        let (parent_based, ratio) = name?;
        let ratio = ratio.or_else(|| {
            let ratio = |text: &str| text.parse().ok().and_then(|n| Ratio::of(n).ok());
            self.of(&["OTEL_TRACES_SAMPLER_ARG"], A_RATIO, ratio)
                .map(|Ratio(ratio)| ratio)
        });
        // Without an argument it is all of them, says the specification.
        Some(Sampler::of(ratio.unwrap_or(1.0), parent_based))
    }
}

/// Whether spans are to go by OTLP; nothing is said by what is not known here.
fn exporter(text: &str) -> Option<bool> {
    let mut names = text.split(',').map(str::trim);
    match text {
        "none" => Some(false),
        _ => names.any(|name| name == "otlp").then_some(true),
    }
}

impl Sampler {
    fn of(ratio: f64, parent_based: bool) -> Self {
        Self {
            below: (ratio * MANY as f64) as u64,
            parent_based,
        }
    }

    /// Whether a request is followed.
    pub(super) fn takes(self, parent: Option<&Parent>) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.followed,
            // By the trace's id, so that everybody with the same ratio takes the same traces.
            Some(parent) => parent.low() >> 1 < self.below,
            None => self.below > 0 && dice() >> 1 < self.below,
        }
    }
}

/// A number that is good enough to choose by: splitmix64, from a start that differs in each thread.
fn dice() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self(None)),
            text => url_of(text).map(|url| Self(Some(url))),
        }
    }
}

/// A reason never repeats the text: there could be a password in it.
fn url_of(text: &str) -> Result<Uri, String> {
    let refused = |why: &str| Err(format!("{why}: write {A_COLLECTOR}"));
    let Ok(url) = text.parse::<Uri>() else {
        return refused("is no URL");
    };
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return refused("the scheme must be http or https");
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return refused("no user and no password may stand in it");
    }
    if url.query().is_some() || text.contains('#') {
        return refused("no query and no fragment may stand in it");
    }
    Ok(url)
}

/// The URL of something below another.
fn below(base: &Uri, path: &str) -> Uri {
    let base = base.to_string();
    let joined = format!("{}/{path}", base.trim_end_matches('/'));
    // A URL and a plain path make a URL.
    joined.parse().unwrap_or_default()
}

impl Ratio {
    fn of(ratio: f64) -> Result<Self, String> {
        let within = (0.0..=1.0).contains(&ratio);
        within
            .then_some(Self(ratio))
            .ok_or_else(|| format!("{ratio} cannot be used: expected {A_RATIO}"))
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::of(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|url| url.fmt(f))
    }
}

const MANY: u64 = 1 << 63;
const A_RATIO: &str = "a number from 0 to 1";
const A_COLLECTOR: &str = "a collector's URL, such as \"http://127.0.0.1:4318\", or nothing";
const SAMPLERS: &str = "always_on, always_off or traceidratio, perhaps with parentbased_ before it";

#[cfg(test)]
mod tests;
