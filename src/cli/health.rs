//! Asks the admin port whether the gateway is ready, by TLS where that speaks it.
//!
//! Who answers is not verified: it is this machine's own port that is asked, whose certificate is for the names that others
//! know, and nothing is told that matters. Where the port asks for certificates, its own is shown: it has to be one that its
//! `client_ca_file` takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::Uri;
use http_body_util::Empty;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::config::Admin;
use crate::edge::certificates::{self, Settings};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks.
///
/// # Errors
/// It is not ready, or does not answer.
pub(super) async fn ask(admin: &Admin) -> Result<(), String> {
    let mut address = admin.address;
    if address.ip().is_unspecified() {
        address.set_ip(match address.is_ipv4() {
            true => IpAddr::V4(Ipv4Addr::LOCALHOST),
            false => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    let scheme = if admin.tls.is_on() { "https" } else { "http" };
    let uri: Uri = format!("{scheme}://{address}/ready")
        .parse()
        .map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(&admin.tls)?)
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    match tokio::time::timeout(PATIENCE, client.get(uri)).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => Err(format!("not ready: {}", response.status())),
        Ok(Err(error)) => Err(format!("{address} does not answer: {error}")),
        Err(_) => Err(format!("{address} does not answer within {PATIENCE:?}")),
    }
}

fn tls(settings: &Settings) -> Result<ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    if !settings.asks_for_certificates() {
        return Ok(config.with_no_client_auth());
    }
    let mut read = digest::Context::new(&digest::SHA256);
    let chain = certificates::certificates(&settings.certificate_file, &mut read)?;
    let key = certificates::key(&settings.key_file, &mut read)?;
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    Ok(config.with_client_cert_resolver(Arc::new(shown)))
}

/// Takes any certificate for good, though not from somebody without its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
