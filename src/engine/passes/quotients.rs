//! A quotient is rounded once, and no whole number is divided by 0.
//!
//! tract makes every division of floats a product with the reciprocal (`declutter_div`, 0.23.9). That rounds
//! twice: 49 ÷ 49 is 0.99999994, of which Floor makes 0. And where the reciprocal leaves the numbers of its
//! type the quotient goes with it: 1e-40 ÷ 1e-40 is infinite, in f16 60000 ÷ 60000 is 1.0001 at best.
//! onnxruntime divides. So does this operator, which tract's rewrites leave alone. The product stays where it is the
//! same number, and where tract knows a faster operator and no digit tells: see [`is_as_good`].
//!
//! Whole numbers divided by 0 panic in tract; here they are an error that says where.
//! Goes when tract divides.

use std::collections::HashSet;

use tract_core::internal::*;
use tract_core::ops::array::Pad;
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::cnn::{Conv, MaxPool, SumPool};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Div, Erf, Exp, Max, Min, Mul, Pow, Sqrt, Square, Sub, Tanh};
use tract_core::ops::nn::{HardSwish, LeakyRelu, Reduce, Reducer, Sigmoid};

use super::within;

/// tract's division, which is not rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Quotient;

/// Makes every division a quotient, loops and branches included.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &apply)?;
        if let Some(TypedBinOp(op, datum_type)) = model.node(id).op_as::<TypedBinOp>()
            && op.is::<Div>()
            && !is_as_good(model, model.node(id))?
        {
            model.node_mut(id).op = Box::new(TypedBinOp(Box::new(Quotient), *datum_type));
        }
    }
    Ok(())
}

/// Makes every quotient a division again: a file has no other word for it.
pub(super) fn take_down(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &take_down)?;
        if let Some(TypedBinOp(op, datum_type)) = model.node(id).op_as::<TypedBinOp>()
            && op.is::<Quotient>()
        {
            model.node_mut(id).op = Box::new(TypedBinOp(Box::new(Div), *datum_type));
        }
    }
    Ok(())
}

/// Whether tract's own way gives the same number, or as good a one:
///
/// - 1 or −1 divided by anything, anything divided by a power of two;
/// - by a root, as norms are: its reciprocal is never too large or too small, and the whole becomes RmsNorm;
/// - by a constant in front of Erf: the whole becomes Gelu;
/// - by a constant in front of convolutions and matrix products, as in HardSwish: the product is fused;
/// - the sum of squares by their number: MeanOfSquares.
fn is_as_good(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let [above, below] = [0, 1].map(|slot| model.outlet_fact(node.inputs[slot]));
    let (above, below) = (above?, below?);
    let datum_type = below.datum_type;
    let constant = |fact: &TypedFact| -> TractResult<Option<f64>> {
        fact.uniform.as_ref().map(|uniform| uniform.cast_to_scalar::<f64>()).transpose()
    };
    if !datum_type.is_float() {
        let has_no_zero = |fact: &TypedFact| match &fact.konst {
            Some(konst) => Ok(is_without_zero(konst)?),
            None => TractResult::Ok(false),
        };
        return Ok(datum_type == DatumType::TDim || datum_type.is_quantized() || has_no_zero(below)?);
    }
    if constant(above)?.is_some_and(|above| above.abs() == 1.0) {
        return Ok(true);
    }
    let made_by = |slot: usize| model.node(node.inputs[slot].node);
    let is_root = |node: &TypedNode| node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Sqrt>());
    let Some(divisor) = constant(below)? else {
        return Ok(datum_type != DatumType::F16 && is_root(made_by(1)));
    };
    let (least, most) = match datum_type {
        DatumType::F16 => (2_f64.powi(-14), 2_f64.powi(14)),
        DatumType::F32 => (2_f64.powi(-126), 2_f64.powi(126)),
        _ => (2_f64.powi(-1022), 2_f64.powi(1022)),
    };
    if !(least..=most).contains(&divisor.abs()) {
        return Ok(false);
    }
    if let Some(count) = squares_in(model, made_by(0))? {
        return Ok(divisor == count && datum_type == DatumType::F32);
    }
    let next = model.single_succ(node.id)?;
    if next.and_then(|next| next.op_as::<ElementWiseOp>()).is_some_and(|op| op.0.is::<Erf>()) {
        return Ok(true);
    }
    // Beside another factor the two would become one.
    let is_product =
        |node: &TypedNode| node.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Mul>() || op.0.is::<Div>());
    let is_alone = !is_product(made_by(0)) && next.is_none_or(|next| !is_product(next));
    Ok(divisor.to_bits().trailing_zeros() >= 52 && is_alone
        || datum_type == DatumType::F32 && is_only_summed(model, node)?)
}

/// Whether all that is made of a node's numbers goes into sums of many, where one more rounding of each is lost among
/// the others; and nothing on the way there rounds to whole numbers, compares, or leaves the model.
fn is_only_summed(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let mut open = vec![node];
    let mut seen = HashSet::from([node.id]);
    while let Some(node) = open.pop() {
        let outputs = 0..node.outputs.len();
        if outputs
            .clone()
            .any(|slot| model.output_outlets().is_ok_and(|all| all.contains(&(node.id, slot).into())))
        {
            return Ok(false);
        }
        for reader in node.outputs.iter().flat_map(|output| &output.successors) {
            let reader = model.node(reader.node);
            if sums(reader) || !seen.insert(reader.id) {
                continue;
            }
            if !is_smooth(reader) {
                return Ok(false);
            }
            open.push(reader);
        }
    }
    Ok(true)
}

fn sums(node: &TypedNode) -> bool {
    let reduces = node.op_as::<Reduce>().is_some_and(|reduce| reduce.reducer == Reducer::Sum);
    reduces || node.op_is::<Conv>() || node.op_is::<EinSum>() || node.op_is::<SumPool>()
}

fn is_smooth(node: &TypedNode) -> bool {
    if let Some(op) = node.op_as::<ElementWiseOp>() {
        let op = &*op.0;
        return op.is::<Sigmoid>()
            || op.is::<Tanh>()
            || op.is::<HardSwish>()
            || op.is::<LeakyRelu>()
            || op.is::<Exp>();
    }
    if let Some(op) = node.op_as::<TypedBinOp>() {
        let op = &*op.0;
        return op.is::<Add>() || op.is::<Sub>() || op.is::<Mul>() || op.is::<Min>() || op.is::<Max>();
    }
    node.op_is::<AxisOp>() || node.op_is::<MaxPool>() || node.op_is::<Pad>()
}

/// How many squares a node adds up, where it does nothing else.
pub(super) fn squares_in(model: &TypedModel, sum: &TypedNode) -> TractResult<Option<f64>> {
    let Some(reduce) = sum.op_as::<Reduce>().filter(|reduce| reduce.reducer == Reducer::Sum) else {
        return Ok(None);
    };
    let squares = model.node(sum.inputs[0].node);
    let is_square = match (squares.op_as::<ElementWiseOp>(), squares.op_as::<TypedBinOp>()) {
        (Some(op), _) => op.0.is::<Square>(),
        (_, Some(op)) => op.0.is::<Pow>() || op.0.is::<Mul>() && squares.inputs[0] == squares.inputs[1],
        _ => false,
    };
    let from = &model.outlet_fact(sum.inputs[0])?.shape;
    let count: TDim = reduce.axes.iter().map(|axis| &from[*axis]).product();
    Ok(count.to_i64().ok().filter(|_| is_square).map(|count| count as f64))
}

fn is_without_zero(tensor: &Tensor) -> TractResult<bool> {
    Ok(tensor.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.iter().all(|x| *x != 0))
}

/// `a` divided by what of `b` is broadcast to it, where that is one number for each run of neighbours or
/// one row for all. `false`: neither.
fn in_runs<T: Datum + Copy + std::ops::Div<Output = T>>(a: &mut Tensor, b: &Tensor) -> TractResult<bool> {
    let (shape, of) = (a.shape().to_vec(), b.shape());
    let longer = |length: &usize| *length != 1;
    let first = of.iter().position(longer).unwrap_or(of.len());
    let last = of.iter().rposition(longer).map_or(0, |last| last + 1);
    let (before, behind) = (shape[..first.min(last)].iter(), shape[last..].iter());
    if shape.get(first..last).unwrap_or_default() != of.get(first..last).unwrap_or_default() {
        return Ok(false);
    }
    let (before, run) = (before.product::<usize>(), behind.product::<usize>());
    if before * run * b.len() == 0 || before * run * b.len() != a.len() {
        return Ok(false);
    }
    let plain = b.try_as_plain_ram()?;
    let divisors = plain.as_slice::<T>()?;
    let mut a = a.try_as_plain_ram_mut()?;
    for row in a.as_slice_mut::<T>()?.chunks_mut(run * divisors.len()) {
        if run == 1 {
            row.iter_mut().zip(divisors).for_each(|(a, b)| *a = *a / *b);
            continue;
        }
        for (run, divisor) in row.chunks_mut(run).zip(divisors) {
            run.iter_mut().for_each(|a| *a = *a / *divisor);
        }
    }
    Ok(true)
}

fn checked(divisor: &Tensor) -> TractResult<()> {
    let whole = !divisor.datum_type().is_float() && divisor.datum_type() != DatumType::TDim;
    ensure!(!whole || is_without_zero(divisor)?, "a whole number is divided by 0; keep 0 out of the divisor");
    Ok(())
}

impl BinMiniOp for Quotient {
    fn name(&self) -> &'static str {
        "Div"
    }

    fn result_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        Div.result_datum_type(a, b)
    }

    fn is_commutative(&self) -> bool {
        false
    }

    fn eval_in_a(&self, a: &mut Tensor, b: &Tensor) -> TractResult<()> {
        checked(b)?;
        let done = match a.datum_type() {
            DatumType::F32 => in_runs::<f32>(a, b)?,
            DatumType::F64 => in_runs::<f64>(a, b)?,
            _ => false,
        };
        if done { Ok(()) } else { Div.eval_in_a(a, b) }
    }

    fn eval_out_of_place(&self, c: &mut Tensor, a: &Tensor, b: &Tensor) -> TractResult<()> {
        checked(b)?;
        Div.eval_out_of_place(c, a, b)
    }
}

#[cfg(test)]
mod tests {
    use tract_core::internal::*;
    use tract_core::ops::binary::TypedBinOp;
    use tract_core::ops::einsum::EinSum;
    use tract_core::ops::math::{div, floor};
    use tract_core::ops::nn::sigmoid;

    use super::Quotient;
    use crate::base::{Data, DataType, Tensor};
    use crate::engine::passes;
    use crate::engine::sample::Sample;

    /// `x` by a constant, or by another input.
    fn divided(x: &[f32], by: &[f32], constant: bool, then: &str) -> Vec<f32> {
        let length = x.len() as i64;
        let sample = Sample::default().input("x", DataType::F32, &[length]);
        let sample = match constant {
            true => sample.weights("by", &[by.len() as u64], by),
            false => sample.input("by", DataType::F32, &[by.len() as i64]),
        };
        let sample =
            sample.node("Div", &["x", "by"], &["q"], &[]).node(then, &["q"], &["y"], &[]).output("y");
        let (x, by) = (Tensor::f32(&[x.len()], x.to_vec()), Tensor::f32(&[by.len()], by.to_vec()));
        let given: &[&Tensor] = if constant { &[&x] } else { &[&x, &by] };
        sample.model().session().run(given).unwrap()[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn a_number_by_itself_is_one_and_its_whole_part_too() {
        let all: Vec<f32> = (1..400).map(|whole| whole as f32).collect();
        assert_eq!(divided(&all, &all, false, "Floor"), vec![1.0; all.len()]);
        for by in &all {
            assert_eq!(divided(&[*by, 2.0 * by], &[*by], true, "Floor"), [1.0, 2.0], "{by}");
        }
    }

    #[test]
    fn a_divisor_whose_reciprocal_is_no_number_divides_all_the_same() {
        for constant in [false, true] {
            let of = |x: &[f32], by: f32| divided(x, &[by], constant, "Identity");
            assert_eq!(of(&[1e-40, -3e-41, 0.0], 1e-40), [1.0, -3e-41 / 1e-40, 0.0]);
            let small = f32::MIN_POSITIVE;
            assert_eq!(of(&[1.0, small], -1e-42), [f32::NEG_INFINITY, small / -1e-42]);
            assert_eq!(of(&[3e38, 1.5e38], 3e38), [1.0, 0.5]);
        }
    }

    #[test]
    fn a_row_a_column_and_one_number_divide_alike() {
        let x: Vec<f32> = (0..24).map(|i| (i * i) as f32 - 50.0).collect();
        for shape in [&[1_u64][..], &[4], &[3, 1], &[3, 4], &[2, 1, 1], &[2, 3, 1], &[1, 3, 1], &[2, 1, 4]] {
            let count = shape.iter().product::<u64>() as usize;
            let by: Vec<f32> = (0..count).map(|i| i as f32 * 7.0 + 3.0).collect();
            let sample = Sample::default().input("x", DataType::F32, &[2, 3, 4]).weights("by", shape, &by);
            let model = sample.node("Div", &["x", "by"], &["y"], &[]).output("y").model();
            let answer = model.session().run(&[&Tensor::f32(&[2, 3, 4], x.clone())]).unwrap();
            let full: Vec<usize> = shape.iter().map(|length| *length as usize).collect();
            let at = |i: usize| {
                let place = [i / 12, i / 4 % 3, i % 4];
                let behind = &place[3 - full.len()..];
                let along = |(length, at): (&usize, &usize)| if *length == 1 { 0 } else { *at };
                full.iter().zip(behind).fold(0, |flat, pair| flat * pair.0 + along(pair))
            };
            let right: Vec<f32> = x.iter().enumerate().map(|(i, x)| x / by[at(i)]).collect();
            assert_eq!(answer[0].as_f32().unwrap(), right, "{shape:?}");
        }
    }

    #[test]
    fn a_whole_number_by_0_is_an_error_and_the_least_by_minus_one_wraps() {
        let sample = Sample::default().input("x", DataType::I64, &[1]).input("by", DataType::I64, &[1]);
        let mut session = sample.node("Div", &["x", "by"], &["y"], &[]).output("y").model().session();
        let number = |value| Tensor { shape: vec![1], data: Data::I64(vec![value]) };
        let error = session.run(&[&number(6), &number(0)]).unwrap_err();
        let mut told = vec![error.to_string()];
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            told.push(error.to_string());
            cause = error.source();
        }
        let told = told.join(": ");
        assert!(told.contains("\"y\" Div: a whole number is divided by 0"), "{told}");
        let wrapped = session.run(&[&number(i64::MIN), &number(-1)]).unwrap();
        assert_eq!(wrapped, [number(i64::MIN)]);
        assert_eq!(session.run(&[&number(-7), &number(2)]).unwrap(), [number(-3)]);
    }

    /// The names of what computes of two numbers.
    fn binaries(model: &TypedModel) -> Vec<&'static str> {
        let name = |node: &TypedNode| {
            let op = &*node.op_as::<TypedBinOp>()?.0;
            Some(if op.is::<Quotient>() { "Quotient" } else { op.name() })
        };
        model.nodes().iter().filter_map(name).collect()
    }

    /// A row by 49, and what else is made of it.
    fn by_49(then: impl Fn(&mut TypedModel, OutletId) -> TVec<OutletId>) -> TypedModel {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact([1, 2])).unwrap();
        let by = model.add_const("by", tensor2(&[[49_f32]])).unwrap();
        let quotient = model.wire_node("q", div(), &[x, by]).unwrap()[0];
        let outputs = then(&mut model, quotient);
        model.select_output_outlets(&outputs).unwrap();
        model
    }

    #[test]
    fn in_a_file_a_quotient_is_a_division() {
        let model = by_49(|_, quotient| tvec!(quotient));
        assert_eq!(binaries(&passes::apply(model.clone()).unwrap()), ["Quotient"]);
        assert_eq!(binaries(&passes::to_save(model).unwrap()), ["Div"]);
    }

    #[test]
    fn only_what_nobody_sees_before_it_is_summed_is_a_product() {
        let summed = |model: &mut TypedModel, quotient: OutletId| {
            let weights = model.add_const("w", tensor2(&[[1_f32, 2.0], [3.0, 4.0]])).unwrap();
            let product = EinSum::new(
                AxesMapping::for_numpy_matmul(2, false, false, false).unwrap(),
                f32::datum_type(),
            );
            let sigmoid = model.wire_node("s", sigmoid(), &[quotient]).unwrap()[0];
            model.wire_node("y", product, &[sigmoid, weights]).unwrap()
        };
        assert_eq!(binaries(&passes::apply(by_49(summed)).unwrap()), ["Mul"]);
        let seen = by_49(|model, quotient| {
            let mut outputs = summed(model, quotient);
            outputs.push(model.wire_node("f", floor(), &[quotient]).unwrap()[0]);
            outputs
        });
        assert_eq!(binaries(&passes::apply(seen).unwrap()), ["Quotient"]);
    }
}
