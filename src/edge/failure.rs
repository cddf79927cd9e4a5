//! Hides how it gets out of the inner rungs what a request was about: only failures and what was waited for carry it, since
//! of nothing else anybody is told.

use std::sync::Arc;

use super::Attempt;
use super::callers::Caller;
use crate::contacts::ListKey;
use crate::error::Error;

/// Why a request failed, and what was known of it by then. An extension of the response that tells the caller.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// What it was about.
    pub(super) about: About,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let about = About::default();
        Self { error, about }
    }
}

/// What a request is about, as far as that is known. An extension of responses that were waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    /// Who asks.
    pub(super) caller: Option<Arc<Caller>>,
    /// For what, of a stream that the settings have credentials for.
    pub(super) list: Option<ListKey>,
}

impl About {
    /// Who asks is known, and perhaps for what.
    pub(super) fn of(caller: &Arc<Caller>, list: Option<ListKey>) -> Self {
        Self {
            caller: Some(caller.clone()),
            list,
        }
    }

    /// A failure of such a request.
    pub(super) fn failed(self, error: Error) -> Failure {
        Failure { error, about: self }
    }

    /// Goes out with what became of the request.
    pub(super) fn go_with(self, answer: Attempt) -> Attempt {
        match answer {
            Ok(mut response) => {
                response.extensions_mut().insert(self);
                Ok(response)
            }
            Err(failure) => Err(self.failed(failure.error)),
        }
    }
}
