//! Written and read: whole, changed, moved, sealed with another key.

use base64::Engine as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use proptest::prelude::*;

use super::*;
use crate::contacts::unix_seconds;

const NAME: &[u8] = b"name";
const HEAD_: Head = Head {
    fence: 1_700_000_000_000_007,
    stamp: 1_700_000_000_000_001,
    arrived: 1_700_000_000_000_000,
};

fn copy(body: &[u8]) -> Copy {
    let (received_at, date) = Clock::system().both();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ETAG, HeaderValue::from_static("\"a\""));
    let sent = [(
        HeaderName::from_static("accept-language"),
        HeaderValue::from_static("de"),
    )];
    Copy {
        page: Page {
            status: StatusCode::OK,
            fields: headers.into(),
            body: Bytes::copy_from_slice(body),
            received_at,
            date: unix_seconds(date),
            initial_age: Duration::from_millis(1_500).into(),
            tagged_here: true,
            revalidated: false,
            ahead: Box::default(),
        },
        sent: sent.into_iter().collect(),
        authorized: true,
        version: HEAD_.fence,
    }
}

/// As 50 contacts look.
fn contacts() -> Vec<u8> {
    let contact = |n| {
        format!(
            r#"{{"_id":"67777ce93e25326494e{n:05}","firstName":"Name{n}","phoneNumber":"+9990{n:07}"}}"#
        )
    };
    let contacts: Vec<_> = (0..50).map(contact).collect();
    format!(r#"{{"status":"success","data":[{}]}}"#, contacts.join(",")).into_bytes()
}

fn keys(ids: &[&str]) -> Keys {
    let line = |id: &&str| {
        let byte = id.as_bytes()[0];
        format!(
            "{id}:{}\n",
            base64::engine::general_purpose::STANDARD.encode([byte; 32])
        )
    };
    let name = format!("entry-keys-{}-{}", std::process::id(), ids.concat());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, ids.iter().map(line).collect::<String>()).unwrap();
    let keys = Keys::from_file(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    keys
}

fn read_at(entry: &[u8], keys: &Keys, now: u64) -> Option<Copy> {
    read(entry, NAME, keys, &Clock::system(), now)
}

#[test]
fn what_is_written_is_read_and_is_as_old_as_it_is() {
    for keys in [Keys::default(), keys(&["a", "b"])] {
        for body in [b"{}".to_vec(), contacts()] {
            let copy = copy(&body);
            let entry = write(&copy, HEAD_, NAME, &keys).unwrap();
            assert_eq!(head(&entry), Some(HEAD_));
            let read = read_at(&entry, &keys, HEAD_.arrived + 2_000_000).unwrap();
            assert_eq!(read.page.body, copy.page.body);
            assert_eq!(read.page.fields, copy.page.fields);
            assert_eq!(
                Duration::from(read.page.initial_age),
                Duration::from_millis(3_500)
            );
            assert_eq!(
                (read.page.status, read.page.date, read.page.tagged_here),
                (StatusCode::OK, copy.page.date, true)
            );
            assert_eq!(
                (read.sent, read.authorized, read.version),
                (copy.sent, true, HEAD_.fence)
            );
            let early = read_at(&entry, &keys, HEAD_.arrived - 1).unwrap();
            assert_eq!(
                early.page.initial_age, copy.page.initial_age,
                "no page is younger than when it came"
            );
        }
    }
}

#[test]
fn fifty_contacts_take_less_than_a_quarter() {
    let body = contacts();
    let plain = write(&copy(&body), HEAD_, NAME, &Keys::default()).unwrap();
    let sealed = write(&copy(&body), HEAD_, NAME, &keys(&["a"])).unwrap();
    assert!(
        plain.len() * 4 < body.len(),
        "{} of {}",
        plain.len(),
        body.len()
    );
    assert_eq!(
        sealed.len(),
        plain.len() + 1 + 1 + 12 + 16,
        "ID, nonce and tag"
    );
    assert!(!sealed.windows(9).any(|part| part == b"firstName"));
}

#[test]
fn a_key_opens_what_was_sealed_with_it_and_nothing_else() {
    let entry = write(&copy(b"{}"), HEAD_, NAME, &keys(&["a"])).unwrap();
    assert!(
        read_at(&entry, &keys(&["b", "a"]), 0).is_some(),
        "turned over"
    );
    assert!(read_at(&entry, &keys(&["b"]), 0).is_none(), "another key");
    assert!(read_at(&entry, &Keys::default(), 0).is_none(), "no key");
    let moved = read(&entry, b"another", &keys(&["a"]), &Clock::system(), 0);
    assert!(moved.is_none(), "moved to another name");
    let plain = write(&copy(b"{}"), HEAD_, NAME, &Keys::default()).unwrap();
    assert!(
        read_at(&plain, &keys(&["a"]), 0).is_none(),
        "put there by somebody without a key"
    );
}

#[test]
fn a_sealed_entry_with_a_byte_changed_is_none() {
    let keys = keys(&["a"]);
    let entry = write(&copy(b"{}"), HEAD_, NAME, &keys).unwrap();
    for at in 0..entry.len() {
        let mut changed = entry.clone();
        changed[at] ^= 1;
        assert!(read_at(&changed, &keys, 0).is_none(), "byte {at}");
        assert!(read_at(&entry[..at], &keys, 0).is_none(), "{at} bytes");
    }
}

#[test]
fn what_is_too_large_is_not_shared() {
    let mut body = vec![0; LARGEST + 1];
    aws_lc_rs::rand::fill(&mut body).unwrap();
    assert!(write(&copy(&body), HEAD_, NAME, &Keys::default()).is_none());
}

proptest! {
    #[test]
    fn whatever_stands_in_the_store_is_read_or_is_none(entry in proptest::collection::vec(any::<u8>(), 0..200), flags in 0_u8..4) {
        let mut entry = entry;
        if entry.len() > 2 {
            (entry[0], entry[1]) = (VERSION, flags);
        }
        let _ = read_at(&entry, &Keys::default(), 0);
        let _ = read_at(&entry, &keys(&["a"]), 0);
    }
}
