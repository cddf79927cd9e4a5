//! Turns requests away that find no place: at once, there is no queue. Once the gateway is draining nobody finds one, and
//! connections that are still open hear it from here.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::Response;
use tower::{Layer, Service, layer};

use super::failure::Failure;
use super::{Attempt, Body, Rung};
use crate::error::Error;
use crate::soon::Soon;

/// The rung.
pub fn layer<S>(places: Arc<Places>) -> impl Layer<S, Service = Admit<S>> + Clone {
    layer::layer_fn(move |inner| Admit {
        places: places.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Admit<S> {
    places: Arc<Places>,
    inner: S,
}

impl<S, R> Service<R> for Admit<S>
where
    S: Rung<R, Failure>,
{
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Soon<Attempt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.places.take() {
            // Given back once there is an answer, or nobody waits for one.
            Ok(place) => match self.inner.call(request) {
                there @ Soon::Now(_) => there,
                waited => {
                    let place = place.kept(&self.places);
                    waited.then(move |answer| {
                        drop(place);
                        answer
                    })
                }
            },
            Err(refusal) => Soon::Now(Err(refusal.into())),
        }
    }
}

/// One for each request in flight, until there are to be none. A semaphore could do as much, but takes a lock for each
/// place that comes back, and nobody waits for one here.
#[derive(Debug)]
pub struct Places {
    /// How many are taken, and [`CLOSED`].
    taken: AtomicUsize,
    most: usize,
}

/// No number of requests comes near this bit.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Comes back when it is dropped.
struct Place<P: Deref<Target = Places>>(P);

impl Places {
    /// So many, all free.
    pub fn new(most: NonZeroUsize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most: most.get(),
        }
    }

    /// From now on there is none for anybody.
    pub fn close(&self) {
        self.taken.fetch_or(CLOSED, Relaxed);
    }

    fn take(&self) -> Result<Place<&Self>, Error> {
        let taken = self.taken.fetch_add(1, Relaxed);
        // Too many or not, it is counted, and comes back.
        let place = Place(self);
        match taken {
            CLOSED.. => Err(Error::Draining),
            taken if taken >= place.0.most => Err(Error::Overloaded),
            _ => Ok(place),
        }
    }
}

impl Place<&Places> {
    /// The same for an answer that is waited for.
    fn kept(self, places: &Arc<Places>) -> Place<Arc<Places>> {
        std::mem::forget(self);
        Place(places.clone())
    }
}

impl<P: Deref<Target = Places>> Drop for Place<P> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_there_until_it_is_taken_and_after_it_came_back() {
        let places = Places::new(NonZeroUsize::new(2).unwrap());
        let (one, _two) = (places.take(), places.take());
        assert!(one.is_ok());
        assert!(matches!(places.take(), Err(Error::Overloaded)));
        drop(one);
        let again = places.take();
        assert!(again.is_ok(), "who was refused has not kept one");
        places.close();
        drop(again);
        assert!(matches!(places.take(), Err(Error::Draining)));
        assert!(matches!(places.take(), Err(Error::Draining)));
    }
}
