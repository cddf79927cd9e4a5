//! Which of several answers to one key a request may have: RFC 9111 section 4.1.
//!
//! Only fields that are sent on to the vendor can make a difference, so a `Vary` that names any other says nothing. Values
//! are compared in a normal form, so that spellings of one wish share one page.

use http::HeaderName;
use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, VARY};

use crate::contacts::{Fields, Forwarded, Page};

/// What a request must have sent to be answered with a page. Most pages ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection(Option<Box<Asked>>);

/// What those pages ask for that ask for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    fields: Box<[(HeaderName, String)]>,
    language: Option<String>,
}

impl Selection {
    /// What a page asks for that answered a request with these fields; nothing for a page that no second request may
    /// have.
    pub(super) fn of(page: &Page, sent: &Forwarded) -> Option<Self> {
        let mut fields = Vec::new();
        for name in names(&page.fields) {
            if name == "*" {
                return None;
            }
            if let Ok(name) = HeaderName::try_from(name) {
                let value = normal(&name, sent);
                fields.push((name, value));
            }
        }
        if fields.is_empty() {
            return Some(Self(None));
        }
        let language = page.fields.get(CONTENT_LANGUAGE);
        let language = language.and_then(|value| str::from_utf8(value).ok());
        Some(Self(Some(Box::new(Asked {
            fields: fields.into(),
            language: language.map(str::to_ascii_lowercase),
        }))))
    }

    /// Whether a request with these fields may have the page.
    pub(super) fn admits(&self, sent: &Forwarded) -> bool {
        let Some(this) = &self.0 else { return true };
        this.fields.iter().all(|(name, value)| {
            let asked = normal(name, sent);
            asked == *value || *name == ACCEPT_LANGUAGE && this.is_in_the_favourite_of(&asked)
        })
    }

    /// Memory that it takes.
    pub(super) fn size(&self) -> usize {
        let field = |(name, value): &(HeaderName, String)| {
            size_of::<(HeaderName, String)>() + name.as_str().len() + value.len()
        };
        let all =
            |asked: &Asked| size_of::<Asked>() + asked.fields.iter().map(field).sum::<usize>();
        self.0.as_deref().map_or(0, all)
    }
}

impl Asked {
    /// Whether the page is in the language that a request likes best.
    fn is_in_the_favourite_of(&self, languages: &str) -> bool {
        let favourite = languages.split([',', ';']).next();
        !languages.is_empty() && favourite == self.language.as_deref()
    }
}

/// The names in `Vary`, of all its lines.
fn names(fields: &Fields) -> impl Iterator<Item = &str> {
    let lines = fields.get_all(VARY);
    lines
        // What is not text names no field that we would send, but might be a star.
        .flat_map(|line| str::from_utf8(line).unwrap_or("*").split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// A field in its normal form: lines joined, white space around commas gone; of languages also case, and their order
/// but for their weight.
fn normal(name: &HeaderName, sent: &Forwarded) -> String {
    let values = sent.iter().filter(|(sent, _)| sent == name);
    let text: Vec<_> = values
        .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let mut items: Vec<String> = text
        .iter()
        .flat_map(|line| line.split(','))
        .map(|item| item.trim().to_owned())
        .collect();
    if *name == ACCEPT_LANGUAGE {
        items.retain(|item| !item.is_empty());
        for item in &mut items {
            item.make_ascii_lowercase();
            item.retain(|c| !c.is_whitespace());
        }
        items.sort_by_key(|item| (std::cmp::Reverse(weight(item)), item.clone()));
    }
    items.join(",")
}

/// `q` of RFC 9110 section 12.4.2, in thousandths.
fn weight(item: &str) -> u32 {
    let q = item.split_once(";q=").map_or("1", |(_, q)| q);
    let q = q.parse::<f32>().unwrap_or(0.0);
    (q.clamp(0.0, 1.0) * 1000.0) as u32
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::clock::Clock;
    use crate::contacts::{Millis, unix_seconds};

    fn page(fields: &[(&'static str, &'static str)]) -> Page {
        let (received_at, date) = Clock::system().both();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Page {
            status: StatusCode::OK,
            fields: headers.into(),
            body: bytes::Bytes::new(),
            received_at,
            date: unix_seconds(date),
            initial_age: Millis::default(),
            tagged_here: false,
            revalidated: false,
            ahead: Box::default(),
        }
    }

    fn sent(fields: &[(&'static str, &'static str)]) -> Forwarded {
        let field = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn a_page_is_for_those_who_sent_the_same_of_what_it_varies_by() {
        let foo = page(&[("vary", "Foo, , bar"), ("vary", "baz")]);
        let selection = Selection::of(&foo, &sent(&[("foo", "1, 2"), ("bar", "x")])).unwrap();
        for (fields, admitted) in [
            (&[("foo", "1, 2"), ("bar", "x")][..], true),
            (&[("bar", "x"), ("foo", "1,2")], true),
            (&[("foo", "1"), ("foo", "2"), ("bar", "x")], true),
            (&[("foo", "1, 2"), ("bar", "x"), ("other", "1")], true),
            (&[("foo", "2, 1"), ("bar", "x")], false),
            (&[("foo", "1, 2"), ("bar", "X")], false),
            (&[("foo", "1, 2")], false),
            (&[("foo", "1, 2"), ("bar", "x"), ("baz", "y")], false),
            (&[], false),
        ] {
            assert_eq!(selection.admits(&sent(fields)), admitted, "{fields:?}");
        }
    }

    #[test]
    fn a_page_without_vary_is_for_everybody_and_one_with_a_star_for_nobody_else() {
        let one = sent(&[("foo", "1")]);
        assert_eq!(Selection::of(&page(&[]), &one), Some(Selection::default()));
        assert!(Selection::default().admits(&one));
        for star in ["*", "*, *", ", *", "foo, *"] {
            assert_eq!(
                Selection::of(&page(&[("vary", star)]), &one),
                None,
                "{star}"
            );
        }
    }

    #[test]
    fn languages_are_compared_by_what_they_mean() {
        let german = page(&[("vary", "accept-language"), ("content-language", "DE")]);
        let selection = Selection::of(&german, &sent(&[("accept-language", "en, de")])).unwrap();
        for (languages, admitted) in [
            ("en, de", true),
            ("de,en", true),
            (" eN ,  De", true),
            ("fr;q=0.5, de;q=1.0", true),
            ("de-CH", false),
            ("en;q=0.5, fr", false),
            ("", false),
        ] {
            let asked = sent(&[("accept-language", languages)]);
            assert_eq!(selection.admits(&asked), admitted, "{languages}");
        }
    }
}
