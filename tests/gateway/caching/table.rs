//! README's table of ages, row by row, against the policy that decides.

use std::fs;
use std::path::Path;
use std::time::Duration;

use contacts_gateway::cache::policy::{Kind, Rules, Verdict, limits, verdict};
use contacts_gateway::clock::Clock;
use contacts_gateway::config::Config;
use contacts_gateway::contacts::control::Directives;
use contacts_gateway::contacts::{Millis, Page};
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};

const HEADING: &str = "## When is a page served, refreshed, fetched, dropped?";
const MOMENT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1_000_000_000);

#[test]
fn every_row_of_the_readmes_table_is_what_the_policy_does() {
    let rules = Rules {
        settings: Config::load(None, std::iter::empty()).unwrap().cache,
        upstream: Kind::Vendor,
    };
    let rows = rows();
    assert!(rows.len() >= 9, "the table is found");
    for (said, until) in rows {
        for answer in answers(&said) {
            let [fresh, usable, if_error] = until;
            let Some(limits) = limits(&answer, false, &rules) else {
                assert!(if_error.is_zero(), "{said}: it is not kept");
                continue;
            };
            let asked = Directives::default();
            for (from, to, want, on_failure) in [
                (Duration::ZERO, fresh, Verdict::Serve, None),
                (fresh, usable, Verdict::ServeAndRefresh, None),
                (usable, if_error, Verdict::Fetch, Some(true)),
                (if_error, LONG, Verdict::Fetch, Some(false)),
            ] {
                if from == to {
                    continue;
                }
                for age in [from, to - MOMENT] {
                    assert_eq!(verdict(age, &limits, &asked), want, "{said} at {age:?}");
                    let page = (want == Verdict::Fetch).then_some(age < limits.if_error);
                    assert_eq!(page, on_failure, "{said} at {age:?}, if a fetch fails");
                }
            }
        }
    }
}

/// What the vendor says, and up to which ages the page is served, refreshed, and served where a fetch fails. A dash
/// stands for the age before it.
fn rows() -> Vec<(String, [Duration; 3])> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let (_, section) = text.split_once(HEADING).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let table = lines.take_while(|line| line.starts_with('|')).skip(2);
    table
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [said, ages @ .., last] = &cells[..] else {
                panic!("{line}: five cells");
            };
            let mut age = Duration::ZERO;
            let until: Vec<_> = ages
                .iter()
                .map(|cell| {
                    if *cell != "–" {
                        let next = humantime::parse_duration(cell).unwrap();
                        assert!(next > age, "{line}: {cell} is later");
                        age = next;
                    }
                    age
                })
                .collect();
            let want = if age.is_zero() { "always" } else { "beyond" };
            assert_eq!(*last, want, "{line}");
            ((*said).to_owned(), until.try_into().unwrap())
        })
        .collect()
}

/// The answers that a row is about: a success that says nothing, or what stands in code, or the vendor's no.
fn answers(said: &str) -> Vec<Page> {
    let page = |status, cache_control: Option<&str>| {
        let mut headers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"1\""))]);
        headers.extend(cache_control.map(|value| (CACHE_CONTROL, value.parse().unwrap())));
        Page {
            status,
            fields: headers.into(),
            body: "{}".into(),
            received_at: Clock::system().now(),
            date: 0,
            initial_age: Millis::default(),
            tagged_here: false,
            revalidated: false,
            ahead: Box::default(),
        }
    };
    if said == "nothing" {
        return vec![page(StatusCode::OK, None)];
    }
    let code = said.split('`').skip(1).step_by(2);
    let mut answers: Vec<_> = code
        .map(|value| page(StatusCode::OK, Some(value)))
        .collect();
    let words = said.split(|c: char| !c.is_ascii_digit());
    let statuses = words
        .filter(|_| answers.is_empty())
        .filter_map(|word| word.parse().ok());
    let refusals: Vec<_> = statuses.map(|status| page(status, None)).collect();
    answers.extend(refusals);
    assert!(
        !answers.is_empty(),
        "{said}: something that the vendor may say"
    );
    answers
}
