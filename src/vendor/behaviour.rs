//! How the stand-in can be told to misbehave.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::limit::Message;

/// What to do to every call that would be answered otherwise; the default is nothing. A call that has to be refused,
/// for its parts, its token or the limit, is refused as ever.
///
/// As JSON, fields left out are the default, unknown ones are refused, durations are text ("250ms"), and header fields
/// are a list of pairs (`[["cache-control", "max-age=5"]]`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Only calls for the list of this id; `None`: all.
    pub only_list: Option<String>,
    /// Only so many calls, then behave again; `None`: without end.
    pub times: Option<u32>,
    /// How long to wait before the answer's head.
    #[serde(with = "duration")]
    pub delay: Duration,
    /// Where to stop for ever, with the connection open.
    pub stall: Option<Stall>,
    /// Send the body slowly.
    pub drip: Option<Drip>,
    /// Where to close the connection.
    pub cut: Option<Cut>,
    /// Refuse for the rate limit, whatever the window holds, with this text; the status is `status`, else the limit's.
    /// Such a call does not count in the window.
    pub refuse: Option<Message>,
    /// Answer with this status, 200 or above, and a JSON error for a body unless `body` or `hollow` says otherwise.
    #[serde(with = "status")]
    pub status: Option<StatusCode>,
    /// Answer with this body.
    pub body: Option<String>,
    /// Answer with a body that is no success, under the status of one.
    pub hollow: Option<Hollow>,
    /// Make a page's body exactly this many bytes long, still a success. A body that is longer stays as it is.
    pub pad_to: Option<usize>,
    /// Header fields to send, in place of the vendor's own of the same name.
    #[serde(with = "fields")]
    pub headers: HeaderMap,
    /// Label the body as gzip, which it is not.
    pub gzip: bool,
    /// Send the body in chunks, its length untold.
    pub chunked: bool,
    /// Send these trailer fields after a chunked body. HTTP/1 connections close after that.
    #[serde(with = "fields")]
    pub trailers: HeaderMap,
    /// Informational answers to send first, 100 to 199 (HTTP/1 only).
    pub informational: Vec<u16>,
    /// Send this text in place of an answer, HTTP or not, and close.
    pub garbage: Option<String>,
}

/// Where an answer stops for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stall {
    /// Not a byte comes.
    BeforeHead,
    /// The head comes, and nothing after it.
    AfterHead,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The call is made (it counts, its `jti` is used up), but not a byte comes.
    BeforeHead,
    /// Half of the body comes, less than its Content-Length. By HTTP/2 the stream is reset, not the connection cut.
    InBody,
    /// Half of the body comes, in chunks that do not end. By HTTP/2 as `InBody`, without a Content-Length.
    InChunks,
    /// Only where the connection has served a call before: it closes as if its idle time had just run out, so the
    /// call is never made. It counts nowhere but in `dropped`, and its request is recorded. Nothing else of the
    /// behaviour is looked at, apart from `only_list` and `times`.
    WhenReused,
}

/// How slowly a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    /// Bytes at a time; 0 counts as 1.
    pub bytes: usize,
    /// The time before each.
    #[serde(with = "duration")]
    pub every: Duration,
}

/// Bodies of a 200 that are no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hollow {
    /// `{"status":"failure",…}`
    Failure,
    /// Text that is not JSON.
    NotJson,
    /// Nothing.
    Empty,
}

impl Hollow {
    pub(super) const fn body(self) -> &'static str {
        match self {
            Self::Failure => r#"{"status":"failure","message":"Contacts could not be retrieved"}"#,
            Self::NotJson => "<html><body>All is well</body></html>",
            Self::Empty => "",
        }
    }
}

impl Behaviour {
    /// What to do to a call for `list`, if anything. One of `times` is used up.
    pub(super) fn take(&mut self, list: &str) -> Option<Self> {
        if self.only_list.as_deref().is_some_and(|only| only != list) {
            return None;
        }
        if let Some(times) = &mut self.times {
            *times = times.checked_sub(1)?;
        }
        Some(self.clone())
    }
}

mod duration {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*it))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod status {
    use http::StatusCode;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        it: &Option<StatusCode>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        it.map(|status| status.as_u16()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<StatusCode>, D::Error> {
        let Some(number) = Option::<u16>::deserialize(from)? else {
            return Ok(None);
        };
        StatusCode::from_u16(number)
            .ok()
            .filter(|status| !status.is_informational())
            .map(Some)
            .ok_or_else(|| D::Error::custom("a status is 200 to 999"))
    }
}

mod fields {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(it: &HeaderMap, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            it.iter()
                .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
        Vec::<(String, String)>::deserialize(from)?
            .into_iter()
            .map(|(name, value)| {
                let name = HeaderName::try_from(name).map_err(D::Error::custom)?;
                Ok((
                    name,
                    HeaderValue::try_from(value).map_err(D::Error::custom)?,
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_default_and_what_is_unknown_is_refused() {
        let read = |text| serde_json::from_str::<Behaviour>(text);
        assert_eq!(read("{}").unwrap(), Behaviour::default());
        let some = read(
            r#"{"delay":"250ms","cut":"in_body","status":503,"headers":[["vary","a"],["vary","b"]]}"#,
        )
        .unwrap();
        assert_eq!(some.delay, Duration::from_millis(250));
        assert_eq!(some.cut, Some(Cut::InBody));
        assert_eq!(some.headers.get_all("vary").iter().count(), 2);
        let written = serde_json::to_string(&some).unwrap();
        assert_eq!(read(&written).unwrap(), some, "reads what it writes");
        for bad in [
            r#"{"dely":"1s"}"#,
            r#"{"delay":1}"#,
            r#"{"status":100}"#,
            r#"{"headers":[["a b","c"]]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_behaviour_ends_after_its_times_and_spares_other_lists() {
        let mut twice = Behaviour {
            only_list: Some("cl-1".into()),
            times: Some(2),
            ..Behaviour::default()
        };
        let taken: Vec<_> = ["cl-2", "cl-1", "cl-1", "cl-1"]
            .iter()
            .map(|list| twice.take(list).is_some())
            .collect();
        assert_eq!(taken, [false, true, true, false]);
    }
}
