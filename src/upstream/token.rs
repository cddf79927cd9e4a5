//! The vendor's token: minted from the stored secret, and used again while it is good.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::error::Unspecified;
use http::HeaderValue;
use jsonwebtoken::{EncodingKey, Header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::error;
use uuid::{NoContext, Timestamp, Uuid};

use super::jwe::Recipient;
use crate::clock::Clock;
use crate::error::Error;

/// How a token is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// HMAC with SHA-256, the vendor's documented one.
    #[default]
    Hs256,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256,
    /// RSA, PKCS #1 v1.5, with SHA-512.
    Rs512,
}

impl Algorithm {
    /// The name as JWA has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs512 => "RS512",
        }
    }

    /// Whether it signs with an RSA key, not with a secret that both sides know.
    pub const fn is_rsa(self) -> bool {
        match self {
            Self::Hs256 | Self::Hs512 => false,
            Self::Rs256 | Self::Rs512 => true,
        }
    }

    const fn jose(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Hs512 => jsonwebtoken::Algorithm::HS512,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
        }
    }
}

/// A token to send.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The value of the vendor's `auth` field, marked sensitive.
    pub value: HeaderValue,
    /// Whether it was minted for this very call, so that somebody can count.
    pub fresh: bool,
}

/// Mints one credential's tokens and keeps the last.
pub(super) struct Minter {
    mint: Arc<Mint>,
    kept: RwLock<Option<(HeaderValue, Times)>>,
    /// Whoever holds it mints; the others wait and take what was minted.
    turn: tokio::sync::Mutex<()>,
}

/// All that a token is made of but the time.
pub(super) struct Mint {
    pub(super) algorithm: Algorithm,
    /// Wiped by jsonwebtoken when dropped, and so is the copy that it makes for each RSA signature; aws-lc wipes
    /// what it derives. Its PEM reader leaves copies behind, though: make it of a secret's bytes or of DER only.
    pub(super) key: EncodingKey,
    pub(super) client_id: String,
    pub(super) subject: String,
    pub(super) lifetime: Duration,
    pub(super) jti: bool,
    pub(super) recipient: Option<Recipient>,
}

impl Minter {
    pub(super) fn new(mint: Mint) -> Self {
        Self {
            mint: Arc::new(mint),
            kept: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn token(&self, clock: &Clock) -> Result<Minted, Error> {
        if self.mint.jti {
            // The vendor takes each of these once.
            let (value, _) = self.mint(clock).await?;
            return Ok(Minted { value, fresh: true });
        }
        if let Some(value) = self.kept(clock) {
            return Ok(Minted {
                value,
                fresh: false,
            });
        }
        let _turn = self.turn.lock().await;
        if let Some(value) = self.kept(clock) {
            return Ok(Minted {
                value,
                fresh: false,
            });
        }
        let (value, times) = self.mint(clock).await?;
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some((value.clone(), times));
        Ok(Minted { value, fresh: true })
    }

    fn kept(&self, clock: &Clock) -> Option<HeaderValue> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (value, times) = kept.as_ref()?;
        times
            .usable(self.mint.lifetime, since_epoch(clock))
            .then(|| value.clone())
    }

    async fn mint(&self, clock: &Clock) -> Result<(HeaderValue, Times), Error> {
        let now = since_epoch(clock);
        let mint = Arc::clone(&self.mint);
        let minted = if mint.algorithm.is_rsa() {
            // Milliseconds of arithmetic, which would hold up every other request on this thread.
            match tokio::task::spawn_blocking(move || mint.token(now)).await {
                Ok(minted) => minted,
                Err(failed) => Err(failed.into()),
            }
        } else {
            mint.token(now)
        };
        minted.map_err(|failure| {
            error!(
                client.id = self.mint.client_id,
                algorithm = self.mint.algorithm.name(),
                error = %failure,
                "a token could not be minted"
            );
            Error::Internal
        })
    }
}

impl Mint {
    fn token(&self, now: Duration) -> Result<(HeaderValue, Times), Failure> {
        let times = Times::at(now, self.lifetime);
        let claims = Claims {
            sub: &self.subject,
            app_id: &self.client_id,
            iat: times.iat,
            exp: times.exp,
            jti: self.jti.then(|| {
                let at = Timestamp::from_unix(NoContext, now.as_secs(), now.subsec_nanos());
                Uuid::new_v7(at).to_string()
            }),
        };
        let header = Header::new(self.algorithm.jose());
        let mut token = jsonwebtoken::encode(&header, &claims, &self.key)?;
        if let Some(recipient) = &self.recipient {
            token = recipient.seal(&token)?;
        }
        let mut value = HeaderValue::try_from(token)?;
        value.set_sensitive(true);
        Ok((value, times))
    }
}

/// Why no token came out. None of these should happen: the keys were tried when they were loaded.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("signing: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
    #[error("encrypting failed")]
    Encrypt(#[from] Unspecified),
    #[error("the token cannot stand in a header field")]
    Value(#[from] http::header::InvalidHeaderValue),
    #[error("the signing task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What a token says, as the vendor spells it.
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    #[serde(rename = "appId")]
    app_id: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

/// From when until when a token is good, in whole seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    iat: u64,
    exp: u64,
}

impl Times {
    /// Those of a token minted now. It begins in the past, for a vendor whose clock is behind ours.
    fn at(now: Duration, lifetime: Duration) -> Self {
        let iat = now.as_secs().saturating_sub(slack(lifetime).as_secs());
        Self {
            iat,
            exp: iat.saturating_add(lifetime.as_secs()),
        }
    }

    /// Whether the token may be sent once more. Not near its end, for a vendor whose clock is ahead of ours and for the
    /// time that a call takes; nor if our own clock was put back to before its beginning.
    fn usable(self, lifetime: Duration, now: Duration) -> bool {
        let margin = slack(lifetime) + SAFETY.min(lifetime / 30);
        Duration::from_secs(self.iat) <= now
            && now < Duration::from_secs(self.exp).saturating_sub(margin)
    }
}

/// How far apart the clocks may be: a minute, or what a short life can spare at each end.
fn slack(lifetime: Duration) -> Duration {
    SKEW.min(lifetime / 4)
}

fn since_epoch(clock: &Clock) -> Duration {
    clock
        .wall()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

const SKEW: Duration = Duration::from_secs(60);
const SAFETY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
