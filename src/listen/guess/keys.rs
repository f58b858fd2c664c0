//! A proposal in the words of a configuration.

use super::{Hypothesis, Spoken};
use crate::base::wire::ByteOrder;
use crate::config::Format;
use crate::config::serial::{CrcFrom, FramingKind, LengthCounts, Line, Parity};

impl Hypothesis {
    /// Keys of `[pipeline.source]` and what stands behind them, as a config has them.
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &str| format!("\"{text}\"");
        let Line { baud, data_bits, parity, stop_bits, .. } = self.line;
        let mut keys = vec![("baud", baud.to_string())];
        if data_bits != 8 {
            keys.push(("data_bits", data_bits.to_string()));
        }
        match parity {
            Parity::None => {}
            Parity::Even => keys.push(("parity", quoted("even"))),
            Parity::Odd => keys.push(("parity", quoted("odd"))),
        }
        if stop_bits != 1 {
            keys.push(("stop_bits", stop_bits.to_string()));
        }
        let Spoken::Frames(framing) = self.spoken else {
            keys.push(("framing", quoted("modbus_rtu")));
            return keys;
        };
        let order = |order: ByteOrder| quoted(if order == ByteOrder::Big { "big" } else { "little" });
        let sync_word =
            |sync: &[u8]| quoted(&sync.iter().map(|byte| format!("{byte:02X}")).collect::<String>());
        let from = match framing.kind {
            FramingKind::Cobs | FramingKind::Slip | FramingKind::Line => CrcFrom::Body,
            FramingKind::Length { crc_from, .. } | FramingKind::Fixed { crc_from, .. } => crc_from,
        };
        let word = match framing.kind {
            FramingKind::Cobs => "cobs",
            FramingKind::Slip => "slip",
            FramingKind::Line => "line",
            FramingKind::Length { .. } => "length",
            FramingKind::Fixed { .. } => "fixed",
        };
        keys.push(("framing", quoted(word)));
        match framing.kind {
            FramingKind::Length { sync, bytes, order: byte_order, counts, .. } => {
                keys.push(("sync", sync_word(sync.as_bytes())));
                keys.push(("length_bytes", bytes.to_string()));
                if bytes > 1 {
                    keys.push(("length_order", order(byte_order)));
                }
                match counts {
                    LengthCounts::Body => {}
                    LengthCounts::BodyAndCrc => keys.push(("length_counts", quoted("body_and_crc"))),
                    LengthCounts::Whole => keys.push(("length_counts", quoted("whole"))),
                }
            }
            FramingKind::Fixed { sync, bytes, .. } => {
                keys.push(("sync", sync_word(sync.as_bytes())));
                keys.push(("frame_bytes", bytes.to_string()));
            }
            FramingKind::Cobs | FramingKind::Slip | FramingKind::Line => {}
        }
        if let Some(crc) = framing.crc {
            let name = crc.as_str().to_lowercase().replacen('-', "", 1).replace(['-', '/'], "_");
            keys.push(("crc", quoted(&name)));
            keys.extend(framing.crc_order.map(|byte_order| ("crc_order", order(byte_order))));
            match from {
                CrcFrom::Body => {}
                CrcFrom::Length => keys.push(("crc_from", quoted("length"))),
                CrcFrom::Sync => keys.push(("crc_from", quoted("sync"))),
            }
        }
        keys
    }

    /// What `[pipeline.decode]` would say, where the bodies show it.
    pub fn format_word(&self) -> Option<&'static str> {
        match self.format? {
            Format::Packet => Some("packet"),
            Format::Json => Some("json"),
            Format::Csv => Some("csv"),
            Format::Image | Format::F32le | Format::I16le => None,
        }
    }
}
