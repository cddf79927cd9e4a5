//! `[shared]`: what it may say, and the files that it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::address::{self, Address};
use super::keys::Keys;
use crate::secret::Secret;
use crate::setting;

/// `[shared]`: where replicas meet.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Redis or Valkey, for example "redis://redis:6379"; empty: this process is alone.
    #[serde(deserialize_with = "address::optional")]
    #[schemars(with = "address::AddressText")]
    pub url: Option<Address>,
    /// Who the store is told that we are; empty: its default user.
    pub username: String,
    /// What shows that we are; empty: nothing. One trailing LF or CRLF is not part of it.
    pub password_file: PathBuf,
    /// Certificates (PEM) to trust in place of the system's; empty: the system's.
    pub ca_file: PathBuf,
    /// A line a key, "ID:base64 of 32 bytes": the first seals, all open, the last keys the names. Empty: nothing is sealed.
    pub encryption_key_file: PathBuf,
    /// What the names of all keys begin with. Replicas that share have the same.
    pub prefix: String,
    /// How long an answer may take before a replica goes on without it.
    #[serde(with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub timeout: Duration,
}

/// What is wrong with the files that `[shared]` names: a line a mistake. None of it holds a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

/// What `[shared]` says, with the files that it names.
#[derive(Debug)]
pub struct Joining {
    pub(super) settings: Settings,
    pub(super) keys: Keys,
    pub(super) password: Option<Secret>,
    pub(super) roots: Vec<u8>,
}

impl Settings {
    /// Reads the files.
    ///
    /// # Errors
    /// Those that cannot be used.
    pub fn read(&self) -> Result<Joining, Mistakes> {
        let mut mistakes = Vec::new();
        let mut note = |key: &str, error: String| mistakes.push(format!("shared.{key}: {error}"));
        let some = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let keys = Keys::from_file(&self.encryption_key_file)
            .map_err(|error| note("encryption_key_file", error))
            .unwrap_or_default();
        let password = some(&self.password_file).and_then(|path| {
            let read = Secret::from_file(&path).map_err(|error| error.to_string());
            let text = read.and_then(|secret| match std::str::from_utf8(secret.expose()) {
                Ok(_) => Ok(secret),
                Err(_) => Err(format!("{}: is no text", path.display())),
            });
            text.map_err(|error| note("password_file", error)).ok()
        });
        let roots = some(&self.ca_file).and_then(|path| {
            certificates(&path)
                .map_err(|error| note("ca_file", error))
                .ok()
        });
        match mistakes.is_empty() {
            true => Ok(Joining {
                settings: self.clone(),
                keys,
                password,
                roots: roots.unwrap_or_default(),
            }),
            false => Err(Mistakes(mistakes)),
        }
    }
}

/// The bytes of a PEM file, if it holds a certificate.
fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    let bytes = std::fs::read(path)
        .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    match CertificateDer::pem_slice_iter(&bytes).next() {
        Some(Ok(_)) => Ok(bytes),
        _ => Err(format!("{}: holds no certificate (PEM)", path.display())),
    }
}
