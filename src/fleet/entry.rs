//! How a page is written in the shared store.
//!
//! ```text
//! 1        version
//! 1        flags: 1 packed with zstd, 2 sealed
//! 8        fence: who began to fetch it later has a greater one
//! 8        stamp: the latest forget that was known when its fetch began
//! 8        when it arrived, by the store's clock, in microseconds since 1970
//! 1 + n    the ID of the key, where it is sealed
//! …        what is left: nonce, text and tag where it is sealed, else the text
//! ```
//!
//! What comes before the text, and the page's name in clear, are sealed with it: an entry that was moved to another name, or
//! whose times were changed, does not open. Numbers are big-endian, since scripts read the first three.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::keys::Keys;
use crate::clock::Clock;
use crate::contacts::{Fields, Forwarded, Page};

/// A page as it is shared.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The page. How old it is has been brought up to now.
    pub page: Page,
    /// The fields of the request that it answered.
    pub sent: Forwarded,
    /// Whether that had an `Authorization`.
    pub authorized: bool,
    /// A page whose fetch began later has a greater one.
    pub version: u64,
}

/// What stands before the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fence: u64,
    pub(super) stamp: u64,
    pub(super) arrived: u64,
}

const VERSION: u8 = 1;
const PACKED: u8 = 1;
const SEALED: u8 = 2;
const HEAD: usize = 26;

/// Texts shorter than this are not worth packing.
const WORTH_PACKING: usize = 512;
/// zstd's usual level: a page of 50 contacts takes some ten microseconds.
const LEVEL: i32 = 3;
/// What a text may be at most: who writes to the store does not fill our memory.
const LONGEST: usize = 32 << 20;
/// What an entry may be at most: a longer one would hold up what others ask of the store.
pub(super) const LARGEST: usize = 1 << 20;

/// Writes an entry; nothing for a page that is too large to be shared. `clear`: its name.
pub(super) fn write(copy: &Copy, head: Head, clear: &[u8], keys: &Keys) -> Option<Vec<u8>> {
    let mut text = text(copy);
    if text.len() > LONGEST {
        return None;
    }
    let mut flags = 0;
    if text.len() >= WORTH_PACKING {
        let packed = zstd::bulk::compress(&text, LEVEL).ok()?;
        if packed.len() + 4 < text.len() {
            let length = (text.len() as u32).to_be_bytes();
            text = [&length, &*packed].concat();
            flags |= PACKED;
        }
    }
    let key = keys.sealing();
    flags |= key.map_or(0, |_| SEALED);
    let mut entry = vec![VERSION, flags];
    for number in [head.fence, head.stamp, head.arrived] {
        entry.extend_from_slice(&number.to_be_bytes());
    }
    if let Some(id) = key {
        entry.push(id.len() as u8);
        entry.extend_from_slice(id.as_bytes());
        let beside = [&*entry, clear].concat();
        text = keys.seal(text, &beside)?;
    }
    entry.append(&mut text);
    (entry.len() <= LARGEST).then_some(entry)
}

/// What stands before an entry's text.
pub(super) fn head(entry: &[u8]) -> Option<Head> {
    let (head, _) = entry.split_at_checked(HEAD)?;
    let number = |at: usize| {
        let bytes = head.get(at..at + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    (head[0] == VERSION).then_some(Head {
        fence: number(2)?,
        stamp: number(10)?,
        arrived: number(18)?,
    })
}

/// Reads an entry; nothing where it is not whole, not of this name, or of a key that is not known. `now`: the store's time.
pub(super) fn read(
    entry: &[u8],
    clear: &[u8],
    keys: &Keys,
    clock: &Clock,
    now: u64,
) -> Option<Copy> {
    let head = head(entry)?;
    let flags = entry[1];
    let mut rest = &entry[HEAD..];
    let opened;
    if flags & SEALED != 0 {
        let (length, after) = rest.split_first()?;
        let (id, sealed) = after.split_at_checked(usize::from(*length))?;
        let before = &entry[..entry.len() - sealed.len()];
        let beside = [before, clear].concat();
        opened = keys.open(std::str::from_utf8(id).ok()?, sealed, &beside)?;
        rest = &opened;
    } else if keys.sealing().is_some() {
        // Where pages are sealed, one that is not may be anybody's.
        return None;
    }
    let unpacked;
    if flags & PACKED != 0 {
        let (length, packed) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        unpacked = zstd::bulk::decompress(packed, length.min(LONGEST)).ok()?;
        rest = &unpacked;
    }
    let old = Duration::from_micros(now.saturating_sub(head.arrived));
    parse(rest, clock, old, head.fence)
}

fn text(copy: &Copy) -> Vec<u8> {
    let page = &copy.page;
    let mut text = Vec::with_capacity(256 + page.body.len());
    text.extend_from_slice(&page.status.as_u16().to_be_bytes());
    text.push(u8::from(page.tagged_here) | u8::from(copy.authorized) << 1);
    let initial_age = Duration::from(page.initial_age).as_millis();
    text.extend_from_slice(&(initial_age as u64).to_be_bytes());
    text.extend_from_slice(&page.date.to_be_bytes());
    fields(page.fields.iter(), page.fields.len(), &mut text);
    fields(
        copy.sent
            .iter()
            .map(|(name, value)| (name, value.as_bytes())),
        copy.sent.len(),
        &mut text,
    );
    text.extend_from_slice(&page.body);
    text
}

fn fields<'a>(
    all: impl Iterator<Item = (&'a HeaderName, &'a [u8])>,
    number: usize,
    text: &mut Vec<u8>,
) {
    text.extend_from_slice(&(number as u16).to_be_bytes());
    for (name, value) in all {
        for part in [name.as_str().as_bytes(), value] {
            text.extend_from_slice(&(part.len() as u32).to_be_bytes());
            text.extend_from_slice(part);
        }
    }
}

fn parse(text: &[u8], clock: &Clock, old: Duration, version: u64) -> Option<Copy> {
    let mut text = Text(text);
    let status = StatusCode::from_u16(u16::from_be_bytes(text.take()?)).ok()?;
    let [bits] = text.take()?;
    let initial_age = Duration::from_millis(u64::from_be_bytes(text.take()?));
    let date = u64::from_be_bytes(text.take()?);
    let mut headers = HeaderMap::new();
    text.fields(|name, value| {
        headers.append(name, value);
    })?;
    let mut sent = Vec::new();
    text.fields(|name, value| sent.push((name, value)))?;
    let mut body = BytesMut::with_capacity(text.0.len() + Fields::TEXTS);
    body.extend_from_slice(text.0);
    let fields: Vec<_> = headers.iter().collect();
    let (fields, body) = Fields::with_body(&fields, body.freeze());
    let page = Page {
        status,
        fields,
        body,
        received_at: clock.now(),
        date,
        initial_age: initial_age.saturating_add(old).into(),
        tagged_here: bits & 1 != 0,
        revalidated: false,
        ahead: Box::default(),
    };
    Some(Copy {
        page,
        sent: sent.into_iter().collect(),
        authorized: bits & 2 != 0,
        version,
    })
}

/// What is left to be read.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn part(&mut self) -> Option<&[u8]> {
        let length = u32::from_be_bytes(self.take()?) as usize;
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn fields(&mut self, mut each: impl FnMut(HeaderName, HeaderValue)) -> Option<()> {
        for _ in 0..u16::from_be_bytes(self.take()?) {
            let name = HeaderName::from_bytes(self.part()?).ok()?;
            let value = HeaderValue::from_bytes(self.part()?).ok()?;
            each(name, value);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
