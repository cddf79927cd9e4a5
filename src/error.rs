//! Everything that can go wrong with a request, named by what happened.
//!
//! Errors are cheap to clone, because one failed fetch answers everybody who waited for it. What a caller sees of
//! them is decided in one place, `edge::rescue`.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

/// Why a request is not answered with a page. The text is for the caller: what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A rule for requests is broken; the text names the part.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// A read or a purge came with a body.
    #[error("a body is sent where none belongs: send the request without one")]
    UnexpectedBody,
    /// Callers are configured, and this is none of them.
    #[error(
        "the gateway knows its callers by their tokens or certificates, and this is none of them: send Authorization: Bearer with the token of a [[callers]] entry, once, or connect with the certificate of one, not both of two"
    )]
    CallerUnknown,
    /// The caller is known and may not do this.
    #[error("this caller may not {0} of its [[callers]] entry")]
    CallerForbidden(Forbidden),
    /// The caller has had as many as its quota gives.
    #[error(
        "this caller's quota of {per_minute} {kind} a minute is spent: try again after Retry-After"
    )]
    QuotaSpent {
        /// What the quota is of: "requests" or "fetches".
        kind: &'static str,
        /// How many a minute.
        per_minute: NonZeroU32,
        /// When there is one again.
        retry_after: Duration,
    },
    /// The path is neither of the vendor's two.
    #[error(
        "only the vendor's getAllContacts paths are served here: check the path against its documentation"
    )]
    NotFound,
    /// Nobody stored credentials for the stream.
    #[error(
        "no credentials are stored for this stream: add a [[credentials]] entry for it, or one for \"*\", to the gateway's settings"
    )]
    StreamUnknown,
    /// The path is right, the method is not.
    #[error("use GET, HEAD or PURGE")]
    MethodNotAllowed,
    /// The request is addressed to a host that this gateway does not answer for.
    #[error("the gateway does not answer for this host: use a name listed in listen.allowed_hosts")]
    Misdirected,
    /// As many requests are under way as the settings allow.
    #[error("too many requests are in flight: try again in a moment")]
    Overloaded,
    /// The gateway is shutting down.
    #[error("the gateway is shutting down: connect again")]
    Draining,
    /// The vendor does not accept our token.
    #[error(
        "the vendor refused the gateway's credentials for this stream: check client_id, secret, algorithm and API scope in its [[credentials]] entry"
    )]
    CredentialsRefused,
    /// No call may go in time.
    #[error(
        "the account's calls are spent and no page is cached: come back after Retry-After, or have the page asked for less often"
    )]
    AllowanceSpent {
        /// Until one may.
        retry_after: Duration,
    },
    /// Calls of the account failed in a row, so it rests.
    #[error(
        "the vendor has failed several times in a row and is left alone for a moment: come back after Retry-After"
    )]
    UpstreamResting {
        /// Until it is tried again.
        retry_after: Duration,
    },
    /// The vendor refused this very call for its rate limit.
    #[error("the vendor's rate limit is spent and no page is cached: try again after Retry-After")]
    UpstreamRefused {
        /// Whether it is the longer of its limits.
        hourly: bool,
        /// How long the vendor wants to be left alone.
        retry_after: Duration,
    },
    /// What came is not what the vendor promises.
    #[error("the vendor's answer cannot be used ({0}): if it lasts, tell the gateway's operator")]
    UpstreamGarbled(Cow<'static, str>),
    /// The vendor failed, or could not be reached.
    #[error("the vendor cannot answer ({0}): try again later")]
    UpstreamFailed(Cow<'static, str>),
    /// A connection that had been kept alive died before a byte of the answer came, or is one over which the vendor takes
    /// no more requests.
    #[error("the connection to the vendor was lost: try again")]
    ConnectionLost,
    /// The vendor took too long.
    #[error("the vendor did not answer in time: try again later")]
    UpstreamTimedOut,
    /// `only-if-cached`, and nothing usable is.
    #[error("nothing usable is cached for this page: ask again without only-if-cached")]
    NotCached,
    /// A defect of the gateway's own.
    #[error("the gateway failed: its log says how, under this request's id")]
    Internal,
}

/// What a caller may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Read this stream.
    #[error("read this stream: ask for it to be added to `streams`")]
    Stream,
    /// Read this account.
    #[error("read this account: ask for it to be added to `accounts`")]
    Account,
    /// Purge.
    #[error("purge: ask for `may_purge`")]
    Purge,
}

impl Error {
    /// An error out of a tower stack: one of these, or one of tower's own, which says by its type what happened.
    pub fn from_tower(error: tower::BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(other) if other.is::<tower::timeout::error::Elapsed>() => Self::UpstreamTimedOut,
            Err(other) => {
                tracing::error!(error = %other, "a layer failed in a way that nobody foresaw");
                Self::Internal
            }
        }
    }

    /// Every [`name`](Self::name).
    pub const NAMES: [&'static str; 19] = [
        "bad-request",
        "caller-unknown",
        "caller-forbidden",
        "quota-spent",
        "not-found",
        "stream-unknown",
        "method-not-allowed",
        "misdirected",
        "overloaded",
        "draining",
        "credentials-refused",
        "allowance-spent",
        "upstream-resting",
        "upstream-refused",
        "upstream-garbled",
        "upstream-failed",
        "upstream-timed-out",
        "not-cached",
        "internal",
    ];

    /// What another replica's fetch failed with, by its name. For so long the account makes no call now.
    pub fn of_another(name: &str, retry_after: std::time::Duration) -> Self {
        match name {
            "credentials-refused" => Self::CredentialsRefused,
            "upstream-refused" => Self::UpstreamRefused {
                hourly: false,
                retry_after,
            },
            "upstream-garbled" => {
                Self::UpstreamGarbled("another replica could not use its answer".into())
            }
            "upstream-timed-out" => Self::UpstreamTimedOut,
            _ => Self::UpstreamFailed("another replica's call failed".into()),
        }
    }

    /// The name that callers, logs and metrics know this by.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::UnexpectedBody => "bad-request",
            Self::CallerUnknown => "caller-unknown",
            Self::CallerForbidden(_) => "caller-forbidden",
            Self::QuotaSpent { .. } => "quota-spent",
            Self::NotFound => "not-found",
            Self::StreamUnknown => "stream-unknown",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Misdirected => "misdirected",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::CredentialsRefused => "credentials-refused",
            Self::AllowanceSpent { .. } => "allowance-spent",
            Self::UpstreamResting { .. } => "upstream-resting",
            Self::UpstreamRefused { .. } => "upstream-refused",
            Self::UpstreamGarbled(_) => "upstream-garbled",
            Self::UpstreamFailed(_) | Self::ConnectionLost => "upstream-failed",
            Self::UpstreamTimedOut => "upstream-timed-out",
            Self::NotCached => "not-cached",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_among_the_names() {
        let (text, retry_after) = (Cow::Borrowed(""), Duration::ZERO);
        let quota = Error::QuotaSpent {
            kind: "requests",
            per_minute: NonZeroU32::MIN,
            retry_after,
        };
        let refused = Error::UpstreamRefused {
            hourly: false,
            retry_after,
        };
        let errors = [
            Error::BadRequest(text.clone()),
            Error::UnexpectedBody,
            Error::CallerUnknown,
            Error::CallerForbidden(Forbidden::Purge),
            quota,
            Error::NotFound,
            Error::StreamUnknown,
            Error::MethodNotAllowed,
            Error::Misdirected,
            Error::Overloaded,
            Error::Draining,
            Error::CredentialsRefused,
            Error::AllowanceSpent { retry_after },
            Error::UpstreamResting { retry_after },
            refused,
            Error::UpstreamGarbled(text.clone()),
            Error::UpstreamFailed(text),
            Error::ConnectionLost,
            Error::UpstreamTimedOut,
            Error::NotCached,
            Error::Internal,
        ];
        let mut names: Vec<_> = errors.iter().map(Error::name).collect();
        names.dedup();
        assert_eq!(names, Error::NAMES);
    }
}
