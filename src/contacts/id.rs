//! The three ids. Text becomes one of these at the edge, once; inside there is no other spelling.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::Error;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $part:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id of a text that is known to be one.
            pub(crate) fn known(text: &str) -> Self {
                Self(text.into())
            }

            /// # Errors
            /// The text is no such id.
            pub(crate) fn check(text: &str) -> Result<(), Error> {
                if path_safe(text) {
                    Ok(())
                } else {
                    Err(Error::BadRequest(concat!(
                        $part,
                        " must be 1 to 128 of A-Z a-z 0-9 . _ - and neither . nor .."
                    ).into()))
                }
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }
        }
    };
}

id!(
    /// An app of the vendor's, `st-…`.
    StreamId, "streamId"
);
id!(
    /// A contact list, `cl-…`.
    ContactListId, "contactListId"
);
id!(
    /// An account, 24 hex digits as the vendor writes them.
    AccountId, "accountId"
);

/// Some ids, or all there are.
#[derive(Clone, Debug)]
pub enum Reach<T> {
    /// All.
    All,
    /// These and no others.
    These(HashSet<T, foldhash::quality::RandomState>),
}

impl<T: Eq + Hash + Borrow<str>> Reach<T> {
    /// Whether this one is among them.
    pub fn covers(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(ids) => ids.contains(id),
        }
    }
}

const LONGEST_ID: usize = 128;

/// Whether a text can stand in a path as it is: no escape, no separator, no way up.
fn path_safe(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text != "." && text != ".." && plain(text.as_bytes())
}

/// Whether all are letters, digits, dots, lines and dashes. Every request has three ids, and one look at 16 bytes is all
/// the code there is for them: inlined, it was a fifteenth of what a hit runs through.
#[inline(never)]
fn plain(mut bytes: &[u8]) -> bool {
    fn all(bytes: &[u8]) -> bool {
        let plain = |b: u8| {
            let letter = (b | 0x20).wrapping_sub(b'a') < 26;
            let digit = b.wrapping_sub(b'0') < 10;
            letter | digit | (b == b'.') | (b == b'_') | (b == b'-')
        };
        bytes.iter().fold(true, |all, b| all & plain(*b))
    }
    // Of the last ones some are seen twice.
    while let Some(some) = bytes.first_chunk::<16>() {
        match bytes.len() - some.len() {
            _ if !all(some) => return false,
            0 => return true,
            left => bytes = &bytes[left.min(some.len())..],
        }
    }
    all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_path_safe_or_refused() {
        let longest = "a".repeat(128);
        for good in ["a", "st-0603182c-7ffb", "A.b_c-9", "...", ".a", &longest] {
            assert_eq!(good.parse::<StreamId>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(129);
        for bad in [
            "", ".", "..", "a/b", "a%2Fb", "a b", "a\0", "ä", "a;b", &too_long,
        ] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad:?} is refused");
        }
    }

    #[test]
    fn whatever_is_not_plain_is_found_wherever_it_stands() {
        for length in 1..=40 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    let wanted = byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                    assert_eq!(plain(&text), wanted, "{byte} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_names_the_part_and_not_the_text() {
        let Err(Error::BadRequest(detail)) = "x%0a".parse::<AccountId>() else {
            panic!("refused as a bad request")
        };
        assert!(detail.starts_with("accountId must be"), "{detail}");
        assert!(!detail.contains('%'), "{detail}");
    }
}
