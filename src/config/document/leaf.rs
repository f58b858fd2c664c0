//! What a single value may be: text, numbers inside bounds, flags, arrays of them.

use serde_json::{Value as Json, json};
use toml::Spanned;
use toml::de::DeValue;

use super::{Reader, Written, seen};
use crate::config::world;

/// A string, `${ENV}` filled in.
pub(crate) struct Text;

impl Written for Text {
    type Value = String;

    fn expected() -> String {
        "a string".into()
    }

    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<String> {
        let DeValue::String(text) = value.get_ref() else {
            return reader.mistyped(value, name, &Self::expected());
        };
        let Some(around) = reader.world else {
            return Some(text.to_string());
        };
        match world::expand(text, around) {
            Ok(text) => Some(text),
            Err(why) => {
                reader.complain(value.span().start, format!("{name}: {why}"));
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string"})
    }

    fn shown(value: &String) -> Json {
        json!(value)
    }
}

/// A whole number inside bounds, both included.
pub(crate) struct Whole<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Written for Whole<MIN, MAX> {
    type Value = u64;

    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<u64> {
        let DeValue::Integer(written) = value.get_ref() else {
            return reader.mistyped(value, name, &Self::expected());
        };
        let number = i128::from_str_radix(written.as_str(), written.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if (MIN..=MAX).contains(&number) => Some(number),
            _ => {
                reader
                    .complain(value.span().start, format!("{name} is {written}; it must be {MIN} to {MAX}"));
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }

    fn shown(value: &u64) -> Json {
        json!(value)
    }
}

/// A finite number, whole or not.
pub(crate) struct Number;

impl Written for Number {
    type Value = f64;

    fn expected() -> String {
        "a number".into()
    }

    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Float(written) => written.as_str().parse::<f64>().ok(),
            DeValue::Integer(written) => {
                i128::from_str_radix(written.as_str(), written.radix()).ok().map(|number| number as f64)
            }
            _ => return reader.mistyped(value, name, &Self::expected()),
        };
        // Beyond f32 a threshold or a mean would silently become infinite on its way to the model.
        let number = number.filter(|number| number.abs() <= f64::from(f32::MAX));
        if number.is_none() {
            let seen = seen(value.get_ref(), name);
            reader.complain(
                value.span().start,
                format!("{name} is {seen}; it must be a finite number, at most 3.4e38 either way"),
            );
        }
        number
    }

    fn schema() -> Json {
        json!({"type": "number"})
    }

    fn shown(value: &f64) -> Json {
        json!(value)
    }
}

/// `true` or `false`.
pub(crate) struct Flag;

impl Written for Flag {
    type Value = bool;

    fn expected() -> String {
        "true or false".into()
    }

    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => reader.mistyped(value, name, &Self::expected()),
        }
    }

    fn schema() -> Json {
        json!({"type": "boolean"})
    }

    fn shown(value: &bool) -> Json {
        json!(value)
    }
}

/// An array; one wrong element makes the whole of it unusable, after complaints about each.
pub(crate) struct List<T>(std::marker::PhantomData<T>);

impl<T: Written> Written for List<T> {
    type Value = Vec<Spanned<T::Value>>;

    fn expected() -> String {
        format!("an array, each element {}", T::expected())
    }

    fn header(above: &str, key: &str) -> Option<String> {
        T::header(above, key).map(|header| format!("[{header}]"))
    }

    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let Some(array) = value.get_ref().as_array() else {
            return reader.mistyped(value, name, &Self::expected());
        };
        let read = array
            .iter()
            .map(|element| T::read(element, name, reader).map(|value| Spanned::new(element.span(), value)));
        // First all of them, so that each mistake is told; only then all or nothing.
        read.collect::<Vec<_>>().into_iter().collect()
    }

    fn schema() -> Json {
        json!({"type": "array", "items": T::schema()})
    }

    fn shown(_: &Self::Value) -> Json {
        Json::Null
    }
}
