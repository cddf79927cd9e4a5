//! Where the shared store is: a URL of one server, of a cluster's nodes, or of the sentinels that know the server.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// `shared.url`, once it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether the connections are encrypted.
    pub tls: bool,
    /// Hosts and ports: of the server, of some of the cluster's nodes, or of the sentinels.
    pub nodes: Vec<(String, u16)>,
    /// What the nodes are.
    pub kind: Kind,
}

/// What the nodes of an address are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server itself, and the number of its database.
    Server(u32),
    /// Nodes of a cluster.
    Cluster,
    /// Sentinels, which know where the server of this name is, and the number of its database.
    Sentinel(String, u32),
}

/// A reason never repeats the text: there could be a password in it.
impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("{why}: write {AN_ADDRESS}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return refused("is no URL");
        };
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return refused("the scheme must begin with redis or rediss"),
        };
        if rest.contains('@') {
            return refused(
                "no user and no password may stand in it, for which there are username and password_file",
            );
        }
        if rest.contains(['?', '#']) {
            return refused("no query and no fragment may stand in it");
        }
        let (nodes, path) = rest.split_once('/').unwrap_or((rest, ""));
        let usual = if kind == "sentinel" { 26379 } else { 6379 };
        let nodes: Option<Vec<_>> = nodes
            .split(',')
            .map(|node| host_and_port(node, usual))
            .collect();
        let Some(nodes) = nodes else {
            return refused("a host or a port cannot be used");
        };
        let database = |text: &str| match text {
            "" => Some(0),
            text => text.parse().ok(),
        };
        let kind = match kind {
            "" if nodes.len() > 1 => {
                return refused("several hosts are of redis+cluster or redis+sentinel");
            }
            "" => database(path).map(Kind::Server),
            "cluster" => path.is_empty().then_some(Kind::Cluster),
            "sentinel" => {
                let (name, path) = path.split_once('/').unwrap_or((path, ""));
                let name = (!name.is_empty()).then(|| name.to_owned());
                name.zip(database(path))
                    .map(|(name, n)| Kind::Sentinel(name, n))
            }
            _ => return refused("there are redis, redis+cluster and redis+sentinel"),
        };
        match kind {
            Some(kind) => Ok(Self { tls, nodes, kind }),
            None => refused("what stands after the hosts cannot be used"),
        }
    }
}

fn host_and_port(text: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                port.strip_prefix(':').or((port.is_empty()).then_some(""))?,
            )
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = match (port, text.ends_with(':')) {
        (_, true) => return None,
        ("", _) => usual,
        (port, _) => port.parse().ok().filter(|port| *port > 0)?,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    (!host.is_empty() && host.bytes().all(plain)).then(|| (host.to_owned(), port))
}

/// Reads `shared.url`; an empty text is no address.
pub(super) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    match &*text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(D::Error::custom),
    }
}

/// The schema of [`optional`].
pub(super) enum AddressText {}

impl JsonSchema for AddressText {
    fn schema_name() -> Cow<'static, str> {
        "SharedUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A URL of Redis or Valkey, without user and password; empty: none.",
            "pattern": r"^$|^rediss?(\+cluster|\+sentinel)?://[^/?#@\s]+(/[^?#@\s]*)?$",
            "examples": ["redis://redis:6379", "rediss+cluster://a:6379,b:6379", "redis+sentinel://a,b,c/mymaster"],
        })
    }
}

/// As it is written.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let kind = match &self.kind {
            Kind::Server(_) => "",
            Kind::Cluster => "+cluster",
            Kind::Sentinel(..) => "+sentinel",
        };
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        write!(f, "{scheme}{kind}://{}", nodes.join(","))
    }
}

const AN_ADDRESS: &str = "a URL such as \"redis://redis:6379\", \"rediss+cluster://a:6379,b:6379\" or \"redis+sentinel://a,b,c/mymaster\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(nodes: &[(&str, u16)]) -> Vec<(String, u16)> {
        nodes
            .iter()
            .map(|(host, port)| ((*host).to_owned(), *port))
            .collect()
    }

    #[test]
    fn an_address_names_a_server_a_cluster_or_sentinels() {
        for (text, tls, hosts, kind) in [
            (
                "redis://redis",
                false,
                nodes(&[("redis", 6379)]),
                Kind::Server(0),
            ),
            (
                "rediss://10.0.0.1:7000/3",
                true,
                nodes(&[("10.0.0.1", 7000)]),
                Kind::Server(3),
            ),
            (
                "redis://[::1]:7000",
                false,
                nodes(&[("::1", 7000)]),
                Kind::Server(0),
            ),
            (
                "redis+cluster://a:1,b:2",
                false,
                nodes(&[("a", 1), ("b", 2)]),
                Kind::Cluster,
            ),
            (
                "rediss+sentinel://a,b:5/gw/2",
                true,
                nodes(&[("a", 26379), ("b", 5)]),
                Kind::Sentinel("gw".into(), 2),
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.tls, address.nodes, address.kind),
                (tls, hosts, kind),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason_and_without_the_text() {
        for (text, why) in [
            ("redis", "no URL"),
            ("http://hunter2", "must begin with redis"),
            ("redis+ring://hunter2", "redis+cluster and redis+sentinel"),
            ("redis://user:hunter2@redis", "no password"),
            ("redis://hunter2,b", "several hosts"),
            ("redis://", "cannot be used"),
            ("redis://hunter2:0", "cannot be used"),
            ("redis://hunter2:", "cannot be used"),
            ("redis://[hunter2]", "cannot be used"),
            ("redis://redis/hunter2", "after the hosts"),
            ("redis+cluster://a/hunter2", "after the hosts"),
            ("redis+sentinel://a", "after the hosts"),
            ("redis://redis?password=hunter2", "no query"),
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
