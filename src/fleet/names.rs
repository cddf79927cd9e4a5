//! What things are called in the shared store: names from which nothing can be read.
//!
//! An account, a list, a page each have a name that is a keyed hash of theirs. It is keyed with the last key of
//! `shared.encryption_key_file`; without such a file with nothing but the prefix, and then whoever reads the store can
//! tell whether a guess of an id was right, though not read one.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::contacts::{Forwarded, ListKey, PageKey};

/// Makes names.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    key: hmac::Key,
}

/// A page, as the shared store knows it. Its text in clear is what it is sealed with, and never leaves the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) account: String,
    pub(super) list: String,
    pub(super) page: String,
    pub(super) clear: Vec<u8>,
}

impl Names {
    pub(super) fn new(prefix: &str, key: Option<&[u8]>) -> Self {
        // Of a key for several uses each gets its own.
        let root = hmac::Key::new(HMAC_SHA256, key.unwrap_or(b"no key"));
        let own = hmac::sign(&root, format!("contacts-gateway names {prefix}").as_bytes());
        Self {
            prefix: prefix.to_owned(),
            key: hmac::Key::new(HMAC_SHA256, own.as_ref()),
        }
    }

    /// A page that is fetched with these fields of the caller's.
    pub(super) fn page(&self, key: &PageKey, sent: &Forwarded) -> Name {
        let mut clear = Vec::new();
        let mut part = |bytes: &[u8]| {
            clear.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            clear.extend_from_slice(bytes);
        };
        part(key.target().as_bytes());
        for (name, value) in sent.iter() {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        Name {
            account: self.account(key.list.account()),
            list: self.list(&key.list),
            page: self.hashed(b'p', &[&clear]),
            clear,
        }
    }

    pub(super) fn account(&self, account: &str) -> String {
        self.hashed(b'a', &[account.as_bytes()])
    }

    pub(super) fn list(&self, list: &ListKey) -> String {
        let parts = [list.stream(), list.list(), list.account()];
        self.hashed(b'l', &parts.map(str::as_bytes))
    }

    /// What tells replicas with one key from those with another.
    pub(super) fn check(&self) -> String {
        self.hashed(b'c', &[])
    }

    /// Of a place that a replica can have.
    pub(super) fn seat(&self, place: &str) -> String {
        self.hashed(b's', &[place.as_bytes()])
    }

    /// A part of a forget; parts that are not named have none.
    pub(super) fn part(&self, kind: u8, text: &str) -> String {
        self.hashed(kind, &[text.as_bytes()])
    }

    /// A key that is the fleet's.
    pub(super) fn ours(&self, what: &str) -> String {
        format!("{}:{{fleet}}:{what}", self.prefix)
    }

    /// A key that is an account's. All of them are in one slot of a cluster, by the braces.
    pub(super) fn of_account(&self, account: &str, what: &str) -> String {
        format!("{}:{{{account}}}:{what}", self.prefix)
    }

    /// 16 bytes, as 22 characters.
    fn hashed(&self, kind: u8, parts: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[kind]);
        for part in parts {
            context.update(&(part.len() as u32).to_be_bytes());
            context.update(part);
        }
        URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..16])
    }
}
