//! What can be wrong with the credentials, or merely looks so. None of it ever holds a secret's text.

use std::fmt;

use super::Stream;
use crate::secret::Unreadable;
use crate::upstream::pem::Wrong;
use crate::upstream::token::Algorithm;

/// An entry that cannot be used: which, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The entry's place in the settings, from 0.
    pub entry: usize,
    /// The stream that it is for.
    pub stream: Stream,
    /// What is wrong with it, and what to do.
    pub problem: Problem,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entry, stream, problem) = (self.entry, &self.stream, &self.problem);
        write!(f, "credentials[{entry}] (stream \"{stream}\"): {problem}")
    }
}

impl std::error::Error for Mistake {}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another entry is for the same stream.
    #[error("credentials[{first}] is for the same stream: keep one of the two")]
    SameStream {
        /// The other entry.
        first: usize,
    },
    /// Nothing says where the secret is.
    #[error("none of secret_file, key_file and secret_env is set: set one of them")]
    NoSource,
    /// The secret would be in several places.
    #[error("{} are set: keep one of them", .0.join(" and "))]
    ManySources(Vec<&'static str>),
    /// A key is given where a secret is used.
    #[error(
        "key_file: {path}: {} is keyed by a secret, not by an RSA key: use secret_file or secret_env, or the algorithm RS256 or RS512", algorithm.name()
    )]
    KeyForHmac {
        /// The file.
        path: String,
        /// What was to be done with it.
        algorithm: Algorithm,
    },
    /// The file or variable cannot be read, or is empty.
    #[error("{setting}: {reason}: {}", cure(reason))]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// Where it was looked for, and what happened.
        reason: Unreadable,
    },
    /// The file or variable was read, and is not the key that belongs there.
    #[error("{setting}: {place}: {wrong}")]
    WrongKey {
        /// The setting that names it.
        setting: &'static str,
        /// The file, or the variable.
        place: String,
        /// What it is instead.
        wrong: Wrong,
    },
    /// A token's times are whole seconds.
    #[error("token_lifetime: must be a whole number of seconds, for example \"5m\"")]
    Fraction,
    /// The vendor refuses `jti` with longer lives.
    #[error(
        "token_lifetime: the vendor takes tokens with jti for 1h at most: set it to \"1h\" or less"
    )]
    TooLongForJti,
}

fn cure(reason: &Unreadable) -> &'static str {
    match reason {
        Unreadable::File { .. } => "check its path, and that this process may read it",
        Unreadable::EmptyFile { .. } | Unreadable::EmptyVariable { .. } => "store the secret there",
        Unreadable::Unset { .. } => "set it for this process",
    }
}

/// An entry that can be used, but may not be meant so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The entry's place in the settings, from 0.
    pub entry: usize,
    /// The stream that it is for.
    pub stream: Stream,
    /// What looks wrong.
    pub doubt: Doubt,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entry, stream, doubt) = (self.entry, &self.stream, &self.doubt);
        write!(f, "credentials[{entry}] (stream \"{stream}\"): {doubt}")
    }
}

/// What looks wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// RFC 7518 3.2 wants a longer one. The vendor chose it, so it is used.
    #[error(
        "{setting}: {place}: the secret is shorter than the {least} bytes that {} asks for (RFC 7518 3.2): if the vendor lets you, use a longer one", algorithm.name()
    )]
    ShortSecret {
        /// The setting that names it.
        setting: &'static str,
        /// The file, or the variable.
        place: String,
        /// What is done with it.
        algorithm: Algorithm,
        /// How long it should be.
        least: usize,
    },
    /// The text of a key serves as the secret.
    #[error(
        "{setting}: {place}: a PEM is used as the secret of {}: is the algorithm RS256 or RS512?", algorithm.name()
    )]
    PemAsSecret {
        /// The setting that names it.
        setting: &'static str,
        /// The file, or the variable.
        place: String,
        /// What is done with it.
        algorithm: Algorithm,
    },
}
