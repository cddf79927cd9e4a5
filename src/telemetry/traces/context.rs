//! `traceparent` and `tracestate`, in and out (W3C Trace Context).
//!
//! Stricter than what comes with OpenTelemetry, which takes ids that are too short and the first of several fields. Who
//! sends something malformed has sent nothing: a new trace begins. `baggage` is not looked at and goes no further.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longer ones are dropped, as the standard lets us: nobody else's state is worth more than that.
const MOST_STATE: usize = 512;

/// Where the caller is in its trace: what `traceparent` says, which is enough to decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    trace: [u8; 16],
    span: [u8; 8],
    /// Whether the caller follows it.
    pub(super) followed: bool,
}

impl Parent {
    /// What the caller says, if it says something and says it well.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let (field, None) = (fields.next()?, fields.next()) else {
            return None;
        };
        let (trace, span, flags) = parse(field.as_bytes())?;
        let valid = trace != [0; 16] && span != [0; 8];
        // Of the other flags nothing is known yet, so they are not passed on.
        let followed = flags & 1 == 1;
        valid.then_some(Self {
            trace,
            span,
            followed,
        })
    }

    /// What two with the same trace have in common, of which OpenTelemetry's ratios make use.
    pub(super) fn low(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.trace;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The same with what `tracestate` says.
    pub(super) fn context(&self, headers: &HeaderMap) -> SpanContext {
        let (trace, span) = (
            TraceId::from_bytes(self.trace),
            SpanId::from_bytes(self.span),
        );
        let flags = TraceFlags::new(u8::from(self.followed));
        SpanContext::new(trace, span, flags, true, state(headers))
    }
}

/// `version-trace-span-flags`. Of a version to come, more may follow; of ours, nothing. `ff` is no version.
fn parse(field: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    let (ours, rest) = field.split_at_checked(55)?;
    if [2, 35, 52].iter().any(|&dash| ours[dash] != b'-') {
        return None;
    }
    let [version] = hex(&ours[..2])?;
    match (version, rest.first()) {
        (0xff, _) | (0, Some(_)) => return None,
        (_, None | Some(b'-')) => {}
        (_, Some(_)) => return None,
    }
    let [flags] = hex(&ours[53..])?;
    Some((hex(&ours[3..35])?, hex(&ours[36..52])?, flags))
}

/// Lower case only, as the standard wants it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut seen = 0;
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen < 16).then_some(bytes)
}

/// What each letter is worth, by a look instead of comparisons: callers who trace send 52 of them with every request.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut n = 0;
    while n < 16 {
        digits[b"0123456789abcdef"[n as usize] as usize] = n;
        n += 1;
    }
    digits
};

/// Several fields are one list. What is malformed is dropped without harm to the rest.
fn state(headers: &HeaderMap) -> TraceState {
    let mut fields = headers.get_all(TRACESTATE).iter();
    let Some(first) = fields.next() else {
        return TraceState::default();
    };
    let mut list = first.as_bytes().to_vec();
    for field in fields {
        list.push(b',');
        list.extend(field.as_bytes());
    }
    let list = (list.len() <= MOST_STATE).then(|| String::from_utf8(list).ok());
    list.flatten()
        .filter(|list| list.is_ascii())
        .and_then(|list| list.parse().ok())
        .unwrap_or_default()
}

/// The fields that tell the next one where we are.
pub(super) fn inject(context: &SpanContext, sampled: bool, headers: &mut HeaderMap) {
    let (trace, span) = (context.trace_id(), context.span_id());
    let parent = format!("00-{trace}-{span}-{:02x}", u8::from(sampled));
    let state = context.trace_state().header();
    for (name, text) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
        // Parsed from fields, so fit for one.
        if !text.is_empty()
            && let Ok(value) = HeaderValue::from_str(&text)
        {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(name.clone(), value);
        }
        headers
    }

    #[test]
    fn a_well_formed_traceparent_is_taken_and_any_other_is_none() {
        let taken = |value: &str| {
            let headers = headers(&[(TRACEPARENT, value)]);
            Parent::of(&headers).map(|parent| parent.context(&headers))
        };
        for (value, sampled) in [
            (GOOD, true),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                false,
            ),
            // Flags that are not known yet are not passed on.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
                true,
            ),
            // A version to come.
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                true,
            ),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
                true,
            ),
        ] {
            let context = taken(value).expect(value);
            let ids = (
                context.trace_id().to_string(),
                context.span_id().to_string(),
            );
            assert_eq!(ids.0, "4bf92f3577b34da6a3ce929d0e0e4736", "{value}");
            assert_eq!(ids.1, "00f067aa0ba902b7", "{value}");
            assert_eq!(context.is_sampled(), sampled, "{value}");
        }
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-001",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
            "00-\u{e4}bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(taken(value), None, "{value}");
        }
        let twice = headers(&[(TRACEPARENT, GOOD), (TRACEPARENT, GOOD)]);
        assert_eq!(Parent::of(&twice), None, "given twice");
    }

    #[test]
    fn what_is_wrong_with_a_tracestate_costs_the_tracestate_alone() {
        let long = format!("a={}", "x".repeat(MOST_STATE));
        let many: Vec<_> = (0..40).map(|n| format!("a{n}=1")).collect();
        for (fields, kept) in [
            (&["a=1,b=2"][..], Some("a=1,b=2")),
            (&["a=1", " b=2 "], Some("a=1,b=2")),
            (&["a=1,,"], Some("a=1")),
            (&["a"], Some("")),
            (&["A=1"], Some("")),
            (&["\u{e4}=1"], Some("")),
            (&[&long], Some("")),
            // As many as the standard has room for.
            (&[&many.join(",")], None),
        ] {
            let mut all = vec![(TRACEPARENT, GOOD)];
            all.extend(fields.iter().map(|field| (TRACESTATE, *field)));
            let headers = headers(&all);
            let context = Parent::of(&headers).unwrap().context(&headers);
            let header = context.trace_state().header();
            match kept {
                Some(kept) => assert_eq!(header, kept, "{fields:?}"),
                None => assert_eq!(header.split(',').count(), 32, "{fields:?}"),
            }
        }
    }

    #[test]
    fn what_goes_out_says_what_came_in() {
        let came = headers(&[(TRACEPARENT, GOOD), (TRACESTATE, "a=1,b=2")]);
        let mut went = HeaderMap::new();
        inject(&Parent::of(&came).unwrap().context(&came), true, &mut went);
        assert_eq!(went, came);
    }
}
