//! Everything that the vendor can do, with marks in whatever it sends.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Cut, Drip, Hollow, Message, Stall};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{BODY, HOSTILE};

pub(super) fn behaviours() -> Vec<Behaviour> {
    let one = Behaviour::default;
    let status = |status: u16| Behaviour {
        status: Some(StatusCode::from_u16(status).unwrap()),
        body: Some(format!("{BODY} 9990000000001 eyJhbGciOi")),
        ..one()
    };
    let mut behaviours: Vec<_> = [200, 204, 301, 400, 401, 403, 404, 418, 429, 500, 503]
        .map(status)
        .into();
    behaviours.extend(
        [Stall::BeforeHead, Stall::AfterHead].map(|stall| Behaviour {
            stall: Some(stall),
            ..one()
        }),
    );
    behaviours.extend(
        [Cut::BeforeHead, Cut::InBody, Cut::InChunks, Cut::WhenReused].map(|cut| Behaviour {
            cut: Some(cut),
            ..one()
        }),
    );
    behaviours.extend(
        [Hollow::Failure, Hollow::NotJson, Hollow::Empty].map(|hollow| Behaviour {
            hollow: Some(hollow),
            ..one()
        }),
    );
    behaviours.extend(
        [Message::PerMinute, Message::Hourly, Message::Older].map(|refuse| Behaviour {
            refuse: Some(refuse),
            ..one()
        }),
    );
    let odd_fields = HeaderMap::from_iter([
        ("etag".parse().unwrap(), HeaderValue::from_static(BODY)),
        ("location".parse().unwrap(), HeaderValue::from_static(BODY)),
        (
            "cache-control".parse().unwrap(),
            HeaderValue::from_static(BODY),
        ),
        (
            "retry-after".parse().unwrap(),
            HeaderValue::from_static(BODY),
        ),
    ]);
    behaviours.extend([
        Behaviour {
            delay: Duration::from_millis(50),
            drip: Some(Drip {
                bytes: 1,
                every: Duration::from_millis(20),
            }),
            ..one()
        },
        Behaviour {
            pad_to: Some(128 * 1024),
            ..one()
        },
        Behaviour {
            gzip: true,
            ..one()
        },
        Behaviour {
            chunked: true,
            trailers: odd_fields.clone(),
            ..one()
        },
        Behaviour {
            headers: odd_fields.clone(),
            ..one()
        },
        Behaviour {
            headers: odd_fields,
            status: Some(StatusCode::FOUND),
            ..one()
        },
        Behaviour {
            informational: vec![103, 100],
            ..one()
        },
        Behaviour {
            garbage: Some(format!("{BODY}\r\n{HOSTILE}\r\n")),
            ..one()
        },
        Behaviour {
            garbage: Some(format!(
                "HTTP/1.1 200 {BODY}\r\n{BODY}: {HOSTILE}\r\nx\r\n\r\n"
            )),
            ..one()
        },
    ]);
    behaviours
}
