//! The operators' port.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

/// `[admin]`: the operators' port.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address and port, for example "127.0.0.1:9090".
    #[schemars(with = "String")]
    pub address: SocketAddr,
}
