//! Who is at the other end of a private connection, as far as a certificate says.

use std::sync::Arc;

use http::Request;
use rustls::pki_types::{CertificateDer, DnsName};
use schemars::JsonSchema;
use serde::Deserialize;
use webpki::EndEntityCert;

/// The other end of a connection over TLS. Each request over it has this among its extensions.
#[derive(Clone, Debug)]
pub struct Peer(Arc<[San]>);

impl Peer {
    /// Whoever showed this certificate, which is known to be good, or none.
    pub fn new(certificate: Option<&CertificateDer<'_>>) -> Self {
        let certificate = certificate.and_then(|one| EndEntityCert::try_from(one).ok());
        let names = certificate.iter().flat_map(|certificate| {
            let uris = certificate.valid_uri_names();
            let uris = uris.map(|uri| San::Uri(uri.into()));
            let hosts = certificate.valid_dns_names();
            uris.chain(hosts.map(|host| San::Dns(host.to_ascii_lowercase().into())))
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into())
    }

    /// A request that says so.
    pub fn introduces<B>(self, mut request: Request<B>) -> Request<B> {
        request.extensions_mut().insert(self);
        request
    }

    /// What the certificate calls it.
    pub(super) fn names(&self) -> &[San] {
        &self.0
    }
}

/// A name that a certificate gives, one of its subject alternative names. Which kind it is counts: an authority may be bound to
/// hosts of a domain, and free to write any URI.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(
    with = "String",
    extend("pattern" = r"^([A-Za-z][A-Za-z0-9+.-]*:[!-~]+|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)$")
)]
pub enum San {
    /// A URI, letter by letter.
    Uri(Box<str>),
    /// A host's name, in small letters.
    Dns(Box<str>),
}

impl TryFrom<String> for San {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) && is_printed(rest) => {
                Ok(Self::Uri(text.into()))
            }
            None if is_host(&text) => Ok(Self::Dns(text.to_ascii_lowercase().into())),
            _ => Err(
                "must be a name as the caller's certificate has it (SAN): a URI such as \
                 \"spiffe://example.org/campaign\", or a host such as \"campaign.example.org\", without *",
            ),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+.-".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(plain)
}

fn is_printed(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_host(text: &str) -> bool {
    DnsName::try_from(text).is_ok() && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn san(text: &str) -> Result<San, &'static str> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_name_is_a_uri_or_a_host() {
        for (text, name) in [
            ("spiffe://a/b", San::Uri("spiffe://a/b".into())),
            ("urn:a:B", San::Uri("urn:a:B".into())),
            ("A.example", San::Dns("a.example".into())),
            ("campaign", San::Dns("campaign".into())),
        ] {
            assert_eq!(san(text), Ok(name));
        }
        for wrong in [
            "", " ", "a b", "spiffe:", ":a", "1a:b", "a:b c", "a:\u{e4}", "*", "*.a", "a..b", "a.",
            "10.0.0.1", "a/b", "\u{e4}",
        ] {
            assert!(san(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_certificate_calls_by_its_uris_and_hosts_and_by_nothing_else() {
        let mut params = CertificateParams::new(["B.example".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "common.example");
        params.subject_alt_names.extend([
            SanType::URI("spiffe://a/b".try_into().unwrap()),
            SanType::URI("spiffe://a/b".try_into().unwrap()),
            SanType::URI("plain.example".try_into().unwrap()),
            SanType::Rfc822Name("a@mail.example".try_into().unwrap()),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ]);
        let one = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let peer = Peer::new(Some(one.der()));
        let uri = |text: &str| San::Uri(text.into());
        let names = [
            uri("plain.example"),
            uri("spiffe://a/b"),
            San::Dns("b.example".into()),
        ];
        assert_eq!(peer.names(), names);
        assert!(Peer::new(None).names().is_empty());
        let params = CertificateParams::default();
        let bare = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(Peer::new(Some(bare.der())).names().is_empty());
    }
}
