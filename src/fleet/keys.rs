//! The keys of `shared.encryption_key_file`: the first seals, all open, the last one keys the names.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What seals and opens pages. Without any key they are not sealed.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<(String, RandomizedNonceKey)>,
    last: Option<Zeroizing<Vec<u8>>>,
}

impl Keys {
    /// Reads a file with a line a key, `ID:base64 of 32 bytes`.
    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let file = Secret::from_file(path).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(file.expose()).unwrap_or("\u{fffd}");
        let mut found = Self::default();
        for (n, line) in text.lines().enumerate() {
            let refused = |why: &str| {
                Err(format!(
                    "{}:{}: {why}: write a line such as 2026-11:BASE64, with the base64 of 32 bytes",
                    path.display(),
                    n + 1
                ))
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((id, key)) = line.split_once(':') else {
                return refused("is no ID, colon and key");
            };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(plain) {
                return refused("the ID must be 1 to 32 of A-Z a-z 0-9 . _ -");
            }
            if found.keys.iter().any(|(other, _)| other == id) {
                return refused("the ID is that of another line");
            }
            let Ok(bytes) = STANDARD.decode(key.trim()).map(Zeroizing::new) else {
                return refused("the key is no base64");
            };
            match RandomizedNonceKey::new(&AES_256_GCM, &bytes) {
                Ok(key) if bytes.len() == 32 => found.keys.push((id.to_owned(), key)),
                _ => return refused("the key is not of 32 bytes"),
            }
            found.last = Some(bytes);
        }
        match found.keys.is_empty() {
            true => Err(format!(
                "{}: holds no key: write a line such as 2026-11:BASE64",
                path.display()
            )),
            false => Ok(found),
        }
    }

    /// What the names are keyed with.
    pub(super) fn for_names(&self) -> Option<&[u8]> {
        self.last.as_ref().map(|last| last.as_slice())
    }

    /// The ID of the key that seals, where there is one.
    pub(super) fn sealing(&self) -> Option<&str> {
        self.keys.first().map(|(id, _)| id.as_str())
    }

    /// Seals what is to be read only together with `beside`: nonce, then text and tag. Nothing without a key.
    pub(super) fn seal(&self, mut text: Vec<u8>, beside: &[u8]) -> Option<Vec<u8>> {
        let (_, key) = self.keys.first()?;
        let nonce = key
            .seal_in_place_append_tag(Aad::from(beside), &mut text)
            .ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        Some(sealed)
    }

    /// Opens what was sealed with the key of this ID, if it is whole and what is beside it is the same.
    pub(super) fn open(&self, id: &str, sealed: &[u8], beside: &[u8]) -> Option<Vec<u8>> {
        let (_, key) = self.keys.iter().find(|(other, _)| other == id)?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = sealed.to_vec();
        let length = key
            .open_in_place(nonce, Aad::from(beside), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    }
}

/// The IDs, and nothing of the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|(id, _)| id))
            .finish()
    }
}

const LONGEST_ID: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys, String> {
        let name = format!("keys-{}-{:x}", std::process::id(), text.len());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).unwrap();
        let keys = Keys::from_file(&file);
        std::fs::remove_file(&file).unwrap();
        keys
    }

    fn line(id: &str, byte: u8) -> String {
        format!("{id}:{}\n", STANDARD.encode([byte; 32]))
    }

    #[test]
    fn the_first_key_seals_all_open_and_the_last_keys_the_names() {
        let (old, new) = (line("old", 1), line("new", 2));
        let before = keys(&old).unwrap();
        let after = keys(&format!("# turned over in November\n{new}\n{old}")).unwrap();
        let sealed = before.seal(b"page".to_vec(), b"name").unwrap();
        assert_eq!(after.open("old", &sealed, b"name").unwrap(), b"page");
        assert_eq!(
            (before.sealing(), after.sealing()),
            (Some("old"), Some("new"))
        );
        assert_eq!(before.for_names(), after.for_names());
        let sealed = after.seal(b"page".to_vec(), b"name").unwrap();
        assert_eq!(
            before.open("new", &sealed, b"name"),
            None,
            "it does not know that key"
        );
    }

    #[test]
    fn what_was_moved_or_changed_does_not_open() {
        let keys = keys(&line("k", 7)).unwrap();
        let sealed = keys.seal(b"page".to_vec(), b"name").unwrap();
        assert_eq!(keys.open("k", &sealed, b"another"), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open("k", &changed, b"name"), None, "byte {at}");
            assert_eq!(keys.open("k", &sealed[..at], b"name"), None, "{at} bytes");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_line_and_without_its_text() {
        for (text, why) in [
            ("hunter2\n", "no ID"),
            ("a b:hunter2\n", "the ID must be"),
            ("k:hunter2!\n", "no base64"),
            ("k:aHVudGVyMg==\n", "not of 32 bytes"),
            ("# only a comment\n", "holds no key"),
            (&(line("k", 1) + &line("k", 2)), "that of another"),
        ] {
            let refused = keys(text).unwrap_err();
            assert!(refused.contains(why), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
