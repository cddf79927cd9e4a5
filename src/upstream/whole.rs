//! Reads a body whole, into memory that is its own, with room for the texts of its page's fields and no more.
//!
//! What comes off a connection is parts of what was read at once, and all of that stays for as long as any part of it
//! does. So bodies are copied as they come. Large ones go where a page goes back to the system with the body: allocators
//! keep some of what bodies of such sizes leave behind, measured as half of a full cache, and `cache.max_bytes` would
//! not be what it says.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use memmap2::MmapMut;

use crate::contacts::Fields;
use crate::error::Error;

/// From here on a body is large.
const LARGE: usize = 128 * 1024;

/// All of a body that is no longer than `most`.
pub(super) async fn whole<B>(mut body: B, most: u64) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (length, most) = (bytes(body.size_hint().lower()), bytes(most));
    let too_large = || Error::UpstreamGarbled("it is larger than upstream.max_body".into());
    if length > most {
        return Err(too_large());
    }
    let mut room = Room::of(length);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::UpstreamGarbled("it was cut off".into()))?;
        let some = frame.into_data().unwrap_or_default();
        if some.len() > most - room.filled().len() {
            return Err(too_large());
        }
        room.put(&some);
    }
    Ok(room.close())
}

/// Where a body goes.
enum Room {
    Heap(Vec<u8>),
    Own { map: MmapMut, filled: usize },
}

impl Room {
    /// For a body of this length, if it is no lie.
    fn of(length: usize) -> Self {
        let own = (length >= LARGE).then(|| MmapMut::map_anon(length));
        match own {
            Some(Ok(map)) => Self::Own { map, filled: 0 },
            // Whether there is memory for what was said shows when it comes: to ask for all of it would end the program.
            Some(Err(_)) => Self::Heap(Vec::new()),
            None => Self::Heap(Vec::with_capacity(length + Fields::TEXTS)),
        }
    }

    fn filled(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Own { map, filled } => &map[..*filled],
        }
    }

    fn put(&mut self, some: &[u8]) {
        match self {
            Self::Heap(bytes) => bytes.extend_from_slice(some),
            Self::Own { map, filled } if some.len() <= map.len() - *filled => {
                map[*filled..][..some.len()].copy_from_slice(some);
                *filled += some.len();
            }
            Self::Own { .. } => *self = Self::Heap([self.filled(), some].concat()),
        }
    }

    fn close(self) -> Bytes {
        match self {
            Self::Own { map, filled } => Bytes::from_owner(map).slice(..filled),
            // Its length was not told.
            Self::Heap(bytes) if bytes.len() >= LARGE => match MmapMut::map_anon(bytes.len()) {
                Ok(mut map) => {
                    map.copy_from_slice(&bytes);
                    Bytes::from_owner(map)
                }
                Err(_) => bytes.into_boxed_slice().into(),
            },
            Self::Heap(mut bytes) => {
                bytes.shrink_to(bytes.len() + Fields::TEXTS);
                bytes.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::{Frame, SizeHint};

    use super::*;

    /// A body that says how long it will be, and then is this.
    struct Said(u64, Option<Bytes>);

    impl Body for Said {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.1.take().map(|data| Ok(Frame::data(data))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test]
    async fn no_room_is_made_for_more_than_there_is_memory() {
        for length in [3, 1 << 20, 1 << 50] {
            let body = Said(length, Some("abc".into()));
            assert_eq!(whole(body, u64::MAX).await.unwrap(), "abc", "{length}");
        }
    }
}
