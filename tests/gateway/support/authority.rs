//! A certificate authority to throw away, and what it issues.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};

use super::Folder;

/// A certificate authority that is trusted where it is named.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        // Not that of what it issues, or OpenSSL would take that for issued by itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "An authority to throw away");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// As a file of PEM.
    pub(crate) fn file(&self, folder: &Folder) -> PathBuf {
        folder.put("ca.pem", &self.pem())
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// As somebody who trusts it alone.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A certificate with a key of its own.
    pub(crate) fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued {
            certificate: params.signed_by(&key, &self.0).unwrap().der().clone(),
            key: key.serialize_der(),
        }
    }

    /// What a server needs that speaks these protocols under this name.
    pub(crate) fn server(
        &self,
        params: CertificateParams,
        protocols: &[&str],
    ) -> Option<Arc<ServerConfig>> {
        let issued = self.issue(params);
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![issued.certificate.clone()], issued.key())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Some(Arc::new(config))
    }
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Issued {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// Both as PEM.
    pub(crate) fn pem(&self) -> [String; 2] {
        [
            pem("CERTIFICATE", &self.certificate),
            pem("PRIVATE KEY", &self.key),
        ]
    }
}

/// For a host of this name.
pub(crate) fn named(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

/// For whoever has this URI.
pub(crate) fn at(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}
