//! The vendor's side of an app: what it knows of the app's key, and which tokens it accepts.

use std::fmt;
use std::io;
use std::sync::Arc;

use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::jwe;
use crate::contacts::StreamId;

/// An app as the vendor knows it.
#[derive(Clone)]
pub struct App {
    /// The app's id.
    pub stream: StreamId,
    /// What the claim `appId` has to be.
    pub client_id: String,
    /// How its tokens are signed: HS256, HS512, RS256 or RS512.
    pub algorithm: Algorithm,
    /// The client secret, or the public key.
    pub key: DecodingKey,
    /// Whether a token needs a `jti` of its own, and may live an hour at most.
    pub enforce_jti: bool,
    /// Where the app enforces JWE: the platform's private key that tokens are decrypted with.
    pub decrypt: Option<Arc<OaepPrivateDecryptingKey>>,
}

/// What a caller of the vendor's has to know. This one may be printed: it opens nothing but the stand-in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The app's id, `st-…`.
    pub stream: StreamId,
    /// `cs-…`.
    pub client_id: String,
    /// 32 random bytes, base64url.
    pub secret: String,
}

/// A key that cannot be used. Says why, never what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot be used: {0}")]
pub struct BadKey(String);

impl App {
    /// An app with the documented algorithm.
    pub fn hs256(stream: StreamId, client_id: &str, secret: &[u8]) -> Self {
        let key = DecodingKey::from_secret(secret);
        Self::new(stream, client_id, Algorithm::HS256, key)
    }

    /// An app with HS512.
    pub fn hs512(stream: StreamId, client_id: &str, secret: &[u8]) -> Self {
        let key = DecodingKey::from_secret(secret);
        Self::new(stream, client_id, Algorithm::HS512, key)
    }

    /// An app with RS256, and its public key as PEM.
    ///
    /// # Errors
    /// It is not an RSA public key.
    pub fn rs256(stream: StreamId, client_id: &str, public_pem: &[u8]) -> Result<Self, BadKey> {
        let key = DecodingKey::from_rsa_pem(public_pem).map_err(bad)?;
        Ok(Self::new(stream, client_id, Algorithm::RS256, key))
    }

    /// An app with RS512, and its public key as PEM.
    ///
    /// # Errors
    /// It is not an RSA public key.
    pub fn rs512(stream: StreamId, client_id: &str, public_pem: &[u8]) -> Result<Self, BadKey> {
        let key = DecodingKey::from_rsa_pem(public_pem).map_err(bad)?;
        Ok(Self::new(stream, client_id, Algorithm::RS512, key))
    }

    /// The same app, enforcing `jti`.
    pub fn enforcing_jti(self) -> Self {
        Self {
            enforce_jti: true,
            ..self
        }
    }

    /// The same app, enforcing JWE, and the platform's private key as PEM (PKCS#8).
    ///
    /// # Errors
    /// It is not an RSA private key.
    pub fn enforcing_jwe(self, private_pem: &[u8]) -> Result<Self, BadKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(private_pem).map_err(bad)?;
        let key = PrivateDecryptingKey::from_pkcs8(der.secret_pkcs8_der()).map_err(bad)?;
        let key = OaepPrivateDecryptingKey::new(key).map_err(bad)?;
        Ok(Self {
            decrypt: Some(Arc::new(key)),
            ..self
        })
    }

    fn new(stream: StreamId, client_id: &str, algorithm: Algorithm, key: DecodingKey) -> Self {
        Self {
            stream,
            client_id: client_id.into(),
            algorithm,
            key,
            enforce_jti: false,
            decrypt: None,
        }
    }

    /// Judges a token. Times are seconds since 1970. What is given back has to be seen for the first time.
    pub(super) fn check(
        &self,
        token: &str,
        now: f64,
        leeway: f64,
    ) -> Result<Option<OneUse>, &'static str> {
        let signed = match &self.decrypt {
            None => token.to_owned(),
            Some(key) => jwe::decrypted(token, key).ok_or("Unable to decrypt the JWE token")?,
        };
        let claims = jsonwebtoken::decode::<Claims>(&signed, &self.key, &unhurried(self.algorithm))
            .map_err(|_| "Invalid JWT token")?
            .claims;
        if claims.app_id.as_deref() != Some(self.client_id.as_str()) {
            return Err("appId is missing in the JWT token, or is not the app's client id");
        }
        let expires = claims.exp.ok_or("exp is missing in the JWT token")?;
        if now >= expires + leeway {
            return Err("JWT token has expired");
        }
        if claims.iat.is_some_and(|issued| issued > now + leeway) {
            return Err("JWT token was issued in the future");
        }
        if !self.enforce_jti {
            return Ok(None);
        }
        let jti = claims
            .jti
            .filter(|jti| !jti.is_empty())
            .ok_or("jti is missing in the JWT token")?;
        if expires > now + LONGEST_WITH_JTI + leeway {
            return Err("JWT token must expire within 1 hour");
        }
        Ok(Some(OneUse {
            jti: format!("{}/{jti}", self.client_id),
            until: expires + leeway,
        }))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("stream", &self.stream)
            .field("client_id", &self.client_id)
            .field("algorithm", &self.algorithm)
            .field("enforce_jti", &self.enforce_jti)
            .field("enforce_jwe", &self.decrypt.is_some())
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// New ones, from the system's random bytes.
    pub(super) fn fresh() -> io::Result<Self> {
        let (mut stream, mut client, mut secret) = ([0; 16], [0; 16], [0; 32]);
        for bytes in [&mut stream[..], &mut client[..], &mut secret[..]] {
            rand::fill(bytes).map_err(io::Error::other)?;
        }
        let id = |bytes| uuid::Builder::from_random_bytes(bytes).into_uuid();
        Ok(Self {
            stream: format!("st-{}", id(stream))
                .parse()
                .map_err(io::Error::other)?,
            client_id: format!("cs-{}", id(client)),
            secret: BASE64_URL_SAFE_NO_PAD.encode(secret),
        })
    }
}

/// A token id that may be used once, and how long it has to be remembered (seconds since 1970).
#[derive(Debug, PartialEq)]
pub(super) struct OneUse {
    pub(super) jti: String,
    pub(super) until: f64,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "appId")]
    app_id: Option<String>,
    exp: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
}

/// The signature only. The library would read the machine's clock for the times, and the vendor's may differ.
fn unhurried(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn bad(error: impl fmt::Display) -> BadKey {
    BadKey(error.to_string())
}

/// Seconds.
const LONGEST_WITH_JTI: f64 = 3600.0;

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;
    use base64::prelude::BASE64_STANDARD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const NOW: f64 = 1_000_000.5;

    fn app() -> App {
        App::hs256("st-1".parse().unwrap(), "cs-1", b"secret")
    }

    fn token(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, key).unwrap()
    }

    fn hs(claims: &Value) -> String {
        token(
            Algorithm::HS256,
            &EncodingKey::from_secret(b"secret"),
            claims,
        )
    }

    #[test]
    fn a_token_is_judged_by_the_vendors_clock() {
        let table = [
            (json!({"appId": "cs-1", "exp": 1_000_001}), true),
            (
                json!({"appId": "cs-1", "exp": 1_000_001, "iat": 1_000_000}),
                true,
            ),
            (json!({"appId": "cs-1", "exp": 1_000_000}), false),
            (json!({"appId": "cs-1"}), false),
            (json!({"appId": "cs-1", "exp": "1000001"}), false),
            (
                json!({"appId": "cs-1", "exp": 1_000_300, "iat": 1_000_001}),
                false,
            ),
            (json!({"appId": "cs-2", "exp": 1_000_300}), false),
            (json!({"appid": "cs-1", "exp": 1_000_300}), false),
            (json!({"exp": 1_000_300}), false),
        ];
        for (claims, want) in table {
            assert_eq!(
                app().check(&hs(&claims), NOW, 0.0).is_ok(),
                want,
                "{claims}"
            );
        }
        let late = hs(&json!({"appId": "cs-1", "exp": 1_000_000, "iat": 1_000_001}));
        assert!(app().check(&late, NOW, 1.0).is_ok(), "within the leeway");
    }

    #[test]
    fn a_token_needs_the_apps_own_signature_and_algorithm() {
        let claims = json!({"appId": "cs-1", "exp": 2_000_000});
        let secret = EncodingKey::from_secret(b"secret");
        let hs512 = token(Algorithm::HS512, &secret, &claims);
        let forged = token(
            Algorithm::HS256,
            &EncodingKey::from_secret(b"guess"),
            &claims,
        );
        for wrong in [hs512.as_str(), &forged, "", "a.b.c"] {
            assert!(app().check(wrong, NOW, 0.0).is_err(), "{wrong}");
        }
        let app = App::hs512("st-1".parse().unwrap(), "cs-1", b"secret");
        assert!(app.check(&hs512, NOW, 0.0).is_ok());
    }

    #[test]
    fn where_jti_is_enforced_a_token_has_one_and_lives_an_hour_at_most() {
        let app = app().enforcing_jti();
        for (claims, want) in [
            (
                json!({"appId": "cs-1", "exp": 1_003_600, "jti": "a"}),
                Ok(Some("cs-1/a")),
            ),
            (
                json!({"appId": "cs-1", "exp": 1_003_601, "jti": "a"}),
                Err("JWT token must expire within 1 hour"),
            ),
            (
                json!({"appId": "cs-1", "exp": 1_000_300, "jti": ""}),
                Err("jti is missing in the JWT token"),
            ),
            (
                json!({"appId": "cs-1", "exp": 1_000_300}),
                Err("jti is missing in the JWT token"),
            ),
        ] {
            let judged = app.check(&hs(&claims), NOW, 0.0);
            let jti = judged.map(|once| once.map(|once| once.jti));
            assert_eq!(jti, want.map(|jti| jti.map(str::to_owned)), "{claims}");
        }
    }

    #[test]
    fn rsa_signs_and_where_jwe_is_enforced_wraps_the_token() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private_pem = pem("PRIVATE KEY", private.as_ref());
        let public_pem = pem("PUBLIC KEY", public.as_ref());
        let signing = EncodingKey::from_rsa_pem(private_pem.as_bytes()).unwrap();
        let claims = json!({"appId": "cs-1", "exp": 2_000_000});

        let stream: StreamId = "st-1".parse().unwrap();
        let app = App::rs256(stream.clone(), "cs-1", public_pem.as_bytes()).unwrap();
        let jws = token(Algorithm::RS256, &signing, &claims);
        assert_eq!(app.check(&jws, NOW, 0.0), Ok(None));
        let other = App::rs512(stream, "cs-1", public_pem.as_bytes()).unwrap();
        assert!(other.check(&jws, NOW, 0.0).is_err(), "RS512 is not RS256");

        let app = app.enforcing_jwe(private_pem.as_bytes()).unwrap();
        assert!(app.check(&jws, NOW, 0.0).is_err(), "not encrypted");
        let jwe = jwe::tests::wrapped(&jws, public.as_ref());
        assert_eq!(app.check(&jwe, NOW, 0.0), Ok(None));
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let text = BASE64_STANDARD.encode(der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    }
}
