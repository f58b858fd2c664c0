//! `ai.onnx.ml.LabelEncoder` and `CategoryMapper`: elements are looked up and replaced.
//!
//! Standard: LabelEncoder 1, 2 and 4, CategoryMapper 1. Keys and values may each be strings,
//! integers, floats or (LabelEncoder 4) any tensor. The first of equal keys counts. A NaN among the
//! keys stands for every NaN, and 0 equals -0, as in onnxruntime from LabelEncoder 4 on.

use std::collections::HashMap;

use tract_core::internal::*;

use super::attributes::{Attributes, picked};
use super::kernel::{Fact, Kernel, tensor};

/// An element as it can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Text(String),
    Integer(i64),
    /// Bits of an `f64`, one pattern for NaN and one for zero.
    Float(u64),
}

/// The elements of a tensor as keys.
pub(super) fn keys(tensor: &Tensor) -> TractResult<Vec<Key>> {
    let float = |x: &f64| match x {
        x if x.is_nan() => Key::Float(f64::NAN.to_bits()),
        x => Key::Float((x + 0.0).to_bits()),
    };
    let plain = tensor.try_as_plain_ram()?;
    Ok(match tensor.datum_type() {
        DatumType::String => plain.as_slice::<String>()?.iter().cloned().map(Key::Text).collect(),
        DatumType::F32 | DatumType::F64 | DatumType::F16 => {
            tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.iter().map(float).collect()
        }
        _ => {
            let whole = tensor.cast_to::<i64>()?;
            whole.try_as_plain_ram()?.as_slice::<i64>()?.iter().copied().map(Key::Integer).collect()
        }
    })
}

/// One direction of a mapping.
#[derive(Debug)]
struct Table {
    keys_type: DatumType,
    places: HashMap<Key, usize>,
    /// One for each key, then the default.
    values: Tensor,
    default: usize,
}

impl Table {
    fn new(from: &Tensor, to: &Tensor, default: Tensor) -> TractResult<Self> {
        ensure!(from.len() == to.len(), "there are {} keys and {} values", from.len(), to.len());
        ensure!(default.len() == 1, "the default has {} elements; it must have one", default.len());
        let mut places = HashMap::new();
        for (place, key) in keys(from)?.into_iter().enumerate() {
            places.entry(key).or_insert(place);
        }
        let to = to.clone().into_shape(&[from.len()])?;
        let default = default.into_shape(&[1])?.cast_to_dt(to.datum_type())?.into_owned();
        let values = Tensor::stack_tensors(0, &[to, default])?;
        Ok(Self { keys_type: from.datum_type(), places, values, default: from.len() })
    }

    fn map(&self, input: &Tensor) -> TractResult<Tensor> {
        let places: Vec<usize> =
            keys(input)?.iter().map(|key| self.places.get(key).copied().unwrap_or(self.default)).collect();
        picked(&self.values, &places, input.shape())
    }
}

/// The table whose keys have the input's type is the one that is used.
#[derive(Debug)]
struct Mapping {
    tables: Vec<Table>,
}

impl Mapping {
    fn table(&self, datum_type: DatumType) -> TractResult<&Table> {
        // What tract computes as a dimension is an integer to everyone else.
        let datum_type = if datum_type == DatumType::TDim { DatumType::I64 } else { datum_type };
        self.tables.iter().find(|table| table.keys_type == datum_type).with_context(|| {
            let known: Vec<_> = self.tables.iter().map(|table| table.keys_type).collect();
            format!("the input is {datum_type:?}, the keys are {known:?}")
        })
    }
}

impl Kernel for Mapping {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        Ok(tvec!(input.with_type(self.table(input.datum_type)?.values.datum_type())))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        Ok(tvec!(self.table(inputs[0].datum_type())?.map(&inputs[0])?))
    }
}

/// Strings to integers and back, by the input's type.
fn both_ways(attributes: &Attributes<'_>, texts: Vec<String>, integers: Vec<i64>) -> TractResult<Mapping> {
    let texts = tensor(&[texts.len()], texts)?;
    let integers = tensor(&[integers.len()], integers)?;
    let no_integer = tensor0(attributes.int("default_int64")?.unwrap_or(-1));
    let no_text = tensor0(attributes.text("default_string")?.unwrap_or_else(|| "_Unused".to_owned()));
    Ok(Mapping {
        tables: vec![Table::new(&texts, &integers, no_integer)?, Table::new(&integers, &texts, no_text)?],
    })
}

pub(super) fn category_mapper(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let (texts, integers) = (attributes.texts("cats_strings")?, attributes.ints("cats_int64s")?);
    Ok(Arc::new(both_ways(attributes, texts, integers)?))
}

pub(super) fn label_encoder(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    // Operator set 1: a string stands for its place in the list.
    if attributes.has("classes_strings") {
        let texts = attributes.texts("classes_strings")?;
        let places = (0..).take(texts.len()).collect();
        return Ok(Arc::new(both_ways(attributes, texts, places)?));
    }
    let side = |name: &str| -> TractResult<Tensor> {
        if let Some(tensor) = attributes.tensor(&format!("{name}_tensor"))? {
            return Ok(tensor);
        }
        let listed = |of: &str| format!("{name}_{of}");
        if attributes.has(&listed("strings")) {
            let texts = attributes.texts(&listed("strings"))?;
            return tensor(&[texts.len()], texts);
        }
        if attributes.has(&listed("int64s")) {
            let integers = attributes.ints(&listed("int64s"))?;
            return tensor(&[integers.len()], integers);
        }
        ensure!(attributes.has(&listed("floats")), "none of its {name}_* attributes is given");
        let floats = attributes.floats(&listed("floats"))?;
        tensor(&[floats.len()], floats)
    };
    let (from, to) = (side("keys")?, side("values")?);
    let default = match attributes.tensor("default_tensor")? {
        Some(default) => default,
        None => match to.datum_type() {
            DatumType::String => {
                tensor0(attributes.text("default_string")?.unwrap_or_else(|| "_Unused".to_owned()))
            }
            DatumType::F32 | DatumType::F64 | DatumType::F16 => {
                tensor0(attributes.float("default_float")?.unwrap_or(-0.0))
            }
            _ => tensor0(attributes.int("default_int64")?.unwrap_or(-1)),
        },
    };
    Ok(Arc::new(Mapping { tables: vec![Table::new(&from, &to, default)?] }))
}
