//! Names a request: the id that its answer, its problem and its log lines carry, and the path it came on.
//!
//! Outermost, so that nothing happens to a request that has no name.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service, layer};
use uuid::Uuid;

use super::Body;
use super::report::About;
use crate::contacts::Api;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The rung.
pub fn layer<S>() -> impl Layer<S, Service = Trace<S>> + Clone {
    layer::layer_fn(|inner| Trace { inner })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
}

/// A request's name.
#[derive(Debug)]
pub(crate) struct Named {
    /// The caller's id where it is a sensible one, else a UUID v7.
    id: HeaderValue,
    /// The path, if it is one of the vendor's.
    pub(crate) api: Option<Api>,
    /// What is found out about it further in.
    pub(super) about: About,
}

impl Named {
    fn of<B>(request: &Request<B>) -> Self {
        let told = request.headers().get(X_REQUEST_ID);
        let id = told.filter(|id| sensible(id.as_bytes())).cloned();
        Self {
            id: id.unwrap_or_else(fresh_id),
            api: Api::split(request.uri().path()).map(|(api, ..)| api),
            about: About::default(),
        }
    }

    /// The id's text.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

/// Whether a caller's id may stand in logs and answers as it is.
fn sensible(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"._:/+=-".contains(b))
}

fn fresh_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
}

impl<S, B> Service<Request<B>> for Trace<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let named = Arc::new(Named::of(&request));
        let id = named.id.clone();
        request.extensions_mut().insert(named);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().insert(X_REQUEST_ID, id);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensible_id_is_kept_and_any_other_is_replaced() {
        let id_for = |told: &[u8]| {
            let mut request = Request::new(());
            let told = HeaderValue::from_bytes(told).unwrap();
            request.headers_mut().insert(X_REQUEST_ID, told);
            Named::of(&request).id().to_owned()
        };
        let longest = "a".repeat(128);
        for kept in [
            "a",
            "Root=1-67891233-abcdef012345678912345678",
            "a/b:c+d=.-_",
            &longest,
        ] {
            assert_eq!(id_for(kept.as_bytes()), kept);
        }
        let too_long = "a".repeat(129);
        for replaced in ["", "a b", "a\"b", "\u{e4}", "a;b", &too_long] {
            let id = id_for(replaced.as_bytes());
            assert_eq!(
                Uuid::parse_str(&id).unwrap().get_version_num(),
                7,
                "{replaced:?}"
            );
        }
    }
}
