//! `[[credentials]]`: which app's secret speaks to the vendor for which stream.
//!
//! Everything is read and tried once, here, so that a request meets no bad key.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use schemars::JsonSchema;
use serde::Deserialize;

use super::token::{Algorithm, Minted};
use crate::clock::Clock;
use crate::contacts::{Reach, StreamId};
use crate::error::Error;
use crate::secret::Print;
use crate::setting;

mod load;
mod mistake;
mod rotation;

use load::Load;
pub use mistake::{Doubt, Mistake, Problem, Warning};
pub use rotation::By;
use rotation::Rotation;

/// `[[credentials]]`: an app of the vendor's, and the secret that its tokens are signed with.
// The defaults are here and not in config/default.toml, because the entries of an array have none to lie over.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The stream that the app reads, or "*" for every stream that has no entry of its own.
    pub stream: Stream,
    /// The app's client id: the token's `appId`.
    pub client_id: NonEmpty,
    /// A file that holds the client secret (one end of line is not part of it), or for RS* the private key as PEM.
    #[serde(default)]
    pub secret_file: PathBuf,
    /// A file that holds the RSA private key, PEM (PKCS#1 or PKCS#8), for RS*.
    #[serde(default)]
    pub key_file: PathBuf,
    /// An environment variable that holds what secret_file would.
    #[serde(default)]
    pub secret_env: String,
    /// How tokens are signed, as the app is set up at the vendor.
    #[serde(default)]
    #[schemars(extend("default" = "HS256"))]
    pub algorithm: Algorithm,
    /// The token's `sub`.
    #[serde(default = "default_subject")]
    #[schemars(extend("default" = DEFAULT_SUBJECT))]
    pub subject: NonEmpty,
    /// How long a token is good for, in whole seconds. From "4m" up, the vendor's clock may be a minute off.
    #[serde(
        default = "default_lifetime",
        deserialize_with = "setting::positive_duration::deserialize"
    )]
    #[schemars(with = "setting::DurationText", extend("default" = "5m"))]
    pub token_lifetime: Duration,
    /// Whether the app enforces JTI: every call then gets a token of its own.
    #[serde(default)]
    pub jti: bool,
    /// The vendor's RSA public key, PEM, if the app enforces JWE: tokens are encrypted to it. Empty: they are not.
    #[serde(default)]
    pub encrypt_to_file: PathBuf,
}

const DEFAULT_SUBJECT: &str = "contacts-gateway";

fn default_subject() -> NonEmpty {
    NonEmpty(DEFAULT_SUBJECT.into())
}

const fn default_lifetime() -> Duration {
    Duration::from_secs(5 * 60)
}

/// A stream, or all that have no entry of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = r"^(\*|[A-Za-z0-9._-]{1,128})$"))]
pub enum Stream {
    /// "*".
    Any,
    /// One of the vendor's, by its id.
    One(StreamId),
}

impl FromStr for Stream {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "*" => Ok(Self::Any),
            id => id.parse().map(Self::One).map_err(
                |_| "a stream is \"*\" or 1 to 128 of A-Z a-z 0-9 . _ - and neither . nor ..",
            ),
        }
    }
}

impl TryFrom<String> for Stream {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(id) => id.fmt(f),
        }
    }
}

/// A text that is not blank.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = r"\S"))]
pub struct NonEmpty(String);

impl NonEmpty {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NonEmpty {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() {
            return Err("must not be empty");
        }
        Ok(Self(text))
    }
}

/// All the credentials, loaded.
#[derive(Debug, Default)]
pub struct Credentials {
    loaded: Vec<Arc<Credential>>,
    by_stream: HashMap<StreamId, Arc<Credential>, foldhash::quality::RandomState>,
    for_others: Option<Arc<Credential>>,
    warnings: Vec<Warning>,
}

impl Credentials {
    /// Reads every secret and key. Blocks on files.
    ///
    /// # Errors
    /// All the mistakes there are, in the order of the entries.
    pub fn load(settings: &[Settings]) -> Result<Self, Vec<Mistake>> {
        let mut credentials = Self::default();
        let mut mistakes = Vec::new();
        let mut seen: HashMap<&Stream, usize> = HashMap::new();
        for (entry, settings) in settings.iter().enumerate() {
            let mut load = Load::new(settings);
            let first = *seen.entry(&settings.stream).or_insert(entry);
            if first != entry {
                load.problems.push(Problem::SameStream { first });
            }
            let minter = load.minter();
            let doubts = std::mem::take(&mut load.doubts).into_iter();
            credentials.warnings.extend(doubts.map(|doubt| Warning {
                entry,
                stream: settings.stream.clone(),
                doubt,
            }));
            let problems = std::mem::take(&mut load.problems).into_iter();
            mistakes.extend(problems.map(|problem| Mistake {
                entry,
                stream: settings.stream.clone(),
                problem,
            }));
            if let Some(minter) = minter {
                credentials.add(Arc::new(Credential {
                    settings: settings.clone(),
                    print: load.print(),
                    rotation: Rotation::new(minter),
                }));
            }
        }
        if mistakes.is_empty() {
            Ok(credentials)
        } else {
            Err(mistakes)
        }
    }

    /// These in place of others. Entries that are the same go on with the tokens they have; of those that are not, the
    /// secret before is still there for the vendor who does not take the new one yet.
    #[must_use]
    pub fn after(mut self, before: &Self, now: Instant) -> Self {
        let loaded = std::mem::take(&mut self.loaded);
        for credential in loaded {
            let same_stream =
                |one: &&Arc<Credential>| one.settings.stream == credential.settings.stream;
            match before.loaded.iter().find(same_stream) {
                Some(same) if same.print == credential.print => self.add(same.clone()),
                Some(former) => {
                    credential.rotation.follow(&former.rotation, now);
                    self.add(credential);
                }
                None => self.add(credential),
            }
        }
        self
    }

    /// Until when a secret is still there that another took the place of: of the first whose time is over.
    pub fn overlap(&self) -> Option<Instant> {
        let overlaps = self.loaded.iter().map(|one| one.rotation.until());
        overlaps.flatten().min()
    }

    /// Wipes the secrets whose time is over.
    pub fn forget_former(&self, now: Instant) {
        for credential in &self.loaded {
            credential.rotation.forget(now);
        }
    }

    /// What tells these, their secrets included, from any others.
    pub fn print(&self) -> Print {
        let mut digest = digest::Context::new(&digest::SHA256);
        for credential in &self.loaded {
            digest.update(credential.print.bytes());
        }
        Print::of(digest)
    }

    /// What speaks for a stream: its own entry, else the one for "*".
    pub fn find(&self, stream: &str) -> Option<Arc<Credential>> {
        self.by_stream
            .get(stream)
            .or(self.for_others.as_ref())
            .cloned()
    }

    /// The streams that there are some for.
    pub fn streams(&self) -> Reach<StreamId> {
        match self.for_others {
            Some(_) => Reach::All,
            None => Reach::These(self.by_stream.keys().cloned().collect()),
        }
    }

    /// Each entry, in the settings' order.
    pub fn iter(&self) -> impl Iterator<Item = &Credential> {
        self.loaded.iter().map(AsRef::as_ref)
    }

    /// What was loaded, but may not be meant so.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn add(&mut self, credential: Arc<Credential>) {
        match &credential.settings.stream {
            Stream::Any => self.for_others = Some(Arc::clone(&credential)),
            Stream::One(id) => {
                self.by_stream.insert(id.clone(), Arc::clone(&credential));
            }
        }
        self.loaded.push(credential);
    }
}

/// One entry, loaded. `Display` and `Debug` tell all of it, with stars for the secret.
pub struct Credential {
    settings: Settings,
    print: Print,
    rotation: Rotation,
}

impl Credential {
    /// The value of the vendor's `auth` field: the kept one while it is good, else a new one.
    ///
    /// # Errors
    /// [`Error::Internal`] if none can be minted, which the log then explains.
    pub async fn token(&self, by: By, clock: &Clock) -> Result<Minted, Error> {
        let minter = self.rotation.minter(by, clock.now());
        minter.token(clock).await
    }

    /// Whose token a call is made with first.
    pub fn first(&self, now: Instant) -> By {
        self.rotation.first(now)
    }

    /// Whose token is worth a second call, where the vendor refused the one of the first.
    pub fn second(&self, refused: By, now: Instant) -> Option<By> {
        self.rotation.second(refused, now)
    }

    /// Whether the other secret may be the one that the vendor takes, if it refuses a token of this one.
    pub fn has_spare(&self, by: By, now: Instant) -> bool {
        self.rotation.is_spare(by, now)
    }

    /// The vendor refused a token of this one, and none of the other was tried. From now on the other goes first.
    pub fn refused(&self, by: By) {
        self.rotation.refused(by);
    }

    /// The vendor took a token, of whichever.
    pub fn taken(&self) {
        self.rotation.taken();
    }

    /// The vendor took a token of this one, and had refused one of the other's. From now on this one goes first.
    pub fn goes_first(&self, by: By) {
        self.rotation.goes_first(by);
    }

    /// How its tokens are signed.
    pub const fn algorithm(&self) -> Algorithm {
        self.settings.algorithm
    }

    /// What it was loaded from.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        write!(
            f,
            "stream \"{}\": client_id \"{}\", {}, secret ***",
            settings.stream,
            settings.client_id.as_str(),
            settings.algorithm.name(),
        )?;
        for source in load::sources(settings) {
            write!(f, " from {} {}", source.setting(), source.place())?;
        }
        write!(
            f,
            ", subject \"{}\", token_lifetime {}, jti {}",
            settings.subject.as_str(),
            humantime::format_duration(settings.token_lifetime),
            settings.jti,
        )?;
        if let Some(file) = load::encrypt_to(settings) {
            write!(f, ", encrypted to {}", file.display())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({self})")
    }
}

#[cfg(test)]
mod tests;
