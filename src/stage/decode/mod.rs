//! Bytes to content: pictures, or rows of numbers in the card's column order.
//!
//! The payload formats with worked examples are in `FORMAT.md` beside this file; a test reads them.
//! Promise: pure functions of bytes; whatever arrives, the answer is content or an error that names
//! the place, and a payload is never partly used. Work and memory are bounded by the payload's length
//! and `max_pixels`.
//! Not here: what the numbers mean to a model (`featurize`), where one payload ends and the next
//! begins (`acquire`).

mod csv;
mod error;
pub mod framing;
mod image;
mod jpeg;
mod json;
mod orientation;
mod packet;
mod raw;
mod time;

use std::collections::HashMap;

pub use error::DecodeError;

use crate::base::{Content, UnixMicros};
use crate::config::card::{Channel, Features, PacketSchema};
use crate::config::{Decode, Format, UnknownFields};

/// A payload, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Pixels or rows.
    pub content: Content,
    /// The id that the frame itself carried.
    pub frame_id: Option<String>,
    /// The time that the frame itself carried.
    pub time: Option<UnixMicros>,
}

/// Decodes the payloads of one pipeline. Cheap to build, one a worker; no frame leaves a trace in it.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    columns: Columns,
    extras: Extras,
    separator: Option<char>,
    max_pixels: u64,
    packets: Vec<PacketSchema>,
    json: json::Scratch,
}

impl Decoder {
    /// A decoder for payloads as `decode` describes them, for a model as `features` describes it.
    pub fn new(decode: &Decode, features: &Features) -> Decoder {
        Decoder {
            format: decode.format,
            columns: Columns::of(features.columns()),
            extras: Extras {
                id_field: decode.id_field.clone(),
                time_field: decode.time_field.clone(),
                refuse_unknown: decode.unknown_fields == UnknownFields::Refuse,
            },
            separator: decode.separator,
            max_pixels: decode.max_pixels,
            packets: Vec::new(),
            json: json::Scratch::default(),
        }
    }

    /// With the packets that the card knows.
    pub fn with_packets(self, packets: &[PacketSchema]) -> Decoder {
        Decoder { packets: packets.to_vec(), ..self }
    }

    /// Understands one payload.
    ///
    /// # Errors
    /// Says what is wrong with this payload; the next one is judged on its own.
    pub fn decode(&mut self, payload: &[u8]) -> Result<Decoded, DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::Empty);
        }
        let (rows, frame_id, time) = match self.format {
            Format::Image => {
                let content = Content::Image(image::decode(payload, self.max_pixels)?);
                return Ok(Decoded { content, frame_id: None, time: None });
            }
            Format::Json => json::decode(payload, &self.columns, &self.extras, &mut self.json)?,
            Format::Csv => csv::decode(payload, &self.columns, &self.extras, self.separator)?,
            Format::F32le => (raw::f32le(payload, &self.columns)?, None, None),
            Format::I16le => (raw::i16le(payload, &self.columns)?, None, None),
            Format::Packet => (packet::decode(payload, &self.columns, &self.packets)?, None, None),
        };
        Ok(Decoded { content: Content::Rows(rows), frame_id, time })
    }

    /// The id in a payload that was refused, as far as it can be read: whoever hears of the refusal
    /// wants to know of which frame.
    pub fn own_id(&self, payload: &[u8]) -> Option<String> {
        let field = self.extras.id_field.as_deref()?;
        match self.format {
            Format::Json => json::own_id(payload, field),
            Format::Csv => csv::own_id(payload, field, self.separator),
            Format::Image | Format::F32le | Format::I16le | Format::Packet => None,
        }
    }
}

/// Whether payloads of this format can ever become these features. Asked at boot.
///
/// # Errors
/// Says in words what contradicts what.
pub fn compatible(decode: &Decode, features: &Features) -> Result<(), String> {
    let format = match decode.format {
        Format::Image => "image",
        Format::Json => "json",
        Format::Csv => "csv",
        Format::F32le => "f32le",
        Format::I16le => "i16le",
        Format::Packet => "packet",
    };
    let wants = match features {
        Features::Image(_) => "pictures",
        Features::Window(_) => "windows of numbers",
        Features::Table(_) => "rows of numbers",
    };
    if (decode.format == Format::Image) != matches!(features, Features::Image(_)) {
        let remedy = match features {
            Features::Image(_) => "set format = \"image\"",
            _ => "set format to json, csv, f32le, i16le or packet, or choose a model for pictures",
        };
        return Err(format!("format = \"{format}\", but the model decides on {wants}; {remedy}"));
    }
    let fields = [("id_field", &decode.id_field), ("time_field", &decode.time_field)];
    for (key, field) in fields {
        let Some(field) = field else { continue };
        if !matches!(decode.format, Format::Json | Format::Csv) {
            return Err(format!("{key} = \"{field}\", but format = \"{format}\" has no named fields"));
        }
        if features.columns().iter().any(|channel| channel.name == *field) {
            return Err(format!("{key} = \"{field}\", but `{field}` is a feature of the model"));
        }
    }
    if matches!(decode.format, Format::F32le | Format::I16le | Format::Packet)
        && let Some(channel) = features.columns().iter().find(|channel| !channel.words.is_empty())
    {
        return Err(format!("format = \"{format}\", but `{}` is one of several words", channel.name));
    }
    if decode.id_field.is_some() && decode.id_field == decode.time_field {
        return Err("id_field and time_field name the same field; name the time_field alone".into());
    }
    if let Some(separator) = decode.separator
        && (separator.is_alphanumeric() || matches!(separator, '.' | '+' | '-' | '"' | '\n' | '\r'))
    {
        return Err(format!("separator = {separator:?} cannot stand between numbers"));
    }
    Ok(())
}

/// The card's columns, as decoding needs them.
#[derive(Debug)]
struct Columns {
    names: Vec<String>,
    /// Whether a value may be missing: the card imputes it, or the model does.
    may_miss: Vec<bool>,
    /// The texts that stand for numbers, by their place; empty: numbers stand there themselves.
    words: Vec<Vec<String>>,
    by_name: HashMap<String, usize>,
}

impl Columns {
    fn of(channels: &[Channel]) -> Columns {
        let names: Vec<String> = channels.iter().map(|channel| channel.name.clone()).collect();
        Columns {
            may_miss: channels.iter().map(|c| c.allow_nan || c.impute.is_some()).collect(),
            words: channels.iter().map(|channel| channel.words.clone()).collect(),
            by_name: names.iter().cloned().zip(0..).collect(),
            names,
        }
    }

    fn len(&self) -> usize {
        self.names.len()
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A text's number; what else could stand in this column, where it is none of its words.
    fn word(&self, column: usize, text: &str) -> Result<f64, String> {
        let words = self.words.get(column).map_or(&[][..], Vec::as_slice);
        let place = words.iter().position(|word| word == text);
        place.map(|place| place as f64).ok_or_else(|| self.expected(column))
    }

    /// A number as it may stand in this column; what else could, where it may not.
    fn number(&self, column: usize, number: f64) -> Result<f64, String> {
        match self.words.get(column) {
            Some(words) if !words.is_empty() => Err(self.expected(column)),
            _ => Ok(number),
        }
    }

    /// `a number`, or `one of "L", "M", "H"`.
    fn expected(&self, column: usize) -> String {
        const SHOWN: usize = 8;
        match self.words.get(column).map_or(&[][..], Vec::as_slice) {
            [] => "a number".to_owned(),
            words => {
                let shown: Vec<String> = words.iter().take(SHOWN).map(|word| format!("{word:?}")).collect();
                let more = if words.len() > SHOWN { ", …" } else { "" };
                format!("one of {}{more}", shown.join(", "))
            }
        }
    }

    /// NaN for a value that is not there, where the card allows it. `row` is 1-based.
    fn missing(&self, column: usize, how: &'static str, row: Option<usize>) -> Result<f64, DecodeError> {
        match self.may_miss.get(column) {
            Some(true) => Ok(f64::NAN),
            _ => {
                let feature = self.names.get(column).cloned().unwrap_or_default();
                Err(DecodeError::MissingFeature { feature, how, row })
            }
        }
    }

    fn wrong_length(&self, what: String) -> DecodeError {
        const SHOWN: usize = 8;
        let mut names = self.names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if self.len() > SHOWN {
            names.push_str(", …");
        }
        DecodeError::WrongLength { what, columns: self.len(), names }
    }
}

/// What travels beside the columns.
#[derive(Debug)]
struct Extras {
    id_field: Option<String>,
    time_field: Option<String>,
    refuse_unknown: bool,
}

/// An error that names the missing feature which resembles `field` most.
fn unknown_field<'a>(field: &str, missing: impl Iterator<Item = &'a str>) -> DecodeError {
    // Looked at only when a frame is refused anyway, but a sender may refuse thousands a second.
    const LOOKED_AT: usize = 256;
    let plain = |text: &str| -> Vec<char> {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).take(64).collect()
    };
    let seen = plain(field);
    let nearest = missing.take(LOOKED_AT).min_by_key(|name| distance(&seen, &plain(name)));
    DecodeError::UnknownField { field: error::shortened(field), missing: nearest.map(str::to_owned) }
}

/// Letters to change, add or take away to come from `a` to `b` (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
