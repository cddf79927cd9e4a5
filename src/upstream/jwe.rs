//! A token wrapped for the vendor's eyes only: nested compact JWE (RFC 7516), RSA-OAEP-256 and A256GCM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Who can open what is sealed: the vendor, by its public key.
pub(super) struct Recipient(OaepPublicEncryptingKey);

impl Recipient {
    pub(super) fn new(key: PublicEncryptingKey) -> Result<Self, Unspecified> {
        OaepPublicEncryptingKey::new(key).map(Self)
    }

    /// Seals a signed token. Key and nonce are new each time, so none is ever used twice.
    pub(super) fn seal(&self, token: &str) -> Result<String, Unspecified> {
        let header = URL_SAFE_NO_PAD.encode(HEADER);
        let mut content_key = Zeroizing::new([0; 32]);
        rand::fill(&mut *content_key)?;
        let mut nonce = [0; 12];
        rand::fill(&mut nonce)?;

        let mut wrapped = vec![0; self.0.ciphertext_size()];
        let wrapped = self
            .0
            .encrypt(&OAEP_SHA256_MGF1SHA256, &*content_key, &mut wrapped, None)?;
        let mut text = token.as_bytes().to_vec();
        let tag = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*content_key)?)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(header.as_bytes()),
                &mut text,
            )?;
        Ok([
            header,
            URL_SAFE_NO_PAD.encode(wrapped),
            URL_SAFE_NO_PAD.encode(nonce),
            URL_SAFE_NO_PAD.encode(text),
            URL_SAFE_NO_PAD.encode(tag),
        ]
        .join("."))
    }
}

/// `cty` says that a JWT is inside (RFC 7519 5.2).
const HEADER: &str = r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","cty":"JWT"}"#;

/// Opens what was sealed, step by step as RFC 7516 5.2 has it: the vendor's half, for tests.
#[cfg(test)]
pub(super) fn open(
    sealed: &str,
    key: aws_lc_rs::rsa::PrivateDecryptingKey,
) -> Result<String, Unspecified> {
    let encoded: Vec<&str> = sealed.split('.').collect();
    let parts: Vec<Vec<u8>> = encoded
        .iter()
        .map(|part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Unspecified))
        .collect::<Result<_, _>>()?;
    let [header, wrapped, nonce, text, tag] = parts.as_slice() else {
        return Err(Unspecified);
    };
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(header).unwrap(),
        serde_json::json!({"alg": "RSA-OAEP-256", "enc": "A256GCM", "cty": "JWT"})
    );
    assert_eq!((nonce.len(), tag.len()), (12, 16));
    let key = aws_lc_rs::rsa::OaepPrivateDecryptingKey::new(key)?;
    let mut content_key = vec![0; key.min_output_size()];
    let content_key = key.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut content_key, None)?;
    let mut sealed = [text.as_slice(), tag].concat();
    let opened = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, content_key)?).open_in_place(
        Nonce::try_assume_unique_for_key(nonce)?,
        Aad::from(encoded[0].as_bytes()),
        &mut sealed,
    )?;
    Ok(String::from_utf8(opened.to_vec()).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::test_keys::RSA;

    #[test]
    fn only_the_private_key_opens_what_is_sealed() {
        let recipient = Recipient::new(RSA.public_key()).unwrap();
        let sealed = recipient.seal("head.claims.signature").unwrap();
        assert_eq!(open(&sealed, RSA.clone()).unwrap(), "head.claims.signature");
        let stranger =
            aws_lc_rs::rsa::PrivateDecryptingKey::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
        assert!(open(&sealed, stranger.unwrap()).is_err());
    }

    #[test]
    fn nothing_is_used_twice() {
        let recipient = Recipient::new(RSA.public_key()).unwrap();
        let [one, other] = [(); 2].map(|()| recipient.seal("token").unwrap());
        let pairs: Vec<_> = one.split('.').zip(other.split('.')).collect();
        assert_eq!(pairs.len(), 5);
        assert_eq!(pairs[0].0, pairs[0].1, "the header is the same");
        for (one, other) in &pairs[1..] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn no_part_of_a_sealed_token_can_be_changed() {
        let sealed = Recipient::new(RSA.public_key()).unwrap().seal("token");
        let sealed = sealed.unwrap();
        let parts: Vec<&str> = sealed.split('.').collect();
        for at in 1..parts.len() {
            let mut bytes = URL_SAFE_NO_PAD.decode(parts[at]).unwrap();
            bytes[0] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(bytes);
            let mut parts = parts.clone();
            parts[at] = &changed;
            assert!(open(&parts.join("."), RSA.clone()).is_err(), "part {at}");
        }
    }
}
