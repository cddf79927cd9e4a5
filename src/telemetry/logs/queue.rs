//! Hides that whoever reads standard error may be slow, or have stopped: lines wait here for the one thread that writes them,
//! and nobody else ever does.
//!
//! There is little room, since nothing says that the reader comes back. What finds none is lost and counted; so is all that
//! comes after it, until there is room, so that what is lost is one gap at one place.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memchr::{memchr, memrchr};

/// Bytes of lines that wait, some hundreds of them. As much again may be on its way out.
const MOST: usize = 128 * 1024;
/// Room that is kept when there is nothing to write.
const KEPT: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Told whenever nothing waits.
    out: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Events that would have come after those lines.
    lost: u64,
    /// Whether what was taken is still being written.
    leaving: bool,
    /// Whether the thread that writes waits to be woken.
    asleep: bool,
}

impl Queue {
    /// A line, which tells of so many events. Whether the thread that writes has to be woken.
    pub(super) fn put(&self, line: &str, events: u64) -> bool {
        let mut waiting = self.waiting();
        // However long it is, one line may wait.
        let fits = waiting.lines.is_empty() || waiting.lines.len() + line.len() <= MOST;
        if fits && waiting.lost == 0 {
            waiting.lines.extend_from_slice(line.as_bytes());
        } else {
            waiting.lost += events;
        }
        mem::take(&mut waiting.asleep)
    }

    /// Gives all lines, in place of those that were taken before and are written by now, and how many events are lost that
    /// came after them. None: there are none, and nothing was lost.
    pub(super) fn take(&self, lines: &mut Vec<u8>) -> Option<u64> {
        lines.clear();
        lines.shrink_to(KEPT);
        let mut waiting = self.waiting();
        waiting.leaving = !waiting.lines.is_empty();
        if !waiting.leaving {
            self.out.notify_all();
            return None;
        }
        mem::swap(lines, &mut waiting.lines);
        Some(mem::take(&mut waiting.lost))
    }

    /// Whether nothing waits. If so, the next line comes with a word that it has.
    pub(super) fn rest(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.asleep = waiting.lines.is_empty();
        waiting.asleep
    }

    /// Waits until all is written, but not for longer than this.
    pub(super) fn wait(&self, most: Duration) {
        let unwritten = |waiting: &mut Waiting| waiting.leaving || !waiting.lines.is_empty();
        // Whether it was, there is nobody left to tell.
        let _ = self.out.wait_timeout_while(self.waiting(), most, unwritten);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole lines, as many at once as stay together where several processes write to one pipe: `PIPE_BUF` of pipe(7).
pub(super) fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    const TOGETHER: usize = 4096;
    std::iter::from_fn(move || {
        let together = &lines[..lines.len().min(TOGETHER)];
        let end = memrchr(b'\n', together).or_else(|| memchr(b'\n', lines));
        let piece;
        (piece, lines) = lines.split_at(end.map_or(lines.len(), |end| end + 1));
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// All that waits, as text.
    fn taken(queue: &Queue) -> (String, Option<u64>) {
        let mut lines = b"written before".to_vec();
        let lost = queue.take(&mut lines);
        (String::from_utf8(lines).unwrap(), lost)
    }

    #[test]
    fn lines_leave_as_they_came_and_once() {
        let queue = Queue::default();
        assert_eq!(taken(&queue), (String::new(), None));
        queue.put("one\n", 1);
        queue.put("two\n", 1);
        assert_eq!(taken(&queue), ("one\ntwo\n".into(), Some(0)));
        queue.put("three\n", 1);
        assert_eq!(taken(&queue), ("three\n".into(), Some(0)));
        assert_eq!(taken(&queue), (String::new(), None));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_so_is_what_comes_after_it() {
        let queue = Queue::default();
        let half = "h".repeat(MOST / 2);
        for events in [1, 1, 5] {
            queue.put(&half, events);
        }
        queue.put("this would fit\n", 2);
        let (lines, lost) = taken(&queue);
        assert_eq!((lines.len(), lost), (MOST, Some(7)));
        queue.put("there is room\n", 1);
        assert_eq!(taken(&queue), ("there is room\n".into(), Some(0)));
    }

    #[test]
    fn a_line_longer_than_all_of_the_room_is_written_where_none_waits() {
        let queue = Queue::default();
        let long = "l".repeat(MOST + 1);
        queue.put("short\n", 1);
        queue.put(&long, 1);
        assert_eq!(taken(&queue), ("short\n".into(), Some(1)));
        queue.put(&long, 1);
        assert_eq!(taken(&queue), (long, Some(0)));
    }

    #[test]
    fn the_thread_is_woken_once_when_it_rests_and_else_not() {
        let queue = Queue::default();
        assert!(!queue.put("one\n", 1));
        assert!(!queue.rest(), "there is something to write");
        assert!(!queue.put("two\n", 1));
        taken(&queue);
        assert!(queue.rest());
        assert!(queue.put("three\n", 1));
        assert!(!queue.put("four\n", 1));
    }

    #[test]
    fn whoever_waits_does_so_until_all_is_written_and_not_for_ever() {
        let queue = Queue::default();
        queue.wait(Duration::MAX);
        queue.put("one\n", 1);
        queue.wait(Duration::from_millis(1));
        let mut lines = Vec::new();
        assert_eq!(queue.take(&mut lines), Some(0));
        // It is still being written.
        queue.wait(Duration::from_millis(1));
        thread::scope(|scope| {
            scope.spawn(|| queue.wait(Duration::MAX));
            assert_eq!(queue.take(&mut lines), None);
        });
    }

    #[test]
    fn lines_are_written_many_at_once_and_each_in_one_piece() {
        let (short, long) = ("s".repeat(999) + "\n", "l".repeat(5_000) + "\n");
        let lines = [&*short, &short, &long, &short].concat() + &short.repeat(4);
        let lens = |lines: &str| pieces(lines.as_bytes()).map(<[u8]>::len).collect();
        let lens: [Vec<_>; 2] = [&lines, ""].map(lens);
        assert_eq!(lens, [vec![2_000, 5_001, 4_000, 1_000], vec![]]);
        let written: Vec<_> = pieces(lines.as_bytes()).collect();
        assert_eq!(written.concat(), lines.as_bytes());
    }
}
