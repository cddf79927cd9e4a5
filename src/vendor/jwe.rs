//! Encrypted tokens, as the platform opens them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The text within a compact JWE of RSA-OAEP-256 and A256GCM: RFC 7516 section 5.2.
pub(super) fn decrypted(token: &str, key: &OaepPrivateDecryptingKey) -> Option<String> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        enc: String,
        zip: Option<String>,
    }
    let mut parts = token.split('.');
    let protected = parts.next()?;
    let mut bytes = || BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok();
    let (wrapped, nonce, mut text, tag) = (bytes()?, bytes()?, bytes()?, bytes()?);
    if parts.next().is_some() {
        return None;
    }
    let header = BASE64_URL_SAFE_NO_PAD.decode(protected).ok()?;
    let header: Header = serde_json::from_slice(&header).ok()?;
    if header.alg != "RSA-OAEP-256" || header.enc != "A256GCM" || header.zip.is_some() {
        return None;
    }
    let mut content_key = vec![0; key.min_output_size()];
    let content_key = key
        .decrypt(&OAEP_SHA256_MGF1SHA256, &wrapped, &mut content_key, None)
        .ok()?;
    let content_key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, content_key).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
    text.extend_from_slice(&tag);
    let text = content_key
        .open_in_place(nonce, Aad::from(protected), &mut text)
        .ok()?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rsa::{
        KeySize, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
    };

    use super::*;

    #[test]
    fn a_token_comes_out_as_it_went_in_or_not_at_all() {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        let jwe = wrapped("a.b.c", public.as_ref());
        assert_eq!(decrypted(&jwe, &key).as_deref(), Some("a.b.c"));
        let (start, tag) = jwe.rsplit_once('.').unwrap();
        let first = if tag.starts_with('A') { 'B' } else { 'A' };
        let (header, rest) = start.split_once('.').unwrap();
        let other = header.replace("ey", "eyA");
        for wrong in [
            format!("{start}.{first}{}", &tag[1..]),
            format!("{jwe}.x"),
            format!("{other}.{rest}.{tag}"),
            start.to_owned(),
            "a.b.c".to_owned(),
        ] {
            assert_eq!(decrypted(&wrong, &key), None, "{wrong}");
        }
    }

    /// A token as an app sends it whose platform enforces JWE.
    pub(in crate::vendor) fn wrapped(jws: &str, public: &[u8]) -> String {
        let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let protected = b64(br#"{"alg":"RSA-OAEP-256","enc":"A256GCM","cty":"JWT"}"#);
        let (content_key, nonce) = ([7; 32], [9; 12]);
        let public = PublicEncryptingKey::from_der(public).unwrap();
        let public = OaepPublicEncryptingKey::new(public).unwrap();
        let mut sealed_key = vec![0; public.ciphertext_size()];
        let sealed_key = public
            .encrypt(&OAEP_SHA256_MGF1SHA256, &content_key, &mut sealed_key, None)
            .unwrap();
        let mut text = jws.as_bytes().to_vec();
        let tag = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &content_key).unwrap())
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(protected.as_bytes()),
                &mut text,
            )
            .unwrap();
        let parts = [&*sealed_key, &nonce, &text, tag.as_ref()].map(b64);
        format!("{protected}.{}", parts.join("."))
    }
}
