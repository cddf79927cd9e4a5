//! Bare hyper: every GET gets the same body, which was read from a file at the start. No cache, no routes, no vendor: the most
//! that a gateway built on hyper could do on a machine. `tests/bench/run` measures the others by it.
//!
//! ```text
//! cargo bench --bench bare -- PORT BODY_FILE     serves on loopback until it is ended
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "nothing is told to end here, so there is nobody to wait for tasks"
)]

use std::convert::Infallible;
use std::future::ready;
use std::net::Ipv4Addr;
use std::{env, fs, io};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

fn main() -> io::Result<()> {
    // cargo adds a flag of its own, and test runners start benchmarks with other ones.
    let arguments: Vec<_> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let [port, file] = arguments.as_slice() else {
        return Ok(());
    };
    let Ok(port) = port.parse() else {
        return Ok(());
    };
    let body = Bytes::from(fs::read(file)?);
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(serve(port, body))
}

async fn serve(port: u16, body: Bytes) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                ready(Ok::<_, Infallible>(answer(&request, &body)))
            });
            // A connection that its caller drops is no failure of ours.
            let _ = auto::Builder::new(TokioExecutor::new())
                .http1_only()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, body: &Bytes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let mut response = Response::new(Full::new(body.clone()));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
