//! What a caller asks for, and what identifies the page that answers it.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderName, HeaderValue};

use super::control::Directives;
use super::{AccountId, Caller, ContactListId, StreamId};
use crate::error::Error;

/// The vendor's two paths to the same lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// `/agentassist/api/v1/public/…`
    V1,
    /// `/campaign/api/v2/public/…`
    V2,
}

impl Api {
    /// Both, for those who register routes.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The path with its two ids left open, as routers and metrics write it.
    pub const fn route(self) -> &'static str {
        match self {
            Self::V1 => {
                "/agentassist/api/v1/public/{streamId}/campaign/contactList/{contactListId}/getAllContacts"
            }
            Self::V2 => {
                "/campaign/api/v2/public/{streamId}/campaign/contactList/{contactListId}/getAllContacts"
            }
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::V1 => "/agentassist/api/v1/public",
            Self::V2 => "/campaign/api/v2/public",
        }
    }
}

/// Where the stream and the list stand in a path that is one of the vendor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Which.
    pub api: Api,
    /// Where the stream ends. It begins behind the prefix.
    stream: usize,
    /// Where the list ends.
    list: usize,
}

impl Split {
    const BETWEEN: &str = "/campaign/contactList/";

    /// The inverse of [`PageKey::target`], as far as that is the path's.
    pub fn of(path: &str) -> Option<Self> {
        let of = |api: Api| {
            let ids = path
                .strip_prefix(api.prefix())?
                .strip_suffix("/getAllContacts")?;
            let (stream, rest) = cut(ids.strip_prefix('/')?, b'/')?;
            let stream = api.prefix().len() + 1 + stream.len();
            let list = rest.strip_prefix(&Self::BETWEEN[1..])?;
            cut(list, b'/').is_none().then_some(Self {
                api,
                stream,
                list: stream + Self::BETWEEN.len() + list.len(),
            })
        };
        Api::ALL.into_iter().find_map(of)
    }

    /// The stream and the list as the path has them, whose split this is.
    pub fn ids(self, path: &str) -> (&str, &str) {
        let between = self.stream + Self::BETWEEN.len();
        (
            &path[self.api.prefix().len() + 1..self.stream],
            &path[between..self.list],
        )
    }
}

/// What stands before and after the first of a character. Quicker than the standard library's search on texts as short as
/// a request's, of which there are several in each.
pub(crate) fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    debug_assert!(at.is_ascii(), "a part of a character");
    let place = memchr::memchr(at, text.as_bytes())?;
    Some((&text[..place], &text[place + 1..]))
}

/// One contact list of one account: what a purge forgets.
///
/// One text holds its three ids, because every request makes one of these and every page has some. It is hashed once: a miss
/// looks for it in ten maps, and whatever is compared with it or moved in one need not be read for that.
#[derive(Clone)]
pub struct ListKey {
    /// Each after a slash, which no id has in it.
    ids: Arc<str>,
    /// Where the second and the third slash are.
    slashes: (u16, u16),
    /// Of the text, by a key of this process.
    hash: u64,
}

impl Hash for ListKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for ListKey {
    fn eq(&self, other: &Self) -> bool {
        // The slashes are in the text.
        self.hash == other.hash && self.ids == other.ids
    }
}

impl Eq for ListKey {}

impl ListKey {
    /// The list of three texts.
    ///
    /// # Errors
    /// One of them is no id.
    pub fn new(stream: &str, list: &str, account: &str) -> Result<Self, Error> {
        StreamId::check(stream)?;
        ContactListId::check(list)?;
        AccountId::check(account)?;
        let ids = ["", stream, list, account].join("/");
        static KEY: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);
        Ok(Self {
            hash: KEY.hash_one(ids.as_bytes()),
            ids: ids.into(),
            slashes: (
                1 + stream.len() as u16,
                (2 + stream.len() + list.len()) as u16,
            ),
        })
    }

    /// All three, each after a slash.
    pub fn as_str(&self) -> &str {
        &self.ids
    }

    /// The app that reads it: a [`StreamId`].
    pub fn stream(&self) -> &str {
        &self.ids[1..usize::from(self.slashes.0)]
    }

    /// The list: a [`ContactListId`].
    pub fn list(&self) -> &str {
        &self.ids[usize::from(self.slashes.0) + 1..usize::from(self.slashes.1)]
    }

    /// The account whose allowance a call spends: an [`AccountId`].
    pub fn account(&self) -> &str {
        &self.ids[usize::from(self.slashes.1) + 1..]
    }

    /// A short name for logs. It is keyed anew in every process, so it joins lines of one run and tells nothing else.
    pub fn tag(&self) -> Tag {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Tag(KEY.hash_one(self) as u32)
    }
}

impl fmt::Debug for ListKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ids)
    }
}

/// A list's short name in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u32);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What identifies a page. All that reaches the vendor of a request is in here, or in [`Forwarded`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// The list it is a page of.
    pub list: ListKey,
    /// The path it was asked on: the two may answer differently.
    pub api: Api,
    /// Contacts passed over; 0 where the caller named none.
    pub skip: u64,
    /// Contacts at most, where the caller named a number.
    pub limit: Option<NonZeroU64>,
    /// Further query parameters that the settings allow, sorted by name, as they are sent: `a=1&b=2`.
    pub extra: Option<Arc<str>>,
}

impl PageKey {
    /// The vendor's path and query for this page. Equal keys have equal targets, different keys different ones.
    pub fn target(&self) -> String {
        let (stream, list, account) = (self.list.stream(), self.list.list(), self.list.account());
        let prefix = self.api.prefix();
        let mut target = String::with_capacity(256);
        target.extend([prefix, "/", stream, "/campaign/contactList/", list]);
        target.extend(["/getAllContacts?accountId=", account]);
        if self.skip > 0 {
            target.extend(["&skip=", itoa::Buffer::new().format(self.skip)]);
        }
        if let Some(limit) = self.limit {
            target.extend(["&limit=", itoa::Buffer::new().format(limit.get())]);
        }
        if let Some(extra) = &self.extra {
            target.extend(["&", extra]);
        }
        target
    }
}

/// The caller's header fields that the settings allow to be sent on, in the settings' order. Most often there are none,
/// and then nothing is shared and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Forwarded(Option<Arc<[(HeaderName, HeaderValue)]>>);

impl Forwarded {
    /// The same, to be held for longer than the request. As values came they are parts of what was read off a connection, all
    /// of which stays for as long as they do.
    pub fn kept(&self) -> Self {
        let kept = |(name, value): &(HeaderName, HeaderValue)| {
            let copy = HeaderValue::from_bytes(value.as_bytes());
            let mut copy = copy.unwrap_or_else(|_| value.clone());
            copy.set_sensitive(value.is_sensitive());
            (name.clone(), copy)
        };
        self.iter().map(kept).collect()
    }
}

impl Deref for Forwarded {
    type Target = [(HeaderName, HeaderValue)];

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or_default()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Forwarded {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let mut fields = fields.into_iter().peekable();
        Self(fields.peek().is_some().then(|| fields.collect()))
    }
}

/// A caller's request, once it is understood. No HTTP is left in it but what the answer depends on.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `GET` and `HEAD`.
    Read(Read),
    /// `PURGE`: never a [`PageKey`], so it cannot reach the vendor.
    Purge(ListKey),
}

impl Ask {
    /// What it is about.
    pub fn list(&self) -> &ListKey {
        match self {
            Self::Read(read) => &read.key.list,
            Self::Purge(list) => list,
        }
    }
}

/// A page that somebody wants.
#[derive(Clone, Debug)]
pub struct Read {
    /// Who wants it.
    pub caller: Arc<Caller>,
    /// When the request came: what is in memory is as old as it is then.
    pub at: Instant,
    /// Which.
    pub key: PageKey,
    /// What of the caller's header goes to the vendor with it.
    pub forwarded: Forwarded,
    /// What the caller's `Cache-Control` asks, as far as it is obeyed.
    pub directives: Directives,
    /// Whether the caller sent an `Authorization` that is not for the gateway. It never goes to the vendor.
    pub authorized: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;

    /// A key for tests, told apart by its list.
    pub(crate) fn key(list: &str) -> PageKey {
        PageKey {
            list: ListKey::new("st-1", list, "67777ce93e25326494e90000").unwrap(),
            api: Api::V1,
            skip: 0,
            limit: None,
            extra: None,
        }
    }

    #[test]
    fn a_target_is_the_vendors_path_with_all_of_the_key() {
        let plain = key("cl-1");
        assert_eq!(
            plain.target(),
            "/agentassist/api/v1/public/st-1/campaign/contactList/cl-1/getAllContacts?accountId=67777ce93e25326494e90000"
        );
        let all = PageKey {
            api: Api::V2,
            skip: 50,
            limit: NonZeroU64::new(10),
            extra: Some("lang=de".into()),
            ..plain
        };
        assert_eq!(
            all.target(),
            "/campaign/api/v2/public/st-1/campaign/contactList/cl-1/getAllContacts?accountId=67777ce93e25326494e90000&skip=50&limit=10&lang=de"
        );
    }

    #[test]
    fn what_is_sent_on_is_kept_without_what_it_came_with() {
        let head = Bytes::from(b"x-tenant: blue".to_vec());
        let mut value = HeaderValue::from_maybe_shared(head.slice(10..)).unwrap();
        value.set_sensitive(true);
        let name = HeaderName::from_static("x-tenant");
        let sent: Forwarded = [(name, value)].into_iter().collect();
        let kept = sent.kept();
        assert_eq!(kept, sent);
        assert!(kept[0].1.is_sensitive());
        assert!(!head.is_unique());
        drop(sent);
        assert!(head.is_unique());
        assert_eq!(Forwarded::default().kept().0, None);
    }

    #[test]
    fn only_the_vendors_paths_are_split() {
        for api in Api::ALL {
            let path = api
                .route()
                .replace("{streamId}", "st-1")
                .replace("{contactListId}", "cl-1");
            let split = Split::of(&path).unwrap();
            assert_eq!((split.api, split.ids(&path)), (api, ("st-1", "cl-1")));
            for other in [
                format!("{path}/"),
                format!("{path}/x.css"),
                format!("/{path}"),
                path.replace("public/", "public//"),
                path.replace("cl-1", "a/b"),
                path.replace("getAll", "getall"),
                path.replace("/campaign/contactList", "/campaign/%63ontactList"),
            ] {
                assert_eq!(Split::of(&other), None, "{other}");
            }
            let odd = path.replace("cl-1", "cl%2F1");
            let split = Split::of(&odd).unwrap();
            let ids = split.ids(&odd);
            assert_eq!(ids, ("st-1", "cl%2F1"), "refused as an id, not as a path");
        }
    }

    #[test]
    fn a_tag_joins_lines_and_hides_the_list() {
        let (one, other) = (key("cl-1").list, key("cl-2").list);
        assert_eq!(one.tag(), one.clone().tag());
        assert_ne!(one.tag(), other.tag());
        assert_eq!(one.tag().to_string().len(), 8);
    }
}
