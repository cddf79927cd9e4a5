//! The settings of every tier, put together from defaults, a file and the environment.

mod judge;
mod layers;
mod mistake;
mod rules;
mod schema;
pub mod sources;
pub mod watch;

use std::net::SocketAddr;
use std::path::Path;

use aws_lc_rs::digest;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Table, Value};

pub use mistake::{Mistake, Mistakes};

use crate::telemetry::traces::OpenTelemetry;
use crate::{cache, edge, fleet, telemetry, upstream};
use layers::Layers;
use mistake::Way;

/// Every setting. There is no `Config` that breaks a rule: what cannot be used is refused while it is read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "Settings of contacts-gateway",
    description = "What a settings file may say. A key that is left out has the default that is stated here."
)]
pub struct Config {
    /// The callers' port, and what their requests must keep to.
    pub listen: edge::Settings,
    /// The operators' port.
    pub admin: Admin,
    /// The vendor, and what reaches it.
    pub upstream: upstream::Settings,
    /// The vendor's apps that the gateway speaks for, one entry each.
    pub credentials: Vec<upstream::credentials::Settings>,
    /// How long pages are kept and served, and how much memory they may take.
    pub cache: cache::Settings,
    /// How many calls the vendor allows an account.
    pub allowance: upstream::allowance::Settings,
    /// Where replicas meet, so that many of them act as one.
    pub shared: fleet::Settings,
    /// Who may ask, one entry each. None: everybody, for everything.
    pub callers: Vec<edge::callers::Settings>,
    /// What operators see.
    pub telemetry: telemetry::Settings,
    /// All of the above as it was written.
    #[serde(skip)]
    #[schemars(skip)]
    written: Table,
}

/// `[admin]`: the operators' port.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port, for example "127.0.0.1:9090".
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// What TLS needs, where the port speaks it.
    pub tls: edge::certificates::Settings,
}

impl Config {
    /// Puts the settings together: the environment goes before the file, the file before the defaults.
    ///
    /// Tables are merged key by key; a list replaces the list below it.
    ///
    /// # Errors
    /// The file cannot be read, or something in it or in the environment cannot be used: all that was found.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        let mut layers = Layers::of_defaults();
        if let Some(path) = file {
            layers.add_file(path);
        }
        let env: Vec<_> = env.collect();
        let named = env.iter().map(|(name, value)| (&**name, &**value));
        layers.add_environment(env.iter().cloned());
        let ratio = Way::default().key("telemetry").key("trace_ratio");
        let open_telemetry = OpenTelemetry::read(named, layers.place(&ratio).is_some());
        let mut config = Self::from_layers(layers)?;
        config.telemetry.open_telemetry = open_telemetry;
        Ok(config)
    }

    fn from_layers(mut layers: Layers) -> Result<Self, Mistakes> {
        rules::follow(&mut layers);
        let config = judge::judge(&mut layers);
        if let Some(config) = &config {
            rules::check(config, &mut layers);
        }
        match config {
            Some(config) if layers.mistakes.is_empty() => Ok(Self {
                written: layers.table,
                ..config
            }),
            _ => Err(Mistakes::new(layers.mistakes)),
        }
    }

    /// Every file that the settings name.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let secrets = self.credentials.iter().flat_map(|credential| {
            let public = &credential.encrypt_to_file;
            [&credential.secret_file, &credential.key_file, public]
        });
        let files = secrets.chain([&self.upstream.ca_file]).map(AsRef::as_ref);
        let files = files.filter(|file: &&Path| !file.as_os_str().is_empty());
        files
            .chain(self.listen.tls.files())
            .chain(self.admin.tls.files())
    }

    /// These settings, but for those that cannot change while the gateway runs: of them the ones in use. Tells which
    /// differ.
    #[must_use]
    pub fn while_running(mut self, in_use: &Self) -> (Self, Vec<&'static str>) {
        macro_rules! kept {
            ($($table:ident.$key:ident,)+) => {
                [$((
                    concat!(stringify!($table), ".", stringify!($key)),
                    kept(&mut self.$table.$key, &in_use.$table.$key),
                )),+]
            };
        }
        let all = kept![
            listen.address,
            listen.max_connections,
            admin.address,
            // Pages in memory are of the upstream that gave them.
            upstream.url,
            upstream.accept_any_body,
            upstream.propagate_trace,
            cache.max_bytes,
            shared.url,
            shared.username,
            shared.password_file,
            shared.ca_file,
            shared.encryption_key_file,
            shared.prefix,
            shared.timeout,
            telemetry.log_format,
            telemetry.otlp_endpoint,
            telemetry.trace_ratio,
        ];
        let differ = all.into_iter().filter(|(_, differs)| *differs);
        let mut differ: Vec<_> = differ.map(|(key, _)| key).collect();
        // Who may be sent what callers authorize themselves by is not decided by halves.
        if !self.upstream.accept_any_body && rules::authorization(&self.upstream).is_some() {
            kept(
                &mut self.upstream.forward_headers,
                &in_use.upstream.forward_headers,
            );
            differ.push("upstream.forward_headers");
        }
        for key in &differ {
            copy(&in_use.written, &mut self.written, key);
        }
        (self, differ)
    }

    /// What is in effect, as TOML that reads back as these settings. No secret stands in it.
    pub fn to_toml(&self) -> String {
        // A table of TOML values is always TOML.
        toml::to_string(&self.written).unwrap_or_default()
    }

    /// A short name for these settings: the same in every process that has the same ones.
    pub fn hash(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.to_toml().as_bytes());
        digest.as_ref()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The JSON Schema of a settings file: what it may say, and what holds where it says nothing.
    pub fn schema() -> serde_json::Value {
        schema::schema()
    }
}

/// Puts back what is in use. Tells whether it was another.
fn kept<T: Clone + PartialEq>(new: &mut T, in_use: &T) -> bool {
    let differs = new != in_use;
    new.clone_from(in_use);
    differs
}

/// Writes a key as it stands elsewhere.
fn copy(from: &Table, to: &mut Table, key: &str) {
    let Some((table, key)) = key.split_once('.') else {
        return;
    };
    let value = from.get(table).and_then(|table| table.get(key));
    if let (Some(value), Some(Value::Table(table))) = (value, to.get_mut(table)) {
        table.insert(key.to_owned(), value.clone());
    }
}

/// The variables of the process that could be settings, for [`Config::load`].
#[expect(
    clippy::disallowed_methods,
    reason = "the one home of settings from the environment"
)]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// The defaults, complete but for [`LISTS`].
const DEFAULTS: &str = include_str!("../config/default.toml");

/// The lists of tables. The defaults show them in a comment only, since TOML would not let a copy of that file
/// add entries to a list that is stated empty.
const LISTS: [&str; 2] = ["credentials", "callers"];

#[cfg(test)]
mod tests;
