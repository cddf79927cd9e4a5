//! Hides that a short answer's header and body are copied into one piece, so that the kernel need not take two.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Up to here an answer is short. With 50 contacts, 8 KB and as many as the vendor gives, the copy takes 2.5 % off a hit.
const SHORT: usize = 16 * 1024;

thread_local! {
    /// A thread's, so that connections need no room of their own.
    static PIECE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SHORT));
}

/// Writes the pieces, or as much of them as the kernel takes.
pub(super) fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match pieces.iter().map(|piece| piece.len()).sum::<usize>() {
        0..=SHORT if pieces.len() > 1 => PIECE.with_borrow_mut(|whole| {
            whole.clear();
            pieces
                .iter()
                .for_each(|piece| whole.extend_from_slice(piece));
            Pin::new(stream).poll_write(cx, whole)
        }),
        _ => Pin::new(stream).poll_write_vectored(cx, pieces),
    }
}
