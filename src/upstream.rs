//! A page's key in, a page out: signed, sent and judged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use self::allowance::Permit;
use self::credentials::By;
use crate::contacts::{Forwarded, PageKey, SharedPage};
use crate::setting;

pub mod allowance;
pub mod client;
pub mod credentials;
pub mod exchange;
pub mod judge;
mod jwe;
pub mod pem;
pub mod redial;
pub mod refusal;
pub mod rotate;
pub mod sign;
#[cfg(test)]
mod test_keys;
pub mod token;
mod whole;

/// `[upstream]`: the vendor, and what reaches it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The vendor's environment, for example `https://platform.kore.ai`: scheme, host, and port where it is not the usual one.
    pub url: setting::Origin,
    /// Certificates (PEM) to trust beside the system's; empty: none.
    pub ca_file: PathBuf,
    /// How long a connection, TLS included, may take.
    #[serde(with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub connect_timeout: Duration,
    /// How long one call may take, from its start to the last byte of the answer.
    #[serde(with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub timeout: Duration,
    /// The largest body that is accepted of the vendor, for example "16MiB".
    #[serde(with = "setting::size")]
    #[schemars(with = "setting::SizeText")]
    pub max_body: u64,
    /// Header fields of the caller's that are sent on to the vendor. A request with one of more than 1,024 bytes, in all its
    /// lines, is refused (8,192 of `Authorization`).
    pub forward_headers: Vec<setting::ForwardedHeader>,
    /// Query parameters, beside accountId, skip and limit, that callers may send: part of the key and sent on.
    pub extra_query: Vec<setting::ExtraParameter>,
    /// For upstreams of another kind than the vendor: any answer is passed on as it is, whatever its status and body,
    /// and kept by RFC 9111 alone. Then `Authorization` may be among `forward_headers`.
    pub accept_any_body: bool,
    /// Whether calls carry `traceparent` and `tracestate`, and with them what callers said in theirs. Never `baggage`.
    pub propagate_trace: bool,
}

/// What the cache wants of the vendor.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Which page.
    pub key: PageKey,
    /// What of the caller's header goes with the call.
    pub forwarded: Forwarded,
    /// Why the call is made.
    pub reason: Reason,
    /// The page that is in memory and would not do. The vendor may say that it still holds.
    pub known: Option<SharedPage>,
    /// With which secret.
    pub by: By,
    /// Whether the other one may be the right one, should the vendor refuse this one.
    pub spare: bool,
    /// Whether to dial anew instead of taking a connection from the pool.
    pub redial: bool,
    /// The right to make the call.
    pub permit: Arc<Permit>,
}

impl Fetch {
    /// Every [`reason`](Self::reason).
    pub const REASONS: [&'static str; 3] = ["miss", "refresh", "revalidate"];

    /// The name, in metrics and logs, of why the call is made and how.
    pub fn reason(&self) -> &'static str {
        let validators = self.known.as_ref().map(|page| page.validators());
        match (self.reason, validators) {
            (_, Some((Some(_), _) | (_, Some(_)))) => "revalidate",
            (Reason::Miss, _) => "miss",
            (Reason::Refresh, _) => "refresh",
        }
    }
}

/// Why a call to the vendor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A caller waits for a page that is not in memory, or too old.
    Miss,
    /// A page that was served is no longer fresh.
    Refresh,
}
