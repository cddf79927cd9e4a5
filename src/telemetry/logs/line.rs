//! Hides how an event's line is spelt, as JSON or as text.

use std::fmt::{self, Debug, Write};
use std::time::SystemTime;

use tracing::Level;
use tracing::field::{Field, Visit};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object each.
    Json,
    /// For people.
    Text {
        /// Whether the level is coloured, by escape codes that a terminal understands.
        colours: bool,
    },
}

/// A line that is being written: the time, the level and from where; the message; then fields.
#[derive(Debug)]
pub(super) struct Line {
    format: Format,
    out: String,
}

impl Line {
    pub(super) fn new(format: Format, at: SystemTime, level: Level, target: &str) -> Self {
        let mut out = String::with_capacity(512);
        let at = humantime::format_rfc3339_micros(at);
        // A String takes whatever is written to it.
        let _ = match format {
            Format::Json => write!(
                out,
                r#"{{"timestamp":"{at}","level":"{level}","target":"{target}""#
            ),
            Format::Text { colours: false } => write!(out, "{at} {level:>5} {target}:"),
            Format::Text { colours: true } => {
                let colour = match level {
                    Level::ERROR => 31,
                    Level::WARN => 33,
                    Level::INFO => 32,
                    Level::DEBUG | Level::TRACE => 34,
                };
                write!(out, "{at} \u{1b}[{colour}m{level:>5}\u{1b}[0m {target}:")
            }
        };
        Self { format, out }
    }

    /// The line's end, and the line.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::Json {
            self.out.push('}');
        }
        self.out.push('\n');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let bare = self.format != Format::Json && name == "message";
        if bare {
            let _ = Escaped(&mut self.out).write_str(value);
        } else {
            self.out.push('"');
            let _ = Escaped(&mut self.out).write_str(value);
            self.out.push('"');
        }
    }

    /// What is neither text nor has to be escaped.
    pub(super) fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    fn number(&mut self, name: &str, value: impl itoa::Integer) {
        self.name(name);
        self.out.push_str(itoa::Buffer::new().format(value));
    }

    fn name(&mut self, name: &str) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let (before, name, after) = match self.format {
            Format::Json => (",\"", name, "\":"),
            Format::Text { .. } if name == "message" => (" ", "", ""),
            Format::Text { .. } => (" ", name, "="),
        };
        for part in [before, name, after] {
            self.out.push_str(part);
        }
    }

    fn quoted(&mut self, value: fmt::Arguments<'_>) {
        self.out.push('"');
        let _ = Escaped(&mut self.out).write_fmt(value);
        self.out.push('"');
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field.name(), value);
        } else {
            self.plain(field.name(), "null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field.name());
        if self.format == Format::Json {
            self.quoted(format_args!("{value:?}"));
        } else {
            let _ = write!(Escaped(&mut self.out), "{value:?}");
        }
    }
}

/// The bytes that need no escape, whatever follows them. 0xC2 begins the controls from U+0080 on, among others.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut b = 0;
    while b < 256 {
        plain[b] = !matches!(b as u8, 0..b' ' | b'"' | b'\\' | 0x7f | 0xc2);
        b += 1;
    }
    plain
};

/// Writes text as it stands within a JSON string. No character gets through that could end a line or mean something to a
/// terminal.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly every text is to be written as it is.
        if text.bytes().all(|b| PLAIN[usize::from(b)]) {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                '\n' => self.0.push_str("\\n"),
                '\t' => self.0.push_str("\\t"),
                // The last of these is U+009F.
                c if c.is_control() => write!(self.0, "\\u{:04x}", c as u32)?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn line(format: Format) -> String {
        let at = UNIX_EPOCH + Duration::from_micros(1_764_000_000_000_001);
        let mut line = Line::new(format, at, Level::WARN, "a::b");
        line.text("message", "it's \"here\"\n\u{1b}[31m\u{9b}ä");
        line.text("list.tag", "0a\u{7f}b");
        line.plain("took_ms", 12);
        line.end()
    }

    #[test]
    fn a_line_of_json_is_one_object_whatever_is_in_it() {
        let line = line(Format::Json);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "timestamp": "2025-11-24T16:00:00.000001Z",
            "level": "WARN",
            "target": "a::b",
            "message": "it's \"here\"\n\u{1b}[31m\u{9b}ä",
            "list.tag": "0a\u{7f}b",
            "took_ms": 12,
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_of_text_is_one_line_and_colours_the_level_alone() {
        let plain = line(Format::Text { colours: false });
        assert_eq!(
            plain,
            "2025-11-24T16:00:00.000001Z  WARN a::b: \
             it's \\\"here\\\"\\n\\u001b[31m\\u009bä list.tag=\"0a\\u007fb\" took_ms=12\n"
        );
        let coloured = line(Format::Text { colours: true });
        assert_eq!(
            coloured.replacen("\u{1b}[33m WARN\u{1b}[0m", " WARN", 1),
            plain
        );
    }
}
