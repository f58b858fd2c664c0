//! The rules of `[pipeline.source]`: what belongs to which kind, and what a port needs.

use std::num::NonZeroUsize;
use std::time::Duration;

use toml::Spanned;

use super::{Rules, positive};
use crate::base::wire::{CRC_NAMES, CrcName};
use crate::config::document::{Field, shorten};
use crate::config::nearest::nearest;
use crate::config::raw::{FramingKind as FramingWord, Kind, RawPipeline, RawSource};
use crate::config::serial::{FlowControl, Framing, FramingKind, Line, Serial, SyncWord, Wire};
use crate::config::{Modbus, Source, SourceKind, WhenFull, topic};

/// Largest payload that is taken where the config says nothing: 16 MiB, an uncompressed 5-megapixel frame.
const MAX_PAYLOAD_BYTES: u64 = 16_777_216;

/// Whether two pipelines say different things; what is broken has its own complaint.
fn differ<V: PartialEq>(ours: &Field<V>, theirs: &Field<V>) -> bool {
    let broken = |field: &Field<V>| matches!(field, Field::Broken);
    !broken(ours) && !broken(theirs) && ours.value() != theirs.value()
}

/// The keys about which two pipelines on one port do not agree, each with its place in the later one.
fn at_odds(ours: &RawSource, theirs: &RawSource) -> Vec<(&'static str, Option<usize>)> {
    let mut keys = Vec::new();
    macro_rules! compare {
        ($($key:ident)*) => {
            $(if differ(&ours.$key, &theirs.$key) {
                keys.push((stringify!($key), ours.$key.at()));
            })*
        };
    }
    compare!(baud data_bits parity stop_bits flow rs485);
    if ours.framing.is_written() && theirs.framing.is_written() {
        compare!(framing);
        // The keys of another framing differ by themselves.
        if ours.framing.value() == theirs.framing.value() {
            compare!(crc_from length_bytes length_order length_counts frame_bytes idle_reset_ms);
            let sync = |raw: &RawSource| raw.sync.value().and_then(|text| SyncWord::parse(text));
            if let (Some(one), Some(other)) = (sync(ours), sync(theirs))
                && one != other
            {
                keys.push(("sync", ours.sync.at()));
            }
        }
    }
    let crc = |raw: &RawSource| raw.crc.value().map(|name| CrcName::parse(name));
    if let (Some(one), Some(other)) = (crc(ours), crc(theirs))
        && one != other
    {
        keys.push(("crc", ours.crc.at()));
    }
    compare!(crc_order sequence_bytes max_frame_bytes durable);
    keys
}

impl Rules<'_, '_> {
    /// Pipelines on one port agree on it. Asked of what is written, so that a slip elsewhere hides nothing.
    pub(super) fn a_port_is_read_one_way(&mut self, list: &[Spanned<RawPipeline>]) {
        let mut readers: Vec<(String, &RawSource)> = Vec::new();
        for pipeline in list {
            let pipeline = pipeline.get_ref();
            let Some((at, ours)) = pipeline.source.table() else { continue };
            let (Some(Kind::Serial), Some(port)) = (ours.kind.value(), ours.port.value()) else { continue };
            let earlier = readers.iter().find(|(_, theirs)| theirs.port.value() == Some(port));
            if let Some((whose, theirs)) = earlier {
                let port = shorten(port);
                let is_modbus = |raw: &RawSource| raw.framing.value() == Some(&FramingWord::ModbusRtu);
                let keys = at_odds(ours, theirs);
                if is_modbus(ours) && is_modbus(theirs) {
                    let message =
                        format!("port {port:?} is polled by {whose} already; a round goes to one pipeline");
                    self.complain(at, message);
                } else if !keys.is_empty() {
                    let at = keys.iter().find_map(|(_, at)| *at).unwrap_or(at);
                    let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
                    let message = format!(
                        "port {port:?} is that of {whose}, which says otherwise about {}; one port is read one way",
                        names.join(", ")
                    );
                    self.complain(at, message);
                }
            }
            let name = pipeline.name.value().map(|name| format!("pipeline {:?}", shorten(name)));
            readers.push((name.unwrap_or_else(|| "an earlier pipeline".into()), ours));
        }
    }

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
        let kind = kind?;
        // The frames of one read come at once: a queue that drops some loses what was to be kept.
        let is_durable = matches!(&kind, SourceKind::Serial(serial) if serial.durable);
        let when_full = match raw.when_full.value()? {
            _ if is_durable && !raw.when_full.is_written() => WhenFull::Block,
            written => *written,
        };
        Some(Source {
            kind,
            queue_frames: positive(&raw.queue_frames)?,
            queue_bytes: positive(&raw.queue_bytes)?,
            when_full,
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
            // Text again: it is a pattern, and a name in topics and metrics.
            self.folder.join(text).into_os_string().into_string().ok()
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
                let number = *raw.sequence_bytes.value()?;
                if bytes <= number {
                    self.complain(
                        raw.frame_bytes.at().unwrap_or(at),
                        format!("frame_bytes is {bytes}, and sequence_bytes takes {number} of them; nothing is left"),
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

    use crate::config::{Config, SourceKind, WhenFull};

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
    fn characters_of_seven_bits_carry_text_only() {
        let seven = |framing: &str| format!("{framing}\ndata_bits = 7");
        assert_eq!(complaints(&seven(LINE), "csv"), "");
        for format in ["packet", "f32le", "i16le"] {
            let found = complaints(&seven(COBS), format);
            assert!(found.starts_with("l.toml:13:13: data_bits is 7, and"), "{found}");
            assert_eq!(complaints(&format!("{COBS}\ndata_bits = 8"), format), "");
        }
    }

    #[test]
    fn a_relative_port_is_looked_for_beside_the_file() {
        let port = |written: &str| {
            let text = format!(
                "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\nmodel = \"m\"\n\
                 decode = {{ format = \"csv\" }}\n[pipeline.source]\nkind = \"serial\"\nframing = \"line\"\n\
                 port = \"{written}\"\n"
            );
            let config = Config::parse(&text, Path::new("site/l.toml"), &|_: &str| None).unwrap();
            let SourceKind::Serial(serial) = &config.pipelines[0].source.kind else { panic!("no port") };
            serial.port.clone()
        };
        assert_eq!(port("a"), "site/a");
        assert_eq!(port("/dev/ttyUSB?"), "/dev/ttyUSB?");
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

    /// What is wrong with two pipelines on one port, whose sources have these lines.
    fn together(first: &str, second: &str) -> Vec<String> {
        let pipeline = |name: &str, own: &str| {
            format!(
                "[[pipeline]]\nname = \"{name}\"\nmodel = \"m\"\ndecode = {{ format = \"json\" }}\n[pipeline.source]\n\
                 kind = \"serial\"\nport = \"/dev/ttyS1\"\n{own}\n"
            )
        };
        let text = format!(
            "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n{}{}",
            pipeline("p", first),
            pipeline("q", second)
        );
        match Config::parse(&text, Path::new("l.toml"), &|_: &str| None) {
            Ok(_) => Vec::new(),
            Err(complaints) => complaints.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn pipelines_on_one_port_are_told_every_key_on_which_they_differ() {
        const COBS: &str = "framing = \"cobs\"\ncrc = \"crc16_modbus\"";
        assert!(together(COBS, "framing = \"cobs\"\ncrc = \"CRC-16/MODBUS\"\nqueue_frames = 1").is_empty());
        let found = together(COBS, "framing = \"slip\"\nbaud = 9_600\ncrc = \"none\"\ndurable = true");
        assert_eq!(
            found,
            [
                "l.toml:22:8: port \"/dev/ttyS1\" is that of pipeline \"p\", which says otherwise about baud, framing, crc, \
              durable; one port is read one way"
            ]
        );
        let fixed =
            |sync: &str, bytes: u8| format!("framing = \"fixed\"\nsync = \"{sync}\"\nframe_bytes = {bytes}");
        assert!(together(&fixed("AA55", 8), &fixed("aa 55", 8)).is_empty());
        let found = together(&fixed("AA55", 8), &fixed("AA56", 9));
        assert!(found[0].contains("otherwise about frame_bytes, sync; one port"), "{found:?}");
    }

    #[test]
    fn a_durable_port_waits_for_room_unless_it_is_told_to_drop() {
        let when_full = |own: &str| {
            let text = format!(
                "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\nmodel = \"m\"\n\
                 decode = {{ format = \"json\" }}\n[pipeline.source]\nkind = \"serial\"\nport = \"/dev/ttyS1\"\n\
                 framing = \"line\"\n{own}\n"
            );
            Config::parse(&text, Path::new("l.toml"), &|_: &str| None).unwrap().pipelines[0].source.when_full
        };
        assert_eq!(when_full(""), WhenFull::DropOldest);
        assert_eq!(when_full("durable = true"), WhenFull::Block);
        assert_eq!(when_full("durable = true\nwhen_full = \"drop_oldest\""), WhenFull::DropOldest);
    }

    #[test]
    fn a_mistake_elsewhere_does_not_hide_that_pipelines_differ_on_a_port() {
        let found = together("framing = \"cobs\"\nwhen_full = \"blok\"", "framing = \"slip\"\nbaud = 1");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("when_full is \"blok\"") && found[2].contains("baud is 1;"), "{found:?}");
        assert!(found[1].contains("says otherwise about framing; one port is read one way"), "{found:?}");
    }

    #[test]
    fn a_fixed_frame_has_room_behind_its_sequence_number() {
        let with = |bytes: u8| {
            complaints(
                &format!(
                    "port = \"/dev/ttyS1\"\nframing = \"fixed\"\nsync = \"AA\"\nsequence_bytes = 2\nframe_bytes = {bytes}"
                ),
                "i16le",
            )
        };
        assert_eq!(with(3), "");
        assert!(with(2).contains("frame_bytes is 2, and sequence_bytes takes 2"), "{}", with(2));
    }

    #[test]
    fn a_csv_frame_without_a_header_has_no_named_columns() {
        let with = |source: &str, format: &str| {
            let text = format!(
                "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\nmodel = \"m\"\n\
                 decode = {{ format = \"{format}\", id_field = \"part\", time_field = \"at\" }}\n\
                 [pipeline.source]\nkind = \"serial\"\n{source}\n"
            );
            let read = Config::parse(&text, Path::new("l.toml"), &|_: &str| None);
            read.err().map_or(Vec::new(), |complaints| complaints.0)
        };
        assert!(with(LINE, "json").is_empty() && with(COBS, "csv").is_empty());
        let found = with(LINE, "csv");
        assert!(
            found[0].message.starts_with("id_field is a column by its header, and with framing"),
            "{found:?}"
        );
        assert!(found[1].message.starts_with("time_field is a column"), "{found:?}");
        let modbus = "port = \"/dev/ttyS1\"\nframing = \"modbus_rtu\"\n[[pipeline.source.modbus.register]]\n\
            name = \"a\"\nunit = 1\naddress = 0";
        assert!(with(modbus, "json").is_empty());
        assert_eq!(with(modbus, "csv").len(), 2);
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
