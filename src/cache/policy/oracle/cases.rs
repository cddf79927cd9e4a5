//! Random answers and requests, and every way to spell them.

use http::header::IntoHeaderName;
use proptest::collection::vec;
use proptest::option;
use proptest::sample::select;

use super::*;

/// An answer, the request that it answered, and one that comes later.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) authorized: bool,
    pub(super) tenant: Option<&'static str>,
    pub(super) answer: Answer,
    pub(super) asked: Asked,
    pub(super) later: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) cache_control: Option<Vec<Directive>>,
    pub(super) date: Option<Time>,
    pub(super) age: Option<&'static str>,
    pub(super) expires: Vec<Time>,
    pub(super) modified: Option<Time>,
    pub(super) vary: Option<&'static str>,
    etag: Option<&'static str>,
    pragma: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) cache_control: Option<Vec<Directive>>,
    pub(super) pragma: bool,
    pub(super) tenant: Option<&'static str>,
}

/// One directive, and how it is spelled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directive {
    pub(super) name: &'static str,
    pub(super) argument: Option<&'static str>,
    spelling: Spelling,
    /// What is no directive and stands before it.
    noise: Option<&'static str>,
    /// Whether it begins another line.
    apart: bool,
}

#[derive(Clone, Copy, Debug)]
enum Spelling {
    Plain,
    Upper,
    Quoted,
    Escaped,
}

/// A time in seconds after the arrival, or what is none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Time {
    At(i64, Format),
    Never(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Imf,
    Rfc850,
    Asctime,
    OddCase,
    WrongDay,
}

const STATUSES: [u16; 23] = [
    200, 200, 200, 201, 203, 204, 206, 299, 300, 301, 302, 307, 308, 400, 403, 404, 405, 410, 414,
    500, 501, 503, 599,
];

const IN_ANSWERS: [&str; 11] = [
    "max-age",
    "max-age",
    "s-maxage",
    "no-cache",
    "no-store",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
];

const IN_REQUESTS: [&str; 7] = [
    "max-age",
    "min-fresh",
    "max-stale",
    "max-stale",
    "no-cache",
    "only-if-cached",
    "no-store",
];

/// Seconds, and what some take for seconds.
const SECONDS: [&str; 16] = [
    "0",
    "1",
    "5",
    "005",
    "60",
    "600",
    "3600",
    "2147483648",
    "99999999999",
    "18446744073709551616",
    "-5",
    "+5",
    "5.0",
    "'5'",
    "x",
    "",
];

/// RFC 9110 section 5.6.1: empty elements say nothing, and neither does what is malformed.
const NOISE: [&str; 8] = [
    "",
    "=5",
    "max-age = 7",
    "no store",
    "\"no-store\"",
    "x=\"max-age=9, no-store\"",
    "x;max-age=3",
    "x=\"\\\", no-store\"",
];

fn directive(names: &'static [&'static str]) -> impl Strategy<Value = Directive> {
    let spelling = select(vec![
        Spelling::Plain,
        Spelling::Upper,
        Spelling::Quoted,
        Spelling::Escaped,
    ]);
    let noise = option::weighted(0.2, select(&NOISE[..]));
    let argument = option::weighted(0.9, select(&SECONDS[..]));
    let named = prop::bool::weighted(0.3);
    let all = (
        select(names),
        argument,
        named,
        spelling,
        noise,
        prop::bool::weighted(0.2),
    );
    all.prop_map(|(name, seconds, named, spelling, noise, apart)| Directive {
        name,
        argument: match name {
            "max-age" | "s-maxage" | "min-fresh" | "max-stale" => seconds,
            "private" | "no-cache" => named.then_some("x-private, x-other"),
            _ => None,
        },
        spelling,
        noise,
        apart,
    })
}

fn directives(names: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<Directive>>> {
    option::weighted(0.8, vec(directive(names), 0..4))
}

/// A tenth of a guess is whole, so that both count in whole seconds.
fn time(tens: std::ops::Range<i64>) -> impl Strategy<Value = Time> {
    let format = select(vec![
        Format::Imf,
        Format::Rfc850,
        Format::Asctime,
        Format::OddCase,
        Format::WrongDay,
    ]);
    let never = select(vec![
        "0",
        "-1",
        "tomorrow",
        "Mon, 01 Jan 2024 00:00:00 +0000",
        "Mon, 32 Jan 2024 00:00:00 GMT",
    ]);
    prop_oneof![
        9 => (tens, format).prop_map(|(tens, format)| Time::At(10 * tens, format)),
        1 => never.prop_map(Time::Never),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let ages = [
        "0",
        "5",
        "600",
        "-5",
        "+5",
        "5, 700",
        "18446744073709551616",
        "x",
    ];
    let vary = [
        "x-tenant",
        "X-Tenant , x-other",
        "*",
        "x-tenant, *",
        "x-other",
    ];
    let etags = ["\"1\"", "W/\"1\"", "1"];
    let expires = prop_oneof![
        6 => vec(time(-100..1_000), 0..=0),
        6 => vec(time(-100..1_000), 1),
        1 => vec(time(-100..1_000), 2),
    ];
    let all = (
        select(&STATUSES[..]),
        directives(&IN_ANSWERS),
        option::of(time(-100..100)),
        option::weighted(0.3, select(ages.to_vec())),
        expires,
        option::of(time(-200_000..10)),
        option::weighted(0.3, select(vary.to_vec())),
        option::of(select(etags.to_vec())),
        prop::bool::weighted(0.1),
    );
    all.prop_map(
        |(status, cache_control, date, age, expires, modified, vary, etag, pragma)| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            cache_control,
            date,
            age,
            expires,
            modified,
            vary,
            etag,
            pragma,
        },
    )
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let tenant = || option::of(select(&["blue", "red"][..]));
    let asked = (
        directives(&IN_REQUESTS),
        prop::bool::weighted(0.1),
        tenant(),
    );
    let asked = asked.prop_map(|(cache_control, pragma, tenant)| Asked {
        cache_control,
        pragma,
        tenant,
    });
    let authorized = prop::bool::weighted(0.2);
    let all = (authorized, tenant(), answer(), asked, 0..10_000_u64);
    all.prop_map(|(authorized, tenant, answer, asked, later)| Case {
        authorized,
        tenant,
        answer,
        asked,
        later: secs(later),
    })
}

impl Answer {
    pub(super) fn spelled(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        spell(&mut fields, self.cache_control.as_deref());
        put(&mut fields, DATE, self.date.map(Time::spelled));
        put(&mut fields, AGE, self.age);
        for expires in &self.expires {
            put(&mut fields, EXPIRES, Some(expires.spelled()));
        }
        put(&mut fields, LAST_MODIFIED, self.modified.map(Time::spelled));
        put(&mut fields, VARY, self.vary);
        put(&mut fields, ETAG, self.etag);
        put(&mut fields, PRAGMA, self.pragma.then_some("no-cache"));
        fields
    }
}

impl Asked {
    pub(super) fn spelled(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        spell(&mut fields, self.cache_control.as_deref());
        put(&mut fields, PRAGMA, self.pragma.then_some("no-cache"));
        fields
    }
}

fn put(fields: &mut HeaderMap, name: impl IntoHeaderName, text: Option<impl Into<String>>) {
    if let Some(text) = text {
        fields.append(name, HeaderValue::try_from(text.into()).unwrap());
    }
}

fn spell(fields: &mut HeaderMap, directives: Option<&[Directive]>) {
    let Some(directives) = directives else {
        return;
    };
    let mut lines = vec![Vec::new()];
    for one in directives {
        if one.apart {
            lines.push(Vec::new());
        }
        let items = one
            .noise
            .map(str::to_owned)
            .into_iter()
            .chain([one.spelled()]);
        lines.last_mut().unwrap().extend(items);
    }
    for line in lines {
        put(fields, CACHE_CONTROL, Some(line.join(" ,")));
    }
}

impl Directive {
    fn spelled(self) -> String {
        let name = match self.spelling {
            Spelling::Upper => self.name.to_ascii_uppercase(),
            _ => self.name.to_owned(),
        };
        let Some(argument) = self.argument else {
            return name;
        };
        match self.spelling {
            Spelling::Escaped => {
                let escaped: String = argument.chars().flat_map(|c| ['\\', c]).collect();
                format!("{name}=\"{escaped}\"")
            }
            // What is more than a token has to be quoted.
            _ if argument.contains(' ') => format!("{name}=\"{argument}\""),
            Spelling::Quoted => format!("{name}=\"{argument}\""),
            Spelling::Plain | Spelling::Upper => format!("{name}={argument}"),
        }
    }
}

impl Time {
    pub(super) fn imf(at: i64) -> Self {
        Self::At(at, Format::Imf)
    }

    /// In seconds after the arrival, if it is a time.
    pub(super) fn at(self) -> Option<i64> {
        match self {
            Self::At(at, _) => Some(at),
            Self::Never(_) => None,
        }
    }

    /// RFC 9110 section 5.6.7: there are three formats, and no zone but GMT. The other one knows one, and more zones.
    pub(super) fn plain(self) -> String {
        match self {
            Self::At(at, _) => {
                let since = ARRIVED.as_secs().checked_add_signed(at).unwrap();
                httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + secs(since))
            }
            Self::Never(text) => text.replace("+0000", "none"),
        }
    }

    fn spelled(self) -> String {
        let format = match self {
            Self::Never(text) => return text.to_owned(),
            Self::At(_, format) => format,
        };
        let plain = self.plain();
        let parts: Vec<_> = plain
            .split([' ', ','])
            .filter(|part| !part.is_empty())
            .collect();
        let [name, day, month, year, clock, _] = parts[..] else {
            panic!("{plain} is not a date");
        };
        match format {
            Format::Imf => plain,
            Format::Rfc850 => format!("Monday, {day}-{month}-{} {clock} GMT", &year[2..]),
            Format::Asctime => {
                let day = day.trim_start_matches('0');
                format!("{name} {month} {day:>2} {clock} {year}")
            }
            Format::OddCase => plain.to_ascii_uppercase().replace("GMT", "gmt"),
            Format::WrongDay => plain.replace(name, if name == "Mon" { "Tue" } else { "Mon" }),
        }
    }
}
