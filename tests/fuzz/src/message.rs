//! HTTP messages as a corpus writes them: a first line, fields, an empty line, and the rest.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

/// A message, read with much patience: a line that is no field is passed over.
pub(crate) struct Message<'a> {
    pub(crate) first: &'a [u8],
    pub(crate) fields: HeaderMap,
    pub(crate) rest: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Self {
        let (first, mut rest) = line(bytes);
        let mut fields = HeaderMap::new();
        loop {
            let (field, after) = line(rest);
            rest = after;
            if field.is_empty() {
                break;
            }
            let mut halves = field.splitn(2, |b| *b == b':');
            let name = HeaderName::from_bytes(halves.next().unwrap_or_default());
            let value = halves.next().unwrap_or_default().trim_ascii();
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                fields.append(name, value);
            }
        }
        Self {
            first,
            fields,
            rest,
        }
    }

    /// The status that stands first, if it is one.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_bytes(self.first).unwrap_or(StatusCode::OK)
    }

    /// The answer that has these fields, and the rest as its body.
    pub(crate) fn answer(&self) -> Response<bytes::Bytes> {
        let mut answer = Response::new(bytes::Bytes::copy_from_slice(self.rest));
        *answer.status_mut() = self.status();
        *answer.headers_mut() = self.fields.clone();
        answer
    }
}

/// The first line, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n');
    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (line, rest.get(1..).unwrap_or_default())
}
