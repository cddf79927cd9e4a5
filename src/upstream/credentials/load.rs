//! One entry on its way in: everything in it is judged, so that no mistake hides behind another.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest;
use jsonwebtoken::EncodingKey;

use super::{Doubt, Problem, Settings};
use crate::secret::{Print, Secret, Unreadable};
use crate::upstream::jwe::Recipient;
use crate::upstream::pem::{self, Wrong};
use crate::upstream::token::{Algorithm, Mint, Minter};

pub(super) struct Load<'a> {
    settings: &'a Settings,
    pub(super) problems: Vec<Problem>,
    pub(super) doubts: Vec<Doubt>,
    /// Of all that was read.
    digest: digest::Context,
}

impl<'a> Load<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(format!("{settings:?}").as_bytes());
        Self {
            settings,
            problems: Vec::new(),
            doubts: Vec::new(),
            digest,
        }
    }

    /// What tells this entry, its secret included, from any other.
    pub(super) fn print(self) -> Print {
        Print::of(self.digest)
    }

    /// What mints this entry's tokens; nothing if there are problems.
    pub(super) fn minter(&mut self) -> Option<Minter> {
        self.judge_lifetime();
        let key = self.key();
        let recipient = self.recipient();
        let settings = self.settings;
        Some(Minter::new(Mint {
            algorithm: settings.algorithm,
            key: key?,
            client_id: settings.client_id.as_str().to_owned(),
            subject: settings.subject.as_str().to_owned(),
            lifetime: settings.token_lifetime,
            jti: settings.jti,
            recipient: recipient?,
        }))
    }

    fn judge_lifetime(&mut self) {
        let lifetime = self.settings.token_lifetime;
        if lifetime.subsec_nanos() != 0 {
            self.problems.push(Problem::Fraction);
        }
        // Counted from iat. Since that is a minute ago, exp is within the hour even by a clock a minute behind ours.
        if self.settings.jti && lifetime > LONGEST_WITH_JTI {
            self.problems.push(Problem::TooLongForJti);
        }
    }

    fn key(&mut self) -> Option<EncodingKey> {
        let source = match sources(self.settings).as_slice() {
            [source] => *source,
            [] => return self.refuse(Problem::NoSource),
            several => {
                let settings = several.iter().map(Source::setting).collect();
                return self.refuse(Problem::ManySources(settings));
            }
        };
        let algorithm = self.settings.algorithm;
        if let (Source::KeyFile(path), false) = (source, algorithm.is_rsa()) {
            let path = path.display().to_string();
            return self.refuse(Problem::KeyForHmac { path, algorithm });
        }
        let secret = match source.read() {
            Ok(secret) => secret,
            Err(reason) => {
                return self.refuse(Problem::Unreadable {
                    setting: source.setting(),
                    reason,
                });
            }
        };
        self.digest.update(secret.expose());
        if algorithm.is_rsa() {
            match pem::private_key(secret.expose()) {
                Ok(der) => Some(EncodingKey::from_rsa_der(&der)),
                Err(wrong) => self.refuse(source.wrong(wrong)),
            }
        } else {
            self.doubt(source, secret.expose());
            Some(EncodingKey::from_secret(secret.expose()))
        }
    }

    fn doubt(&mut self, source: Source<'_>, secret: &[u8]) {
        let (setting, place) = (source.setting(), source.place());
        let algorithm = self.settings.algorithm;
        let least = match algorithm {
            Algorithm::Hs256 | Algorithm::Rs256 => 32,
            Algorithm::Hs512 | Algorithm::Rs512 => 64,
        };
        if pem::looks_like_pem(secret) {
            self.doubts.push(Doubt::PemAsSecret {
                setting,
                place,
                algorithm,
            });
        } else if secret.len() < least {
            self.doubts.push(Doubt::ShortSecret {
                setting,
                place,
                algorithm,
                least,
            });
        }
    }

    /// To whom tokens are encrypted, if to anybody.
    fn recipient(&mut self) -> Option<Option<Recipient>> {
        let Some(path) = encrypt_to(self.settings) else {
            return Some(None);
        };
        let source = Source::EncryptToFile(path);
        let text = match source.read() {
            Ok(text) => text,
            Err(reason) => {
                return self.refuse(Problem::Unreadable {
                    setting: source.setting(),
                    reason,
                });
            }
        };
        self.digest.update(text.expose());
        let key = pem::public_key(text.expose())
            .and_then(|key| Recipient::new(key).map_err(|_| Wrong::Damaged));
        match key {
            Ok(recipient) => Some(Some(recipient)),
            Err(wrong) => self.refuse(source.wrong(wrong)),
        }
    }

    fn refuse<T>(&mut self, problem: Problem) -> Option<T> {
        self.problems.push(problem);
        None
    }
}

/// Where a secret or key is read from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    SecretFile(&'a Path),
    KeyFile(&'a Path),
    SecretEnv(&'a str),
    EncryptToFile(&'a Path),
}

/// Every place where the secret would be, as set. One is right.
pub(super) fn sources(settings: &Settings) -> Vec<Source<'_>> {
    [
        given(&settings.secret_file).map(Source::SecretFile),
        given(&settings.key_file).map(Source::KeyFile),
        Some(settings.secret_env.as_str())
            .filter(|name| !name.is_empty())
            .map(Source::SecretEnv),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The file that holds the vendor's public key, if tokens are to be encrypted.
pub(super) fn encrypt_to(settings: &Settings) -> Option<&Path> {
    given(&settings.encrypt_to_file)
}

fn given(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

impl Source<'_> {
    /// The setting's name.
    pub(super) const fn setting(&self) -> &'static str {
        match self {
            Self::SecretFile(_) => "secret_file",
            Self::KeyFile(_) => "key_file",
            Self::SecretEnv(_) => "secret_env",
            Self::EncryptToFile(_) => "encrypt_to_file",
        }
    }

    /// The file's or variable's name, as [`Unreadable`] would write it.
    pub(super) fn place(&self) -> String {
        match self {
            Self::SecretFile(path) | Self::KeyFile(path) | Self::EncryptToFile(path) => {
                path.display().to_string()
            }
            Self::SecretEnv(name) => format!("environment variable {name}"),
        }
    }

    fn read(&self) -> Result<Secret, Unreadable> {
        match self {
            Self::SecretFile(path) | Self::KeyFile(path) | Self::EncryptToFile(path) => {
                Secret::from_file(path)
            }
            Self::SecretEnv(name) => Secret::from_env(name),
        }
    }

    fn wrong(&self, wrong: Wrong) -> Problem {
        Problem::WrongKey {
            setting: self.setting(),
            place: self.place(),
            wrong,
        }
    }
}

const LONGEST_WITH_JTI: Duration = Duration::from_secs(60 * 60);
