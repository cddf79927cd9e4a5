//! Secrets: read from a file or the environment, wiped when dropped, impossible to print.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

/// The most bytes of a secret in a file: a key of RSA with 16,384 bits has a fifth of it.
const MOST: usize = 64 * 1024;

/// Bytes that must not be seen. `Debug` shows stars; there is no `Display`, no `Clone`, no `Serialize`.
pub struct Secret(Zeroizing<Vec<u8>>);

/// Tells what is secret from anything else without holding it. It is for comparing in this process and for nothing else:
/// whoever saw it could try out what the secret may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Print([u8; 32]);

impl Print {
    /// Of all that a digest was made of.
    pub fn of(digest: digest::Context) -> Self {
        let mut print = [0; 32];
        print.copy_from_slice(digest.finish().as_ref());
        Self(print)
    }

    /// A short tag that can be shown: keyed anew in every process, so it tells one print from another there, and nothing
    /// anywhere else.
    pub fn tag(&self) -> String {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        format!("{:08x}", KEY.hash_one(self.0) as u32)
    }

    /// The bytes, to be part of another print.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret could not be read. Says where it was looked for, never what was found.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    /// The file is missing, or may not be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said, or that it is too large.
        reason: String,
    },
    /// There is nothing in the file, or only the end of a line.
    #[error("{}: is empty", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// The environment has no such variable.
    #[error("environment variable {name}: is not set")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The variable is set to nothing.
    #[error("environment variable {name}: is empty")]
    EmptyVariable {
        /// The variable.
        name: String,
    },
}

impl Unreadable {
    /// What is wrong, without where.
    pub fn why(&self) -> String {
        match self {
            Self::File { reason, .. } => format!("cannot be read: {reason}"),
            Self::Unset { .. } => "is not set".into(),
            Self::EmptyFile { .. } | Self::EmptyVariable { .. } => "is empty".into(),
        }
    }
}

impl Secret {
    /// Takes bytes over. They are wiped when the secret is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a file. One trailing LF or CRLF is not part of the secret.
    ///
    /// # Errors
    /// The file cannot be read, or holds nothing.
    pub fn from_file(path: &Path) -> Result<Self, Unreadable> {
        let bytes = Self::bytes(path).map_err(|error| Unreadable::File {
            path: path.into(),
            reason: error.to_string(),
        })?;
        let secret = match bytes.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => &bytes,
        };
        match secret {
            [] => Err(Unreadable::EmptyFile { path: path.into() }),
            _ => Ok(Self::new(secret.to_vec())),
        }
    }

    fn bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        // Room for all at once: a vector that grows leaves what it held behind. Nor is a device read for ever.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MOST + 1));
        let file = File::open(path)?;
        file.take(MOST as u64 + 1).read_to_end(&mut bytes)?;
        match bytes.len() {
            0..=MOST => Ok(bytes),
            _ => Err(io::Error::other(format!(
                "it has more than {MOST} bytes, which no secret has"
            ))),
        }
    }

    /// Reads a variable of the environment, exactly as it is.
    ///
    /// # Errors
    /// The variable is not set, or holds nothing.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one home of secrets from the environment"
    )]
    pub fn from_env(name: &str) -> Result<Self, Unreadable> {
        match std::env::var_os(name) {
            Some(text) if text.is_empty() => Err(Unreadable::EmptyVariable { name: name.into() }),
            // Whatever it is: a key need not be text.
            Some(text) => Ok(Self::new(text.into_vec())),
            None => Err(Unreadable::Unset { name: name.into() }),
        }
    }

    /// The bytes themselves. Every use of this is a place to look at twice.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_of_line_is_not_part_of_a_secret() {
        let file = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        for (written, read) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret\n"),
            (" s3cret \r", " s3cret \r"),
        ] {
            std::fs::write(&file, written).unwrap();
            assert_eq!(Secret::from_file(&file).unwrap().expose(), read.as_bytes());
        }
        for nothing in ["", "\n", "\r\n"] {
            std::fs::write(&file, nothing).unwrap();
            let refused = Secret::from_file(&file).unwrap_err();
            assert_eq!(refused, Unreadable::EmptyFile { path: file.clone() });
        }
        std::fs::write(&file, vec![b'x'; MOST]).unwrap();
        assert_eq!(Secret::from_file(&file).unwrap().expose().len(), MOST);
        let endless = Secret::from_file(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.to_string().contains("more than"), "{endless}");
        std::fs::remove_file(&file).unwrap();
        let missing = Secret::from_file(&file).unwrap_err().to_string();
        assert!(
            missing.contains(file.to_str().unwrap()),
            "names the file: {missing}"
        );
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"s3cret".to_vec())), "***");
    }
}
