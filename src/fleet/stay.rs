//! How a replica stays among the others, whatever becomes of the store: it connects, catches up with what it missed, says
//! again and again that it is there, and hears what is said; and begins anew when the connection is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use redis::{Msg, PushInfo, PushKind};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tracing::{info, warn};
use uuid::Uuid;

use super::script::{Reply, arguments};
use super::seats::{KEPT, LAPSE};
use super::{Away, Shared};

/// Between two attempts to connect, at first and at most. Each wait is cut by up to a half, so that replicas do not all come
/// back at once.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// After so many beats without an answer one more is the last over this connection, whatever else is answered.
const UNANSWERED: u32 = 2;

impl Shared {
    /// Connects, says again and again that it is there, and hears the others; for ever.
    pub(super) async fn stay(self: Arc<Self>, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut wait = WAITS.0;
        let mut told_away = false;
        loop {
            match self.arrive().await {
                Ok(mut pushes) => {
                    self.live.store(true, Relaxed);
                    self.is_back();
                    info!(
                        shared.replicas = self.seats().here(),
                        shared.backlog = self.backlog.len(),
                        "the shared store is there"
                    );
                    self.backlog.stir();
                    (wait, told_away) = (WAITS.0, false);
                    self.metrics.shared_up(true);
                    if let Some(first) = first.take() {
                        let _ = first.send(());
                    }
                    self.hear(&mut pushes).await;
                    self.live.store(false, Relaxed);
                    self.link.close();
                    // What was said before is known before this replica makes its part.
                    while let Ok(push) = pushes.try_recv() {
                        self.told(push);
                    }
                    self.metrics.shared_up(false);
                    warn!("the shared store is away: going on alone");
                }
                Err(why) => {
                    self.seats().tried();
                    self.metrics.shared_error("connect");
                    if !std::mem::replace(&mut told_away, true) {
                        warn!(why, "the shared store cannot be reached: going on alone");
                    }
                    if let Some(first) = first.take() {
                        let _ = first.send(());
                    }
                }
            }
            tokio::time::sleep(wait.mul_f64(1.0 - self.dice() / 2.0)).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// Connects and says that it is there.
    async fn arrive(&self) -> Result<UnboundedReceiver<PushInfo>, String> {
        let (wire, pushes) = self.link.connect().await.map_err(|error| {
            if self.link.is_gone(&error) && self.seats().is_refused(self.clock.now()) {
                self.is_gone();
            }
            error.to_string()
        })?;
        self.link.open(wire);
        let knew = {
            let mut seats = self.seats();
            seats.connected();
            if seats.is_heard() { seats.size() } else { 0 }
        };
        // Before it says that it is there.
        let beat = match self.link.reaches_all().await {
            Ok(()) => self.beat(knew).await,
            Err(Away) => Err(Away),
        };
        let beat = match beat {
            // Before anybody is told that the store is there. Who knows the store's time has a seat.
            Ok(Some(forgot)) => match self.catch_up(forgot).await {
                Ok(()) => self.beat(0).await.map(|beat| beat.is_some()),
                Err(Away) => Err(Away),
            },
            Ok(None) => Ok(false),
            Err(Away) => Err(Away),
        };
        match beat {
            Ok(true) => Ok(pushes),
            Ok(false) => {
                self.link.close();
                Err("replicas with another last key in shared.encryption_key_file are there".into())
            }
            Err(Away) => {
                self.link.close();
                Err("it did not answer, or not with what was asked".into())
            }
        }
    }

    /// Says that it is there from time to time, and hears the others, until the connection is given up.
    async fn hear(&self, pushes: &mut UnboundedReceiver<PushInfo>) {
        let mut unanswered = 0;
        loop {
            let next = tokio::time::sleep(self.seats().beat());
            tokio::pin!(next);
            loop {
                tokio::select! {
                    // In this order: what was said before a beat was answered is known before the next is said.
                    biased;
                    () = self.link.broken() => return,
                    push = pushes.recv() => match push {
                        None => return,
                        Some(push) if push.kind == PushKind::Disconnection => return,
                        Some(push) => match self.told(push) {
                            true => {}
                            false => break,
                        },
                    },
                    () = &mut next => break,
                }
            }
            match self.beat(0).await {
                Ok(Some(forgot)) => {
                    unanswered = 0;
                    // What is not known yet is asked for again.
                    let _ = self.catch_up(forgot).await;
                    self.listen_only().await;
                }
                Ok(None) => return,
                // One that is late is one that is late.
                Err(Away) if unanswered < UNANSWERED => unanswered += 1,
                Err(Away) => return,
            }
        }
    }

    /// What the store says by itself. Tells whether nothing was missed.
    fn told(&self, push: PushInfo) -> bool {
        let Some(message) = Msg::from_push_info(push) else {
            return true;
        };
        let said = String::from_utf8_lossy(message.get_payload_bytes());
        let channel = message.get_channel_name();
        if channel == self.channel() {
            return self.heard(&said);
        }
        self.said(channel, &said);
        true
    }

    /// Says that it is there. `knew`: how many replicas there were before it was away. Tells which forgets the store knows;
    /// nothing where the others name things in another way.
    pub(super) async fn beat(&self, knew: u32) -> Result<Option<(u64, u64)>, Away> {
        let keys = ["seats", "fleet"].map(|what| self.names.ours(what));
        let asked = self.clock.now();
        let (sits, lapse, leaves) = {
            let mut seats = self.seats();
            let sits = seats.says(asked, self.memory);
            (sits, seats.beat() * LAPSE, seats.has_left())
        };
        let said = asked.duration_since(self.began).as_micros() as i64 + self.least.load(Relaxed);
        let arguments = arguments![
            self.seat,
            lapse.as_millis(),
            self.memory.as_millis(),
            knew,
            self.names.check(),
            u8::from(leaves),
            if sits { said / 1_000 } else { 0 },
            (self.memory * KEPT).as_millis(),
        ];
        let reply = self
            .link
            .run("beat", &self.scripts.beat, &keys, &arguments)
            .await?;
        let heard = self.clock.now();
        let mut reply = Reply::new(reply);
        if reply.next::<String>().is_none_or(|word| word != "here") {
            return Ok(None);
        }
        let (time, size, here) = (reply.next::<i64>(), reply.next(), reply.next());
        let (Some(time), Some(size), Some(here)) = (time, size, here) else {
            return Ok(reply.next().zip(reply.next()));
        };
        let ours = |then: Instant| then.duration_since(self.began).as_micros() as i64;
        let middle = asked + heard.saturating_duration_since(asked) / 2;
        let offset = time - ours(middle);
        let before = self.offset.swap(offset, Relaxed);
        self.least.store(time - ours(heard), Relaxed);
        if !self.seats().is_heard() {
            (self.sets_right)(offset - before);
            self.backlog.set_right(offset - before);
        }
        self.seats().told(asked, size, here);
        Ok(reply.next().zip(reply.next()))
    }

    /// From 0 to 1, never the same.
    fn dice(&self) -> f64 {
        let bits = Uuid::new_v4().as_u64_pair().1;
        (bits & 0xffff_ffff) as f64 / f64::from(u32::MAX)
    }
}
