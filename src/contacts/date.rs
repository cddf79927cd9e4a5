//! HTTP dates as they are met: RFC 9110 section 5.6.7, and a little more than it asks of a recipient.

use std::time::{SystemTime, UNIX_EPOCH};

/// Whole seconds since 1970; none before.
pub fn unix_seconds(date: SystemTime) -> u64 {
    date.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The time that a field's text names, in any of the three formats. Case does not matter, and neither does the day's
/// name, which says nothing that the date does not say.
pub fn http_date(text: &str) -> Option<SystemTime> {
    if let Ok(time) = httpdate::parse_http_date(text) {
        return Some(time);
    }
    let text = in_usual_case(text.trim());
    let (_, date) = text.split_at_checked(text.find([',', ' '])?)?;
    // RFC 850's long names are followed by a comma and dashes; the other formats have short ones.
    let days = if date.contains('-') { LONG } else { SHORT };
    days.iter()
        .find_map(|day| httpdate::parse_http_date(&format!("{day}{date}")).ok())
}

const SHORT: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// `THU, 18 AUG 2050 02:01:18 gmt` as `Thu, 18 Aug 2050 02:01:18 GMT`.
fn in_usual_case(text: &str) -> String {
    let mut inside = false;
    let usual: String = text
        .chars()
        .map(|c| {
            let usual = if inside {
                c.to_ascii_lowercase()
            } else {
                c.to_ascii_uppercase()
            };
            inside = c.is_ascii_alphabetic();
            usual
        })
        .collect();
    match usual.strip_suffix("Gmt") {
        Some(rest) => format!("{rest}GMT"),
        None => usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_in_three_formats_and_any_case_and_nothing_else_is_one() {
        let want = httpdate::parse_http_date("Thu, 18 Aug 2050 02:01:18 GMT").ok();
        assert!(want.is_some());
        for text in [
            "Thu, 18 Aug 2050 02:01:18 GMT",
            "THU, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 AUG 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 gMT",
            "Mon, 18 Aug 2050 02:01:18 GMT",
            "Thursday, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 18 02:01:18 2050",
            "Mon Aug 18 02:01:18 2050",
        ] {
            assert_eq!(http_date(text), want, "{text}");
        }
        for text in [
            "",
            "0",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050  02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, x",
            "ä",
        ] {
            assert_eq!(http_date(text), None, "{text}");
        }
    }
}
