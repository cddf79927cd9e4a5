//! `tls = { … }` of a port: what it shows of itself, and whose certificates it takes. Hides how files become that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, sign::any_supported_type};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroize;

use crate::secret::{Print, Secret};
use crate::upstream::pem;

/// `tls` of `[listen]` and of `[admin]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The port's certificate (PEM), and after it those that lead to its authority; empty: the port speaks cleartext.
    pub certificate_file: PathBuf,
    /// The private key (PEM) of the certificate.
    pub key_file: PathBuf,
    /// Authorities (PEM): whoever connects must show a certificate of one of them; empty: nobody is asked for one.
    pub client_ca_file: PathBuf,
}

impl Settings {
    /// Whether the port speaks TLS.
    pub fn is_on(&self) -> bool {
        self.files().next().is_some()
    }

    /// Whether whoever connects must show a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        !self.client_ca_file.as_os_str().is_empty()
    }

    /// Every file that they name.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.certificate_file, &self.key_file, &self.client_ca_file];
        let files = files.into_iter().map(AsRef::as_ref);
        files.filter(|file: &&Path| !file.as_os_str().is_empty())
    }
}

/// What the settings of a port name, read and found good.
#[derive(Clone, Debug)]
pub struct Certificates {
    config: ServerConfig,
    print: Print,
}

impl Certificates {
    /// Reads what the settings of this name, "listen.tls" for one, name; nothing where they name nothing.
    ///
    /// # Errors
    /// What cannot be used, a line each.
    pub fn load(name: &str, settings: &Settings) -> Result<Option<Self>, Vec<String>> {
        if !settings.is_on() {
            return Ok(None);
        }
        let Settings {
            certificate_file,
            key_file,
            client_ca_file,
        } = settings;
        let at = |key: &str, file: &Path| {
            let at = format!("{name}.{key} {}", file.display());
            move |what: String| format!("{at}: {what}")
        };
        let mut read = digest::Context::new(&digest::SHA256);
        let shown = certificates(certificate_file, &mut read);
        let shown = shown.map_err(at("certificate_file", certificate_file));
        let key = key(key_file, &mut read).map_err(at("key_file", key_file));
        let trusted = match settings.asks_for_certificates() {
            true => trusted(client_ca_file, &mut read),
            false => Ok(WebPkiClientVerifier::no_client_auth()),
        };
        let trusted = trusted.map_err(at("client_ca_file", client_ca_file));
        match (shown, key, trusted) {
            (Ok(shown), Ok(key), Ok(trusted)) => {
                let config = config(CertifiedKey::new(shown, key), trusted);
                let config = config.map_err(at("certificate_file", certificate_file));
                Ok(Some(Self {
                    config: config.map_err(|mistake| vec![mistake])?,
                    print: Print::of(read),
                }))
            }
            (shown, key, trusted) => {
                let mistakes = [shown.err(), key.err(), trusted.err()];
                Err(mistakes.into_iter().flatten().collect())
            }
        }
    }

    /// For a server that speaks these protocols, the one it likes best first.
    pub fn server(&self, protocols: &[&[u8]]) -> ServerConfig {
        let mut config = self.config.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// What tells them from any others.
    pub fn print(&self) -> Print {
        self.print
    }
}

/// All there are in a file, in its order.
pub(crate) fn certificates(
    file: &Path,
    read: &mut digest::Context,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| format!("is no PEM: {error}"))?;
    if found.is_empty() {
        return Err("holds no certificate: it should be PEM, with BEGIN CERTIFICATE".into());
    }
    for certificate in &found {
        read.update(&certificate.len().to_be_bytes());
        read.update(certificate);
    }
    Ok(found)
}

/// The private key of a file.
pub(crate) fn key(file: &Path, read: &mut digest::Context) -> Result<Arc<dyn SigningKey>, String> {
    // The path is told by whoever asks.
    let text = Secret::from_file(file).map_err(|unreadable| unreadable.why())?;
    let mut der = pem::any_private_key(text.expose()).map_err(|wrong| wrong.to_string())?;
    read.update(der.secret_der());
    let key = any_supported_type(&der);
    der.zeroize();
    key.map_err(|_| {
        "holds a key that cannot be used: RSA (2048 to 8192), P-256, P-384, P-521 and Ed25519 can"
            .into()
    })
}

fn trusted(file: &Path, read: &mut digest::Context) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, read)? {
        let added = roots.add(certificate);
        added.map_err(|_| "holds a certificate that cannot be read")?;
    }
    let provider = Arc::new(default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())
}

fn config(
    shown: CertifiedKey,
    trusted: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, String> {
    match shown.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err("its first certificate is not that of the key in key_file".into());
        }
        Err(_) => return Err("its first certificate cannot be read".into()),
    }
    let asks = trusted.offer_client_auth();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(trusted)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A session that is taken up again is not asked for its certificate a second time, which may have expired meanwhile, or
    // be of an authority that is no longer trusted. So where certificates count, each connection shows its own.
    match asks {
        true => config.send_tls13_tickets = 0,
        false => config.ticketer = Ticketer::new().map_err(|error| error.to_string())?,
    }
    Ok(config)
}
