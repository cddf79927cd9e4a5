//! `[[callers]]`: who may ask, for what, and how much of it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use prometheus::IntCounter;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use super::peer::{Peer, San};
use crate::contacts::{self, AccountId, Allotment, ListKey, Reach, StreamId};
use crate::error::{Error, Forbidden};
use crate::telemetry::metrics::Metrics;

/// `[[callers]]`: a service that reads contact lists, and what it may do.
// The defaults are here and not in config/default.toml, because the entries of an array have none to lie over.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the caller is called in metrics and logs.
    pub name: Name,
    /// The SHA-256 of the token that the caller sends as `Authorization: Bearer`, in hex. This or `certificate`.
    #[serde(default)]
    #[schemars(with = "Sha256")]
    pub token_sha256: Option<Sha256>,
    /// A name in the certificate that the caller shows, for example "spiffe://example.org/campaign". This or `token_sha256`.
    #[serde(default)]
    #[schemars(with = "San")]
    pub certificate: Option<San>,
    /// The streams that it may read, or "*" for all.
    #[serde(default = "all::<StreamId>", deserialize_with = "some")]
    #[schemars(extend("minItems" = 1, "default" = ["*"]))]
    pub streams: Vec<OneOrAll<StreamId>>,
    /// The accounts that it may read, or "*" for all.
    #[serde(default = "all::<AccountId>", deserialize_with = "some")]
    #[schemars(extend("minItems" = 1, "default" = ["*"]))]
    pub accounts: Vec<OneOrAll<AccountId>>,
    /// Requests a minute, those that are answered from memory included; left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NonZeroU32")]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Fetches a minute, which are reads that begin a call to the vendor; left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NonZeroU32")]
    pub fetches_per_minute: Option<NonZeroU32>,
    /// Its weight when callers compete for the vendor's allowance.
    #[serde(default = "one")]
    #[schemars(extend("default" = 1))]
    pub share: NonZeroU32,
    /// Whether it may make the gateway forget a list.
    #[serde(default)]
    pub may_purge: bool,
    /// Whether its wish for a newer page (no-cache, no-store, max-age, min-fresh) is obeyed, which can cost a call.
    #[serde(default)]
    pub may_refresh: bool,
    /// Whether its quotas only count what they would refuse, in metrics and logs, and refuse nothing.
    #[serde(default)]
    pub dry_run: bool,
}

fn all<T>() -> Vec<OneOrAll<T>> {
    vec![OneOrAll::All]
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// A list that is not empty: elsewhere in the settings an empty one stands for all, and here that would be nobody's wish.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(from)?;
    if list.is_empty() {
        return Err(de::Error::custom(
            "must not be empty: write [\"*\"] for all, or leave it out",
        ));
    }
    Ok(list)
}

/// A caller's name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = r"^[A-Za-z0-9._-]{1,64}$"))]
pub struct Name(Arc<str>);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(1..=64).contains(&text.len()) || !text.bytes().all(plain) {
            return Err("a caller's name is 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        if text == ANONYMOUS {
            return Err(
                "\"anonymous\" is everybody's name where no callers are configured: write another",
            );
        }
        Ok(Self(text.into()))
    }
}

/// The digest of a caller's token. Not a secret, but nothing to show either.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9A-Fa-f]{64}$"))]
pub struct Sha256([u8; 32]);

impl Sha256 {
    fn of(bytes: &[u8]) -> Self {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(sha256)
    }
}

impl TryFrom<String> for Sha256 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Whoever wrote the token itself here does not want to read it again.
        const WANTED: &str = "must be the SHA-256 of the caller's token, 64 hex digits: for example what \
                              `printf %s \"$TOKEN\" | sha256sum` prints";
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|c| c.to_digit(16).and_then(|digit| digit.try_into().ok()))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(WANTED)?;
        let mut sha256 = [0; 32];
        for (byte, pair) in sha256.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(sha256))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An id, or all there are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "T: FromStr")]
pub enum OneOrAll<T> {
    /// "*".
    All,
    /// This one.
    One(T),
}

impl<T: FromStr> TryFrom<String> for OneOrAll<T> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "*" => Ok(Self::All),
            id => id.parse().map(Self::One).map_err(
                |_| "an id is 1 to 128 of A-Z a-z 0-9 . _ - and neither . nor ..; \"*\" is all",
            ),
        }
    }
}

impl<T> JsonSchema for OneOrAll<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IdOrAll".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An id, or \"*\" for all.",
            "pattern": r"^(\*|[A-Za-z0-9._-]{1,128})$",
        })
    }
}

/// All callers, ready to be told apart.
#[derive(Debug)]
pub struct Callers {
    by_token: Vec<(Sha256, Arc<Caller>)>,
    by_certificate: HashMap<San, Arc<Caller>>,
    /// Where none are known.
    anonymous: Option<Arc<Caller>>,
}

/// A caller, to the edge.
#[derive(Debug)]
pub struct Caller {
    /// What the tiers behind the edge know of it.
    pub(super) identity: Arc<contacts::Caller>,
    /// Whether it is known by its `Authorization`.
    pub(super) by_token: bool,
    /// Counts its requests.
    pub(super) asked: IntCounter,
    /// How many requests it may make; nothing: any number.
    pub(super) requests: Option<Allotment>,
    streams: Reach<StreamId>,
    accounts: Reach<AccountId>,
    may_purge: bool,
}

impl Callers {
    /// Those of the settings, with whole quotas.
    pub fn new(settings: &[Settings], metrics: &Metrics, now: Instant) -> Self {
        let nobody = Self {
            by_token: Vec::new(),
            by_certificate: HashMap::new(),
            anonymous: None,
        };
        nobody.changed(settings, metrics, now)
    }

    /// Those of new settings. Who was there before, by name, has spent of its quotas what it had spent.
    #[must_use]
    pub fn changed(&self, settings: &[Settings], metrics: &Metrics, now: Instant) -> Self {
        let mut changed = Self {
            by_token: Vec::new(),
            by_certificate: HashMap::new(),
            anonymous: settings.is_empty().then(|| match &self.anonymous {
                Some(anonymous) => anonymous.clone(),
                None => Arc::new(Caller::anonymous(metrics)),
            }),
        };
        for settings in settings {
            let by_token = self.by_token.iter().map(|(_, caller)| caller);
            let mut before = by_token.chain(self.by_certificate.values());
            let before = before.find(|before| before.identity.name == settings.name.0);
            let before = before.map(AsRef::as_ref);
            let caller = Arc::new(Caller::new(settings, before, metrics, now));
            if let Some(digest) = settings.token_sha256 {
                changed.by_token.push((digest, caller.clone()));
            }
            if let Some(name) = &settings.certificate {
                changed.by_certificate.insert(name.clone(), caller);
            }
        }
        changed
    }

    /// Everybody's one name, where no callers are configured.
    pub(super) fn anonymous(&self) -> Option<&Arc<Caller>> {
        self.anonymous.as_ref()
    }

    /// Who shows this, if it is one: whoever shows what belongs to two callers is neither of them. `recent` is of these
    /// callers, or of none yet.
    pub(super) fn find<'c>(
        &'c self,
        peer: Option<&Peer>,
        token: Option<&[u8]>,
        recent: &'c mut Recent,
    ) -> Option<&'c Arc<Caller>> {
        let names = peer.map(Peer::names).unwrap_or_default().iter();
        let certified = names.filter_map(|name| self.by_certificate.get(name));
        let mut found = certified.chain(token.and_then(|token| self.by_its_token(token, recent)));
        match (found.next(), found.next()) {
            (Some(caller), None) => Some(caller),
            (None | Some(_), _) => None,
        }
    }

    /// Whose token this is.
    ///
    /// Every digest is compared to its end, and all of them are, whichever is the right one. So how long it takes says
    /// nothing about how much of a digest was met, nor about which callers there are. That a token was the last one on its
    /// connection takes less time, and is nothing that the answer does not say.
    fn by_its_token<'c>(&'c self, token: &[u8], recent: &'c mut Recent) -> Option<&'c Arc<Caller>> {
        if !recent.was(token) {
            let sent = Sha256::of(token);
            let found = self.by_token.iter().fold(None, |found, (digest, caller)| {
                let same = verify_slices_are_equal(&digest.0, &sent.0).is_ok();
                if same { Some(caller) } else { found }
            });
            recent.0 = Some((token.to_vec().into(), found?.clone()));
        }
        recent.0.as_ref().map(|(_, caller)| caller)
    }
}

/// The last token that was somebody's, and whose. On a connection it is most often the same one, and to make its digest and
/// compare that with all takes an eighth of a hit's instructions where the CPU has none for SHA-256. Wiped when dropped.
#[derive(Clone, Default)]
pub(super) struct Recent(Option<(Zeroizing<Vec<u8>>, Arc<Caller>)>);

impl Recent {
    fn was(&self, token: &[u8]) -> bool {
        let last = self.0.as_ref();
        last.is_some_and(|(last, _)| verify_slices_are_equal(last, token).is_ok())
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Caller {
    fn new(settings: &Settings, before: Option<&Self>, metrics: &Metrics, now: Instant) -> Self {
        let Name(name) = &settings.name;
        let allotment = |kind, per_minute: Option<NonZeroU32>, before: Option<&Allotment>| {
            let refusals = metrics.quota_refusals(name, kind);
            per_minute.map(|per_minute| {
                let dry_run = settings.dry_run;
                let whole = Allotment::new(name.clone(), kind, per_minute, refusals, dry_run, now);
                match before {
                    Some(before) => whole.after(before, now),
                    None => whole,
                }
            })
        };
        let requests = before.and_then(|before| before.requests.as_ref());
        let fetches = before.and_then(|before| before.identity.fetches.as_ref());
        Self {
            asked: metrics.caller_requests(name),
            requests: allotment("requests", settings.requests_per_minute, requests),
            identity: Arc::new(contacts::Caller {
                name: name.clone(),
                share: settings.share,
                may_refresh: settings.may_refresh,
                fetches: allotment("fetches", settings.fetches_per_minute, fetches),
            }),
            by_token: settings.token_sha256.is_some(),
            streams: reach(&settings.streams),
            accounts: reach(&settings.accounts),
            may_purge: settings.may_purge,
        }
    }

    fn anonymous(metrics: &Metrics) -> Self {
        Self {
            asked: metrics.caller_requests(ANONYMOUS),
            identity: Arc::new(contacts::Caller {
                name: ANONYMOUS.into(),
                share: one(),
                may_refresh: true,
                fetches: None,
            }),
            by_token: false,
            requests: None,
            streams: Reach::All,
            accounts: Reach::All,
            may_purge: true,
        }
    }

    /// Whether it may read a list, or purge it.
    ///
    /// # Errors
    /// It may not: [`Error::CallerForbidden`].
    pub(super) fn may(&self, list: &ListKey, purge: bool) -> Result<(), Error> {
        let what = if !self.streams.covers(list.stream()) {
            Forbidden::Stream
        } else if !self.accounts.covers(list.account()) {
            Forbidden::Account
        } else if purge && !self.may_purge {
            Forbidden::Purge
        } else {
            return Ok(());
        };
        Err(Error::CallerForbidden(what))
    }
}

fn reach<T: Clone + Eq + Hash>(settings: &[OneOrAll<T>]) -> Reach<T> {
    let ids = settings.iter().map(|one| match one {
        OneOrAll::All => None,
        OneOrAll::One(id) => Some(id.clone()),
    });
    // Nothing in the list stands for everything.
    ids.collect::<Option<_>>().map_or(Reach::All, Reach::These)
}

const ANONYMOUS: &str = "anonymous";

#[cfg(test)]
mod tests;
