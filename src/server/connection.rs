//! One connection, from its first byte until either side ends it or its port closes.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::Port;
use super::ahead::Ahead;
use super::answers::Answers;
use super::http::{Ended, Http};
use super::patience::{Awaited, Patience, Progress};
use crate::telemetry::metrics::Metrics;

/// Who acknowledges nothing for so long, though it was sent something or asked whether it is there, has gone.
const VANISHED: Duration = Duration::from_secs(120);

/// What a connection's bytes and its requests tell each other.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) progress: Progress,
    pub(super) ahead: Ahead,
}

/// Serves it. What it holds, it holds for as long as the connection is there, so that is little, and in one place.
pub(super) fn serve(
    port: &Port,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send + use<> {
    if let Err(error) = prepare(&stream) {
        debug!(%error, "a connection was gone before it began");
    }
    let (shut, closing, metrics) = (port.shut.clone(), port.closing.clone(), &port.metrics);
    let open = metrics.as_ref().map(Metrics::connection);
    let sides = Arc::<Sides>::default();
    let answers = Answers::new(port.serving.clone(), sides.clone());
    let served = port.serving.now();
    let versions = served.versions.clone();
    let mut http = match served.tls.clone() {
        None => Http::clear(versions, stream, answers),
        Some(tls) => Http::private(versions, stream, answers, tls, metrics.clone()),
    };
    let mut patience = Patience::new(sides.clone(), served.header_timeout);
    let serving = port.serving.clone();
    let (mut parted, mut told, mut listening) = (false, false, false);
    async move {
        // First that, then that it is to end.
        let mut news = pin!(shut.cancelled());
        let turn = poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = http.poll(cx) {
                    note(ended);
                    return Poll::Ready(());
                }
                match patience.poll(cx) {
                    Poll::Ready(Awaited::Head(_)) => {
                        debug!("a connection brought no request in time");
                        http.give_up();
                        return Poll::Ready(());
                    }
                    Poll::Ready(Awaited::Word(_)) if !told => {
                        debug!("a connection rests");
                        http.rest();
                        continue;
                    }
                    Poll::Ready(Awaited::Word(_)) | Poll::Pending => {}
                }
                // hyper would drop the part of a head that it has; its sender gets an answer first. And to ask for news takes a
                // lock that all connections share, which to be woken by them is needed once.
                let any = match parted {
                    false => serving.is_shut(),
                    true => serving.is_closing(),
                };
                let waits = listening && !any;
                if told || sides.progress.mid_head() || waits {
                    return Poll::Pending;
                }
                listening = true;
                if news.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if parted {
                    http.leave();
                    told = true;
                } else {
                    http.part();
                    news.set(closing.cancelled());
                    (parted, listening) = (true, false);
                }
            }
        });
        turn.await;
        drop((open, place));
    }
}

/// Answers go out at once. And who has vanished without a word, or takes nothing any more, does not keep a place for ever.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = SockRef::from(stream);
    let asked = TcpKeepalive::new().with_time(VANISHED / 2);
    let asked = asked.with_interval(VANISHED / 8).with_retries(4);
    stream.set_tcp_keepalive(&asked)?;
    #[cfg(target_os = "linux")]
    stream.set_tcp_user_timeout(Some(VANISHED))?;
    Ok(())
}

/// That a connection broke is the other side's affair, and seldom news.
fn note(ended: Ended) {
    if let Err(error) = ended {
        debug!(error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn whoever_vanishes_is_given_up_after_two_minutes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, _caller) = tokio::join!(listener.accept(), caller);
        let (stream, _) = accepted.unwrap();
        prepare(&stream).unwrap();
        let socket = SockRef::from(&stream);
        let asked =
            socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap() + asked, VANISHED);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(VANISHED));
    }
}
