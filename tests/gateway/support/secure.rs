//! Callers that speak TLS.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, DEFAULT_VERSIONS, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Issued};
use super::{Answer, Running};

/// What can go wrong with a connection.
pub(crate) type Broken = Box<dyn Error + Send + Sync>;

/// Somebody who connects to 127.0.0.1 over TLS.
#[derive(Clone)]
pub(crate) struct Caller(Arc<ClientConfig>);

impl Caller {
    /// Who trusts this authority, shows a certificate if there is one, and speaks both protocols.
    pub(crate) fn new(trusts: &Authority, shows: Option<&Issued>) -> Self {
        Self::by(DEFAULT_VERSIONS, trusts, shows)
    }

    /// The same by these versions of TLS.
    pub(crate) fn by(
        versions: &[&'static SupportedProtocolVersion],
        trusts: &Authority,
        shows: Option<&Issued>,
    ) -> Self {
        let config = ClientConfig::builder_with_protocol_versions(versions);
        let config = config.with_root_certificates(trusts.roots());
        let config = match shows {
            None => config.with_no_client_auth(),
            Some(shows) => {
                let chain = vec![shows.certificate.clone()];
                config.with_client_auth_cert(chain, shows.key()).unwrap()
            }
        };
        Self(Arc::new(config)).speaking(&["h2", "http/1.1"])
    }

    pub(crate) fn speaking(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.0);
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(8);
        self
    }

    /// Shakes hands. By TLS 1.3 that can be done here before it is known whether there it is.
    pub(crate) async fn connect(&self, place: &str) -> Result<TlsStream<TcpStream>, Broken> {
        let tcp = TcpStream::connect(place).await?;
        let name = ServerName::try_from("127.0.0.1")?;
        Ok(TlsConnector::from(self.0.clone())
            .connect(name, tcp)
            .await?)
    }

    /// A connection that is kept.
    pub(crate) async fn keep(&self, place: &str) -> Result<Kept, Broken> {
        Kept::over(self.connect(place).await?).await
    }

    /// Asks on a connection of its own.
    pub(crate) async fn get(&self, gateway: &Running, path: &str) -> Result<Answer, Broken> {
        self.send(gateway, Method::GET, path, &[]).await
    }

    /// The same with fields, and another method.
    pub(crate) async fn send(
        &self,
        gateway: &Running,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Broken> {
        self.keep(gateway.place())
            .await?
            .send(method, path, fields)
            .await
    }
}

/// An open connection.
pub(crate) struct Kept {
    sender: Sender,
    /// What the gateway showed.
    pub(crate) shown: CertificateDer<'static>,
    /// Whether an earlier session was taken up again.
    pub(crate) resumed: bool,
    runs: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Kept {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's tasks end with the test's runtime"
    )]
    async fn over(stream: TlsStream<TcpStream>) -> Result<Self, Broken> {
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().unwrap()[0].clone();
        let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let http2 = session.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        let (sender, runs) = if http2 {
            let (sender, runs) = http2::handshake(TokioExecutor::new(), stream).await?;
            let runs = tokio::spawn(async { drop(runs.await) });
            (Sender::Http2(sender), runs)
        } else {
            let (sender, runs) = http1::handshake(stream).await?;
            let runs = tokio::spawn(async { drop(runs.await) });
            (Sender::Http1(sender), runs)
        };
        Ok(Self {
            sender,
            shown,
            resumed,
            runs,
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, Broken> {
        self.send(Method::GET, path, &[]).await
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Broken> {
        let authority = match self.sender {
            Sender::Http1(_) => "",
            Sender::Http2(_) => "https://gateway.example",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{authority}{path}"));
        if authority.is_empty() {
            request = request.header("host", "gateway.example");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default())?;
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = answer.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// Waits until the gateway has ended it.
    pub(crate) async fn ended(self) {
        let _ = self.runs.await;
    }
}

impl Running {
    /// Host and port for callers.
    pub(crate) fn place(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }
}
