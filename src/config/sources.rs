//! Where settings are written, and all that is read there as of one moment: settings, secrets and certificates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::digest;

use super::layers::is_setting;
use super::{Config, Mistakes};
use crate::edge::certificates::Certificates;
use crate::fleet::Joining;
use crate::secret::Print;
use crate::upstream::client::Client;
use crate::upstream::credentials::Credentials;

/// Where settings are written.
#[derive(Clone)]
pub struct Sources {
    file: Option<PathBuf>,
    /// Empty from the start, which is then meant so.
    empty: bool,
    /// For a file that can be read only once, such as a pipe: what was read of it. Which file is one is decided at the
    /// start: later, one that is gone for a moment would look like it.
    once: Option<OnceLock<Config>>,
    env: Vec<(String, String)>,
}

/// Variables can hold what is secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sources").field(&self.file).finish()
    }
}

/// All that was read, and can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The secrets that they name.
    pub credentials: Credentials,
    /// Connections to the vendor, which trust what the settings name.
    pub client: Client,
    /// Where the other replicas are met.
    pub shared: Joining,
    /// What the ports show of themselves.
    pub certificates: Ports<Option<Certificates>>,
}

/// One for each port.
#[derive(Clone, Debug)]
pub struct Ports<T> {
    /// The callers'.
    pub callers: T,
    /// The operators'.
    pub operators: T,
}

/// What was read cannot be used: all mistakes, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unusable(Vec<String>);

impl Sources {
    /// A file, if there is one, and the environment.
    pub fn new(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Self {
        // There may be secrets among the others.
        let env = env.filter(|(name, _)| is_setting(name));
        Self {
            file: file.map(Path::to_owned),
            empty: file.is_some_and(is_empty),
            once: file.is_some_and(is_pipe).then(OnceLock::new),
            env: env.collect(),
        }
    }

    /// Reads the settings alone.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn config(&self) -> Result<Config, Mistakes> {
        if let Some(config) = self.once.as_ref().and_then(OnceLock::get) {
            return Ok(config.clone());
        }
        let config = Config::load(self.file.as_deref(), self.env.iter().cloned())?;
        if let Some(once) = &self.once {
            let _ = once.set(config.clone());
        }
        Ok(config)
    }

    /// Reads everything. Tells the files that were read as well, as far as they could be found out.
    pub(super) fn read(&self) -> (Vec<PathBuf>, Result<Loaded, Unusable>) {
        let again = self.file.iter().filter(|_| self.once.is_none());
        let mut files: Vec<_> = again.cloned().collect();
        let config = self.config().map_err(Unusable::from);
        // Nobody empties a file of settings in use: somebody is about to write it.
        let emptied = files.iter().find(|file| !self.empty && is_empty(file));
        let config = config.and_then(|config| match emptied {
            Some(file) => Err(Unusable::from(format!("{}: is empty", file.display()))),
            None => Ok(config),
        });
        let config = match config {
            Ok(config) => config,
            Err(unusable) => return (files, Err(unusable)),
        };
        files.extend(config.files().map(Path::to_owned));
        (files, Loaded::of(config))
    }
}

impl Loaded {
    /// Reads what the settings name. Blocks on files.
    ///
    /// # Errors
    /// What is read cannot be used.
    pub fn of(config: Config) -> Result<Self, Unusable> {
        let credentials = Credentials::load(&config.credentials);
        let client = Client::new(&config.upstream);
        let callers = Certificates::load("listen.tls", &config.listen.tls);
        let operators = Certificates::load("admin.tls", &config.admin.tls);
        let shared = config.shared.read();
        match (credentials, client, callers, operators, shared) {
            (Ok(credentials), Ok(client), Ok(callers), Ok(operators), Ok(shared)) => Ok(Self {
                config,
                credentials,
                client,
                shared,
                certificates: Ports { callers, operators },
            }),
            (credentials, client, callers, operators, shared) => {
                let shared = shared.err().map_or(Vec::new(), |mistakes| mistakes.0);
                let mistakes = credentials.err().into_iter().flatten();
                let mistakes = mistakes.map(|mistake| mistake.to_string());
                let ports = callers.err().into_iter().chain(operators.err()).flatten();
                Err(Unusable(
                    mistakes
                        .chain(client.err())
                        .chain(ports)
                        .chain(shared)
                        .collect(),
                ))
            }
        }
    }

    /// What tells this from anything else that could be read.
    pub fn print(&self) -> Print {
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(self.config.to_toml().as_bytes());
        digest.update(self.credentials.print().bytes());
        self.client.trusts(&mut digest);
        let Ports { callers, operators } = &self.certificates;
        for port in [callers, operators] {
            let port = port.as_ref().map(Certificates::print);
            digest.update(port.as_ref().map(Print::bytes).unwrap_or_default());
        }
        Print::of(digest)
    }
}

impl Unusable {
    /// The mistakes.
    pub fn mistakes(&self) -> &[String] {
        &self.0
    }
}

/// One mistake.
impl From<String> for Unusable {
    fn from(mistake: String) -> Self {
        Self(vec![mistake])
    }
}

impl From<Mistakes> for Unusable {
    fn from(mistakes: Mistakes) -> Self {
        Self(mistakes.iter().map(ToString::to_string).collect())
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

fn is_empty(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|file| file.len() == 0)
}

fn is_pipe(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|file| !file.is_file())
}

#[cfg(test)]
mod tests;
