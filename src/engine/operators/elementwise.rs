//! Element by element: Celu (opset 12), Selu (6), Mod (13), SwiGLU (opset 28), CumSum (11) and CumProd (26),
//! Det (11), MatMul (13) of two vectors and of wide whole numbers.
//!
//! Source: ONNX, Operators.md. Celu: max(0, x) + min(0, α·(exp(x/α) − 1)). SwiGLU: a·σ(α·a)·b.
//! tract's Celu in f16 forgets the division, and in any type the α in front; its Selu knows the standard's α
//! and γ to five digits (0.23.9).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, seen, wrap};
use super::single;
use super::values::{
    around, axis, broadcast, broadcast_at, coordinates, floats, from_floats, from_wholes, ints, pairs, wholes,
};

#[derive(Debug)]
struct Celu {
    alpha: f64,
}

pub(super) fn celu(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let alpha = node.get_attr_opt::<f32>("alpha")?.unwrap_or(1.0).into();
    // Found by random graphs (seed 828): the outer α is forgotten in every type.
    if alpha != 1.0 {
        return wrap(context, node, Celu { alpha });
    }
    choose(context, node, Celu { alpha }, |inputs| {
        inputs[0].is_some_and(|fact| fact.datum_type != DatumType::F32)
    })
}

impl Literal for Celu {
    fn name(&self) -> &'static str {
        "Celu"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let celu = |x: f64| if x < 0.0 { self.alpha * (x / self.alpha).exp_m1() } else { x };
        let values: Vec<f64> = floats(x)?.into_iter().map(celu).collect();
        Ok(vec![from_floats(x.datum_type(), x.shape(), &values)?])
    }
}

/// tract's, with the standard's own numbers where the node has none.
pub(super) fn selu(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let mut node = node.clone();
    for (name, value) in [("alpha", 1.673_263_2), ("gamma", 1.050_701)] {
        if node.get_attr_opt::<f32>(name)?.is_none() {
            node.attribute.push(AttributeProto {
                name: name.to_owned(),
                r#type: AttributeType::Float.into(),
                f: value,
                ..AttributeProto::default()
            });
        }
    }
    single::stock(context, &node)
}

/// With `fmod` the sign of the dividend, else that of the divisor. tract takes the wrong operand for
/// one of them where shapes differ (0.23.9).
#[derive(Debug)]
struct Modulo {
    fmod: bool,
}

pub(super) fn modulo(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, Modulo { fmod: node.get_attr_opt::<i64>("fmod")?.unwrap_or(0) != 0 })
}

impl Literal for Modulo {
    fn name(&self) -> &'static str {
        "Mod"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let (shape, pairs) = pairs(a.shape(), b.shape())?;
        if a.datum_type().is_integer() {
            let (left, right) = (wholes(a)?, wholes(b)?);
            let rest = |(i, j): (usize, usize)| {
                let (a, b) = (left[i], right[j]);
                let rest = a.checked_rem(b).context("a remainder of a division by 0")?;
                Ok(if !self.fmod && rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
            };
            let values = pairs.map(rest).collect::<TractResult<Vec<_>>>()?;
            return Ok(vec![from_wholes(a.datum_type(), &shape, &values)?]);
        }
        let (left, right) = (floats(a)?, floats(b)?);
        let rest = |(i, j): (usize, usize)| {
            let (a, b) = (left[i], right[j]);
            let rest = a % b;
            if !self.fmod && rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        };
        Ok(vec![from_floats(a.datum_type(), &shape, &pairs.map(rest).collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (a, b) = (seen(inputs, 0)?, seen(inputs, 1)?);
        Ok(Some(vec![Form::of(a.datum_type, &multi_broadcast(&[&a.shape, &b.shape])?)]))
    }
}

#[derive(Debug)]
struct SwiGlu {
    alpha: f64,
}

pub(super) fn swiglu(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, SwiGlu { alpha: node.get_attr_opt::<f32>("alpha")?.unwrap_or(1.0).into() })
}

impl Literal for SwiGlu {
    fn name(&self) -> &'static str {
        "SwiGLU"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        ensure!(a.shape() == b.shape(), "shapes {:?} and {:?} differ", a.shape(), b.shape());
        let gated = |(a, b): (f64, f64)| a / (1.0 + (-self.alpha * a).exp()) * b;
        let values: Vec<f64> = floats(a)?.into_iter().zip(floats(b)?).map(gated).collect();
        Ok(vec![from_floats(a.datum_type(), a.shape(), &values)?])
    }
}

#[derive(Debug)]
struct Cumulative {
    product: bool,
    exclusive: bool,
    reverse: bool,
}

fn cumulative(context: &ParsingContext<'_>, node: &NodeProto, product: bool) -> Built {
    let flag = |name| -> TractResult<bool> { Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0) };
    wrap(context, node, Cumulative { product, exclusive: flag("exclusive")?, reverse: flag("reverse")? })
}

pub(super) fn cum_sum(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    cumulative(context, node, false)
}

pub(super) fn cum_prod(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    cumulative(context, node, true)
}

impl Cumulative {
    fn run<T: Copy>(&self, values: &[T], shape: &[usize], at: usize, one: T, join: fn(T, T) -> T) -> Vec<T> {
        let (before, length, behind) = around(shape, at);
        let mut out = values.to_vec();
        for outer in 0..before {
            for inner in 0..behind {
                let mut total = one;
                for step in 0..length {
                    let along = if self.reverse { length - 1 - step } else { step };
                    let flat = (outer * length + along) * behind + inner;
                    let joined = join(total, values[flat]);
                    out[flat] = if self.exclusive { total } else { joined };
                    total = joined;
                }
            }
        }
        out
    }
}

impl Literal for Cumulative {
    fn name(&self) -> &'static str {
        if self.product { "CumProd" } else { "CumSum" }
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let at = ints(inputs.need(1)?)?.first().copied().context("an empty axis")?;
        let at = axis(at, x.rank())?;
        let shape = x.shape();
        if x.datum_type().is_integer() {
            let (one, join): (i64, fn(i64, i64) -> i64) =
                if self.product { (1, i64::wrapping_mul) } else { (0, i64::wrapping_add) };
            let values = self.run(&ints(x)?, shape, at, one, join);
            return Ok(vec![Tensor::from_shape(shape, &values)?.cast_to_dt(x.datum_type())?.into_owned()]);
        }
        let (one, join): (f64, fn(f64, f64) -> f64) =
            if self.product { (1.0, |a, b| a * b) } else { (0.0, |a, b| a + b) };
        Ok(vec![from_floats(x.datum_type(), shape, &self.run(&floats(x)?, shape, at, one, join))?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        Ok(Some(vec![Form::of(x.datum_type, &x.shape)]))
    }
}

#[derive(Debug)]
struct Product;

/// MatMul of two vectors, and of whole numbers that tract has no product of; everything else is tract's.
pub(super) fn mat_mul(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    choose(context, node, Product, |inputs| {
        let narrow = [DatumType::I8, DatumType::U8, DatumType::I32];
        let wide = |fact: &TypedFact| {
            fact.datum_type.is_integer() && !narrow.contains(&fact.datum_type.unquantized())
        };
        inputs.iter().all(|fact| fact.is_some_and(|fact| fact.rank() == 1))
            || inputs.iter().all(|fact| fact.is_some_and(wide))
    })
}

impl Product {
    /// Shapes with the axes that the standard lends to vectors, and the shape of the batch.
    fn shapes<T: Clone>(
        a: &[T],
        b: &[T],
        one: &T,
        batch: impl Fn(&[T], &[T]) -> TractResult<Vec<T>>,
    ) -> TractResult<[Vec<T>; 3]> {
        ensure!(!a.is_empty() && !b.is_empty(), "a product of a scalar");
        let a = if let [k] = a { vec![one.clone(), k.clone()] } else { a.to_vec() };
        let b = if let [k] = b { vec![k.clone(), one.clone()] } else { b.to_vec() };
        let batch = batch(&a[..a.len() - 2], &b[..b.len() - 2])?;
        Ok([a, b, batch])
    }

    /// Without the axes that were lent.
    fn answer<T: Clone>(batch: &[T], rows: &T, columns: &T, lent: (bool, bool)) -> Vec<T> {
        let rows = std::iter::once(rows).filter(|_| !lent.0);
        let columns = std::iter::once(columns).filter(|_| !lent.1);
        batch.iter().chain(rows).chain(columns).cloned().collect()
    }

    /// Wraps as whole numbers do.
    fn whole(a: &Tensor, b: &Tensor) -> TractResult<Tensor> {
        let lent = (a.rank() == 1, b.rank() == 1);
        let [left, right, batch] = Self::shapes(a.shape(), b.shape(), &1, broadcast)?;
        let (rows, depth) = (left[left.len() - 2], left[left.len() - 1]);
        let columns = right[right.len() - 1];
        ensure!(depth == right[right.len() - 2], "shapes {:?} and {:?}", a.shape(), b.shape());
        let (x, y) = (ints(a)?, ints(b)?);
        let mut values = Vec::with_capacity(batch.iter().product::<usize>() * rows * columns);
        for at in coordinates(&batch) {
            let x = &x[broadcast_at(&left[..left.len() - 2], &at) * rows * depth..];
            let y = &y[broadcast_at(&right[..right.len() - 2], &at) * depth * columns..];
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                let each = (0..depth).map(|k| x[row * depth + k].wrapping_mul(y[k * columns + column]));
                values.push(each.fold(0_i64, i64::wrapping_add));
            }
        }
        let shape = Self::answer(&batch, &rows, &columns, lent);
        Ok(Tensor::from_shape(&shape, &values)?.cast_to_dt(a.datum_type())?.into_owned())
    }
}

impl Literal for Product {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        if a.datum_type().is_integer() {
            return Ok(vec![Self::whole(a, b)?]);
        }
        ensure!(a.rank() == 1 && a.shape() == b.shape(), "shapes {:?} and {:?}", a.shape(), b.shape());
        let sum: f64 = floats(a)?.into_iter().zip(floats(b)?).map(|(a, b)| a * b).sum();
        Ok(vec![from_floats(a.datum_type(), &[], &[sum])?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (a, b) = (seen(inputs, 0)?, seen(inputs, 1)?);
        let batched = |a: &[TDim], b: &[TDim]| Ok(multi_broadcast(&[a, b])?.to_vec());
        let [left, right, batch] = Self::shapes(&a.shape, &b.shape, &1.to_dim(), batched)?;
        let lent = (a.shape.len() == 1, b.shape.len() == 1);
        let shape = Self::answer(&batch, &left[left.len() - 2], &right[right.len() - 1], lent);
        Ok(Some(vec![Form::of(a.datum_type, &shape)]))
    }
}

/// MatMulInteger (opset 10) where one side is a vector; tract's keeps an axis too many.
#[derive(Debug)]
struct IntegerProduct;

pub(super) fn mat_mul_integer(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    choose(context, node, IntegerProduct, |inputs| {
        inputs[..2].iter().any(|fact| fact.is_some_and(|fact| fact.rank() == 1))
    })
}

/// Less its zero point: one number, or one for each of the last axis.
fn centred(tensor: &Tensor, zero: Option<&Tensor>) -> TractResult<Tensor> {
    let (mut values, zeros) = (ints(tensor)?, zero.map(ints).transpose()?.unwrap_or_else(|| vec![0]));
    let columns = tensor.shape().last().copied().unwrap_or(1);
    ensure!(zeros.len() == 1 || zeros.len() == columns, "{} zero points for {columns} columns", zeros.len());
    values.iter_mut().enumerate().for_each(|(at, value)| *value -= zeros[at % columns % zeros.len()]);
    Tensor::from_shape(tensor.shape(), &values)
}

impl Literal for IntegerProduct {
    fn name(&self) -> &'static str {
        "MatMulInteger"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (centred(inputs.need(0)?, inputs.get(2))?, centred(inputs.need(1)?, inputs.get(3))?);
        let product = Product::whole(&a, &b)?;
        let values: Vec<i32> = ints(&product)?.into_iter().map(|value| value as i32).collect();
        Ok(vec![Tensor::from_shape(product.shape(), &values)?])
    }
}

/// Mean (opset 8) of tensors whose ranks differ, which tract does not divide.
#[derive(Debug)]
struct Mean;

pub(super) fn mean(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    choose(context, node, Mean, |inputs| {
        let mut ranks = inputs.iter().flatten().map(|fact| fact.rank());
        let first = ranks.next();
        ranks.any(|rank| Some(rank) != first)
    })
}

impl Literal for Mean {
    fn name(&self) -> &'static str {
        "Mean"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let first = inputs.need(0)?;
        let all: Vec<&Tensor> = (0..).map_while(|at| inputs.get(at)).collect();
        let shape = all.iter().try_fold(vec![], |shape, tensor| broadcast(&shape, tensor.shape()))?;
        let mut sums = vec![0.0; shape.iter().product()];
        // Added up in f32 as ever: a sum that is too large for it is infinite, and so is its mean.
        let is_double = first.datum_type() == DatumType::F64;
        let added = |sum: f64, value: f64| {
            let sum = sum + value;
            if is_double { sum } else { f64::from(sum as f32) }
        };
        for tensor in &all {
            let values = floats(tensor)?;
            let places = coordinates(&shape).map(|at| broadcast_at(tensor.shape(), &at));
            sums.iter_mut().zip(places).for_each(|(sum, place)| *sum = added(*sum, values[place]));
        }
        sums.iter_mut().for_each(|sum| *sum /= all.len() as f64);
        Ok(vec![from_floats(first.datum_type(), &shape, &sums)?])
    }
}

#[derive(Debug)]
struct Det;

pub(super) fn det(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, Det)
}

impl Literal for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let (batch, [rows, columns]) = x.shape().split_last_chunk::<2>().context("a matrix")?;
        ensure!(rows == columns, "a matrix of {rows} × {columns}");
        let values = floats(x)?;
        let count = batch.iter().product::<usize>();
        let of = |i: usize| determinant(values[i * rows * rows..(i + 1) * rows * rows].to_vec(), *rows);
        Ok(vec![from_floats(x.datum_type(), batch, &(0..count).map(of).collect::<Vec<_>>())?])
    }
}

/// Gaussian elimination with the largest pivot of each column.
fn determinant(mut matrix: Vec<f64>, n: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..n {
        let size = |row: &usize| matrix[row * n + column].abs();
        let Some(pivot) = (column..n).max_by(|a, b| size(a).total_cmp(&size(b))) else { return 1.0 };
        if matrix[pivot * n + column] == 0.0 {
            return 0.0;
        }
        if pivot != column {
            (0..n).for_each(|i| matrix.swap(pivot * n + i, column * n + i));
            product = -product;
        }
        product *= matrix[column * n + column];
        for row in column + 1..n {
            let factor = matrix[row * n + column] / matrix[column * n + column];
            for i in column..n {
                matrix[row * n + i] -= factor * matrix[column * n + i];
            }
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    #[test]
    fn a_mean_is_taken_of_tensors_of_other_ranks() {
        let sample = Sample::default().input("x", DataType::F32, &[2]).weights("w", &[2, 1], &[4.0, 8.0]);
        let sample = sample.node("Mean", &["x", "w"], &["y"], &[]).output("y");
        let answer = sample.model().session().run(&[&Tensor::f32(&[2], vec![0.0, 2.0])]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[2, 2], vec![2.0, 3.0, 4.0, 5.0])]);
    }

    #[test]
    fn a_mean_is_infinite_where_the_sum_is() {
        let sample = Sample::default().input("x", DataType::F32, &[2]).weights("w", &[1, 1], &[f32::MAX]);
        let sample = sample.node("Mean", &["x", "w"], &["y"], &[]).output("y");
        let x = Tensor::f32(&[2], vec![f32::MAX, -f32::MAX]);
        let answer = sample.model().session().run(&[&x]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[1, 2], vec![f32::INFINITY, 0.0])]);
    }

    #[test]
    fn a_vector_of_bytes_loses_the_axis_that_was_lent_to_it() {
        const U8: Attribute<'_> = Attribute::Int("to", 2);
        let sample = Sample::default().input("x", DataType::F32, &[2]);
        let sample =
            sample.weights("w", &[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]).node("Cast", &["x"], &["a"], &[U8]);
        let sample = sample.integers("turned", &[1, 1, 2, 2]).node("Reshape", &["w", "turned"], &["r"], &[]);
        let sample =
            sample.node("Cast", &["r"], &["b"], &[U8]).node("MatMulInteger", &["a", "b"], &["y"], &[]);
        let answer =
            sample.output("y").model().session().run(&[&Tensor::f32(&[2], vec![10.0, 1.0])]).unwrap();
        let data = crate::base::Data::I32(vec![13, 24]);
        assert_eq!(answer, [Tensor { shape: vec![1, 1, 2], data }]);
    }
}
