//! JSON straight into rows: no tree in between, so a small frame costs a few hundred nanoseconds.
//!
//! The accepted forms are in `FORMAT.md`. Promise: a value lands in the column that its name says, or
//! the frame is refused; nothing is guessed, and no input can exhaust the stack.
//! Not here: imputing what is missing, judging what is infinite (`featurize`).

mod visit;

use serde::de::{DeserializeSeed, Error, SeqAccess};

use super::error::shortened;
use super::{Columns, DecodeError, Extras, unknown_field};
use crate::base::{Rows, UnixMicros};
use visit::{IdOnly, Item, Key, Place, Value};

/// What one frame holds.
type Parsed = (Rows, Option<String>, Option<UnixMicros>);

/// Keeps its scratch from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    fields: Vec<Field>,
    /// One list a column, for objects that carry several rows.
    blocks: Vec<Vec<f64>>,
}

impl Scratch {
    fn take_block(&mut self, column: usize) -> Vec<f64> {
        if self.blocks.len() < self.fields.len() {
            self.blocks.resize_with(self.fields.len(), Vec::new);
        }
        std::mem::take(&mut self.blocks[column])
    }
}

/// What an object said about a column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Field {
    #[default]
    Absent,
    Null,
    Number(f64),
    Block,
}

/// Reads one document.
pub(super) fn decode(
    payload: &[u8],
    columns: &Columns,
    extras: &Extras,
    scratch: &mut Scratch,
) -> Result<Parsed, DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|error| malformed(error.to_string()))?;
    // RFC 8259 §8.1: a parser may ignore a byte order mark rather than treat it as an error.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    scratch.fields.clear();
    scratch.fields.resize(columns.len(), Field::Absent);
    scratch.blocks.iter_mut().for_each(Vec::clear);
    let mut frame = Frame {
        columns,
        extras,
        scratch,
        values: Vec::with_capacity(columns.len()),
        expected: 0,
        id: None,
        time: None,
        unknown: None,
        fault: None,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    match (&mut frame).deserialize(&mut json).and_then(|()| json.end()) {
        Ok(()) => {}
        Err(error) => {
            return Err(match frame.fault {
                // The visitors say what is wrong, serde_json knows where.
                Some(DecodeError::Malformed { format, what }) => DecodeError::Malformed {
                    format,
                    what: format!("{what} (line {}, column {})", error.line(), error.column()),
                },
                Some(fault) => fault,
                None => malformed(error.to_string()),
            });
        }
    }
    let rows = Rows { columns: columns.len(), values: frame.values };
    Ok((rows, frame.id.flatten(), frame.time.flatten()))
}

/// The id of a document whatever else is wrong with it, up to where it stops being JSON.
pub(super) fn own_id(payload: &[u8], field: &str) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut id = None;
    let mut json = serde_json::Deserializer::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    // What stands in front of the break has been read.
    let _ = IdOnly { field, id: &mut id }.deserialize(&mut json);
    id
}

fn malformed(what: impl Into<String>) -> DecodeError {
    DecodeError::Malformed { format: "JSON", what: what.into() }
}

/// The document under way. Its errors go to `fault`, because serde's own are text only.
struct Frame<'a> {
    columns: &'a Columns,
    extras: &'a Extras,
    scratch: &'a mut Scratch,
    values: Vec<f64>,
    /// The column that most likely comes next: senders keep an order.
    expected: usize,
    /// Outer: whether the field was seen.
    id: Option<Option<String>>,
    time: Option<Option<UnixMicros>>,
    unknown: Option<String>,
    fault: Option<DecodeError>,
}

impl Frame<'_> {
    fn fail<E: Error>(&mut self, fault: DecodeError) -> E {
        self.fault.get_or_insert(fault);
        E::custom("refused")
    }

    fn wrong<E: Error>(&mut self, what: String) -> E {
        self.fail(malformed(what))
    }

    /// NaN, where the card has something to put in its place.
    fn missing<E: Error>(&mut self, column: usize, how: &'static str, row: Option<usize>) -> Result<f64, E> {
        match self.columns.missing(column, how, row) {
            Ok(nan) => Ok(nan),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// An array as a whole document or as `values`: numbers, or rows.
    fn array<'de, A: SeqAccess<'de>>(&mut self, mut items: A) -> Result<(), A::Error> {
        let columns = self.columns.len().max(1);
        let mut seen_rows = None;
        let mut index = 0;
        while let Some(item) = items.next_element_seed(Item { place: Place::Flat(index), frame: self })? {
            let is_row = match item {
                Value::Number(number) => {
                    self.values.push(number);
                    false
                }
                Value::Null => {
                    let nan = self.missing(index % columns, "null", Some(index / columns + 1))?;
                    self.values.push(nan);
                    false
                }
                Value::Array => true,
            };
            if *seen_rows.get_or_insert(is_row) != is_row {
                return Err(self.wrong("an array holds either numbers or rows, not both".into()));
            }
            index += 1;
        }
        let count = self.values.len();
        if count == 0 || !count.is_multiple_of(columns) || self.columns.len() == 0 {
            let what = format!("{count} values are no whole number of rows");
            return Err(self.fail(self.columns.wrong_length(what)));
        }
        Ok(())
    }

    /// An object by feature name, once all of its fields were seen.
    fn assemble<E: Error>(&mut self) -> Result<(), E> {
        let fields = std::mem::take(&mut self.scratch.fields);
        let assembled = self.rows_of(&fields);
        self.scratch.fields = fields;
        assembled.map_err(|fault| self.fail(fault))
    }

    fn rows_of(&mut self, fields: &[Field]) -> Result<(), DecodeError> {
        let Columns { names, .. } = self.columns;
        if let Some(field) = self.unknown.take() {
            let absent = names.iter().zip(fields).filter(|(_, field)| **field == Field::Absent);
            return Err(unknown_field(&field, absent.map(|(name, _)| name.as_str())));
        }
        if fields.iter().all(|field| *field == Field::Absent) {
            // Imputing every column would be an answer to a question that nobody asked.
            let feature = names.first().cloned().unwrap_or_default();
            return Err(DecodeError::MissingFeature {
                feature,
                how: "missing, as are all others",
                row: None,
            });
        }
        let Some(first) = fields.iter().position(|field| *field == Field::Block) else {
            for (column, field) in fields.iter().enumerate() {
                self.values.push(match *field {
                    Field::Number(number) => number,
                    Field::Null => self.columns.missing(column, "null", None)?,
                    Field::Absent | Field::Block => self.columns.missing(column, "missing", None)?,
                });
            }
            return Ok(());
        };
        let rows = self.scratch.blocks[first].len();
        for (column, field) in fields.iter().enumerate() {
            let seen = match field {
                Field::Block => self.scratch.blocks[column].len(),
                Field::Number(_) => {
                    let (one, other) = (&names[first], &names[column]);
                    return Err(malformed(format!("`{one}` is an array and `{other}` a single number")));
                }
                // As long as the others, all missing.
                Field::Absent => self.columns.missing(column, "missing", None).map(|_| rows)?,
                Field::Null => self.columns.missing(column, "null", None).map(|_| rows)?,
            };
            if seen != rows {
                let (one, other) = (&names[first], &names[column]);
                let what = format!("`{one}` holds {rows} values and `{other}` {seen}");
                return Err(self.columns.wrong_length(what));
            }
        }
        if rows == 0 {
            return Err(self.columns.wrong_length("the arrays are empty".into()));
        }
        for row in 0..rows {
            for (column, field) in fields.iter().enumerate() {
                let block = &self.scratch.blocks[column];
                self.values.push(if *field == Field::Block { block[row] } else { f64::NAN });
            }
        }
        Ok(())
    }

    fn key(&mut self, name: &str) -> Key {
        let guess = self.expected;
        let column = match self.columns.names.get(guess) {
            Some(next) if next == name => Some(guess),
            _ => self.columns.index(name),
        };
        if let Some(column) = column {
            self.expected = column + 1;
            Key::Column(column)
        } else if self.extras.id_field.as_deref() == Some(name) {
            Key::Id
        } else if self.extras.time_field.as_deref() == Some(name) {
            Key::Time
        } else if name == "values" {
            Key::Values
        } else {
            if self.extras.refuse_unknown && self.unknown.is_none() {
                self.unknown = Some(shortened(name));
            }
            Key::Other
        }
    }
}
