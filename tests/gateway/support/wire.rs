//! Callers that speak HTTP/2, or bytes.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, Running};

impl Running {
    /// Sends a request by HTTP/2, cleartext, by prior knowledge, on a connection of its own. The URI's authority is
    /// what it is addressed to, wherever the gateway listens.
    pub(crate) async fn by_http2(&self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        let stream = TokioIo::new(self.connect().await);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        let exchange = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.collect().await?.to_bytes(),
            })
        };
        tokio::select! {
            answer = exchange => answer,
            Err(broken) = connection => Err(broken),
        }
    }

    /// Sends bytes as they are, by HTTP/1, and gives back all that comes until the gateway closes the connection.
    pub(crate) async fn raw(&self, bytes: &str) -> Raw {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut came = Vec::new();
        stream.read_to_end(&mut came).await.unwrap();
        Raw(String::from_utf8(came).unwrap())
    }

    async fn connect(&self) -> TcpStream {
        let address = self.url.strip_prefix("http://").unwrap();
        TcpStream::connect(address).await.unwrap()
    }
}

/// All that came by one connection.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) String);

impl Raw {
    /// The statuses of the answers, in order. No body of ours or the stand-in's looks like the head of one.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let heads = self.0.split("HTTP/1.").skip(1);
        heads.map(|head| head[2..5].parse().unwrap()).collect()
    }

    /// Whether the one answer that came says this, in a field or in its body.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.0
            .to_ascii_lowercase()
            .contains(&text.to_ascii_lowercase())
    }
}
