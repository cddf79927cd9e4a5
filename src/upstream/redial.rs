//! One more call where a kept-alive connection had died before a byte of the answer came, or the vendor refused to begin
//! on the request over this one (HTTP/2's `REFUSED_STREAM`); nothing else is repeated.
//!
//! It stands above everything that makes up a call, because the second one is a call like the first: it has a token
//! of its own and is counted on its own. Where the allowance has no second one at once, there is none.

use std::future::{Ready, ready};
use std::sync::Arc;

use tower::retry::{Policy, RetryLayer};

use super::Fetch;
use crate::contacts::Page;
use crate::error::Error;

/// The rung.
pub fn layer() -> RetryLayer<Redial> {
    RetryLayer::new(Redial)
}

/// Which results are worth a second call: one of them, once.
#[derive(Clone, Copy, Debug)]
pub struct Redial;

impl Policy<Fetch, Page, Error> for Redial {
    type Future = Ready<()>;

    fn retry(&mut self, fetch: &mut Fetch, result: &mut Result<Page, Error>) -> Option<Ready<()>> {
        if fetch.redial || !matches!(result, Err(Error::ConnectionLost)) {
            return None;
        }
        // The vendor may have counted the first one, so this is a second.
        fetch.permit = Arc::new(fetch.permit.another()?);
        fetch.redial = true;
        Some(ready(()))
    }

    fn clone_request(&mut self, fetch: &Fetch) -> Option<Fetch> {
        Some(fetch.clone())
    }
}
