//! How the vendor says "too many": by status 429, or by one of its documented messages under any status.
//!
//! The messages are looked for without their first words, whose apostrophe JSON may spell in several ways.

use http::StatusCode;

/// A call was refused because of a rate limit, the vendor's own or somebody else's use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The limit of 60 calls a minute.
    Minute,
    /// The longer limit that some of the vendor's products add.
    Hour,
}

const MINUTE: [&str; 2] = [
    "exceeded the per-minute rate limit",
    "rate limit for this api has been reached",
];
const HOUR: &str = "exceeded the hourly rate limit";

/// In all of them. What has it not is nearly everything, and need not be read three times.
const SPOKEN_OF: &[u8] = b"rate limit";

/// Refusals are short. What stands further in than this is somebody's data.
pub(super) const LONGEST: usize = 16 * 1024;

/// Whether an answer is a refusal. `text` is what may hold the message: of a success only its `message`, of anything
/// else the whole body, since nobody documents where it stands.
pub(crate) fn refusal(status: StatusCode, text: &[u8]) -> Option<Refusal> {
    let text = &text[..text.len().min(LONGEST)];
    let spoken_of = |words: &[u8]| words.eq_ignore_ascii_case(SPOKEN_OF);
    if !text.windows(SPOKEN_OF.len()).any(spoken_of) {
        return (status == StatusCode::TOO_MANY_REQUESTS).then_some(Refusal::Minute);
    }
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    if text.contains(HOUR) {
        Some(Refusal::Hour)
    } else if status == StatusCode::TOO_MANY_REQUESTS || MINUTE.iter().any(|m| text.contains(m)) {
        Some(Refusal::Minute)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_status_or_by_its_message_under_any_status() {
        const A_MINUTE: &str =
            "You've exceeded the per-minute rate limit. Please wait for sometime before retrying.";
        const AN_HOUR: &str = "You've exceeded the hourly rate limit. Please wait.";
        const OLDER: &str = "Rate limit for this API has been reached. Please try again later";
        for (status, text, want) in [
            (429, "", Some(Refusal::Minute)),
            (429, A_MINUTE, Some(Refusal::Minute)),
            (429, AN_HOUR, Some(Refusal::Hour)),
            (200, A_MINUTE, Some(Refusal::Minute)),
            (200, AN_HOUR, Some(Refusal::Hour)),
            (200, OLDER, Some(Refusal::Minute)),
            (400, A_MINUTE, Some(Refusal::Minute)),
            (403, OLDER, Some(Refusal::Minute)),
            (500, AN_HOUR, Some(Refusal::Hour)),
            (
                503,
                r#"{"errors":[{"msg":"You\u2019ve exceeded the per-minute rate limit."}]}"#,
                Some(Refusal::Minute),
            ),
            (
                500,
                "RATE LIMIT FOR THIS API HAS BEEN REACHED",
                Some(Refusal::Minute),
            ),
            (200, "Contacts retrieved successfully", None),
            (401, "Invalid token", None),
            (404, "", None),
            (500, "the limit of my patience", None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refusal(status, text.as_bytes()), want, "{status} {text}");
        }
    }
}
