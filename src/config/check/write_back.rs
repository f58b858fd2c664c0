//! The rules of `[pipeline.write_back]`: what belongs to which form, and whose port it is.

use std::time::Duration;

use super::Rules;
use crate::config::document::{Field, shorten};
use crate::config::raw::{RawSource, RawWriteBack, RawWriteValues, WriteAs};
use crate::config::serial::{Framing, FramingKind, Line, Serial, Wire};
use crate::config::write_back::{Form, Piece, WriteBack};
use crate::config::{ModbusRole, Pipeline, SourceKind};

/// Where the keys of one table stand, for rules that see all pipelines.
#[derive(Clone, Copy, Default)]
pub(super) struct Places {
    table: usize,
    port: Option<usize>,
    form: Option<usize>,
    text: Option<usize>,
    line: Option<(&'static str, usize)>,
}

impl Rules<'_, '_> {
    /// `[pipeline.write_back]`, which begins at byte `at`, of a pipeline with this source.
    pub(super) fn write_back(
        &mut self,
        raw: &RawWriteBack,
        at: usize,
        source: Option<&RawSource>,
    ) -> Option<WriteBack> {
        let own = source.map(|source| &source.port);
        let port = match (&raw.port, own) {
            (Field::Absent, Some(Field::Absent)) => {
                self.complain(
                    at,
                    "`port` is missing in write_back; frames do not come from a port here, so name the one that is \
                     to hear the verdict, such as \"/dev/ttyUSB0\"",
                );
                None
            }
            (Field::Absent, own) => own.and_then(Field::value).cloned(),
            (port, _) => self.port(port),
        };
        let form = self.form(raw, at);
        Some(WriteBack {
            port: port?,
            line: Some(Line {
                baud: *raw.baud.value()? as u32,
                data_bits: 8,
                parity: *raw.parity.value()?,
                stop_bits: *raw.stop_bits.value()? as u8,
                flow: crate::config::serial::FlowControl::None,
                rs485: *raw.rs485.value()?,
            }),
            form: form?,
            frame_bytes: None,
            expires_after: Duration::from_millis(*raw.expires_ms.value()?),
        })
    }

    fn form(&mut self, raw: &RawWriteBack, at: usize) -> Option<Form> {
        let word = *raw.r#as.value()?;
        const MODBUS: &[WriteAs] = &[WriteAs::Coil, WriteAs::Register];
        const TEXT: &[WriteAs] = &[WriteAs::Line, WriteAs::Frame];
        for (key, key_at, forms, words) in [
            ("text", raw.text.at(), TEXT, "\"line\" or \"frame\""),
            ("unit", raw.unit.at(), MODBUS, "\"coil\" or \"register\""),
            ("address", raw.address.at(), MODBUS, "\"coil\" or \"register\""),
            ("on", raw.on.at(), &MODBUS[..1], "\"coil\""),
            ("values", raw.values.at(), &MODBUS[1..], "\"register\""),
        ] {
            if let Some(key_at) = key_at
                && !forms.contains(&word)
            {
                self.complain(
                    key_at,
                    format!("{key} means something with as = {words} only; remove it, or change as"),
                );
            }
        }
        match word {
            WriteAs::Line => self.text(raw).map(Form::Line),
            WriteAs::Frame => self.text(raw).map(Form::Frame),
            WriteAs::Coil => {
                let (unit, address) = self.target(raw, at)?;
                let on = match &raw.on {
                    Field::Absent => {
                        self.complain(
                            at,
                            "`on` is missing in write_back; name the outcomes that switch the coil on, such as on = \
                             [\"fail\", \"error\"]; all others switch it off",
                        );
                        return None;
                    }
                    on => on.value()?.iter().map(|outcome| *outcome.get_ref()).collect(),
                };
                Some(Form::Coil { unit, address, on })
            }
            WriteAs::Register => {
                let (unit, address) = self.target(raw, at)?;
                let fresh = RawWriteValues::default();
                let values = match &raw.values {
                    Field::Broken => return None,
                    values => values.value().unwrap_or(&fresh),
                };
                let RawWriteValues { pass, fail, uncertain, none, error } = values;
                let value = |field: &Field<u64>| field.value().and_then(|value| u16::try_from(*value).ok());
                let values = [value(pass)?, value(fail)?, value(uncertain)?, value(none)?, value(error)?];
                Some(Form::Register { unit, address, values })
            }
        }
    }

    fn target(&mut self, raw: &RawWriteBack, at: usize) -> Option<(u8, u16)> {
        for (key, field) in [("unit", &raw.unit), ("address", &raw.address)] {
            if matches!(field, Field::Absent) {
                self.complain(
                    at,
                    format!("`{key}` is missing in write_back; say which coil or register is written"),
                );
            }
        }
        Some((u8::try_from(*raw.unit.value()?).ok()?, u16::try_from(*raw.address.value()?).ok()?))
    }

    fn text(&mut self, raw: &RawWriteBack) -> Option<Vec<Piece>> {
        let text = raw.text.value()?;
        let at = raw.text.at().unwrap_or(0);
        let pieces = match Piece::parse(text) {
            Ok(pieces) => pieces,
            Err(why) => {
                self.complain(at, format!("text {:?} {why}", shorten(text)));
                return None;
            }
        };
        if raw.r#as.value() == Some(&WriteAs::Line) && text.contains(['\n', '\r']) {
            self.complain(at, "text holds a line end; one is written behind it anyway, so remove it");
            return None;
        }
        Some(pieces)
    }
}

impl Places {
    pub(super) fn of(raw: &RawWriteBack, table: usize) -> Self {
        let line = [
            ("baud", raw.baud.at()),
            ("parity", raw.parity.at()),
            ("stop_bits", raw.stop_bits.at()),
            ("rs485", raw.rs485.at()),
        ];
        Self {
            table,
            port: raw.port.at(),
            form: raw.r#as.at(),
            text: raw.text.at(),
            line: line.into_iter().find_map(|(key, at)| at.map(|at| (key, at))),
        }
    }
}

/// Joins each pipeline's way back with whoever else uses its port, as far as they could be made out.
/// Complaints, with their places.
pub(super) fn join_ports(pipelines: &mut [Option<Pipeline>], places: &[Places]) -> Vec<(usize, String)> {
    let mut complaints = Vec::new();
    let all_known = pipelines.iter().all(Option::is_some);
    let reader = |port: &str, pipelines: &[Option<Pipeline>]| {
        pipelines.iter().flatten().find_map(|pipeline| match &pipeline.source.kind {
            SourceKind::Serial(serial) if serial.port == port => {
                Some((pipeline.name.clone(), (**serial).clone()))
            }
            _ => None,
        })
    };
    for index in 0..pipelines.len() {
        let Some(pipeline) = &pipelines[index] else { continue };
        let Some(write_back) = &pipeline.write_back else { continue };
        let at = places[index];
        let is_modbus = matches!(write_back.form, Form::Coil { .. } | Form::Register { .. });
        let port = shorten(&write_back.port);
        let port_at = at.port.unwrap_or(at.table);
        let form_at = at.form.unwrap_or(at.table);
        if let Some((name, serial)) = reader(&write_back.port, pipelines) {
            if let Some((key, line_at)) = at.line {
                complaints.push((
                    line_at,
                    format!("{key} stands here, but port {port:?} is that of pipeline {name:?}, whose source says it; remove it"),
                ));
            }
            complaints
                .extend(against_the_reader(&serial, is_modbus, &port).map(|message| (form_at, message)));
            let mut frame_bytes = None;
            if let (Form::Frame(pieces), Wire::Frames(framing)) = (&write_back.form, &serial.wire) {
                frame_bytes = Some(framing.payload_bytes().0);
                let message = no_frame(pieces, &pipeline.name, framing);
                complaints.extend(message.map(|message| (at.text.unwrap_or(form_at), message)));
            }
            if let Some(write_back) =
                pipelines[index].as_mut().and_then(|pipeline| pipeline.write_back.as_mut())
            {
                write_back.line = None;
                write_back.frame_bytes = frame_bytes;
            }
            continue;
        }
        if matches!(write_back.form, Form::Frame(_)) && all_known {
            complaints.push((
                port_at,
                format!("no source reads port {port:?}, so its codec is not known; as = \"line\" needs none"),
            ));
        }
        let at_odds = pipelines[..index].iter().flatten().find(|earlier| {
            earlier.write_back.as_ref().is_some_and(|theirs| {
                let theirs_is_modbus = matches!(theirs.form, Form::Coil { .. } | Form::Register { .. });
                theirs.port == write_back.port
                    && (theirs.line != write_back.line || theirs_is_modbus != is_modbus)
            })
        });
        if let Some(earlier) = at_odds {
            complaints.push((
                port_at,
                format!(
                    "port {port:?} is written by pipeline {:?} with another line or another protocol; one port is \
                     written one way",
                    earlier.name
                ),
            ));
        }
    }
    complaints
}

/// Why this text is no frame of that framing, whatever the verdict or with one of them; `None`: it fits as
/// far as can be known.
fn no_frame(pieces: &[Piece], pipeline: &str, framing: &Framing) -> Option<String> {
    let has_line_end = |piece: &Piece| matches!(piece, Piece::Words(words) if words.contains(['\n', '\r']));
    if framing.kind == FramingKind::Line && pieces.iter().any(has_line_end) {
        return Some("text holds a line end, which ends a frame with framing = \"line\"; remove it".into());
    }
    let (room, key) = framing.payload_bytes();
    let bytes: Vec<(usize, Option<usize>)> = pieces.iter().map(|piece| piece.bytes(pipeline)).collect();
    let least: usize = bytes.iter().map(|(least, _)| least).sum();
    let most: Option<usize> = bytes.iter().map(|(_, most)| *most).sum();
    // Every verdict comes one day; of a label nobody knows how long it is.
    let certain: usize = bytes.iter().map(|(least, most)| most.unwrap_or(*least)).sum();
    if matches!(framing.kind, FramingKind::Fixed { .. }) {
        let seen = match most {
            Some(most) if least == most && room.contains(&most) => return None,
            Some(most) if least == most => format!("{least} bytes"),
            Some(most) => format!("{least} to {most} bytes"),
            None => format!("{least} bytes or more"),
        };
        return Some(format!(
            "text comes to {seen}, and a frame of this port carries exactly {} ({key}); as = \"line\" writes it \
             without a frame",
            room.end(),
        ));
    }
    if most == Some(0) && !room.contains(&0) {
        return Some("text is empty, and a blank line is no frame; say what is written".into());
    }
    (certain > *room.end()).then(|| {
        format!(
            "text comes to {certain} bytes or more, and a frame of this port carries {} at most ({key}); shorten it, \
             or raise {key} at the source",
            room.end()
        )
    })
}

/// Whether what is written fits what is read on the same port.
fn against_the_reader(serial: &Serial, is_modbus: bool, port: &str) -> Option<String> {
    match (serial.modbus(), is_modbus) {
        (Some(modbus), true) if modbus.role == ModbusRole::Listener => Some(format!(
            "port {port:?} only listens: another master drives that bus, and two would talk at once; write through \
             another port, or use role = \"master\""
        )),
        (Some(_), false) => Some(format!(
            "port {port:?} speaks Modbus, whose units take no text; use as = \"coil\" or as = \"register\""
        )),
        (None, true) => Some(format!(
            "port {port:?} does not speak Modbus; use as = \"line\" or as = \"frame\", or another port"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    /// What is wrong with writing this text as a frame to a port of this framing; empty: nothing.
    fn complaints(text: &str, framing: &str) -> String {
        let text = format!(
            "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"screw\"\nmodel = \"m\"\n\
             decode = {{ format = \"json\" }}\nwrite_back = {{ as = \"frame\", text = \"{text}\" }}\n\
             [pipeline.source]\nkind = \"serial\"\nport = \"/dev/ttyS1\"\n{framing}\n"
        );
        match Config::parse(&text, Path::new("l.toml"), &|_: &str| None) {
            Ok(_) => String::new(),
            Err(complaints) => complaints.to_string(),
        }
    }

    #[test]
    fn a_text_of_varying_length_is_no_fixed_frame() {
        let fixed = |bytes: u32| format!("framing = \"fixed\"\nsync = \"AA55\"\nframe_bytes = {bytes}");
        let found = complaints("{verdict}", &fixed(24));
        assert_eq!(
            found,
            "l.toml:9:37: text comes to 4 to 9 bytes, and a frame of this port carries exactly 24 (frame_bytes); as = \
             \"line\" writes it without a frame"
        );
        assert!(complaints("{label}", &fixed(24)).contains("comes to 0 bytes or more, and"));
        assert!(complaints("{id}", &fixed(24)).contains("comes to 32 bytes, and"));
        assert_eq!(complaints("{id}", &fixed(32)), "");
        assert_eq!(complaints("{pipeline} {id}", &format!("{}\nsequence_bytes = 2", fixed(40))), "");
    }

    #[test]
    fn a_text_is_no_longer_than_the_frames_of_its_port() {
        let most = |bytes: u32| format!("framing = \"cobs\"\nmax_frame_bytes = {bytes}");
        assert_eq!(complaints("{verdict}", &most(9)), "");
        assert_eq!(complaints("{verdict} {label} {frame_id} {score}", &most(12)), "");
        let found = complaints("{verdict}", &most(8));
        assert!(
            found.contains("comes to 9 bytes or more, and a frame of this port carries 8 at most (max_"),
            "{found}"
        );
        assert!(!complaints("{id} {id}", &most(30)).is_empty());
        let numbered = format!("{}\nsequence_bytes = 1", most(9));
        assert!(complaints("{verdict}", &numbered).contains("carries 8 at most"));
        let counted = "framing = \"length\"\nsync = \"AA55\"\nlength_bytes = 1\nlength_counts = \"whole\"\ncrc = \"crc16_modbus\"";
        assert_eq!(complaints(&"x".repeat(250), counted), "");
        assert!(complaints(&"x".repeat(251), counted).contains("carries 250 at most (length_bytes)"));
    }

    #[test]
    fn a_line_ends_where_it_ends() {
        const LINE: &str = "framing = \"line\"";
        assert_eq!(complaints("{verdict}", LINE), "");
        assert!(complaints("{verdict}\\n", LINE).contains("text holds a line end"));
        assert!(complaints("", LINE).contains("text is empty"));
        assert_eq!(complaints("{verdict}\\n", "framing = \"cobs\""), "");
    }
}
