//! Bytes of a line with the times at which they came, as text that an editor can cut.
//!
//! ```text
//! lineside-recording 1
//! port /dev/ttyUSB0
//! line 115200 8N1
//! began 2026-11-25T16:04:31.250000Z
//! 0.000000 48656c6c6f0d0a
//! 0.100312 776f726c640d0a
//! ```
//!
//! The first line says what it is. Notes follow: a word and the rest of the line, for people; `began` alone
//! is read, the date of the beginning. Then portions, one a line: seconds since the beginning, and the bytes that one read gave, in hexadecimal.
//! Blank lines and those behind `#` mean nothing. Promise: a portion is in memory at a time, and times
//! never go backwards.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use crate::base::UnixMicros;

/// The first line, up to its version.
const MAGIC: &str = "lineside-recording ";
const VERSION: &str = "1";
/// Longest line: far beyond what one read gives.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Why a file is no recording, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file system's fault.
    #[error("cannot read it")]
    Read(#[from] io::Error),
    /// The recording's.
    #[error("line {line}: {message}")]
    #[expect(missing_docs, reason = "said above")]
    Line { line: usize, message: String },
}

/// Writes what comes.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    out: W,
    line: String,
}

impl<W: Write> Recorder<W> {
    /// Writes the first lines; `notes`: a word and a text each.
    pub fn begin(mut out: W, notes: &[(&str, &str)]) -> io::Result<Self> {
        writeln!(out, "{MAGIC}{VERSION}")?;
        for (word, text) in notes {
            writeln!(out, "{word} {}", text.replace(['\r', '\n'], " "))?;
        }
        Ok(Self { out, line: String::new() })
    }

    /// Bytes came, so long after the beginning.
    pub fn portion(&mut self, at: Duration, bytes: &[u8]) -> io::Result<()> {
        self.line.clear();
        self.line.push_str(&format!("{}.{:06} ", at.as_secs(), at.subsec_micros()));
        hex(bytes, &mut self.line);
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Appends `bytes` as hexadecimal digits.
pub fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is a digit"));
        }
    }
}

/// What one read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Since the beginning.
    pub at: Duration,
    /// At least one.
    pub bytes: Vec<u8>,
}

/// Whether a file that begins like this is a recording.
pub fn is_recording(beginning: &[u8]) -> bool {
    beginning.starts_with(MAGIC.as_bytes())
}

/// Reads portion after portion.
#[derive(Debug)]
pub struct Portions<R> {
    from: R,
    line: usize,
    at: Duration,
    began: Option<UnixMicros>,
    over: bool,
}

impl<R: BufRead> Portions<R> {
    /// Reads from its first line on.
    pub fn of(from: R) -> Self {
        Self { from, line: 0, at: Duration::ZERO, began: None, over: false }
    }

    /// The date of the beginning, as far as the lines before the last portion tell it.
    pub fn began(&self) -> Option<UnixMicros> {
        self.began
    }

    fn wrong(&self, message: impl Into<String>) -> RecordingError {
        RecordingError::Line { line: self.line, message: message.into() }
    }

    fn line(&mut self) -> Result<Option<String>, RecordingError> {
        let mut line = Vec::new();
        let bytes = io::Read::take(&mut self.from, MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if bytes == 0 {
            return Ok(None);
        }
        self.line += 1;
        if bytes as u64 == MAX_LINE_BYTES {
            return Err(self.wrong("it does not end"));
        }
        String::from_utf8(line).map(Some).map_err(|_| self.wrong("not text"))
    }

    fn portion(&mut self) -> Result<Option<Portion>, RecordingError> {
        while let Some(line) = self.line()? {
            let line = line.trim();
            if self.line == 1 {
                match line.strip_prefix(MAGIC) {
                    Some(VERSION) => continue,
                    Some(version) => {
                        return Err(self.wrong(format!("version {version}; this program reads {VERSION}")));
                    }
                    None => return Err(self.wrong(format!("not `{MAGIC}{VERSION}`; it is no recording"))),
                }
            }
            if !line.starts_with(|first: char| first.is_ascii_digit()) {
                // A note, a comment, nothing.
                self.began = line.strip_prefix("began ").map_or(self.began, date);
                continue;
            }
            let (seconds, digits) = line.split_once(' ').unwrap_or((line, ""));
            let at = time(seconds).ok_or_else(|| self.wrong(format!("{seconds:?} is no time in seconds")))?;
            if at < self.at {
                return Err(self.wrong(format!("{seconds} s comes after {} s", self.at.as_secs_f64())));
            }
            let bytes = unhex(digits).ok_or_else(|| self.wrong("no pairs of hexadecimal digits"))?;
            self.at = at;
            return Ok(Some(Portion { at, bytes }));
        }
        if self.line == 0 {
            return Err(self.wrong("it is empty"));
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Portions<R> {
    type Item = Result<Portion, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let portion = self.portion().transpose();
        // Behind a mistake nothing can be believed.
        self.over = !matches!(portion, Some(Ok(_)));
        portion
    }
}

/// `2026-11-25T16:04:31.250000Z`
fn date(text: &str) -> Option<UnixMicros> {
    let (day, clock) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let parts: Vec<&str> = day.split('-').chain(clock.split(':')).collect();
    let [year, month, day, hours, minutes, seconds] = parts[..] else { return None };
    let number = |text: &str, least: u64, most: u64| {
        text.parse().ok().filter(|number| (least..=most).contains(number))
    };
    let midnight =
        UnixMicros::midnight(number(year, 1970, 9999)?, number(month, 1, 12)?, number(day, 1, 31)?);
    let minutes = 60 * number(hours, 0, 23)? + number(minutes, 0, 59)?;
    let since = time(seconds).filter(|seconds| seconds.as_secs() < 60)? + Duration::from_secs(60 * minutes);
    Some(UnixMicros(midnight.0 + since.as_micros() as u64))
}

/// Seconds with at most six decimals.
fn time(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let micros = format!("{part:0<6}").parse().ok()?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_micros(micros))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        digits.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    (!digits.is_empty() && pairs.remainder().is_empty())
        .then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<Portion>, String> {
        Portions::of(text.as_bytes()).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_above_is_read() {
        let header = include_str!("recording.rs");
        let example = header.split("```").nth(1).unwrap().trim_start_matches("text\n");
        let example: String =
            example.lines().map(|line| line.trim_start_matches("//! ").to_owned() + "\n").collect();
        let portions = read(&example).unwrap();
        assert_eq!(portions[0].bytes, b"Hello\r\n");
        assert_eq!(portions[1], Portion { at: Duration::from_micros(100_312), bytes: b"world\r\n".to_vec() });
        assert_eq!(portions.len(), 2);
        let mut portions = Portions::of(example.as_bytes());
        portions.next();
        assert_eq!(portions.began().unwrap().to_string(), "2026-11-25T16:04:31.250000Z");
    }

    #[test]
    fn a_date_that_is_none_is_none() {
        assert_eq!(date("2000-02-29T23:59:59Z").unwrap().to_string(), "2000-02-29T23:59:59.000000Z");
        for text in [
            "",
            "yesterday",
            "2026-11-25",
            "2026-11-25T16:04Z",
            "2026-11-25T16:04:31",
            "2026-13-25T16:04:31Z",
            "2026-11-25T24:04:31Z",
            "2026-11-25T16:04:60Z",
            "1969-11-25T16:04:31Z",
            "2026-11-0T16:04:31Z",
            "99999999999999999999-11-25T16:04:31Z",
            "2026-11-25T16:04:99999999999999999999Z",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_mistake_is_named_with_its_line_and_ends_the_reading() {
        let head = "lineside-recording 1\nport x\n";
        for (text, why) in [
            (String::new(), "it is empty"),
            ("hello\n".into(), "line 1: not `lineside-recording 1`"),
            ("lineside-recording 2\n".into(), "line 1: version 2"),
            (format!("{head}0.1 4\n"), "line 3: no pairs"),
            (format!("{head}0.1\n"), "line 3: no pairs"),
            (format!("{head}0.1 zz\n0.2 00\n"), "line 3: no pairs"),
            (format!("{head}0.1234567 00\n"), "is no time"),
            (format!("{head}0x1 00\n"), "is no time"),
            (format!("{head}2 00\n1.5 00\n"), "line 4: 1.5 s comes after 2 s"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn other_files_are_told_apart_by_their_first_bytes() {
        assert!(is_recording(b"lineside-recording 1\n"));
        assert!(!is_recording(b"time,value\n") && !is_recording(b""));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(portions in prop::collection::vec(
            (0u64..10_000_000_000, prop::collection::vec(any::<u8>(), 1..50)), 0..20
        )) {
            let mut portions: Vec<Portion> = portions.into_iter()
                .map(|(at, bytes)| Portion { at: Duration::from_micros(at), bytes }).collect();
            portions.sort_by_key(|portion| portion.at);
            let mut out = Vec::new();
            let mut recorder = Recorder::begin(&mut out, &[("port", "/dev/x\n0.5 00")]).unwrap();
            for Portion { at, bytes } in &portions {
                recorder.portion(*at, bytes).unwrap();
            }
            prop_assert_eq!(read(std::str::from_utf8(&out).unwrap()).unwrap(), portions);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "(lineside-recording 1\n)?[0-9a-f. \n#x]{0,80}") {
            let _ = read(&text);
        }
    }
}
