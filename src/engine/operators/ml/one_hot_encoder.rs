//! `ai.onnx.ml.OneHotEncoder`: each element becomes a row of zeros with a one at its category.
//!
//! Standard: ai.onnx.ml 1. Numbers are cut to integers before they are looked up; what is no number
//! has no category. An element without a category gives zeros, or is an error when `zeros` is 0.

use std::collections::HashMap;

use tract_core::internal::*;

use super::attributes::Attributes;
use super::kernel::{Fact, Kernel, tensor};
use super::mapping::Key;

#[derive(Debug)]
struct OneHotEncoder {
    places: HashMap<Key, usize>,
    categories: usize,
    of_strings: bool,
    zeros: bool,
}

pub(super) fn build(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let (integers, texts) = (attributes.ints("cats_int64s")?, attributes.texts("cats_strings")?);
    ensure!(
        integers.is_empty() != texts.is_empty(),
        "exactly one of cats_int64s and cats_strings must be given"
    );
    let of_strings = !texts.is_empty();
    let keys: Vec<Key> =
        integers.into_iter().map(Key::Integer).chain(texts.into_iter().map(Key::Text)).collect();
    let zeros = attributes.int("zeros")?.unwrap_or(1) != 0;
    let categories = keys.len();
    let places = keys.into_iter().enumerate().map(|(place, key)| (key, place)).collect();
    Ok(Arc::new(OneHotEncoder { places, categories, of_strings, zeros }))
}

impl OneHotEncoder {
    /// `None` where an element can be in no category whatsoever.
    fn keys(&self, input: &Tensor) -> TractResult<Vec<Option<Key>>> {
        let plain = input.try_as_plain_ram()?;
        Ok(match input.datum_type() {
            DatumType::String => {
                plain.as_slice::<String>()?.iter().cloned().map(|text| Some(Key::Text(text))).collect()
            }
            DatumType::F32 | DatumType::F64 => {
                let wide = input.cast_to::<f64>()?;
                let wide = wide.try_as_plain_ram()?;
                let cut = |x: &f64| x.is_finite().then_some(Key::Integer(*x as i64));
                wide.as_slice::<f64>()?.iter().map(cut).collect()
            }
            _ => {
                let whole = input.cast_to::<i64>()?;
                let whole = whole.try_as_plain_ram()?;
                whole.as_slice::<i64>()?.iter().map(|x| Some(Key::Integer(*x))).collect()
            }
        })
    }
}

impl Kernel for OneHotEncoder {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        ensure!(
            self.of_strings == (input.datum_type == DatumType::String),
            "the input is {:?}, the categories are {}",
            input.datum_type,
            if self.of_strings { "strings" } else { "integers" }
        );
        let mut fact = input.with_type(DatumType::F32);
        fact.shape.push(self.categories.to_dim());
        Ok(tvec!(fact))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let mut encoded = vec![0.0_f32; input.len() * self.categories];
        for (index, key) in self.keys(input)?.iter().enumerate() {
            match key.as_ref().and_then(|key| self.places.get(key)) {
                Some(place) => encoded[index * self.categories + place] = 1.0,
                None => ensure!(self.zeros, "element {index} is in none of the categories, and zeros is 0"),
            }
        }
        let shape = [input.shape(), &[self.categories]].concat();
        Ok(tvec!(tensor(&shape, encoded)?))
    }
}
