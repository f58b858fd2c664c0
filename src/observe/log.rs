//! Log lines on standard error: text for people, one JSON object a line for Loki.
//!
//! Promise: one event is one line, whatever is in its message (control characters are escaped, so
//! that no frame can forge a line); starting the log twice is harmless.
//! Default: `info` of ours, warnings of everybody else's. `LINESIDE_LOG` says otherwise, in the
//! words of env_logger: `debug`, or `warn,lineside::mqtt=trace`.

use std::io::Write;
use std::time::Duration;

use log::Record;
use serde::Serialize;

use crate::base::clock::SystemClock;
use crate::base::{Clock, Micros, UnixMicros};
use crate::config::LogFormat;

/// Environment variable with the filter.
pub const FILTER_VARIABLE: &str = "LINESIDE_LOG";

/// Of libraries only warnings: tract tells of each pass, rumqttc of each packet.
const DEFAULT_FILTER: &str = "warn,lineside=info";

/// Starts the log of this process; later calls change nothing.
pub fn init(format: LogFormat) {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.into());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&filter);
    match format {
        LogFormat::Text => builder.format(|out, record| {
            let style = out.default_level_style(record.level());
            let line = text_line(SystemClock.wall(), record, &style.render(), &style.render_reset());
            out.write_all(line.as_bytes())
        }),
        LogFormat::Json => {
            builder.format(|out, record| out.write_all(json_line(SystemClock.wall(), record).as_bytes()))
        }
    };
    // An error says that somebody started a log before: then that one stays.
    let _ = builder.try_init();
}

/// `2026-11-24T02:07:51.000250Z INFO  message`, with `on` and `off` around the level.
fn text_line(
    at: UnixMicros,
    record: &Record<'_>,
    on: &dyn std::fmt::Display,
    off: &dyn std::fmt::Display,
) -> String {
    let level = record.level().as_str();
    let mut line = format!("{at} {on}{level:<5}{off} ");
    for c in record.args().to_string().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    line
}

fn json_line(at: UnixMicros, record: &Record<'_>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        ts: String,
        level: String,
        target: &'a str,
        msg: String,
    }
    let line = Line {
        ts: at.to_string(),
        level: record.level().as_str().to_ascii_lowercase(),
        target: record.target(),
        msg: record.args().to_string(),
    };
    let mut line = serde_json::to_string(&line).expect("text and text: nothing in it can fail");
    line.push('\n');
    line
}

/// Lets one warning through in each span of time, so that a fault that repeats a thousand times a
/// second fills neither disk nor eye.
#[derive(Clone, Copy, Debug)]
pub struct Occasionally {
    every: Duration,
    last: Option<Micros>,
    suppressed: u64,
}

impl Occasionally {
    /// At most once `every` so long.
    pub const fn new(every: Duration) -> Self {
        Self { every, last: None, suppressed: 0 }
    }

    /// Whether to speak now: `Some` with the number of times that it was kept back since the last
    /// time, or `None` to keep it back.
    pub fn ask(&mut self, now: Micros) -> Option<u64> {
        if self.last.is_some_and(|last| now.since(last) < self.every) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use serde_json::{Value, json};

    const AT: UnixMicros = UnixMicros(1_709_251_199_000_250);

    fn with_record<T>(level: Level, message: &str, f: impl FnOnce(&Record<'_>) -> T) -> T {
        f(&Record::builder().level(level).target("lineside::mqtt").args(format_args!("{message}")).build())
    }

    #[test]
    fn a_text_line_says_when_how_bad_and_what() {
        let line = with_record(Level::Info, "link up", |record| text_line(AT, record, &"", &""));
        assert_eq!(line, "2024-02-29T23:59:59.000250Z INFO  link up\n");
    }

    #[test]
    fn a_message_cannot_forge_a_second_line() {
        let forged = "topic a\n2026-01-01T00:00:00Z INFO all is well\u{1b}[2J";
        let line = with_record(Level::Warn, forged, |record| text_line(AT, record, &"", &""));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("a\\n2026") && !line.contains('\u{1b}'), "{line}");
        let line = with_record(Level::Warn, forged, |record| json_line(AT, record));
        assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&line).expect("JSON");
        let wanted = json!({
            "ts": "2024-02-29T23:59:59.000250Z", "level": "warn", "target": "lineside::mqtt", "msg": forged,
        });
        assert_eq!(read, wanted);
    }

    #[test]
    fn starting_twice_is_harmless() {
        init(LogFormat::Text);
        init(LogFormat::Json);
    }

    #[test]
    fn a_repeated_warning_speaks_once_a_span_and_says_how_often_it_was_kept_back() {
        let mut warning = Occasionally::new(Duration::from_micros(100));
        let said: Vec<_> = [0, 1, 50, 99, 100, 101, 400].map(|us| warning.ask(Micros(us))).into();
        assert_eq!(said, [Some(0), None, None, None, Some(3), None, Some(1)]);
    }
}
