//! Contact lists of any size, made from their id alone: the same in every process and on every machine.

use std::num::NonZeroU64;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

/// The vendor's answer to a page, in the order of its sample.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) message: String,
    pub(super) data: Data,
}

/// One page of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data {
    results: Vec<Contact>,
    skip: u64,
    limit: NonZeroU64,
    has_more: bool,
    total_pages: u64,
    total_results: u64,
}

/// Nobody.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Contact {
    #[serde(rename = "_id")]
    id: String,
    created_at: String,
    updated_at: String,
    phone_number: String,
}

/// A page of a list, or `None` where there is no such list: those whose id begins with `cl-missing`.
pub(super) fn page(list: &str, skip: u64, limit: NonZeroU64) -> Option<Answer> {
    if list.starts_with("cl-missing") {
        return None;
    }
    let total = size(list);
    let end = skip.saturating_add(limit.get()).min(total);
    Some(Answer {
        status: "success",
        message: "Contacts retrieved successfully".into(),
        data: Data {
            results: (skip..end).map(|index| contact(list, index)).collect(),
            skip,
            limit,
            has_more: end < total,
            total_pages: total.div_ceil(limit.get()),
            total_results: total,
        },
    })
}

/// `cl-n1000-anything` has 1000 contacts; any other list what its hash says, 200 at most.
fn size(list: &str) -> u64 {
    let named = list
        .strip_prefix("cl-n")
        .map(|rest| rest.split('-').next().unwrap_or(rest))
        .and_then(|digits| digits.parse().ok());
    named.unwrap_or_else(|| u64::from(u16::from_be_bytes([hash(list)[0], hash(list)[1]])) % 201)
}

fn contact(list: &str, index: u64) -> Contact {
    let made_of = hash(&format!("{list}/{index}"));
    let mut id = [0; 16];
    id.copy_from_slice(&made_of[..16]);
    // The vendor's ids look like UUIDs of version 5.
    let id = uuid::Builder::from_sha1_bytes(id).into_uuid();
    let within = |at: usize, below: u8| made_of[at] % below;
    let created_at = format!(
        "2025-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        1 + within(16, 12),
        1 + within(17, 28),
        within(18, 24),
        within(19, 60),
        within(20, 60),
        within(21, 250)
    );
    Contact {
        id: format!("cc-{id}"),
        updated_at: created_at.clone(),
        created_at,
        phone_number: format!("999{:010}", index % 10_000_000_000),
    }
}

fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_everywhere() {
        let answer = page("cl-n1-a", 0, NonZeroU64::new(50).unwrap()).unwrap();
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            concat!(
                r#"{"status":"success","message":"Contacts retrieved successfully","data":{"results":["#,
                r#"{"_id":"cc-8d9e1524-d985-5beb-8355-22b5d7d5268e","createdAt":"2025-04-02T12:36:20.187Z","#,
                r#""updatedAt":"2025-04-02T12:36:20.187Z","phoneNumber":"9990000000000"}],"#,
                r#""skip":0,"limit":50,"hasMore":false,"totalPages":1,"totalResults":1}}"#
            )
        );
        assert_eq!(size("cl-c2ce382-2516-457e-8eb4-9847deec"), 199);
    }

    #[test]
    fn a_list_has_the_size_that_its_id_says() {
        for (list, want) in [
            ("cl-n0", 0),
            ("cl-n7", 7),
            ("cl-n1000-x", 1000),
            ("cl-n65-x-y", 65),
        ] {
            assert_eq!(size(list), want, "{list}");
        }
        for index in 0..500 {
            assert!(size(&format!("cl-{index}")) <= 200);
        }
    }
}
