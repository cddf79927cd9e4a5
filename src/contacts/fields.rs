//! The fields of a page. Hides that pages share what they have in common.
//!
//! Nearly all pages have fields of the same names, and what a map knows of a name takes a hundred bytes, and time to make. So a
//! page holds the texts that are its own, and with other pages a [`Shape`]: the map that an answer of theirs has, but for those.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CACHE_CONTROL, EXPIRES};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a page, none of which is one that each answer has of its own.
#[derive(Clone)]
pub struct Fields {
    shape: Arc<Shape>,
    /// The values that are not in the shape, in the order of their places in it, with [`END`] after each: a handle for each would
    /// take more memory than the text.
    texts: Bytes,
}

/// As a message has it.
pub type Field<'a> = (&'a HeaderName, &'a HeaderValue);

/// No value of a field has it in it.
const END: u8 = b'\n';

/// What answers have in common.
#[derive(Debug)]
struct Shape {
    /// First places for what each answer has of its own, then the fields of the page. What is empty is a place.
    answer: HeaderMap,
    /// How many are first.
    own: usize,
    /// Whether others find it.
    common: bool,
}

impl Shape {
    /// The one for these fields of a page, with what is in it of their values. `silent`: the page says nothing of caching.
    fn of(silent: bool, fields: &[(&HeaderName, &'static str)], common: bool) -> Self {
        let mut answer: HeaderMap = Own::ALL.iter().map(|own| (own.name(), PLACE)).collect();
        if silent {
            answer.insert(CACHE_CONTROL, PRIVATE);
        }
        let own = answer.len();
        for (name, value) in fields {
            answer.append(*name, HeaderValue::from_static(value));
        }
        Self {
            // A map with room to spare has no more than it needs once it is cloned.
            answer: answer.clone(),
            own,
            common,
        }
    }

    fn is_of(&self, silent: bool, fields: &[(&HeaderName, &'static str)]) -> bool {
        let own = Own::ALL.len() + usize::from(silent);
        let mut pairs = self.answer.iter().skip(own).zip(fields);
        self.own == own
            && self.answer.len() == own + fields.len()
            && pairs.all(|((name, value), (other, text))| name == *other && value == *text)
    }

    fn size(&self) -> usize {
        // Of each field a map holds a hash, links to further ones of that name, and two handles.
        const ENTRY: usize = 112;
        let names = self.answer.keys().map(|name| name.as_str().len());
        names.sum::<usize>() + self.answer.len() * ENTRY
    }
}

const PLACE: HeaderValue = HeaderValue::from_static("");
/// Personal data, and the vendor says nothing of caching: no cache beyond this one should keep or guess.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Values that many pages have. They are in the shape, and cost neither memory nor counting.
const USUAL: [&str; 4] = [
    "application/json; charset=utf-8",
    "application/json",
    "application/json;charset=utf-8",
    "Accept-Encoding",
];

impl Fields {
    /// The fields of an answer: these, and before them the [`Own`] ones, of which the last is only a place yet, and
    /// `Cache-Control` where the page says nothing of caching. Nothing is looked for, and no room is made that was not
    /// there at once.
    pub fn answer(&self, age: HeaderValue, cache_status: HeaderValue) -> HeaderMap {
        let mut answer = self.shape.answer.clone();
        let places = answer.values_mut().filter(|value| value.is_empty());
        let own = [age, cache_status, PLACE].into_iter();
        let values = texts(&self.texts).map(|text| value(self.texts.slice_ref(text)));
        for (place, value) in places.zip(own.chain(values)) {
            *place = value;
        }
        answer
    }

    /// All of them, those of one name one after the other.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        let mut texts = texts(&self.texts);
        let fields = self.shape.answer.iter().skip(self.shape.own);
        fields.map(move |(name, common)| match common.is_empty() {
            true => (name, texts.next().unwrap_or_default()),
            false => (name, common.as_bytes()),
        })
    }

    /// The first of this name.
    pub fn get(&self, name: HeaderName) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// All of this name.
    pub fn get_all(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        let (mut texts, mut before) = (texts(&self.texts), 0);
        let fields = self.shape.answer.iter().skip(self.shape.own);
        // Most names that are asked for are of no field, and then the texts are not read.
        fields.filter_map(move |(other, common)| match common.is_empty() {
            own if *other != name => {
                before += usize::from(own);
                None
            }
            true => texts.nth(std::mem::take(&mut before)),
            false => Some(common.as_bytes()),
        })
    }

    /// Whether there is one of this name.
    pub fn contains_key(&self, name: HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shape.answer.len() - self.shape.own
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a map, to be changed.
    pub fn to_map(&self) -> HeaderMap {
        let field = |(name, text): (&HeaderName, &[u8])| {
            let text = Bytes::copy_from_slice(text);
            (name.clone(), value(text))
        };
        self.iter().map(field).collect()
    }

    /// How many bytes they take that are this page's alone.
    pub fn size(&self) -> usize {
        match self.shape.common {
            true => self.texts.len(),
            false => self.texts.len() + self.shape.size(),
        }
    }
}

impl From<HeaderMap> for Fields {
    fn from(fields: HeaderMap) -> Self {
        let fields: Vec<_> = fields.iter().collect();
        Self::of(&fields, Bytes::new(), &COMMON).0
    }
}

impl Fields {
    /// Bytes of texts that most pages have, with their ends: a `Date`, and an `ETag` of 128 bits as it is mostly written.
    pub const TEXTS: usize = 65;

    /// The fields of a page with this body, which has their texts behind it if it has room for them: one piece of memory for
    /// all of a page. Those of one name come one after the other.
    pub fn with_body(fields: &[Field<'_>], body: Bytes) -> (Self, Bytes) {
        Self::of(fields, body, &COMMON)
    }

    fn of(fields: &[Field<'_>], body: Bytes, shapes: &Shapes) -> (Self, Bytes) {
        // Without a text it says nothing either.
        let tells = |(name, value): &Field<'_>| {
            *name == EXPIRES || *name == CACHE_CONTROL && !value.is_empty()
        };
        let silent = !fields.iter().any(tells);
        let (mut its, mut values) = (Vec::with_capacity(fields.len()), Vec::new());
        for &(name, value) in fields {
            if Own::has(name) || silent && name == CACHE_CONTROL {
                continue;
            }
            let common = common(value);
            if common.is_empty() {
                values.push(value);
            }
            its.push((name, common));
        }
        let (texts, body) = packed(&values, body);
        let shape = shapes.of(silent, &its);
        (Self { shape, texts }, body)
    }
}

/// What of a value is in the shape: nothing, if it is not one that many have.
fn common(value: &HeaderValue) -> &'static str {
    let usual = USUAL.into_iter().find(|usual| value == *usual);
    usual.unwrap_or_default()
}

/// A text that was a value.
fn value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or(PLACE)
}

/// Those that are one after the other in a piece of memory.
fn texts(mut piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr::memchr(END, piece)?;
        let (text, rest) = (&piece[..end], &piece[end + 1..]);
        piece = rest;
        Some(text)
    })
}

/// Copies in one piece of memory, that of the body if it can be. As they came they are parts of what was read off a connection,
/// all of which stays for as long as they do.
fn packed(values: &[&HeaderValue], body: Bytes) -> (Bytes, Bytes) {
    let length = values.iter().map(|value| value.len() + 1).sum();
    let (mut piece, apart) = match body.try_into_mut() {
        Ok(body) if body.capacity() - body.len() >= length => (body, None),
        Ok(body) => (BytesMut::with_capacity(length), Some(body.freeze())),
        Err(body) => (BytesMut::with_capacity(length), Some(body)),
    };
    let end = piece.len();
    for value in values {
        piece.extend_from_slice(value.as_bytes());
        piece.extend_from_slice(&[END]);
    }
    let mut texts = piece.freeze();
    let body = texts.split_to(end);
    (texts, apart.unwrap_or(body))
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, text)| (name, String::from_utf8_lossy(text));
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

/// The shapes that pages have. One that no page has any more makes room for another.
#[derive(Debug, Default)]
struct Shapes(Mutex<Vec<Weak<Shape>>>);

/// A shape says nothing of whose page it is, so that there need not be several of these.
static COMMON: Shapes = Shapes(Mutex::new(Vec::new()));

impl Shapes {
    /// Of the vendor's answers there are a few kinds. Each page is compared with all.
    const MOST: usize = 32;

    /// The one for these fields. Where there are too many already it is this page's alone.
    fn of(&self, silent: bool, fields: &[(&HeaderName, &'static str)]) -> Arc<Shape> {
        let mut shapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = shapes.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.find(|known| known.is_of(silent, fields)) {
            return known;
        }
        shapes.retain(|known| known.strong_count() > 0);
        let common = shapes.len() < Self::MOST;
        let shape = Arc::new(Shape::of(silent, fields, common));
        if common {
            shapes.push(Arc::downgrade(&shape));
        }
        shape
    }
}

/// A field that each answer has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// How old the page is.
    Age,
    /// RFC 9211.
    CacheStatus,
    /// The request's name.
    RequestId,
}

impl Own {
    /// In the order of their places, which are the first ones.
    const ALL: [Self; 3] = [Self::Age, Self::CacheStatus, Self::RequestId];

    /// What it is called.
    pub const fn name(self) -> HeaderName {
        match self {
            Self::Age => AGE,
            Self::CacheStatus => HeaderName::from_static("cache-status"),
            Self::RequestId => HeaderName::from_static("x-request-id"),
        }
    }

    /// Whether one of them has this name.
    pub fn has(name: &HeaderName) -> bool {
        Self::ALL.iter().any(|own| own.name() == name)
    }

    /// Sets it, in its place where there is one.
    pub fn set(self, headers: &mut HeaderMap, value: HeaderValue) {
        match headers.iter_mut().nth(self as usize) {
            Some((name, place)) if *name == self.name() => *place = value,
            _ => drop(headers.insert(self.name(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_TYPE, DATE, ETAG, VARY};
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn an_answer_has_places_for_its_own_fields_and_then_the_pages() {
        let page = Fields::from(map(&[
            ("content-type", "application/json"),
            ("vary", "a"),
            ("etag", "\"1\""),
            ("vary", ""),
            ("vary", "b"),
        ]));
        let own = || HeaderValue::from_static("own");
        let mut answer = page.answer(own(), own());
        Own::RequestId.set(&mut answer, own());
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let fields = answer
            .iter()
            .map(|(name, value)| (name.as_str(), text(value)));
        let want = [
            ("age", "own"),
            ("cache-status", "own"),
            ("x-request-id", "own"),
            ("cache-control", "private, no-cache"),
            ("content-type", "application/json"),
            ("vary", "a"),
            ("vary", ""),
            ("vary", "b"),
            ("etag", "\"1\""),
        ];
        let want = want.map(|(name, value)| (name, value.to_owned()));
        assert!(fields.eq(want), "{answer:?}");
        assert_eq!(page.get(ETAG).unwrap(), b"\"1\"");
        assert!(page.get_all(VARY).eq([&b"a"[..], b"", b"b"]), "{page:?}");
        assert_eq!((page.get(DATE), page.len()), (None, 5));
    }

    #[test]
    fn where_a_page_says_something_of_caching_nothing_is_added() {
        for (page, want) in [
            (&[][..], Some("private, no-cache")),
            (&[("cache-control", "")], Some("private, no-cache")),
            (
                &[("cache-control", ""), ("cache-control", "public")],
                Some(""),
            ),
            (&[("cache-control", "public")], Some("public")),
            (&[("expires", "0")], None),
        ] {
            let answer = Fields::from(map(page)).answer(PLACE, PLACE);
            let said = answer.get(CACHE_CONTROL);
            assert_eq!(said.map(HeaderValue::as_bytes), want.map(str::as_bytes));
        }
    }

    #[test]
    fn their_texts_lie_behind_the_body_where_that_has_room_for_them() {
        let fields = map(&[("etag", "\"1\""), ("date", "now")]);
        let with_room = |room| {
            let mut body = Vec::with_capacity(4 + room);
            body.extend_from_slice(b"body");
            Fields::with_body(&fields.iter().collect::<Vec<_>>(), body.into())
        };
        for (room, one_piece) in [(0_usize, false), (7, false), (8, true), (64, true)] {
            let (page, body) = with_room(room);
            assert_eq!(
                (&body[..], &page.to_map()),
                (&b"body"[..], &fields),
                "{room}"
            );
            let behind = body.as_ptr_range().end;
            let tag = page.get(ETAG).unwrap().as_ptr();
            assert_eq!(tag == behind, one_piece, "{room}");
        }
        // Somebody else has it, too.
        let shared = Bytes::from(b"body".to_vec());
        let (page, body) = Fields::with_body(&fields.iter().collect::<Vec<_>>(), shared.clone());
        assert_eq!((&body, &page.to_map()), (&shared, &fields));
    }

    #[test]
    fn there_is_room_for_a_date_and_a_tag_of_usual_length() {
        let date = "Mon, 01 Jan 2024 00:00:00 GMT";
        let usual = [date, "\"0123456789abcdef0123456789abcdef\""];
        let usual = usual.map(HeaderValue::from_static);
        let (texts, _) = packed(&usual.each_ref(), Bytes::new());
        assert_eq!(texts.len(), Fields::TEXTS);
    }

    #[test]
    fn what_each_answer_has_of_its_own_is_not_the_pages() {
        let page = map(&[("age", "1"), ("x-request-id", "a"), ("cache-status", "b")]);
        let page = Fields::from(page);
        assert!(page.is_empty() && page.to_map().is_empty(), "{page:?}");
        let mut problem = map(&[("content-type", "a"), ("x-request-id", "b")]);
        Own::RequestId.set(&mut problem, HeaderValue::from_static("c"));
        assert_eq!(
            problem,
            map(&[("content-type", "a"), ("x-request-id", "c")])
        );
    }

    #[test]
    fn pages_that_are_alike_share_a_shape_and_others_take_more_memory() {
        let shapes = Shapes::default();
        let page = |n: usize, tag: &'static str| {
            let mut fields = map(&[("etag", tag)]);
            let name = HeaderName::try_from(format!("x-{n}")).unwrap();
            fields.insert(name, HeaderValue::from_static("1"));
            Fields::of(&fields.iter().collect::<Vec<_>>(), Bytes::new(), &shapes).0
        };
        let kinds: Vec<_> = (0..Shapes::MOST).map(|n| page(n, "a")).collect();
        let again = page(7, "b");
        assert!(Arc::ptr_eq(&again.shape, &kinds[7].shape));
        assert_eq!(again.get(ETAG).unwrap(), b"b");
        let size = again.size();
        assert!(kinds.iter().all(|fields| fields.size() == size));
        assert!(page(Shapes::MOST, "a").size() > size, "there are too many");
        drop((kinds, again));
        assert_eq!(page(Shapes::MOST, "a").size(), size, "there is room again");
    }

    proptest! {
        #[test]
        fn whatever_fields_pages_have_they_are_all_there_in_order_of_each(
            pages in proptest::collection::vec(
                proptest::collection::vec((0..6_usize, "[a-z]{0,2}", any::<bool>()), 0..12),
                1..8,
            ),
        ) {
            let names = [CONTENT_TYPE, VARY, ETAG, EXPIRES, DATE, HeaderName::from_static("x-a")];
            let map = |fields: Vec<(usize, String, bool)>| {
                let mut map = HeaderMap::new();
                for (name, text, usual) in fields {
                    let text = if usual { USUAL[name % USUAL.len()] } else { &text };
                    map.append(&names[name], HeaderValue::try_from(text).unwrap());
                }
                map
            };
            let maps: Vec<_> = pages.into_iter().map(map).collect();
            // All at once, so that each could be given the shape of another.
            let pages: Vec<_> = maps.iter().cloned().map(Fields::from).collect();
            for (map, page) in maps.iter().zip(&pages) {
                let fields = map.iter().map(|(name, value)| (name, value.as_bytes()));
                prop_assert!(page.iter().eq(fields), "{page:?}");
                prop_assert_eq!(&page.to_map(), map);
                let answer = page.answer(PLACE, PLACE);
                for name in &names {
                    let all = map.get_all(name).iter().map(HeaderValue::as_bytes);
                    prop_assert!(page.get_all(name.clone()).eq(all), "{page:?}");
                }
                let silent = usize::from(!map.contains_key(EXPIRES));
                prop_assert_eq!(answer.len(), Own::ALL.len() + silent + map.len());
                let fields = answer.iter().skip(Own::ALL.len() + silent);
                prop_assert!(fields.eq(map), "{answer:?}");
            }
        }
    }
}
