//! HTTP/2: what becomes of a request whose stream the vendor resets while the connection lives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use contacts_gateway::clock::Clock;
use h2::Reason;
use http::{Response, StatusCode};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::support::authority::{Authority, named};
use crate::support::{Folder, Running, path};

/// How a vendor takes its requests: the first is number 1. It answers, or resets the stream before any head.
type Mood = fn(usize) -> Option<Reason>;

struct Moody {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _accept: AbortOnDropHandle<()>,
}

impl Moody {
    async fn new(tls: Arc<ServerConfig>, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let (tls, seen) = (TlsAcceptor::from(tls), requests.clone());
        let accept = TaskTracker::new().spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, tls.clone(), seen.clone(), mood));
            }
        });
        Self {
            address,
            requests,
            _accept: AbortOnDropHandle::new(accept),
        }
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, seen: Arc<AtomicUsize>, mood: Mood) {
    let address = stream.local_addr().unwrap().to_string();
    let stream = tls.accept(stream).await.unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        // RFC 9113 section 8.3.1: the path is not all that is said.
        let uri = request.uri();
        let authority = uri.authority().map(|authority| authority.as_str());
        assert_eq!(
            (uri.scheme_str(), authority),
            (Some("https"), Some(&*address))
        );
        let number = 1 + seen.fetch_add(1, Relaxed);
        if let Some(reason) = mood(number) {
            respond.send_reset(reason);
            continue;
        }
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        let success = Bytes::from_static(b"{\"status\":\"success\"}");
        body.send_data(success, true).unwrap();
    }
}

/// A gateway before such a vendor, whose connection has served one call already.
async fn after_one_call(mood: Mood) -> (Running, Moody) {
    let (authority, folder) = (Authority::new(), Folder::new());
    let tls = authority.server(named("127.0.0.1"), &["h2"]).unwrap();
    let vendor = Moody::new(tls, mood).await;
    let settings = format!("[upstream]\nca_file = {:?}", authority.file(&folder));
    let url = format!("https://{}", vendor.address);
    let gateway = Running::before(&url, &settings, Clock::system()).await;
    assert_eq!(gateway.get(&path("cl-n6-a")).await.status, StatusCode::OK);
    (gateway, vendor)
}

#[tokio::test]
async fn a_request_that_the_vendor_may_have_begun_on_is_not_made_again() {
    let moods: [Mood; 5] = [
        |number| (number == 2).then_some(Reason::NO_ERROR),
        |number| (number == 2).then_some(Reason::INTERNAL_ERROR),
        |number| (number == 2).then_some(Reason::CANCEL),
        |number| (number == 2).then_some(Reason::ENHANCE_YOUR_CALM),
        |number| (number == 2).then_some(Reason::HTTP_1_1_REQUIRED),
    ];
    for mood in moods {
        let (gateway, vendor) = after_one_call(mood).await;
        let reset = gateway.get(&path("cl-n6-b")).await;
        reset.is_problem(502, "upstream-failed");
        assert_eq!(vendor.requests.load(Relaxed), 2, "{:?}", mood(2));
        let next = gateway.get(&path("cl-n6-b")).await;
        assert_eq!(next.status, StatusCode::OK, "{:?}", mood(2));
    }
}

/// RFC 9113 section 8.7: nothing was done for a stream that was refused.
#[tokio::test]
async fn a_request_that_the_vendor_refused_to_begin_on_is_made_once_more() {
    let (gateway, vendor) =
        after_one_call(|number| (number == 2).then_some(Reason::REFUSED_STREAM)).await;
    let answer = gateway.get(&path("cl-n6-b")).await;
    assert_eq!(
        answer.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
    assert_eq!(vendor.requests.load(Relaxed), 3);
    let (gateway, vendor) =
        after_one_call(|number| (number > 1).then_some(Reason::REFUSED_STREAM)).await;
    let refused = gateway.get(&path("cl-n6-b")).await;
    refused.is_problem(502, "upstream-failed");
    assert_eq!(vendor.requests.load(Relaxed), 3);
}
