//! A fetch that another replica makes: it is waited for, and made here only if that replica fails to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower::Service;

use super::Wanted;
use super::coalesce::{Desk, Fetches, Landed, Landing};
use super::policy::Rules;
use super::store::Entry;
use crate::contacts::Page;
use crate::error::Error;
use crate::fleet::{Away, Decision, Grant, UNKEPT};
use crate::upstream::allowance::{Call, Go};
use crate::upstream::{Fetch, Reason};

impl<S> Fetches<S>
where
    S: Service<Fetch, Response = Page, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    /// The call that is to be made here; or what came of it where another replica made it.
    pub(super) async fn own_call(
        &self,
        rules: &Arc<Rules>,
        wanted: &Wanted,
        desk: &Desk,
        mut go: Go,
    ) -> Result<(Call, Option<Grant>), Landing> {
        let lookups = self.lookups();
        let name = wanted.name();
        let mut version = wanted.version();
        let patience = lookups.clock.now() + lookups.patience;
        loop {
            let flying = match go {
                Go::Call(call, grant) => return Ok((call, grant)),
                Go::Elsewhere(flying) => flying,
            };
            let look = || lookups.look(&name, wanted.known.as_ref(), rules);
            if let Some(found) = look().await {
                return Err(Ok(landed(found)));
            }
            if let Some((until, mut landings)) = flying {
                let said = tokio::select! {
                    said = landings.next() => said,
                    () = lookups.clock.sleep_until(until) => None,
                };
                match said.and_then(|landing| landing.problem) {
                    Some(problem) if problem != UNKEPT => {
                        let pause = desk.paused_for(lookups.clock.now());
                        return Err(Err(Error::of_another(&problem, pause)));
                    }
                    // What it brought is for nobody else.
                    Some(_) => {}
                    // Said, or to be had without a word of it.
                    None => {
                        if let Some(found) = look().await {
                            return Err(Ok(landed(found)));
                        }
                    }
                }
            }
            go = self.go_again(wanted, desk, &mut version, patience).await?;
        }
    }

    /// Whoever had it has failed to. `version`: of what is known to be there; what is called newer and cannot be had is not
    /// asked for again.
    async fn go_again(
        &self,
        wanted: &Wanted,
        desk: &Desk,
        version: &mut u64,
        patience: Instant,
    ) -> Result<Go, Landing> {
        let clock = &self.lookups().clock;
        let awaited = wanted.reason == Reason::Miss;
        loop {
            let now = clock.now();
            let wait = match desk.ask_again(&wanted.name(), awaited, *version).await {
                Ok(Decision::Go(grant)) => return Ok(desk.goes(awaited, grant)),
                Ok(Decision::Flying(left, landings)) => {
                    return Ok(Go::Elsewhere(Some((now + left, landings))));
                }
                Ok(Decision::Newer(other)) => {
                    *version = other;
                    return Ok(Go::Elsewhere(None));
                }
                Ok(Decision::Wait(wait)) => wait,
                Ok(Decision::Join) => MOMENT,
                Err(Away) => match desk.goes_alone(awaited) {
                    Ok(go) => return Ok(go),
                    Err(slot) => slot.map_or(MOMENT, |slot| slot.saturating_duration_since(now)),
                },
            };
            if !awaited || now + wait > patience {
                return Err(Err(Error::AllowanceSpent {
                    retry_after: wait.max(Duration::from_secs(1)),
                }));
            }
            clock
                .sleep_until(now + wait.max(Duration::from_millis(1)))
                .await;
        }
    }
}

/// A page that is in memory now, and that others fetched.
pub(super) fn landed(found: Arc<Entry>) -> Landed {
    Landed {
        page: found.into(),
        stored: true,
        elsewhere: true,
    }
}

/// Until things are expected to be clearer.
const MOMENT: Duration = Duration::from_millis(100);
