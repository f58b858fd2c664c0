//! Flags for a serial port, named after the config's keys and held to the config's own rules.
//!
//! The flags are written out as the `[pipeline.source]` that they stand for and read like any other, so
//! that ranges, defaults and complaints are those of a configuration.

use std::fmt::Write as _;
use std::path::Path;

use clap::ValueEnum;

use super::{Exit, Failure};
use crate::base::SystemClock;
use crate::config::{Config, Format, Serial, SourceKind};
use crate::stage::acquire::serial::tty::OpenError;

macro_rules! line_options {
    ($($(#[doc = $doc:literal])* $name:ident $flag:literal $value:literal,)*) => {
        /// How a port is set, and how frames stand in its stream: the keys of `[pipeline.source]`.
        #[derive(Debug, Default, clap::Args)]
        #[command(next_help_heading = "The line, as in [pipeline.source]")]
        pub(super) struct LineOptions {
            $(
                $(#[doc = $doc])*
                #[arg(long, value_name = $value)]
                $name: Option<String>,
            )*
        }

        impl LineOptions {
            /// Flag, key and value of those that are given.
            fn given(&self) -> Vec<(&'static str, &'static str, &str)> {
                [$((concat!("--", $flag), stringify!($name), &self.$name)),*]
                    .into_iter()
                    .filter_map(|(flag, key, value)| Some((flag, key, value.as_deref()?)))
                    .collect()
            }
        }
    };
}

line_options! {
    /// Bits a second, also odd ones; default 115200
    baud "baud" "RATE",
    /// Bits of a character, 5 to 8; default 8
    data_bits "data-bits" "N",
    /// `none`, `even` or `odd`; default none
    parity "parity" "WORD",
    /// 1 or 2; default 1
    stop_bits "stop-bits" "N",
    /// `none`, `hardware` (RTS and CTS) or `software` (XON and XOFF); default none
    flow "flow" "WORD",
    /// `true`: the driver switches an RS-485 transceiver; default false
    rs485 "rs485" "BOOL",
    /// `cobs`, `slip`, `line`, `length`, `fixed` or `modbus_rtu`
    framing "framing" "WORD",
    /// A name of the CRC catalogue, such as crc16_ibm_3740, or `none`; default none
    crc "crc" "NAME",
    /// `big` or `little`; default: the algorithm's own
    crc_order "crc-order" "WORD",
    /// length, fixed: `body`, `length` or `sync`; default body
    crc_from "crc-from" "WORD",
    /// length, fixed: bytes in front of each frame, in hexadecimal
    sync "sync" "HEX",
    /// length: 1 to 4; default 2
    length_bytes "length-bytes" "N",
    /// length: `big` or `little`; default little
    length_order "length-order" "WORD",
    /// length: `body`, `body_and_crc` or `whole`; default body
    length_counts "length-counts" "WORD",
    /// fixed: bytes of every body
    frame_bytes "frame-bytes" "N",
    /// Of the sequence number in front of each body, 0 to 2; default 0
    sequence_bytes "sequence-bytes" "N",
    /// Longest body; default 4096
    max_frame_bytes "max-frame-bytes" "N",
    /// length, fixed: silence that ends an unfinished frame; default 200
    idle_reset_ms "idle-reset-ms" "MS",
}

/// Why flags do not describe a port.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct OptionsError(Vec<String>);

/// How bodies are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatWord {
    Packet,
    Json,
    Csv,
    F32le,
    I16le,
}

impl From<FormatWord> for Format {
    fn from(word: FormatWord) -> Self {
        match word {
            FormatWord::Packet => Self::Packet,
            FormatWord::Json => Self::Json,
            FormatWord::Csv => Self::Csv,
            FormatWord::F32le => Self::F32le,
            FormatWord::I16le => Self::I16le,
        }
    }
}

impl LineOptions {
    /// The first flag that was given.
    pub(super) fn first(&self) -> Option<&'static str> {
        self.given().first().map(|(flag, ..)| *flag)
    }

    /// The first flag that is about frames and not about the line.
    pub(super) fn first_of_frames(&self) -> Option<&'static str> {
        const LINE: [&str; 6] = ["baud", "data_bits", "parity", "stop_bits", "flow", "rs485"];
        self.given().iter().find(|(_, key, _)| !LINE.contains(key)).map(|(flag, ..)| *flag)
    }

    /// Whether a rate was named.
    pub(super) fn names_baud(&self) -> bool {
        self.baud.is_some()
    }

    /// Whether a framing was named.
    pub(super) fn names_framing(&self) -> bool {
        self.framing.is_some()
    }

    /// The port as a config with these keys means it; `framing` where none is named.
    pub(super) fn serial(&self, port: &str, framing: &str) -> Result<Serial, OptionsError> {
        let mut text = String::from(
            "[device]\nid = \"here\"\n[broker]\nurl = \"mqtt://localhost\"\n[[pipeline]]\nname = \"port\"\n\
             model = \"none\"\ndecode = { format = \"json\" }\n[pipeline.source]\nkind = \"serial\"\n",
        );
        let mut set = |key: &str, value: &str| {
            let is_plain = value == "true" || value == "false" || is_whole(value);
            let value = if is_plain && key != "sync" { value.into() } else { quoted(value) };
            writeln!(text, "{key} = {value}").expect("memory takes every byte");
        };
        // What may stand for something else in a config is what it is here.
        set("port", &port.replace('$', "$$"));
        if self.framing.is_none() {
            set("framing", framing);
        }
        for (_, key, value) in self.given() {
            set(key, value);
        }
        if self.framing.as_deref() == Some("modbus_rtu") {
            // Whoever only listens wants no register in particular.
            text.push_str("[pipeline.source.modbus]\nrole = \"listener\"\nperiod_ms = 1000\n");
            text.push_str("register = [{ name = \"any\", unit = 1, address = 0 }]\n");
        }
        let config = Config::parse(&text, Path::new("options"), &|_: &str| None);
        let mut pipelines = config
            .map_err(|wrong| OptionsError(wrong.0.into_iter().map(|one| one.message).collect()))?
            .pipelines;
        match pipelines.remove(0).source.kind {
            SourceKind::Serial(serial) => Ok(*serial),
            SourceKind::Mqtt { .. } => unreachable!("the text above says serial"),
        }
    }
}

fn is_whole(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

/// As a TOML string; JSON's escapes are among TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A port that cannot be had, with its exit code.
pub(super) fn not_opened(error: OpenError) -> Failure {
    let exit = match error {
        OpenError::Absent { .. }
        | OpenError::Busy { .. }
        | OpenError::Ours { .. }
        | OpenError::Permission { .. }
        | OpenError::Confined { .. } => Exit::Unavailable,
        OpenError::Several { .. } | OpenError::NotATty(_) | OpenError::Settings { .. } => Exit::Usage,
        OpenError::Other { .. } => Exit::IoErr,
    };
    Failure::new(exit, error)
}

/// What is used of the clock here.
pub(super) const CLOCK: SystemClock = SystemClock;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::serial::{FramingKind, Wire};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: LineOptions,
    }

    fn serial(flags: &[&str]) -> Result<Serial, String> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).map_err(|error| error.to_string())?;
        line.options.serial("/dev/${odd}", "line").map_err(|error| error.to_string())
    }

    #[test]
    fn flags_mean_what_the_keys_mean() {
        let serial = serial(&[
            "--baud",
            "9600",
            "--parity",
            "even",
            "--framing",
            "length",
            "--sync",
            "1122",
            "--length-bytes",
            "1",
            "--crc",
            "crc16_modbus",
            "--crc-from",
            "sync",
        ])
        .unwrap();
        assert_eq!((serial.port.as_str(), serial.line.baud), ("/dev/${odd}", 9600));
        let Wire::Frames(framing) = serial.wire else { panic!("{serial:?}") };
        assert!(
            matches!(framing.kind, FramingKind::Length { bytes: 1, sync, .. } if sync.as_bytes() == [0x11, 0x22])
        );
        assert_eq!(framing.crc.unwrap().as_str(), "CRC-16/MODBUS");
    }

    #[test]
    fn nonsense_is_refused_in_the_configs_words_all_at_once() {
        let error = serial(&["--baud", "fast", "--crc", "crc17", "--parity", "mark"]).unwrap_err();
        for words in ["baud is", "crc is \"crc17\"", "parity is"] {
            assert!(error.contains(words), "{words} in {error}");
        }
        assert!(serial(&["--framing", "fixed"]).unwrap_err().contains("`sync` is missing"));
        assert!(serial(&["--framing", "length", "--sync", "xyz"]).unwrap_err().contains("hexadecimal"));
    }

    #[test]
    fn a_modbus_bus_needs_no_registers_to_be_listened_to() {
        assert!(serial(&["--framing", "modbus_rtu", "--baud", "19200"]).unwrap().modbus().is_some());
    }
}
