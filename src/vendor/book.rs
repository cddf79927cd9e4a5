//! What the stand-in remembers: its settings, and everything that happened so far.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::{HeaderMap, Method, Request, Version};
use serde::Serialize;

use super::app::{App, OneUse};
use super::limit::Windows;
use super::{Behaviour, Settings};

/// Shared by all connections of one stand-in.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) open: AtomicU64,
    apps: Mutex<Vec<App>>,
    book: Mutex<Book>,
}

/// All that changes.
#[derive(Default)]
pub(super) struct Book {
    pub(super) behaviour: Behaviour,
    pub(super) stats: Stats,
    pub(super) requests: VecDeque<Seen>,
    /// Requests ever written down.
    recorded: u64,
    pub(super) windows: Windows,
    /// Token ids that were used, and until when they have to be remembered (seconds since 1970).
    used: HashMap<String, f64>,
}

/// What happened since the start, or since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Calls to the contact paths, refused ones included.
    pub calls: u64,
    /// Calls that passed every check, whatever was done to their answer then.
    pub answered: u64,
    /// Calls that did not: wrong method, parts, token, or over the limit.
    pub refused: u64,
    /// Those of the refused that were over the limit.
    pub over_limit: u64,
    /// Requests that died with a connection before they became calls.
    pub dropped: u64,
    /// Connections open right now.
    pub open_connections: u64,
    /// Connections ever accepted.
    pub accepted_connections: u64,
    /// Calls by account, as their query names it.
    pub accounts: BTreeMap<String, u64>,
    /// What panicked while serving: a defect of the stand-in's own, for tests to see.
    pub panics: Vec<String>,
}

/// A request to a contact path, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its header, the token included.
    pub headers: HeaderMap,
    /// The HTTP version it came by.
    pub version: Version,
    /// When, by the stand-in's clock.
    pub at: Instant,
    /// Its number among the requests, from 1.
    pub call: u64,
    /// Whether it was refused for being over the limit.
    pub over_limit: bool,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            apps: Mutex::new(settings.apps.clone()),
            settings,
            open: AtomicU64::new(0),
            book: Mutex::default(),
        }
    }

    /// The book, for a moment: never hold it across an await.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The apps, for a moment.
    pub(super) fn apps(&self) -> MutexGuard<'_, Vec<App>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            open_connections: self.open.load(Ordering::Relaxed),
            ..self.book().stats.clone()
        }
    }

    pub(super) fn reset(&self) {
        *self.book() = Book::default();
    }
}

impl Book {
    /// Writes a request down, and tells its number.
    pub(super) fn record<B>(&mut self, request: &Request<B>, at: Instant) -> u64 {
        if self.requests.len() == REQUESTS_KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(Seen {
            method: request.method().clone(),
            target: request
                .uri()
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            headers: request.headers().clone(),
            version: request.version(),
            at,
            call: self.recorded + 1,
            over_limit: false,
        });
        self.recorded += 1;
        self.recorded
    }

    /// The latest request was over the limit.
    pub(super) fn refuse_latest(&mut self) {
        if let Some(seen) = self.requests.back_mut() {
            seen.over_limit = true;
        }
    }

    /// Whether this token id is new, as it is for nobody after this.
    pub(super) fn first_use(&mut self, once: OneUse, now: f64) -> bool {
        if self.used.len() >= USED_BEFORE_SWEEP {
            self.used.retain(|_, until| *until > now);
        }
        self.used.insert(once.jti, once.until).is_none()
    }
}

const REQUESTS_KEPT: usize = 4096;
const USED_BEFORE_SWEEP: usize = 4096;
