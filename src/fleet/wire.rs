//! A connection to the store, of whichever kind it is: how it is made, and how a command goes over it.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::sync::mpsc::UnboundedSender;

use super::address::{Address, Kind};
use crate::secret::Secret;

/// Where to connect, and as whom.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) address: Address,
    pub(super) username: String,
    pub(super) password: Option<Secret>,
    /// PEM, to trust in place of the system's; empty: the system's.
    pub(super) roots: Vec<u8>,
    /// For all of it.
    pub(super) limit: Duration,
}

/// A connection. Clones share it.
#[derive(Clone)]
pub(super) enum Wire {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

impl Wire {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::One(wire) => wire.req_packed_command(command).await,
            Self::Many(wire) => wire.req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }

    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::One(wire) => wire.subscribe(channels).await,
            Self::Many(wire) => wire.subscribe(channels).await,
        }
    }

    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::One(wire) => wire.unsubscribe(channels).await,
            Self::Many(wire) => wire.unsubscribe(channels).await,
        }
    }
}

impl Dial {
    /// Whether what is said and what is answered may come from different servers.
    pub(super) fn is_one(&self) -> bool {
        matches!(self.address.kind, Kind::Server(_))
    }

    pub(super) fn is_many(&self) -> bool {
        matches!(self.address.kind, Kind::Cluster)
    }

    /// Connects. What the store sends by itself goes to `pushes`, that a connection was lost included.
    pub(super) async fn connect(&self, pushes: UnboundedSender<PushInfo>) -> RedisResult<Wire> {
        let connecting = async {
            match &self.address.kind {
                Kind::Server(database) => {
                    let client = self.server(*database)?;
                    self.one(client, pushes).await
                }
                Kind::Sentinel(name, database) => {
                    let client = self.primary(name, *database).await?;
                    self.one(client, pushes).await
                }
                Kind::Cluster => self.many(pushes).await,
            }
        };
        let connected = tokio::time::timeout(self.limit, connecting).await;
        connected.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn one(&self, client: Client, pushes: UnboundedSender<PushInfo>) -> RedisResult<Wire> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None) // `connect` sees to it
            .set_response_timeout(None) // and `Link` to this
            .set_push_sender(pushes);
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map(Wire::One)
    }

    fn server(&self, database: u32) -> RedisResult<Client> {
        // An address has at least one, and of a single server no more.
        let node = self.nodes().swap_remove(0);
        let info = node
            .into_connection_info()?
            .set_redis_settings(self.identity(database));
        match self.address.tls {
            true => Client::build_with_tls(info, self.certificates()),
            false => Client::open(info),
        }
    }

    /// Who the sentinels say is the primary now.
    async fn primary(&self, name: &str, database: u32) -> RedisResult<Client> {
        let mut builder =
            SentinelClientBuilder::new(self.nodes(), name, SentinelServerType::Master)?
                .set_client_to_redis_protocol(ProtocolVersion::RESP3)
                .set_client_to_redis_db(i64::from(database));
        if self.address.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(self.certificates())
                .set_client_to_sentinel_certificates(self.certificates());
        }
        if !self.username.is_empty() {
            builder = builder.set_client_to_redis_username(&self.username);
        }
        if let Some(password) = self.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        builder.build()?.async_get_client().await
    }

    async fn many(&self, pushes: UnboundedSender<PushInfo>) -> RedisResult<Wire> {
        let nodes: RedisResult<Vec<_>> = self
            .nodes()
            .into_iter()
            .map(IntoConnectionInfo::into_connection_info)
            .collect();
        let mut builder = ClusterClientBuilder::new(nodes?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.limit)
            .response_timeout(self.limit)
            // Whoever asks has no time for more; a slot that has moved is one of these.
            .retries(2)
            .min_retry_wait(5)
            .max_retry_wait(20)
            .push_sender(pushes);
        if self.address.tls {
            builder = builder.tls(TlsMode::Secure).certs(self.certificates());
        }
        if !self.username.is_empty() {
            builder = builder.username(&self.username);
        }
        if let Some(password) = self.password() {
            builder = builder.password(password);
        }
        builder
            .build()?
            .get_async_connection()
            .await
            .map(Wire::Many)
    }

    fn nodes(&self) -> Vec<ConnectionAddr> {
        let nodes = self.address.nodes.iter().cloned();
        nodes
            .map(|(host, port)| match self.address.tls {
                true => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: false,
                    tls_params: None,
                },
                false => ConnectionAddr::Tcp(host, port),
            })
            .collect()
    }

    fn identity(&self, database: u32) -> RedisConnectionInfo {
        let mut identity = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(i64::from(database));
        if !self.username.is_empty() {
            identity = identity.set_username(&self.username);
        }
        if let Some(password) = self.password() {
            identity = identity.set_password(password);
        }
        identity
    }

    fn password(&self) -> Option<&str> {
        std::str::from_utf8(self.password.as_ref()?.expose()).ok()
    }

    fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: None,
            root_cert: (!self.roots.is_empty()).then(|| self.roots.clone()),
        }
    }
}
