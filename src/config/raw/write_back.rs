//! The keys of `[pipeline.write_back]`.

use super::ParityWord;
use crate::config::document::{Flag, List, Text, Whole, keys, words};
use crate::config::serial::Parity;
use crate::config::write_back::Outcome;

keys! {
    /// `[pipeline.write_back]`
    RawWriteBack {
        /// Port that hears the verdict. Default: the source's own.
        port: Text,
        /// What a verdict is written as.
        r#as: WriteAsWord [required],
        /// With as = "line" or "frame": what is written, with `{verdict}`, `{label}`, `{score}`, `{id}`,
        /// `{frame_id}`, `{pipeline}`.
        text: Text = "{verdict}".into(),
        /// With as = "coil" or "register": whose it is; 0 speaks to all units.
        unit: Whole<0, 247>,
        /// With as = "coil" or "register": its address, from 0.
        address: Whole<0, 65_535>,
        /// With as = "coil": outcomes that switch it on; all others switch it off.
        on: List<OutcomeWord>,
        /// With as = "register": the number for each outcome.
        values: RawWriteValues,
        /// A verdict that is not on the wire so many milliseconds after its frame came is dropped.
        expires_ms: Whole<1, 600_000> = 1_000,
        /// For a port that no source reads: bits a second.
        baud: Whole<50, 4_000_000> = 115_200,
        /// For a port that no source reads: parity bit.
        parity: ParityWord = Parity::None,
        /// For a port that no source reads: stop bits.
        stop_bits: Whole<1, 2> = 1,
        /// For a port that no source reads: the driver switches an RS-485 transceiver.
        rs485: Flag = false,
    }
}

keys! {
    /// `[pipeline.write_back.values]`
    RawWriteValues {
        /// In order.
        pass: Whole<0, 65_535> = 0,
        /// Not in order.
        fail: Whole<0, 65_535> = 1,
        /// Inside the uncertain band.
        uncertain: Whole<0, 65_535> = 2,
        /// The model's card asks for no verdict.
        none: Whole<0, 65_535> = 3,
        /// There is no prediction.
        error: Whole<0, 65_535> = 4,
    }
}

/// What a verdict is written as, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteAs {
    Line,
    Frame,
    Coil,
    Register,
}

words! {
    WriteAsWord: WriteAs {
        "line" => WriteAs::Line,
        "frame" => WriteAs::Frame,
        "coil" => WriteAs::Coil,
        "register" => WriteAs::Register,
    }
}

words! {
    OutcomeWord: Outcome {
        "pass" => Outcome::Pass,
        "fail" => Outcome::Fail,
        "uncertain" => Outcome::Uncertain,
        "none" => Outcome::None,
        "error" => Outcome::Error,
    }
}
