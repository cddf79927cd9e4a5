//! Callers who do not wait for one another: their connections, and what came by them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contacts_gateway::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No caller has more patience.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Callers {
    pub(crate) clock: Clock,
    gateways: Vec<Gateway>,
    pub(crate) got: Mutex<Vec<Got>>,
}

/// One that they ask.
struct Gateway {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Callers {
    pub(crate) fn new(addresses: impl Iterator<Item = SocketAddr>, clock: &Clock) -> Self {
        let gateways = addresses.map(|address| Gateway {
            address,
            idle: Mutex::default(),
        });
        Self {
            clock: clock.clone(),
            gateways: gateways.collect(),
            got: Mutex::default(),
        }
    }

    /// Asks one of the gateways, by its number.
    pub(crate) async fn request(self: Arc<Self>, gateway: usize, request: String, counts: bool) {
        let asked = self.clock.now();
        let exchange = self.gateways[gateway].exchange(request.as_bytes());
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        let at = self.clock.now();
        if counts {
            self.got.lock().unwrap().push(Got {
                at,
                waited_for: at - asked,
                answer: answer.ok().flatten(),
            });
        }
    }
}

impl Gateway {
    async fn exchange(&self, request: &[u8]) -> Option<Answer> {
        loop {
            let kept = self.idle.lock().unwrap().pop();
            let reused = kept.is_some();
            let mut stream = match kept {
                Some(stream) => stream,
                None => TcpStream::connect(self.address).await.ok()?,
            };
            let answer = match stream.write_all(request).await {
                Ok(()) => read(&mut stream).await,
                Err(_) => None,
            };
            match answer {
                Some(answer) => {
                    self.idle.lock().unwrap().push(stream);
                    return Some(answer);
                }
                // Its idle time had run out.
                None if reused => {}
                None => return None,
            }
        }
    }
}

/// Reads an answer to its end, and of it only what counts here.
async fn read(stream: &mut TcpStream) -> Option<Answer> {
    let mut came = Vec::with_capacity(16 * 1024);
    let head = loop {
        if stream.read_buf(&mut came).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(&came[..head]).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (its, value) = line.split_once(':')?;
            its.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let status = text.get(9..12)?.parse().ok()?;
    let length: usize = field("content-length")?.parse().ok()?;
    let from_memory = field("cache-status").is_some_and(|text| text.contains("; hit"));
    while came.len() < head + length {
        if stream.read_buf(&mut came).await.ok()? == 0 {
            return None;
        }
    }
    let start = &came[head..came.len().min(head + 160)];
    let start = String::from_utf8_lossy(start);
    let call = start
        .split_once("(call ")
        .and_then(|(_, rest)| rest.split_once(')'));
    Some(Answer {
        status,
        from_memory,
        call: call.and_then(|(number, _)| number.parse().ok()),
    })
}

/// What one caller got.
pub(crate) struct Got {
    pub(crate) at: Instant,
    pub(crate) waited_for: Duration,
    pub(crate) answer: Option<Answer>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) from_memory: bool,
    /// The call that made the page.
    pub(crate) call: Option<u64>,
}
