//! What serde hands over while it reads, one visitor for each place in a document.
//!
//! Not here: what the forms mean once they are read (`super`).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::error::shortened;
use super::super::{time, unknown_field};
use super::{DecodeError, Field, Frame, malformed};

// 2^53: beyond it two ids of the sender could become one.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// What a field's name stands for.
pub(super) enum Key {
    Column(usize),
    Id,
    Time,
    Values,
    Other,
}

/// The whole document.
impl<'de> DeserializeSeed<'de> for &mut Frame<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Frame<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or an object with the card's features")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.array(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let (mut saw_values, mut saw_columns) = (false, false);
        while let Some(key) = fields.next_key_seed(KeySeed(self))? {
            match key {
                Key::Column(column) => {
                    saw_columns = true;
                    if self.scratch.fields[column] != Field::Absent {
                        return Err(self.wrong(format!("`{}` comes twice", self.columns.names[column])));
                    }
                    let field =
                        match fields.next_value_seed(Item { place: Place::Field(column), frame: self })? {
                            Value::Number(number) => Field::Number(number),
                            Value::Null => Field::Null,
                            Value::Array => Field::Block,
                        };
                    self.scratch.fields[column] = field;
                }
                Key::Id => {
                    let id = fields.next_value_seed(Extra { name: "id_field", fault: &mut self.fault })?;
                    if self.id.is_some() {
                        return Err(self.wrong("the id_field comes twice".into()));
                    }
                    self.id = Some(id.id().map_err(|why| self.wrong(why))?);
                }
                Key::Time => {
                    let time =
                        fields.next_value_seed(Extra { name: "time_field", fault: &mut self.fault })?;
                    if self.time.is_some() {
                        return Err(self.wrong("the time_field comes twice".into()));
                    }
                    let time = match time {
                        Scalar::Null => Ok(None),
                        Scalar::Text(text) => time::rfc3339(&text).map(Some),
                        Scalar::Whole(whole) => time::seconds(whole as f64).map(Some),
                        Scalar::Number(number) => time::seconds(number).map(Some),
                    };
                    self.time = Some(time.map_err(|why| self.wrong(format!("the time_field: {why}")))?);
                }
                Key::Values => {
                    if saw_values {
                        return Err(self.wrong("`values` comes twice".into()));
                    }
                    saw_values = true;
                    fields.next_value_seed(Values(self))?;
                }
                Key::Other => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        if saw_values && saw_columns {
            return Err(self.wrong("it holds both `values` and features by name".into()));
        }
        if !saw_values {
            return self.assemble();
        }
        match self.unknown.take() {
            Some(field) => Err(self.fail(unknown_field(&field, std::iter::empty()))),
            None => Ok(()),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if self.columns.len() != 1 {
            let what = "a single number is one value".into();
            return Err(self.fail(self.columns.wrong_length(what)));
        }
        match self.columns.number(0, number) {
            Ok(number) => self.values.push(number),
            Err(expected) => {
                return Err(self.wrong(format!("the value is {number}; {expected} was expected")));
            }
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }
}

struct KeySeed<'a, 'b>(&'a mut Frame<'b>);

impl<'de> DeserializeSeed<'de> for KeySeed<'_, '_> {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Key, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_, '_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        Ok(self.0.key(name))
    }
}

/// The array under `values`, and nothing else.
struct Values<'a, 'b>(&'a mut Frame<'b>);

impl<'de> DeserializeSeed<'de> for Values<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or of rows under `values`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.0.array(items)
    }
}

/// Where a value stands; decides what may stand there.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// In the outer array, at this index: a number, null or a row.
    Flat(usize),
    /// In an inner array: a number or null of this column and 1-based row.
    Cell(usize, usize),
    /// A feature's own field: a number, null or an array for several rows.
    Field(usize),
}

/// What stood there. An array's contents are with the frame already.
pub(super) enum Value {
    Number(f64),
    Null,
    Array,
}

/// Reads one value of an array or of a feature's field.
pub(super) struct Item<'a, 'b> {
    pub(super) place: Place,
    pub(super) frame: &'a mut Frame<'b>,
}

impl Item<'_, '_> {
    fn column(&self) -> usize {
        match self.place {
            Place::Flat(index) => index % self.frame.columns.len().max(1),
            Place::Cell(column, _) | Place::Field(column) => column,
        }
    }

    fn refuse<E: Error>(self, seen: &str) -> E {
        let names = &self.frame.columns.names;
        let place = match self.place {
            Place::Flat(index) => format!("value {}", index + 1),
            Place::Cell(column, row) => match names.get(column) {
                Some(name) => format!("`{name}` in row {row}"),
                None => format!("value {} in row {row}", column + 1),
            },
            Place::Field(column) => format!("`{}`", names[column]),
        };
        let expected = self.frame.columns.expected(self.column());
        self.frame.wrong(format!("{place} is {seen}; {expected} was expected"))
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        match self.frame.columns.number(self.column(), number) {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => Err(self.refuse(&number.to_string())),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.visit_f64(number as f64)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, seen: bool) -> Result<Value, E> {
        Err(self.refuse(if seen { "true" } else { "false" }))
    }

    fn visit_str<E: Error>(self, seen: &str) -> Result<Value, E> {
        match self.frame.columns.word(self.column(), seen) {
            Ok(place) => Ok(Value::Number(place)),
            Err(_) => Err(self.refuse(&format!("the string {:?}", shortened(seen)))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.refuse("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let frame = self.frame;
        match self.place {
            Place::Cell(..) => Err(Item { place: self.place, frame }.refuse("an array")),
            Place::Flat(index) => {
                let row = index + 1;
                let mut column = 0;
                while let Some(cell) =
                    items.next_element_seed(Item { place: Place::Cell(column, row), frame: &mut *frame })?
                {
                    let number = match cell {
                        Value::Number(number) => number,
                        // A surplus null is counted like any other value, and refused below.
                        _ if column >= frame.columns.len() => f64::NAN,
                        _ => frame.missing(column, "null", Some(row))?,
                    };
                    frame.values.push(number);
                    column += 1;
                }
                if column != frame.columns.len() {
                    let what = format!("row {row} holds {column} values");
                    return Err(frame.fail(frame.columns.wrong_length(what)));
                }
                Ok(Value::Array)
            }
            Place::Field(column) => {
                let mut block = frame.scratch.take_block(column);
                let mut row = 1;
                while let Some(cell) =
                    items.next_element_seed(Item { place: Place::Cell(column, row), frame: &mut *frame })?
                {
                    block.push(match cell {
                        Value::Number(number) => number,
                        _ => frame.missing(column, "null", Some(row))?,
                    });
                    row += 1;
                }
                frame.scratch.blocks[column] = block;
                Ok(Value::Array)
            }
        }
    }
}

/// Value of `id_field` or `time_field`.
enum Scalar {
    Null,
    Text(String),
    Whole(i128),
    Number(f64),
}

impl Scalar {
    /// As an id. An empty text names no frame: senders that have no number yet leave it empty in all.
    fn id(self) -> Result<Option<String>, String> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Self::Whole(whole) => Ok(Some(whole.to_string())),
            Self::Number(number) if number.abs() < LARGEST_EXACT => Ok(Some(number.to_string())),
            Self::Number(number) => {
                Err(format!("the id_field is {number:e}, too large for a number; send a string"))
            }
        }
    }
}

struct Extra<'a> {
    name: &'static str,
    fault: &'a mut Option<DecodeError>,
}

impl Extra<'_> {
    fn refuse<E: Error>(self, seen: &str) -> E {
        let what = format!("the {} is {seen}; a string or a number was expected", self.name);
        self.fault.get_or_insert(malformed(what));
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Extra<'_> {
    type Value = Scalar;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Scalar, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Extra<'_> {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, whole: u64) -> Result<Scalar, E> {
        Ok(Scalar::Whole(whole.into()))
    }

    fn visit_i64<E: Error>(self, whole: i64) -> Result<Scalar, E> {
        Ok(Scalar::Whole(whole.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar, E> {
        Err(self.refuse("true or false"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Scalar, A::Error> {
        Err(self.refuse("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Scalar, A::Error> {
        Err(self.refuse("an object"))
    }
}

/// A document of which nothing but the id is wanted; none if it comes twice.
pub(super) struct IdOnly<'a> {
    pub(super) field: &'a str,
    pub(super) id: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for IdOnly<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IdOnly<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(name) = fields.next_key::<String>()? {
            if name != self.field {
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            *self.id = None;
            if std::mem::replace(&mut seen, true) {
                return Ok(());
            }
            let id = fields.next_value_seed(Extra { name: "id_field", fault: &mut None })?;
            *self.id = id.id().ok().flatten();
        }
        Ok(())
    }
}
