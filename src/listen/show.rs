//! What was seen, as a line for people and as an object for machines.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::adu::Adu;
use super::ear::{Seen, Tally, What};
use super::recording::hex;
use crate::base::counters::BadBytes;
use crate::base::{Paint, UnixMicros};
use crate::config::Format;
use crate::daemon::port;
use crate::modbus::wire::Reply;
use crate::stage::acquire::serial::tty::LineCounts;
use crate::stage::decode::framing::packet::{self, Header, SampleType};
use crate::stage::decode::framing::sequence::Continuity;

/// Bytes of a frame that stand on its line.
const SHOWN_BYTES: usize = 16;
/// Numbers of a packet that stand on its line.
const SHOWN_NUMBERS: usize = 16;
/// Characters of a text that stand on its line.
const SHOWN_CHARS: usize = 120;

/// How bodies are read. `None`: as what they look like.
#[derive(Clone, Copy, Debug)]
pub struct Reading(pub Option<Format>);

impl Reading {
    fn is_packet(self) -> bool {
        matches!(self.0, None | Some(Format::Packet))
    }
}

/// `   12.034567  04 10 03 … 00  packet of sensor 3 …`; `at`: since listening began.
pub fn line(at: Duration, seen: &Seen<'_>, reading: Reading, paint: Paint) -> String {
    let time = format!("{:>5}.{:06}", at.as_secs(), at.subsec_micros());
    let what = match seen.what {
        What::Bytes => text(seen.wire),
        What::Frame { payload, sequence } => {
            let body = body(payload, reading);
            let Some((number, continuity)) = sequence else { return row(&time, seen, &body, paint) };
            let remark = match continuity {
                Continuity::First | Continuity::Next => String::new(),
                Continuity::Lost(frames) => paint.yellow(&format!("  {frames} missing before it")),
                Continuity::Repeated => paint.yellow("  its number came before"),
                Continuity::Restarted(0) => paint.yellow("  the sender counts anew"),
                Continuity::Restarted(frames) => {
                    paint.yellow(&format!("  the sender counts anew, {frames} missing before it"))
                }
            };
            format!("#{number} {body}{remark}")
        }
        What::Bad(why) => paint.red(&format!("bad: {why}")),
        What::Adu(Adu::Stray) => paint.red(&format!("bad: {} bytes that belong to nobody", seen.wire_bytes)),
        What::Adu(adu @ Adu::Answer { answer: Err(_), .. }) => paint.yellow(&adu.to_string()),
        What::Adu(adu) => adu.to_string(),
    };
    row(&time, seen, &what, paint)
}

fn row(time: &str, seen: &Seen<'_>, what: &str, paint: Paint) -> String {
    let mut bytes = String::new();
    let is_whole = seen.wire.len() == seen.wire_bytes;
    if !is_whole {
        bytes.push_str("… ");
    }
    let all = seen.wire.len() <= SHOWN_BYTES && is_whole;
    let shown = if all { seen.wire.len() } else { seen.wire.len().min(SHOWN_BYTES - 1) };
    for byte in &seen.wire[..shown] {
        hex(&[*byte], &mut bytes);
        bytes.push(' ');
    }
    if !all && is_whole {
        bytes.push('…');
    }
    // Its width in characters, not in bytes: an ellipsis has three of those.
    let width = 3 * SHOWN_BYTES;
    format!("{}  {bytes:<width$} {what}", paint.dim(time))
}

/// A body for people.
fn body(payload: &[u8], reading: Reading) -> String {
    if reading.is_packet() {
        match packet::split(payload) {
            Ok((header, samples)) => return packet_words(&header, samples),
            Err(why) if reading.0.is_some() => return format!("no packet: {why}"),
            Err(_) => {}
        }
    }
    match reading.0 {
        Some(Format::F32le) => numbers(payload, 4, |bytes| {
            f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        }),
        Some(Format::I16le) => {
            numbers(payload, 2, |bytes| f64::from(i16::from_le_bytes([bytes[0], bytes[1]])))
        }
        _ if is_text(payload) => text(payload),
        _ => format!("{} bytes  {}", payload.len(), text(payload)),
    }
}

fn packet_words(header: &Header, samples: &[u8]) -> String {
    let Header { sensor, schema, time_us, channels, .. } = *header;
    let (kind, numbers) = samples_of(header, samples);
    let rows = numbers.len() / usize::from(channels);
    let mut words = format!(
        "packet of sensor {sensor}, schema {schema}, {}.{:06} s, {rows} × {channels} {kind}:",
        time_us / 1_000_000,
        time_us % 1_000_000
    );
    for (at, number) in numbers.iter().take(SHOWN_NUMBERS).enumerate() {
        words.push_str(if at > 0 && at % usize::from(channels) == 0 { " | " } else { " " });
        words.push_str(&number.to_string());
    }
    if numbers.len() > SHOWN_NUMBERS {
        words.push_str(" …");
    }
    words
}

/// A packet's numbers, row after row.
fn samples_of(header: &Header, samples: &[u8]) -> (&'static str, Vec<f32>) {
    match header.samples {
        SampleType::I16 => {
            let chunks = samples.as_chunks().0.iter();
            ("i16", chunks.map(|bytes| f32::from(i16::from_le_bytes(*bytes))).collect())
        }
        SampleType::F32 => {
            ("f32", samples.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        }
    }
}

fn numbers(payload: &[u8], size: usize, number: impl Fn(&[u8]) -> f64) -> String {
    let chunks = payload.chunks_exact(size);
    let rest = chunks.remainder().len();
    let count = chunks.len();
    let mut words: Vec<String> = chunks.take(SHOWN_NUMBERS).map(|bytes| number(bytes).to_string()).collect();
    if count > SHOWN_NUMBERS {
        words.push("…".into());
    }
    if rest > 0 {
        words.push(format!("and {rest} bytes that are no whole number"));
    }
    words.join(" ")
}

/// Whether a person reads it as it stands.
pub fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| c == '\t' || !c.is_control()))
}

/// Bytes as text; what a terminal would act upon becomes a dot.
fn text(bytes: &[u8]) -> String {
    let shown = |c: char| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '.' } else { c };
    // No more is looked at than is shown: a frame may have a megabyte.
    let start = &bytes[..bytes.len().min(4 * SHOWN_CHARS)];
    let all = String::from_utf8_lossy(start);
    let mut words: String = all.chars().take(SHOWN_CHARS).map(shown).collect();
    if start.len() < bytes.len() || all.chars().nth(SHOWN_CHARS).is_some() {
        words.push('…');
    }
    words
}

/// What was seen as one object; `wall`: when its first byte came, where that is known.
pub fn json(at: Duration, wall: Option<UnixMicros>, seen: &Seen<'_>, reading: Reading) -> Value {
    let mut object = Map::new();
    object.insert("t_s".into(), json!(at.as_secs_f64()));
    if let Some(wall) = wall {
        object.insert("at".into(), json!(wall.to_string()));
    }
    object.insert("wire".into(), digits(seen.wire));
    if seen.wire.len() < seen.wire_bytes {
        object.insert("wire_bytes".into(), json!(seen.wire_bytes));
    }
    match seen.what {
        What::Bytes => {}
        What::Bad(why) => {
            object.insert("bad".into(), json!(port::counted(why).0.as_str()));
            object.insert("message".into(), json!(why.to_string()));
        }
        What::Adu(Adu::Stray) => {
            object.insert("bad".into(), json!(BadBytes::Stray.as_str()));
        }
        What::Adu(adu) => {
            object.insert("modbus".into(), modbus(&adu));
        }
        What::Frame { payload, sequence } => {
            object.insert("payload".into(), digits(payload));
            if let Some((number, continuity)) = sequence {
                object.insert("sequence".into(), json!(number));
                if continuity.missing() > 0 {
                    object.insert("lost_before".into(), json!(continuity.missing()));
                }
            }
            let as_packet = packet::split(payload).ok().filter(|_| reading.is_packet());
            if let Some((header, samples)) = as_packet {
                let (kind, numbers) = samples_of(&header, samples);
                let rows: Vec<&[f32]> = numbers.chunks(usize::from(header.channels)).collect();
                let Header { sensor, schema, time_us, .. } = header;
                let packet = json!({"sensor": sensor, "schema": schema, "time_us": time_us, "type": kind, "samples": rows});
                object.insert("packet".into(), packet);
            } else if is_text(payload) {
                object.insert("text".into(), json!(String::from_utf8_lossy(payload)));
            }
        }
    }
    Value::Object(object)
}

fn digits(bytes: &[u8]) -> Value {
    let mut digits = String::with_capacity(2 * bytes.len());
    hex(bytes, &mut digits);
    Value::String(digits)
}

fn modbus(adu: &Adu<'_>) -> Value {
    match *adu {
        Adu::Request { unit, asked } => {
            json!({"unit": unit, "function": asked.function, "request": {"address": asked.address, "operand": asked.operand}})
        }
        Adu::Answer { unit, function, answer } => {
            let (key, value) = match answer {
                Err(exception) => ("exception", json!(exception.0)),
                Ok(Reply::Written) => ("written", json!(true)),
                Ok(Reply::Bits(bytes)) => ("bits", digits(bytes)),
                Ok(Reply::Registers(bytes)) => {
                    let registers = bytes.as_chunks::<2>().0.iter();
                    ("registers", registers.map(|bytes| u16::from_be_bytes(*bytes)).collect())
                }
            };
            json!({"unit": unit, "function": function, key: value})
        }
        Adu::Other { unit, function } => json!({"unit": unit, "function": function}),
        Adu::Stray => Value::Null,
    }
}

/// What came of it all.
#[derive(Clone, Debug)]
pub struct Summary {
    /// From the opening to the end.
    pub took: Duration,
    /// What was counted.
    pub tally: Tally,
    /// What the driver counted meanwhile; `None`: it does not count.
    pub line: Option<LineCounts>,
    /// Bytes a second that the line carries at most.
    pub line_bytes_per_s: f64,
    /// Whether frames were cut at all.
    pub cuts: bool,
}

impl Summary {
    fn per_s(&self, count: u64) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    /// `1,234 frames (102.8/s), 3 bad, 1 missing, 31.2 kB (2.6 kB/s, 23 % of the line)`
    pub fn words(&self, paint: Paint) -> String {
        let Tally { bytes, frames, lost, bad } = &self.tally;
        let mut words = Vec::new();
        if self.cuts {
            words.push(format!("{frames} frames ({:.1}/s)", self.per_s(*frames)));
            let kinds = BadBytes::ALL
                .iter()
                .zip(bad)
                .filter(|(kind, count)| **kind != BadBytes::Stray && **count > 0);
            let kinds: Vec<String> =
                kinds.map(|(kind, count)| format!("{count} {}", kind.as_str())).collect();
            if !kinds.is_empty() {
                words.push(paint.red(&format!("{} bad ({})", self.tally.bad_frames(), kinds.join(", "))));
            }
            let stray = bad[BadBytes::Stray as usize];
            if stray > 0 {
                words.push(paint.red(&format!("{stray} stray bytes")));
            }
            if *lost > 0 {
                words.push(paint.yellow(&format!("{lost} missing")));
            }
        }
        let rate = self.per_s(*bytes);
        // What had waited in the kernel comes at once: of less than a second it says nothing.
        let share = match self.took < Duration::from_secs(1) {
            true => String::new(),
            false => format!(", {:.0} % of what the line carries", 100.0 * rate / self.line_bytes_per_s),
        };
        words.push(format!("{bytes} bytes ({rate:.0}/s{share})"));
        for (count, what) in self.faults().into_iter().filter(|(count, _)| *count > 0) {
            words.push(paint.red(&format!("{count} {what}")));
        }
        words.join(", ")
    }

    fn faults(&self) -> Vec<(u32, &'static str)> {
        let Some(line) = self.line else { return Vec::new() };
        let LineCounts { framing, parity, overrun, buffer_overrun, breaks } = line;
        vec![
            (framing, "framing errors"),
            (parity, "parity errors"),
            (overrun, "hardware overruns"),
            (buffer_overrun, "kernel buffer overruns"),
            (breaks, "breaks"),
        ]
    }

    /// As one object.
    pub fn json(&self) -> Value {
        let Tally { bytes, frames, lost, bad } = &self.tally;
        let bad: Map<_, _> =
            BadBytes::ALL.iter().zip(bad).map(|(kind, count)| (kind.as_str().into(), json!(count))).collect();
        let faults = self.line.map(|line| {
            json!({"framing": line.framing, "parity": line.parity, "overrun": line.overrun,
                "buffer_overrun": line.buffer_overrun, "break": line.breaks})
        });
        json!({"summary": {
            "duration_s": self.took.as_secs_f64(), "bytes": bytes, "bytes_per_s": self.per_s(*bytes),
            "frames": frames, "frames_per_s": self.per_s(*frames), "bad": bad, "sequence_lost": lost,
            "line_faults": faults,
        }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Micros;
    use crate::modbus::wire::Exception;
    use crate::stage::decode::framing::WireError;

    fn seen<'a>(wire: &'a [u8], what: What<'a>) -> Seen<'a> {
        Seen { at: Micros(0), wire, wire_bytes: wire.len(), what }
    }

    fn shown(wire: &[u8], what: What<'_>) -> String {
        line(Duration::from_micros(1_500_001), &seen(wire, what), Reading(None), Paint::Plain)
    }

    fn packet() -> Vec<u8> {
        let header = Header {
            samples: SampleType::I16,
            sensor: 3,
            schema: 7,
            sequence: 258,
            time_us: 1_000_000,
            channels: 2,
        };
        let mut body = vec![0; 32];
        let bytes = header.write_i16(&[1, -2, 300, -400], &mut body).unwrap();
        body.truncate(bytes);
        body
    }

    #[test]
    fn bytes_stand_beside_what_they_mean() {
        let body = packet();
        let what = What::Frame { payload: &body, sequence: Some((258, Continuity::Lost(2))) };
        let said = shown(&[4, 0x10, 3, 7], what);
        assert_eq!(
            said,
            format!(
                "    1.500001  {:<48} #258 packet of sensor 3, schema 7, 1.000000 s, 2 × 2 i16: 1 -2 | 300 -400  2 missing before it",
                "04 10 03 07"
            )
        );
        let text = What::Frame { payload: b"21.5,x", sequence: None };
        assert!(shown(b"21.5,x\r\n", text).ends_with("21.5,x"));
        let bad = What::Bad(WireError::Checksum { bytes: 9 });
        assert!(shown(&[1], bad).ends_with("bad: the checksum of a frame of 9 bytes does not hold"));
    }

    #[test]
    fn lines_stay_in_their_columns_and_terminals_are_not_moved() {
        for length in [0, 1, 16, 17, 300] {
            let wire = vec![0x1b; length];
            let said = shown(&wire, What::Bytes);
            let hex: String = said.chars().skip(14).take(48).collect();
            assert!(hex.trim_end().chars().all(|c| c.is_ascii_hexdigit() || c == ' ' || c == '…'), "{hex}");
            assert!(!said.contains('\x1b'));
        }
        let part = Seen { at: Micros(0), wire: &[1; 20], wire_bytes: 9000, what: What::Bytes };
        assert!(line(Duration::ZERO, &part, Reading(None), Paint::Plain).contains("… 01 01"));
    }

    #[test]
    fn a_format_says_how_bodies_are_read() {
        let read = |payload: &[u8], format| body(payload, Reading(Some(format)));
        assert_eq!(read(&[1, 0, 0xfe, 0xff, 9], Format::I16le), "1 -2 and 1 bytes that are no whole number");
        assert_eq!(read(&1.5f32.to_le_bytes(), Format::F32le), "1.5");
        assert!(read(b"x", Format::Packet).starts_with("no packet: 1 bytes"));
        assert!(read(&packet(), Format::Csv).starts_with("19 bytes"));
    }

    #[test]
    fn machines_get_what_people_see() {
        let body = packet();
        let what = What::Frame { payload: &body, sequence: Some((258, Continuity::Next)) };
        let said = json(Duration::from_secs(1), Some(UnixMicros(0)), &seen(&[4, 255], what), Reading(None));
        assert_eq!(said["wire"], "04ff");
        assert_eq!(said["packet"]["samples"], json!([[1.0, -2.0], [300.0, -400.0]]));
        assert_eq!((&said["sequence"], &said["at"]), (&json!(258), &json!("1970-01-01T00:00:00.000000Z")));
        let bad = json(Duration::ZERO, None, &seen(&[], What::Bad(WireError::Malformed)), Reading(None));
        assert_eq!(bad["bad"], "malformed");
        let answer = Adu::Answer { unit: 3, function: 4, answer: Err(Exception(2)) };
        let said = json(Duration::ZERO, None, &seen(&[], What::Adu(answer)), Reading(None));
        assert_eq!(said["modbus"], json!({"unit": 3, "function": 4, "exception": 2}));
    }

    #[test]
    fn a_summary_names_what_went_wrong_and_only_that() {
        let tally = Tally { bytes: 1152, frames: 40, bad: [0, 0, 0, 0, 0], lost: 0 };
        let line = Some(LineCounts { framing: 2, ..LineCounts::default() });
        let summary =
            Summary { took: Duration::from_secs(2), tally, line, line_bytes_per_s: 11_520.0, cuts: true };
        assert_eq!(
            summary.words(Paint::Plain),
            "40 frames (20.0/s), 1152 bytes (576/s, 5 % of what the line carries), 2 framing errors"
        );
        assert_eq!(summary.json()["summary"]["frames_per_s"], 20.0);
        assert_eq!(summary.json()["summary"]["line_faults"]["framing"], 2);
    }
}
