//! Cast and CastLike (opset 6 to 21), whole numbers whole and texts as onnxruntime writes them.
//!
//! Source: ONNX, Operators.md. tract casts to INT64 through its type of shapes, and that through 32 bits
//! (0.23.9): here only what is a shape already stays one. Numbers become texts of at most eight digits
//! (C's `%.8g`), as onnxruntime's do, with `NaN`, `INF` and `-INF`; a bool is `1` or `0`. A text becomes a
//! whole number where it is one, else its number without the fraction.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cast::cast as plain_cast;
use tract_onnx::tract_hir::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_hir::tract_ndarray::{ArrayD, IxDyn};

use super::literal::Built;
use super::values::{floats, ints};

#[derive(Clone, Debug)]
struct Cast {
    /// `None`: to the type of the second input.
    to: Option<DatumType>,
}

pub(super) fn cast(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    Ok((expand(Cast { to: Some(node.get_attr("to")?) }), vec![]))
}

pub(super) fn cast_like(_context: &ParsingContext<'_>, _node: &NodeProto) -> Built {
    Ok((expand(Cast { to: None }), vec![]))
}

/// The type of the answer: a shape stays one among whole numbers.
fn between(from: DatumType, to: DatumType) -> DatumType {
    match (from, to) {
        (DatumType::TDim, DatumType::I64 | DatumType::TDim) => DatumType::TDim,
        (_, DatumType::TDim) => DatumType::I64,
        (_, to) => to,
    }
}

impl Expansion for Cast {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, if self.to.is_some() { 1 } else { 2 })?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)?;
        match self.to {
            Some(to) => s.given(&inputs[0].datum_type, move |s, from| {
                s.equals(&outputs[0].datum_type, between(from, to))
            }),
            None => s.given_2(&inputs[0].datum_type, &inputs[1].datum_type, move |s, from, to| {
                s.equals(&outputs[0].datum_type, between(from, to))
            }),
        }
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.datum_type;
        let to = match self.to {
            Some(to) => to,
            None => model.outlet_fact(inputs[1])?.datum_type,
        };
        let to = between(from, to);
        if from != DatumType::String && to != DatumType::String {
            return model.wire_node(name, plain_cast(to), &inputs[..1]);
        }
        let mut input = inputs[0];
        if from == DatumType::TDim {
            input = model.wire_node(format!("{name}.whole"), plain_cast(DatumType::I64), &[input])?[0];
        }
        model.wire_node(name, ElementWiseOp(Box::new(Words { to }), None), &[input])
    }
}

/// From texts, or to them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words {
    to: DatumType,
}

impl ElementWiseMiniOp for Words {
    fn name(&self) -> String {
        "Words".to_owned()
    }

    fn output_type(&self, _input: DatumType) -> Option<DatumType> {
        Some(self.to)
    }

    fn eval_out_of_place(&self, x: &Tensor, _to: Option<DatumType>) -> TractResult<Tensor> {
        if x.datum_type() == self.to {
            return Ok(x.clone());
        }
        if self.to == DatumType::String {
            return Ok(ArrayD::from_shape_vec(IxDyn(x.shape()), texts(x)?)?.into());
        }
        let view = x.try_as_plain_ram()?;
        let read = view.as_slice::<String>()?.iter().map(|text| text.trim());
        if self.to.is_float() {
            // To f32 and f64 in one rounding each.
            let values = match self.to {
                DatumType::F32 => {
                    read.map(|text| number::<f32>(text).map(f64::from)).collect::<TractResult<Vec<_>>>()?
                }
                _ => read.map(number::<f64>).collect::<TractResult<Vec<_>>>()?,
            };
            return Ok(Tensor::from_shape(x.shape(), &values)?.cast_to_dt(self.to)?.into_owned());
        }
        let values = read.map(whole).collect::<TractResult<Vec<_>>>()?;
        if self.to == DatumType::U64 {
            let values =
                values.iter().map(|value| Ok(u64::try_from(*value)?)).collect::<TractResult<Vec<_>>>()?;
            return Tensor::from_shape(x.shape(), &values);
        }
        let values =
            values.iter().map(|value| Ok(i64::try_from(*value)?)).collect::<TractResult<Vec<_>>>()?;
        Ok(Tensor::from_shape(x.shape(), &values)?.cast_to_dt(self.to)?.into_owned())
    }
}

fn number<T: std::str::FromStr>(text: &str) -> TractResult<T> {
    text.parse().ok().with_context(|| format!("{text:?} is no number"))
}

fn whole(text: &str) -> TractResult<i128> {
    if let Ok(whole) = text.parse() {
        return Ok(whole);
    }
    let number = number::<f64>(text)?;
    ensure!(number.is_finite(), "{text:?} is no whole number");
    Ok(number as i128)
}

fn texts(x: &Tensor) -> TractResult<Vec<String>> {
    if x.datum_type().is_float() {
        return Ok(floats(x)?.into_iter().map(eight_digits).collect());
    }
    if x.datum_type() == DatumType::U64 {
        return Ok(x.try_as_plain_ram()?.as_slice::<u64>()?.iter().map(u64::to_string).collect());
    }
    Ok(ints(x)?.iter().map(i64::to_string).collect())
}

/// C's `%.8g`.
fn eight_digits(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let bare = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let scientific = format!("{x:.7e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..8) => bare(&format!("{x:.*}", (7 - exponent).unsigned_abs() as usize)),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", bare(digits), exponent.abs())
        }
        Err(_) => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_becomes_the_text_that_onnxruntime_writes() {
        let of = |x: f32| eight_digits(x.into());
        assert_eq!(
            [1e10, 0.1, 0.976_761_1, 1e-5, 123_456_789.0, 1.0, -0.0, 1e7, 1e8, 1.0 / 3.0, 100.5, 1e-45]
                .map(of),
            [
                "1e+10",
                "0.1",
                "0.9767611",
                "9.9999997e-06",
                "1.2345679e+08",
                "1",
                "-0",
                "10000000",
                "1e+08",
                "0.33333334",
                "100.5",
                "1.4012985e-45"
            ]
        );
        assert_eq!([f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(of), ["NaN", "INF", "-INF"]);
        assert_eq!(texts(&tensor1(&[true, false])).unwrap(), ["1", "0"]);
        assert_eq!(texts(&tensor1(&[u64::MAX])).unwrap(), ["18446744073709551615"]);
    }

    #[test]
    fn a_text_becomes_a_number_of_any_type() {
        let of = |text: &str, to: DatumType| {
            Words { to }
                .eval_out_of_place(&tensor1(&[text.to_owned()]), None)
                .map(|x| x.cast_to::<f64>().unwrap().into_owned())
        };
        for (text, to, right) in [
            ("-INF", DatumType::F64, f64::NEG_INFINITY),
            ("+INF", DatumType::F16, f64::INFINITY),
            (" 1e3", DatumType::F32, 1000.0),
            ("10000000000", DatumType::I64, 1e10),
            ("3.7", DatumType::I32, 3.0),
            ("0", DatumType::Bool, 0.0),
        ] {
            assert_eq!(of(text, to).unwrap(), tensor1(&[right]), "{text} to {to:?}");
        }
        assert!(of("true", DatumType::F32).is_err() && of("INF", DatumType::I64).is_err());
    }
}
