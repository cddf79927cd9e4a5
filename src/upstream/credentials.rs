//! The vendor's apps that the gateway speaks for.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::setting;

/// `[[credentials]]`: one app of the vendor's, and where its secret lies.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The stream (app) that is served, or "*" for every stream that has no entry of its own.
    pub stream: String,
    /// The app's client id.
    pub client_id: String,
    /// A file that holds the client secret.
    pub secret_file: Option<PathBuf>,
    /// A file that holds the private key (PEM), for the RS algorithms.
    pub key_file: Option<PathBuf>,
    /// The environment variable that holds the client secret.
    pub secret_env: Option<String>,
    /// The algorithm that tokens are signed with.
    #[serde(default = "hs256")]
    pub algorithm: Algorithm,
    /// The subject that tokens name.
    #[serde(default = "subject")]
    pub subject: String,
    /// How long a token is good for.
    #[serde(default = "token_lifetime", with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub token_lifetime: Duration,
    /// Whether every call gets a fresh token with an id of its own.
    #[serde(default)]
    pub jti: bool,
    /// A public key (PEM) that tokens are encrypted to; empty: they are not.
    #[serde(default)]
    pub encrypt_to_file: PathBuf,
}

/// The algorithm that tokens are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are JWA's own")]
pub enum Algorithm {
    HS256,
    HS512,
    RS256,
    RS512,
}

fn hs256() -> Algorithm {
    Algorithm::HS256
}

fn subject() -> String {
    "contacts-gateway".into()
}

fn token_lifetime() -> Duration {
    Duration::from_secs(300)
}
