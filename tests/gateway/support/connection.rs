//! A caller who holds one connection and decides what goes over it, byte by byte.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::path;

/// An open connection.
pub(crate) struct Connection(TcpStream);

impl Connection {
    /// To a URL's host, or to a host and port.
    pub(crate) async fn to(place: &str) -> Self {
        let place = place.strip_prefix("http://").unwrap_or(place);
        Self(TcpStream::connect(place).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer's head and body, which has a Content-Length.
    pub(crate) async fn answer(&mut self) -> String {
        let mut came = Vec::new();
        let head = loop {
            if let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8(came[..end].to_vec()).unwrap();
            }
            came.push(self.0.read_u8().await.expect("an answer comes"));
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse().unwrap())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).await.unwrap();
        format!("{head}\r\n\r\n{}", String::from_utf8(body).unwrap())
    }

    /// All that comes until the other side closes, which it has to do by itself.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut came = Vec::new();
        let end = self.0.read_to_end(&mut came);
        match tokio::time::timeout(Duration::from_secs(20), end).await {
            Ok(Ok(_)) => came,
            // It closed with something of ours unread.
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => came,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => panic!("never closed; so far came {came:?}"),
        }
    }

    /// The next HTTP/2 frame: its type, flags, stream and payload.
    pub(crate) async fn frame(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.expect("a frame comes");
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.unwrap();
        (kind, flags, stream, payload)
    }
}

/// A whole request for a list, by HTTP/1.1.
pub(crate) fn request(list: &str) -> String {
    format!("GET {} HTTP/1.1\r\nhost: gateway\r\n\r\n", path(list))
}

/// What every HTTP/2 connection begins with, and settings that change nothing.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A whole request for a list, by HTTP/2.
pub(crate) fn request_frame(stream: u32, list: &str) -> Vec<u8> {
    let mut block = Vec::new();
    let path = path(list);
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "gateway"),
        (":path", &path),
    ] {
        // A literal that is not indexed, its name new: RFC 7541 section 6.2.2.
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).unwrap();
            match length.checked_sub(127) {
                None => block.push(length),
                Some(more) if more < 128 => block.extend([127, more]),
                Some(more) => block.extend([127, 128 | (more & 127), 1]),
            }
            block.extend(text.as_bytes());
        }
    }
    const END_STREAM_AND_HEADERS: u8 = 0x5;
    frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block)
}

/// Says that a ping has come.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    const ACK: u8 = 0x1;
    frame(PING, ACK, 0, payload)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) const DATA: u8 = 0;
pub(crate) const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
