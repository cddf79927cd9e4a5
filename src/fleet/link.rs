//! The connection to the store, kept up behind everybody's back, and given up on for a while once it fails.
//!
//! Whoever asks is answered within `shared.timeout`, or told that the store is [`Away`]; nobody waits for a connection.
//! One that broke is never mended but thrown away: whatever was to be heard over it may have been missed, and what comes
//! after it begins with a new number. In a cluster the node of what was asked for last may be away alone: until that can be asked
//! for again there is no other connection, or a replica would seem to be there to those whose calls are counted there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, PushInfo, RedisError, Value, cmd};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Notify, RwLock, Semaphore};
use tracing::{debug, warn};

use super::script::Script;
use super::wire::{Dial, Wire};
use crate::telemetry::metrics::Metrics;

/// The store cannot be asked, or did not answer in time. Whoever hears this does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

/// See the module.
pub(super) struct Link {
    dial: Dial,
    timeout: Duration,
    metrics: Arc<Metrics>,
    /// For commands on their way. Who finds none is told at once.
    places: Semaphore,
    state: Mutex<State>,
    broken: Notify,
    /// Kept to oneself from when channels are given up until the store knows: who wants one of them again asks after that.
    giving_up: RwLock<()>,
}

#[derive(Default)]
struct State {
    wire: Option<Wire>,
    /// Answers in a row that did not come in time.
    late: u32,
    /// Connections so far.
    number: u64,
    /// What is to be heard, over later connections too.
    channels: BTreeSet<String>,
    /// What is heard over this connection.
    heard: BTreeSet<String>,
    /// The key of a cluster's for which the last connection was given up.
    unreached: Option<String>,
}

/// Commands on their way at once.
const PLACES: usize = 256;
/// So many late answers in a row, and the connection is given up.
const LATE: u32 = 3;

impl Link {
    pub(super) fn new(dial: Dial, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            dial,
            timeout,
            metrics,
            places: Semaphore::new(PLACES),
            state: Mutex::default(),
            broken: Notify::new(),
            giving_up: RwLock::default(),
        }
    }

    /// Makes a connection, over which nobody is heard yet: see [`Self::open`]. What the store says by itself comes out of
    /// what is returned.
    pub(super) async fn connect(&self) -> Result<(Wire, UnboundedReceiver<PushInfo>), RedisError> {
        let (tell, told) = unbounded_channel();
        let mut wire = self.dial.connect(tell).await?;
        let channels: Vec<_> = self.state().channels.iter().cloned().collect();
        if !channels.is_empty() {
            let subscribing = tokio::time::timeout(self.dial.limit, wire.subscribe(&channels));
            subscribing.await.map_err(|_| late())??;
        }
        self.state().heard = channels.into_iter().collect();
        Ok((wire, told))
    }

    /// Whether this says that nothing listens where the only server was.
    pub(super) fn is_gone(&self, error: &RedisError) -> bool {
        self.dial.is_one() && error.is_connection_refusal()
    }

    /// From here on everybody is heard over this connection. Tells its number.
    pub(super) fn open(&self, wire: Wire) -> u64 {
        let mut state = self.state();
        (state.wire, state.late) = (Some(wire), 0);
        state.number += 1;
        state.number
    }

    /// Whether what the last connection was given up for can be asked for over this one.
    pub(super) async fn reaches_all(&self) -> Result<(), Away> {
        let unreached = self.state().unreached.clone();
        if let Some(key) = unreached {
            let command = cmd("PTTL").arg(&key).to_owned();
            self.send("connect", &key, &command).await?;
            self.state().unreached = None;
        }
        Ok(())
    }

    /// The number of the connection, while there is one.
    pub(super) fn number(&self) -> Option<u64> {
        let state = self.state();
        state.wire.is_some().then_some(state.number)
    }

    /// Whether what was said before an answer is heard before it, and nothing else was connected since this one.
    pub(super) fn has_told_all(&self, number: u64) -> bool {
        !self.dial.is_many() && self.state().number == number
    }

    /// Gives the connection up.
    pub(super) fn close(&self) {
        if self.state().wire.take().is_some() {
            self.broken.notify_one();
        }
    }

    /// Waits until the connection is given up.
    pub(super) async fn broken(&self) {
        // One that was given up before may have left its word here.
        while self.number().is_some() {
            self.broken.notified().await;
        }
    }

    /// Hears of what is said in a channel, from now on and over later connections too.
    pub(super) async fn listen(&self, channel: String) -> Result<(), Away> {
        let _after = self.giving_up.read().await;
        let (mut wire, number) = {
            let mut state = self.state();
            state.channels.insert(channel.clone());
            let wire = state.wire.clone().ok_or(Away)?;
            if state.heard.contains(&channel) {
                return Ok(());
            }
            (wire, state.number)
        };
        let channels = [channel];
        let subscribing = tokio::time::timeout(self.timeout, wire.subscribe(&channels));
        match subscribing.await {
            Ok(Ok(())) => {
                self.state().heard.extend(channels);
                Ok(())
            }
            Ok(Err(error)) => Err(self.failed("subscribe", number, None, &error)),
            Err(_) => Err(self.failed("subscribe", number, None, &late())),
        }
    }

    /// Hears no more of what is said in channels that nobody wants; the next time, while somebody is about to hear of one.
    pub(super) async fn listen_only(&self, wanted: impl Fn(&str) -> bool) {
        let Ok(_before) = self.giving_up.try_write() else {
            return;
        };
        let (wire, number, unwanted) = {
            let mut state = self.state();
            let channels = std::mem::take(&mut state.channels);
            let (kept, unwanted): (BTreeSet<_>, BTreeSet<_>) =
                channels.into_iter().partition(|channel| wanted(channel));
            state.channels = kept;
            state.heard.retain(|channel| !unwanted.contains(channel));
            (state.wire.clone(), state.number, Vec::from_iter(unwanted))
        };
        let Some(mut wire) = wire.filter(|_| !unwanted.is_empty()) else {
            return;
        };
        match tokio::time::timeout(self.timeout, wire.unsubscribe(&unwanted)).await {
            Ok(Ok(())) => {}
            // A user who was allowed all that is needed before this was asked: what comes is of no matter.
            Ok(Err(error)) if error.kind() == redis::ServerErrorKind::NoPerm.into() => {
                self.metrics.shared_error("unsubscribe");
                debug!(%error, "the shared store goes on telling what nobody wants");
            }
            Ok(Err(error)) => drop(self.failed("unsubscribe", number, None, &error)),
            Err(_) => drop(self.failed("unsubscribe", number, None, &late())),
        }
    }

    /// Runs a script. `operation` is its name in metrics.
    pub(super) async fn run(
        &self,
        operation: &'static str,
        script: &Script,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> Result<Value, Away> {
        // All of them are in one slot.
        let key = keys.first().map_or("", String::as_str);
        let by_hash = script.by_hash(keys, arguments);
        match self.ask(operation, key, &by_hash).await {
            // A store that was started anew does not know it.
            Err(Refused::UnknownScript) => {
                let whole = script.whole(keys, arguments);
                self.ask(operation, key, &whole).await.map_err(|_| Away)
            }
            Err(Refused::Away) => Err(Away),
            Ok(value) => Ok(value),
        }
    }

    /// Sends a command about a key.
    pub(super) async fn send(
        &self,
        operation: &'static str,
        key: &str,
        command: &Cmd,
    ) -> Result<Value, Away> {
        let asked = self.ask(operation, key, command).await;
        asked.map_err(|_| Away)
    }

    async fn ask(
        &self,
        operation: &'static str,
        key: &str,
        command: &Cmd,
    ) -> Result<Value, Refused> {
        let (wire, number) = {
            let state = self.state();
            (state.wire.clone(), state.number)
        };
        let mut wire = wire.ok_or(Refused::Away)?;
        let Ok(_place) = self.places.try_acquire() else {
            self.metrics.shared_error(operation);
            return Err(Refused::Away);
        };
        match tokio::time::timeout(self.timeout, wire.send(command)).await {
            Ok(Ok(value)) => {
                self.state().late = 0;
                Ok(value)
            }
            Ok(Err(error)) if error.kind() == redis::ServerErrorKind::NoScript.into() => {
                Err(Refused::UnknownScript)
            }
            Ok(Err(error)) => {
                self.failed(operation, number, Some(key), &error);
                Err(Refused::Away)
            }
            Err(_) => {
                self.failed(operation, number, Some(key), &late());
                Err(Refused::Away)
            }
        }
    }

    /// Counts a failure. Of those that say that the connection of this number is of no more use it is given up.
    fn failed(
        &self,
        operation: &'static str,
        number: u64,
        key: Option<&str>,
        error: &RedisError,
    ) -> Away {
        self.metrics.shared_error(operation);
        // The text of an error is the store's and the client's; no name and no page is in it. What it refuses somebody has to
        // mend, such as a user who may not do what is asked.
        match error.is_io_error() {
            true => debug!(operation, %error, "the shared store failed"),
            false => warn!(operation, %error, "the shared store refused what it was asked"),
        }
        let mut state = self.state();
        // What was asked over one that was given up says nothing of the one after it, nor of where it was asked for.
        if state.number != number || state.wire.is_none() {
            return Away;
        }
        let given_up = if error.is_timeout() {
            state.late += 1;
            state.late >= LATE
        } else {
            !is_about_the_command(error)
        };
        if given_up {
            if self.dial.is_many() {
                state.unreached = key.map(str::to_owned);
            }
            state.wire = None;
            self.broken.notify_one();
        }
        Away
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Refused {
    UnknownScript,
    Away,
}

/// Whether the next command may fare better over the same connection.
fn is_about_the_command(error: &RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind as Server};
    matches!(
        error.kind(),
        ErrorKind::Server(
            Server::ResponseError | Server::ExecAbort | Server::TryAgain | Server::CrossSlot
        ) | ErrorKind::UnexpectedReturnType
    )
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("dial", &self.dial)
            .field("number", &self.number())
            .finish()
    }
}

#[cfg(test)]
mod tests;
