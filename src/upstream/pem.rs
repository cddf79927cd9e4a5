//! Keys out of PEM text, and a plain reason where there is none: RSA keys for tokens, private keys of any kind for TLS.
//!
//! Read here and not by jsonwebtoken or a PEM crate, because both leave copies of a private key in memory that
//! nobody wipes. RSA private keys come out as PKCS#1, whatever they came in: the form that signing takes.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, PublicEncryptingKey, PublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

/// The sizes of RSA keys that are taken: fewer bits are weak (RFC 7518 3.3), more cannot be signed with.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a text is not the key that belongs there. Never says what was found beyond its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// No PEM at all.
    #[error(
        "holds no PEM: the text from -----BEGIN … KEY----- to -----END … KEY----- belongs there"
    )]
    NoPem,
    /// One line, as copied out of JSON or YAML.
    #[error("holds \\n as two characters: write the PEM with real ends of lines")]
    EscapedLines,
    /// PEM, but neither base64 nor a key inside.
    #[error("is damaged: no key can be read from its PEM, store it again")]
    Damaged,
    /// A key of another kind.
    #[error("holds {0}: an RSA key belongs there")]
    NotRsa(&'static str),
    /// A passphrase would be needed.
    #[error(
        "holds an encrypted key: store it without a passphrase, `openssl pkey -in FILE` takes it off"
    )]
    Encrypted,
    /// Something public where a private key belongs.
    #[error("holds {0}: the private key belongs there")]
    NotPrivate(&'static str),
    /// Something else where a public key belongs.
    #[error("holds {0}: the vendor's public key (-----BEGIN PUBLIC KEY-----) belongs there")]
    NotPublic(&'static str),
    /// Too weak, or too large to use.
    #[error("holds an RSA key of {0} bits: use one of 2048 to 8192")]
    Size(usize),
}

/// An RSA private key, PKCS#1 or PKCS#8, as the DER of PKCS#1.
pub(super) fn private_key(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Wrong> {
    let blocks = blocks(text);
    let block = blocks
        .iter()
        .find(|block| block.label.ends_with("PRIVATE KEY"))
        .or(blocks.first())
        .ok_or(Wrong::NoPem)?;
    if block.is_encrypted() {
        return Err(Wrong::Encrypted);
    }
    let der = match block.label {
        "RSA PRIVATE KEY" => block.der()?,
        "PRIVATE KEY" => {
            let der = block.der()?;
            let (algorithm, key) = pkcs8(&der).ok_or(Wrong::Damaged)?;
            is_rsa(algorithm)?;
            Zeroizing::new(key.to_vec())
        }
        "EC PRIVATE KEY" => return Err(Wrong::NotRsa("an EC key")),
        "OPENSSH PRIVATE KEY" => return Err(Wrong::NotRsa("a key in OpenSSH's own form")),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(Wrong::NotPrivate("a public key")),
        "CERTIFICATE" => return Err(Wrong::NotPrivate("a certificate")),
        _ => return Err(Wrong::NotPrivate("no key")),
    };
    let (_version, rest) = tagged(SEQUENCE, &der)
        .and_then(|(key, _)| tagged(INTEGER, key))
        .ok_or(Wrong::Damaged)?;
    of_good_size(rest)?;
    // Also checks that its parts belong together.
    KeyPair::from_der(&der).map_err(|_| Wrong::Damaged)?;
    Ok(der)
}

/// An RSA public key, SPKI or PKCS#1.
pub(super) fn public_key(text: &[u8]) -> Result<PublicEncryptingKey, Wrong> {
    let blocks = blocks(text);
    if blocks
        .iter()
        .any(|block| block.label.ends_with("PRIVATE KEY"))
    {
        return Err(Wrong::NotPublic("a private key"));
    }
    let block = blocks
        .iter()
        .find(|block| block.label.ends_with("PUBLIC KEY"))
        .or(blocks.first())
        .ok_or(Wrong::NoPem)?;
    let der = match block.label {
        "RSA PUBLIC KEY" => block.der()?,
        "PUBLIC KEY" => {
            let der = block.der()?;
            is_rsa(spki(&der).ok_or(Wrong::Damaged)?)?;
            der
        }
        "CERTIFICATE" => return Err(Wrong::NotPublic("a certificate")),
        _ => return Err(Wrong::NotPublic("no key")),
    };
    let key = PublicKey::from_der(&der).map_err(|_| Wrong::Damaged)?;
    let (pkcs1, _) = tagged(SEQUENCE, key.as_ref()).ok_or(Wrong::Damaged)?;
    of_good_size(pkcs1)?;
    let spki = key.as_der().map_err(|_| Wrong::Damaged)?;
    PublicEncryptingKey::from_der(spki.as_ref()).map_err(|_| Wrong::Damaged)
}

/// A private key of any kind, in the form that it came in. Who takes it over wipes it.
pub(crate) fn any_private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Wrong> {
    let blocks = blocks(text);
    let block = blocks
        .iter()
        .find(|block| block.label.ends_with("PRIVATE KEY"))
        .or(blocks.first())
        .ok_or(Wrong::NoPem)?;
    if block.is_encrypted() {
        return Err(Wrong::Encrypted);
    }
    let der = || block.der().map(|mut der| std::mem::take(&mut *der));
    match block.label {
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(der()?).into()),
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(der()?).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(der()?).into()),
        "OPENSSH PRIVATE KEY" => Err(Wrong::NotPrivate("a key in OpenSSH's own form")),
        "CERTIFICATE" => Err(Wrong::NotPrivate("a certificate")),
        _ => Err(Wrong::NotPrivate("no private key")),
    }
}

/// Whether a text is meant as PEM.
pub(super) fn looks_like_pem(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"-----BEGIN ")
}

struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

/// The PEM blocks of a text, in its order. What stands between them is nobody's business (RFC 7468 5.2).
fn blocks(text: &[u8]) -> Vec<Block<'_>> {
    let mut rest = std::str::from_utf8(text).unwrap_or_default();
    let mut found = Vec::new();
    while let Some((_, after)) = rest.split_once("-----BEGIN ")
        && let Some((label, after)) = after.split_once("-----")
        && let Some((body, after)) = after.split_once("-----END ")
    {
        found.push(Block { label, body });
        rest = after;
    }
    found
}

impl Block<'_> {
    fn is_encrypted(&self) -> bool {
        self.label == "ENCRYPTED PRIVATE KEY" || self.body.contains("Proc-Type: 4,ENCRYPTED")
    }

    fn der(&self) -> Result<Zeroizing<Vec<u8>>, Wrong> {
        if self.body.contains("\\n") {
            return Err(Wrong::EscapedLines);
        }
        // Both buffers are as large as they will ever be: growing would leave copies behind.
        let mut base64 = Zeroizing::new(Vec::with_capacity(self.body.len()));
        base64.extend(self.body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let mut der = Zeroizing::new(vec![0; base64.len()]);
        let len = STANDARD
            .decode_slice(&*base64, &mut der)
            .map_err(|_| Wrong::Damaged)?;
        der.truncate(len);
        Ok(der)
    }
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The algorithm and the key inside a `PrivateKeyInfo` (RFC 5208).
fn pkcs8(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, _) = tagged(SEQUENCE, der)?;
    let (_version, rest) = tagged(INTEGER, info)?;
    let (algorithm, rest) = tagged(SEQUENCE, rest)?;
    let (key, _) = tagged(OCTET_STRING, rest)?;
    Some((tagged(OID, algorithm)?.0, key))
}

/// The algorithm of a `SubjectPublicKeyInfo` (RFC 5280).
fn spki(der: &[u8]) -> Option<&[u8]> {
    let (info, _) = tagged(SEQUENCE, der)?;
    let (algorithm, _) = tagged(SEQUENCE, info)?;
    Some(tagged(OID, algorithm)?.0)
}

fn is_rsa(algorithm: &[u8]) -> Result<(), Wrong> {
    match algorithm {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1] => Ok(()),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1] => Err(Wrong::NotRsa("an EC key")),
        [0x2b, 0x65, 0x70] => Err(Wrong::NotRsa("an Ed25519 key")),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10] => {
            Err(Wrong::NotRsa("a key for RSA-PSS only"))
        }
        _ => Err(Wrong::NotRsa("a key of another kind")),
    }
}

/// Judges by the modulus, which comes next.
fn of_good_size(der: &[u8]) -> Result<(), Wrong> {
    let (modulus, _) = tagged(INTEGER, der).ok_or(Wrong::Damaged)?;
    let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
    let bits = modulus.get(zeros).map_or(0, |first| {
        (modulus.len() - zeros) * 8 - first.leading_zeros() as usize
    });
    if BITS.contains(&bits) {
        Ok(())
    } else {
        Err(Wrong::Size(bits))
    }
}

/// One DER element of this kind: its content, and what follows it.
fn tagged(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = len.iter().fold(0, |len, &byte| len << 8 | u32::from(byte));
            (usize::try_from(len).ok()?, rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(len))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::test_keys as keys;

    #[test]
    fn a_private_key_is_pkcs1_or_pkcs8_whatever_stands_around_it() {
        let want = private_key(keys::pkcs1().as_bytes()).unwrap();
        let crlf = keys::pkcs8().replace('\n', "\r\n");
        let bundle = format!(
            "Bag Attributes\n{}{}",
            keys::CERTIFICATE,
            keys::pkcs8().trim_end()
        );
        for text in [keys::pkcs8(), crlf, bundle] {
            assert_eq!(*private_key(text.as_bytes()).unwrap(), *want, "{text}");
        }
    }

    #[test]
    fn a_public_key_is_spki_or_pkcs1() {
        let want = keys::RSA.public_key().as_der().unwrap();
        for text in [keys::public(), keys::public_pkcs1()] {
            let key = public_key(text.as_bytes()).unwrap();
            assert_eq!(key.as_der().unwrap().as_ref(), want.as_ref(), "{text}");
        }
    }

    #[test]
    fn what_is_no_rsa_private_key_is_refused_for_its_own_reason() {
        let escaped = keys::pkcs8().trim_end().replace('\n', "\\n");
        let cut = keys::pkcs8().replacen("MII", "MIX", 1);
        let mixed = altered(&keys::pkcs1());
        for (text, want) in [
            ("s3cret", Wrong::NoPem),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", Wrong::NoPem),
            (
                "-----BEGIN PRIVATE KEY-----\n?\n-----END PRIVATE KEY-----",
                Wrong::Damaged,
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
                Wrong::Damaged,
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
                Wrong::Damaged,
            ),
            (&escaped, Wrong::EscapedLines),
            (&cut, Wrong::Damaged),
            (&mixed, Wrong::Damaged),
            (keys::EC, Wrong::NotRsa("an EC key")),
            (keys::EC_PKCS8, Wrong::NotRsa("an EC key")),
            (keys::ED25519, Wrong::NotRsa("an Ed25519 key")),
            (keys::ENCRYPTED, Wrong::Encrypted),
            (keys::ENCRYPTED_OLD, Wrong::Encrypted),
            (&keys::public(), Wrong::NotPrivate("a public key")),
            (&keys::public_pkcs1(), Wrong::NotPrivate("a public key")),
            (keys::CERTIFICATE, Wrong::NotPrivate("a certificate")),
            (keys::SMALL, Wrong::Size(1024)),
            (keys::SMALL_PKCS8, Wrong::Size(1024)),
        ] {
            assert_eq!(private_key(text.as_bytes()).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_rsa_public_key_is_refused_for_its_own_reason() {
        let both = keys::public() + &keys::pkcs8();
        for (text, want) in [
            ("s3cret", Wrong::NoPem),
            (
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
                Wrong::Damaged,
            ),
            (keys::EC_PUBLIC, Wrong::NotRsa("an EC key")),
            (keys::SMALL_PUBLIC, Wrong::Size(1024)),
            (keys::CERTIFICATE, Wrong::NotPublic("a certificate")),
            (&keys::pkcs8(), Wrong::NotPublic("a private key")),
            (&keys::pkcs1(), Wrong::NotPublic("a private key")),
            (keys::ENCRYPTED, Wrong::NotPublic("a private key")),
            (&both, Wrong::NotPublic("a private key")),
        ] {
            assert_eq!(public_key(text.as_bytes()).unwrap_err(), want, "{text}");
        }
    }

    /// One bit of the private exponent is another one.
    fn altered(pem: &str) -> String {
        let (label, body) = {
            let block = &blocks(pem.as_bytes())[0];
            (block.label.to_owned(), block.der().unwrap())
        };
        let mut der = body.to_vec();
        der[400] ^= 1;
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            STANDARD.encode(der)
        )
    }
}
