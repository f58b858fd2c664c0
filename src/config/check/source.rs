//! The rules of `[pipeline.source]`: what belongs to which kind, and what a port needs.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Rules, positive};
use crate::base::wire::{CRC_NAMES, CrcName};
use crate::config::document::{Field, shorten};
use crate::config::nearest::nearest;
use crate::config::raw::{FramingKind as FramingWord, Kind, RawSource};
use crate::config::serial::{FlowControl, Framing, FramingKind, Line, Serial, SyncWord, Wire};
use crate::config::{Modbus, Pipeline, Source, SourceKind, topic};

/// Largest payload that is taken where the config says nothing: 16 MiB, an uncompressed 5-megapixel frame.
const MAX_PAYLOAD_BYTES: u64 = 16_777_216;

/// Pipelines on one port that do not agree on it: index and complaint.
pub(super) fn ports_at_odds(pipelines: &[Pipeline]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, pipeline) in pipelines.iter().enumerate() {
        let SourceKind::Serial(ours) = &pipeline.source.kind else { continue };
        let earlier = pipelines[..index].iter().find_map(|earlier| match &earlier.source.kind {
            SourceKind::Serial(theirs) if theirs.port == ours.port => Some((earlier, theirs)),
            _ => None,
        });
        let Some((earlier, theirs)) = earlier else { continue };
        let what = if theirs.line != ours.line {
            "the line (baud, data_bits, parity, stop_bits, flow, rs485)"
        } else if theirs.modbus().is_some() || ours.modbus().is_some() {
            let message = format!(
                "port {:?} is polled by pipeline {:?} already; a round goes to one pipeline",
                shorten(&ours.port),
                earlier.name
            );
            found.push((index, message));
            continue;
        } else if theirs.wire != ours.wire {
            "the framing and its keys"
        } else if theirs.durable != ours.durable {
            "durable"
        } else {
            continue;
        };
        let message = format!(
            "port {:?} is that of pipeline {:?}, which says otherwise about {what}; one port is read one way",
            shorten(&ours.port),
            earlier.name
        );
        found.push((index, message));
    }
    found
}

impl Rules<'_, '_> {
    pub(super) fn source(&mut self, raw: &RawSource, at: usize) -> Option<Source> {
        let kind = raw.kind.value().copied();
        self.only_of_one_kind(raw, kind);
        let kind = match kind {
            Some(Kind::Mqtt) => self.mqtt(raw, at),
            Some(Kind::Serial) => self.serial(raw, at).map(|serial| SourceKind::Serial(Box::new(serial))),
            // The topic is judged all the same.
            None => {
                self.topic(raw);
                None
            }
        };
        let id_level = self.id_level(raw, kind.as_ref());
        let queue_bytes = raw.queue_bytes.value().copied();
        let max_payload = match (&raw.max_payload_bytes, queue_bytes) {
            (Field::Given(max), Some(queue)) if *max.get_ref() > queue => {
                self.complain(
                    max.span().start,
                    format!(
                        "max_payload_bytes is {}, more than queue_bytes ({queue}): such a frame \
                             would fit nowhere; raise queue_bytes or lower this",
                        max.get_ref()
                    ),
                );
                None
            }
            (Field::Absent, queue) => queue.map(|queue| queue.min(MAX_PAYLOAD_BYTES)),
            (max, _) => max.value().copied(),
        };
        Some(Source {
            kind: kind?,
            queue_frames: positive(&raw.queue_frames)?,
            queue_bytes: positive(&raw.queue_bytes)?,
            when_full: *raw.when_full.value()?,
            stale_after: match &raw.stale_after_ms {
                Field::Broken => return None,
                ms => ms.value().map(|ms| Duration::from_millis(*ms)),
            },
            max_payload_bytes: NonZeroUsize::new(usize::try_from(max_payload?).unwrap_or(usize::MAX))?,
            max_sources: positive(&raw.max_sources)?,
            id_level: id_level?,
        })
    }

    /// `Some(None)`: not given. `None`: a complaint was made.
    fn id_level(&mut self, raw: &RawSource, kind: Option<&SourceKind>) -> Option<Option<String>> {
        match (&raw.id_level, kind) {
            (Field::Given(level), Some(SourceKind::Mqtt { topic, .. }))
                if !topic::names(topic).any(|name| name == level.get_ref()) =>
            {
                let message = format!(
                    "id_level is {:?}, and topic has no level {{{0}}}; name one of its levels",
                    shorten(level.get_ref())
                );
                self.complain(level.span().start, message);
                None
            }
            (Field::Broken, _) => None,
            (level, _) => Some(level.given().map(|level| level.get_ref().clone())),
        }
    }

    /// Keys that mean nothing for this kind of source.
    fn only_of_one_kind(&mut self, raw: &RawSource, kind: Option<Kind>) {
        let mqtt = [
            ("topic", raw.topic.at()),
            ("qos", raw.qos.at()),
            ("id_property", raw.id_property.at()),
            ("id_level", raw.id_level.at()),
            ("max_payload_bytes", raw.max_payload_bytes.at()),
        ];
        let serial = [
            ("port", raw.port.at()),
            ("baud", raw.baud.at()),
            ("data_bits", raw.data_bits.at()),
            ("parity", raw.parity.at()),
            ("stop_bits", raw.stop_bits.at()),
            ("flow", raw.flow.at()),
            ("rs485", raw.rs485.at()),
            ("framing", raw.framing.at()),
            ("crc", raw.crc.at()),
            ("crc_order", raw.crc_order.at()),
            ("crc_from", raw.crc_from.at()),
            ("sync", raw.sync.at()),
            ("length_bytes", raw.length_bytes.at()),
            ("length_order", raw.length_order.at()),
            ("length_counts", raw.length_counts.at()),
            ("frame_bytes", raw.frame_bytes.at()),
            ("sequence_bytes", raw.sequence_bytes.at()),
            ("max_frame_bytes", raw.max_frame_bytes.at()),
            ("idle_reset_ms", raw.idle_reset_ms.at()),
            ("sensors", raw.sensors.at()),
            ("durable", raw.durable.at()),
            ("modbus", raw.modbus.at()),
        ];
        let (others, word) = match kind {
            Some(Kind::Mqtt) => (&serial[..], "serial"),
            Some(Kind::Serial) => (&mqtt[..], "mqtt"),
            None => return,
        };
        for (key, at) in others {
            if let Some(at) = at {
                self.complain(
                    *at,
                    format!("{key} means something with kind = {word:?} only; remove it, or change kind"),
                );
            }
        }
    }

    fn topic(&mut self, raw: &RawSource) -> Option<String> {
        let topic = raw.topic.given()?;
        let faults = topic::filter_faults(topic.get_ref());
        for fault in &faults {
            let seen = shorten(topic.get_ref());
            self.complain(topic.span().start, format!("topic {seen:?}: {fault}"));
        }
        faults.is_empty().then(|| topic.get_ref().clone())
    }

    fn mqtt(&mut self, raw: &RawSource, at: usize) -> Option<SourceKind> {
        if matches!(raw.topic, Field::Absent) {
            self.complain(
                at,
                "`topic` is missing in source; name the topic on which frames come, \
                     such as \"camera/{camera}/frame\"",
            );
        }
        Some(SourceKind::Mqtt {
            topic: self.topic(raw)?,
            qos: *raw.qos.value()?,
            id_property: raw.id_property.given().map(|name| name.get_ref().clone()),
        })
    }

    fn serial(&mut self, raw: &RawSource, at: usize) -> Option<Serial> {
        if matches!(raw.port, Field::Absent) {
            self.complain(
                at,
                "`port` is missing in source; name the serial port, such as \"/dev/ttyUSB0\" or \
                 \"/dev/serial/by-id/usb-FTDI_*\"",
            );
        }
        let port = self.port(&raw.port);
        let line = self.line(raw);
        let wire = match raw.framing.value() {
            Some(FramingWord::ModbusRtu) => self.modbus_rtu(raw, at).map(Wire::Modbus),
            _ => self.framing(raw, at).map(Wire::Frames),
        };
        let sensors = match &raw.sensors {
            Field::Broken => return None,
            Field::Given(list) if list.get_ref().is_empty() => {
                self.complain(
                    list.span().start,
                    "sensors is empty, so no packet is taken; name some, or remove it",
                );
                return None;
            }
            list => list.value().map(|list| list.iter().map(|sensor| *sensor.get_ref() as u8).collect()),
        };
        Some(Serial { port: port?, line: line?, wire: wire?, sensors, durable: *raw.durable.value()? })
    }

    /// A port's path, or the pattern of one; `None`: there is none, or a complaint was made.
    pub(super) fn port(&mut self, port: &Field<String>) -> Option<String> {
        let path = port.given()?;
        let text = path.get_ref();
        // Only names in one folder are looked through.
        let folder = text.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
        if text.is_empty() || text.contains('\0') {
            self.complain(path.span().start, "port is no path; expected one such as \"/dev/ttyUSB0\"");
            None
        } else if folder.contains(['*', '?']) {
            let message = format!(
                "port is {:?}; `*` and `?` may stand in the last part of a path only, as in \
                 \"/dev/serial/by-id/usb-FTDI_*\"",
                shorten(text)
            );
            self.complain(path.span().start, message);
            None
        } else {
            Some(text.clone())
        }
    }

    fn line(&mut self, raw: &RawSource) -> Option<Line> {
        Some(Line {
            baud: *raw.baud.value()? as u32,
            data_bits: *raw.data_bits.value()? as u8,
            parity: *raw.parity.value()?,
            stop_bits: *raw.stop_bits.value()? as u8,
            flow: *raw.flow.value()?,
            rs485: *raw.rs485.value()?,
        })
    }

    fn modbus_rtu(&mut self, raw: &RawSource, at: usize) -> Option<Modbus> {
        self.only_of_one_framing(raw, Some(FramingWord::ModbusRtu));
        for (key, at) in [
            ("crc", raw.crc.at()),
            ("crc_order", raw.crc_order.at()),
            ("sequence_bytes", raw.sequence_bytes.at()),
            ("max_frame_bytes", raw.max_frame_bytes.at()),
            ("sensors", raw.sensors.at()),
        ] {
            if let Some(at) = at {
                self.complain(
                    at,
                    format!("{key} means nothing with framing = \"modbus_rtu\", which settles it; remove it"),
                );
            }
        }
        if let Field::Given(bits) = &raw.data_bits
            && *bits.get_ref() != 8
        {
            self.complain(bits.span().start, format!("data_bits is {}; Modbus RTU has 8", bits.get_ref()));
        }
        if let Field::Given(flow) = &raw.flow
            && *flow.get_ref() == FlowControl::Software
        {
            self.complain(
                flow.span().start,
                "flow is \"software\", but Modbus RTU sends XON and XOFF as data; use \"none\"",
            );
        }
        if matches!(raw.modbus, Field::Absent) {
            self.complain(
                at,
                "[pipeline.source.modbus] is missing; with framing = \"modbus_rtu\" it says which registers are read",
            );
        }
        let (at, modbus) = raw.modbus.table()?;
        self.modbus(modbus, at)
    }

    fn framing(&mut self, raw: &RawSource, at: usize) -> Option<Framing> {
        let word = match &raw.framing {
            Field::Absent => {
                self.complain(
                    at,
                    "`framing` is missing in source; say how frames stand in the stream: \"cobs\", \"slip\", \
                     \"line\", \"length\", \"fixed\" or \"modbus_rtu\"",
                );
                None
            }
            word => word.value().copied(),
        };
        self.only_of_one_framing(raw, word);
        if let (Some(at), Some(_)) = (raw.modbus.at(), word) {
            self.complain(
                at,
                "modbus means something with framing = \"modbus_rtu\" only; remove it, or change framing",
            );
        }
        let crc = self.crc(raw);
        let sync = match word {
            Some(FramingWord::Length | FramingWord::Fixed) => self.sync(raw, at),
            _ => None,
        };
        let crc_from = *raw.crc_from.value()?;
        let longest = *raw.max_frame_bytes.value()?;
        let kind = match word? {
            // Its registers are read by `modbus_rtu`.
            FramingWord::ModbusRtu => return None,
            FramingWord::Cobs => FramingKind::Cobs,
            FramingWord::Slip => FramingKind::Slip,
            FramingWord::Line => FramingKind::Line,
            FramingWord::Length => FramingKind::Length {
                sync: sync?,
                bytes: *raw.length_bytes.value()? as u8,
                order: *raw.length_order.value()?,
                counts: *raw.length_counts.value()?,
                crc_from,
            },
            FramingWord::Fixed => {
                let bytes = match &raw.frame_bytes {
                    Field::Absent => {
                        self.complain(
                            at,
                            "`frame_bytes` is missing in source; framing = \"fixed\" has bodies of one size",
                        );
                        return None;
                    }
                    bytes => *bytes.value()?,
                };
                if bytes > longest {
                    self.complain(
                        raw.frame_bytes.at().unwrap_or(at),
                        format!("frame_bytes is {bytes}, more than max_frame_bytes ({longest}); raise max_frame_bytes"),
                    );
                    return None;
                }
                FramingKind::Fixed { sync: sync?, bytes: NonZeroUsize::new(bytes as usize)?, crc_from }
            }
        };
        Some(Framing {
            kind,
            crc: crc?,
            crc_order: match &raw.crc_order {
                Field::Broken => return None,
                order => order.value().copied(),
            },
            sequence_bytes: *raw.sequence_bytes.value()? as u8,
            max_frame_bytes: NonZeroUsize::new(longest as usize)?,
            idle_reset: Duration::from_millis(*raw.idle_reset_ms.value()?),
        })
    }

    /// Keys that mean nothing in this framing.
    fn only_of_one_framing(&mut self, raw: &RawSource, word: Option<FramingWord>) {
        const SIZED: &[FramingWord] = &[FramingWord::Length, FramingWord::Fixed];
        for (key, at, framings, words) in [
            ("sync", raw.sync.at(), SIZED, "\"length\" or \"fixed\""),
            ("crc_from", raw.crc_from.at(), SIZED, "\"length\" or \"fixed\""),
            ("idle_reset_ms", raw.idle_reset_ms.at(), SIZED, "\"length\" or \"fixed\""),
            ("length_bytes", raw.length_bytes.at(), &SIZED[..1], "\"length\""),
            ("length_order", raw.length_order.at(), &SIZED[..1], "\"length\""),
            ("length_counts", raw.length_counts.at(), &SIZED[..1], "\"length\""),
            ("frame_bytes", raw.frame_bytes.at(), &SIZED[1..], "\"fixed\""),
        ] {
            if let (Some(at), Some(word)) = (at, word)
                && !framings.contains(&word)
            {
                self.complain(
                    at,
                    format!(
                        "{key} means something with framing = {words} only; remove it, or change framing"
                    ),
                );
            }
        }
    }

    /// `Some(None)`: no checksum. `None`: a complaint was made.
    fn crc(&mut self, raw: &RawSource) -> Option<Option<CrcName>> {
        let word = raw.crc.value()?;
        let at = raw.crc.at().unwrap_or(0);
        if word == "none" {
            if let Some(at) = raw.crc_order.at() {
                self.complain(at, "crc_order stands without crc; name the checksum, or remove crc_order");
                return None;
            }
            return Some(None);
        }
        let name = CrcName::parse(word);
        if name.is_none() {
            let near = nearest(&word.to_uppercase(), CRC_NAMES)
                .map_or(String::new(), |near| format!("; did you mean {near:?}?"));
            self.complain(
                at,
                format!(
                    "crc is {:?}, which the catalogue does not have; expected \"none\" or one of its names, such as \
                     \"crc16_ibm_3740\" (often called CCITT-FALSE), \"crc16_modbus\" or \"crc32_iso_hdlc\"{near}",
                    shorten(word)
                ),
            );
        }
        name.map(Some)
    }

    fn sync(&mut self, raw: &RawSource, at: usize) -> Option<SyncWord> {
        let text = match &raw.sync {
            Field::Absent => {
                self.complain(
                    at,
                    "`sync` is missing in source; name the bytes in front of each frame in hexadecimal, such as \"AA55\"",
                );
                return None;
            }
            text => text.given()?,
        };
        let sync = SyncWord::parse(text.get_ref());
        if sync.is_none() {
            self.complain(
                text.span().start,
                format!(
                    "sync is {:?}; expected 1 to {} bytes as pairs of hexadecimal digits, such as \"AA55\"",
                    shorten(text.get_ref()),
                    SyncWord::LONGEST
                ),
            );
        }
        sync
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    /// What is wrong with a serial source of these lines; empty: nothing.
    fn complaints(source: &str, format: &str) -> String {
        let text = format!(
            "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\nmodel = \"m\"\n\
             decode = {{ format = \"{format}\" }}\n[pipeline.source]\nkind = \"serial\"\n{source}\n"
        );
        match Config::parse(&text, Path::new("l.toml"), &|_: &str| None) {
            Ok(_) => String::new(),
            Err(complaints) => complaints.to_string(),
        }
    }

    const COBS: &str = "port = \"/dev/ttyUSB0\"\nframing = \"cobs\"";
    const LINE: &str = "port = \"/dev/ttyUSB0\"\nframing = \"line\"";

    #[test]
    fn sensors_are_chosen_among_packets_only() {
        let some = format!("{COBS}\nsensors = [1, 2]");
        assert_eq!(complaints(&some, "packet"), "");
        for format in ["json", "csv", "f32le", "i16le", "image"] {
            let found = complaints(&some, format);
            assert!(found.starts_with("l.toml:13:11: sensors means something with format = "), "{found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
    }

    #[test]
    fn lines_carry_text_only() {
        for format in ["json", "csv"] {
            assert_eq!(complaints(LINE, format), "");
        }
        for format in ["f32le", "i16le", "packet", "image"] {
            let found = complaints(LINE, format);
            assert!(found.starts_with("l.toml:8:21: format cannot be this with framing = "), "{found}");
            assert_eq!(complaints(COBS, format), "");
        }
    }

    #[test]
    fn a_pattern_is_looked_for_in_one_folder() {
        let with = |port: &str| complaints(&format!("port = \"{port}\"\nframing = \"cobs\""), "f32le");
        for port in ["/dev/ttyUSB?", "/dev/serial/by-id/usb-*", "ttyS*", "/*", "/dev/ttyACM*/"] {
            assert_eq!(with(port), "", "{port}");
        }
        for port in ["/dev/*/usb-1", "/tmp/?/x*", "*/ttyS1"] {
            let found = with(port);
            assert!(found.starts_with("l.toml:11:8: port is ") && found.contains("last part"), "{found}");
        }
        assert!(with("").contains("port is no path"));
    }
}
