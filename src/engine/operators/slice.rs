//! Slice (opset 1 to 13) that takes nothing, whose start or end lies in front of everything, or whose step is beyond
//! 32 bits.
//!
//! Source: ONNX, Operators.md; NumPy's indices. tract cuts steps to 32 bits, takes some of the least numbers for
//! the end forwards too, and fails or turns round where the start lies behind the end, or in front of
//! everything, and takes what lies beyond an axis whose length only values tell (0.23.9). Other slices are
//! its own, and so are those whose bounds only a run tells. Below opset 10 the bounds are attributes; there every
//! slice is ours, of tract's parts.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::array;
use tract_onnx::tract_hir::tract_core::ops::identity::Identity;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, seen};
use super::values::{axis, coordinates, ints, pick, strides};

#[derive(Debug)]
struct Slice;

/// First index, step and number of elements along one axis.
#[derive(Debug, PartialEq)]
struct Taken {
    axis: usize,
    first: usize,
    step: i64,
    count: usize,
    /// Its start lies in front of the first element.
    in_front: bool,
}

pub(super) fn slice(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    if context.onnx_operator_set_version < 10 {
        let (starts, ends) = (node.get_attr_vec("starts")?, node.get_attr_vec("ends")?);
        return Ok((expand(Bounds { starts, ends, axes: node.get_attr_opt_vec("axes")? }), vec![]));
    }
    choose(context, node, Slice, |inputs| odd(inputs).unwrap_or(false))
}

/// Whether tract would not do; `None` where not all is known.
fn odd(inputs: &[Option<&TypedFact>]) -> Option<bool> {
    // Where a length is told by values, tract takes the bounds for lying within it.
    let Some(lengths) = inputs[0]?.shape.as_concrete() else { return Some(true) };
    let lengths = lengths.to_vec();
    let constant = |at: usize| match inputs.get(at).copied().flatten() {
        Some(fact) => ints(fact.konst.as_ref()?).ok().map(Some),
        None => Some(None),
    };
    let taken = taken(&lengths, &constant(1)??, &constant(2)??, constant(3)?, constant(4)?).ok()?;
    let odd = |taken: &Taken| {
        taken.count == 0 || i32::try_from(taken.step).is_err() || (taken.in_front && taken.step < 0)
    };
    Some(taken.iter().any(odd))
}

fn taken(
    lengths: &[usize],
    starts: &[i64],
    ends: &[i64],
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> TractResult<Vec<Taken>> {
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    let one = |at: usize| {
        let missing = || format!("a start, an end, an axis and a step for each of {} axes", starts.len());
        let [start, end, step] = [starts, ends, &steps].map(|list| list.get(at).copied());
        let (start, end, step) =
            (start.with_context(missing)?, end.with_context(missing)?, step.with_context(missing)?);
        let axis = axis(*axes.get(at).with_context(missing)?, lengths.len())?;
        let length = lengths[axis] as i64;
        let counted = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        // The standard's clamp, not NumPy's: a start in front of everything is the first element even backwards.
        let first = counted(start).clamp(0, high.max(0));
        // The largest number is the end of the way, also backwards: so onnxruntime reads the standard's advice.
        let to_the_end = end == i64::MAX || end == i64::from(i32::MAX);
        let end = if to_the_end && step < 0 { low } else { counted(end).clamp(low, high) };
        let way = if step > 0 { end - first } else { first - end };
        ensure!(step != 0, "a step of 0");
        let way = if length == 0 { 0 } else { way };
        let count = way.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
        Ok(Taken { axis, first: first as usize, step, count: count as usize, in_front: counted(start) < 0 })
    };
    (0..starts.len()).map(one).collect()
}

impl Literal for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let optional = |at: usize| inputs.get(at).map(ints).transpose();
        let (starts, ends) = (ints(inputs.need(1)?)?, ints(inputs.need(2)?)?);
        let taken = taken(x.shape(), &starts, &ends, optional(3)?, optional(4)?)?;
        let mut shape = x.shape().to_vec();
        taken.iter().for_each(|taken| shape[taken.axis] = taken.count);
        let own = strides(x.shape());
        let places = coordinates(&shape).map(|mut at| {
            for Taken { axis, first, step, .. } in &taken {
                // Within the axis, or there would not be as many.
                at[*axis] = (*first as i64 + at[*axis] as i64 * step) as usize;
            }
            Some(at.iter().zip(&own).map(|(at, stride)| at * stride).sum())
        });
        Ok(vec![pick(x, &shape, &places.collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        if x.lengths().is_ok() {
            return Ok(None);
        }
        // Which axes are cut is known, or all may be.
        let axes = match inputs.get(3).and_then(Option::as_ref) {
            None => inputs
                .get(1)
                .and_then(Option::as_ref)
                .and_then(|starts| starts.lengths().ok()?.first().copied())
                .map(|count| (0..count).collect()),
            Some(axes) => axes
                .value
                .as_deref()
                .map(|axes| {
                    ints(axes)?.into_iter().map(|at| axis(at, x.shape.len())).collect::<TractResult<Vec<_>>>()
                })
                .transpose()?,
        };
        let cut = |at: &usize| axes.as_ref().is_none_or(|axes| axes.contains(at));
        let shape = x.shape.iter().enumerate().map(|(at, length)| (!cut(&at)).then(|| length.clone()));
        Ok(Some(vec![Form::open(x.datum_type, shape.collect())]))
    }
}

/// A slice whose bounds stand in the node.
#[derive(Clone, Debug)]
struct Bounds {
    starts: Vec<i64>,
    ends: Vec<i64>,
    axes: Option<Vec<i64>>,
}

impl Bounds {
    fn taken(&self, shape: &[TDim]) -> TractResult<Vec<Taken>> {
        let lengths = shape.iter().map(|length| Ok(length.to_usize()?)).collect::<TractResult<Vec<_>>>()?;
        taken(&lengths, &self.starts, &self.ends, self.axes.clone(), None)
    }
}

impl Expansion for Bounds {
    fn name(&self) -> StaticName {
        "Slice".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.given(&inputs[0].shape, move |s, shape| {
            let taken = self.taken(&shape)?;
            let mut shape = shape;
            taken.iter().for_each(|taken| shape[taken.axis] = taken.count.to_dim());
            s.equals(&outputs[0].shape, ShapeFactoid::from(shape))
        })
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut wire = inputs[0];
        for Taken { axis, first, count, .. } in self.taken(&model.outlet_fact(wire)?.shape.to_tvec())? {
            let slice = array::Slice::new(axis, first, first + count);
            wire = model.wire_node(format!("{name}.axis-{axis}"), slice, &[wire])?[0];
        }
        model.wire_node(name, Identity, &[wire])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DataType;
    use crate::engine::sample::Sample;

    fn of(start: i64, end: i64, step: i64) -> Vec<f32> {
        let bounds = [("from", start), ("to", end), ("axis", 0), ("step", step)];
        let sample = Sample::default().input("x", DataType::F32, &[6]);
        let sample = bounds.iter().fold(sample, |sample, (name, value)| sample.integers(name, &[*value]));
        let model =
            sample.node("Slice", &["x", "from", "to", "axis", "step"], &["y"], &[]).output("y").model();
        let x = crate::base::Tensor::f32(&[6], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        model.session().run(&[&x]).unwrap()[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn a_slice_is_numpys_whatever_its_step() {
        const FAR: i64 = 1 << 62;
        assert_eq!(of(1, i64::MAX, FAR), [1.0]);
        assert_eq!(of(-2, i64::MIN, -FAR), [4.0]);
        assert_eq!(of(0, i64::MAX, i64::MAX), [0.0]);
        assert_eq!(of(0, i64::MAX, i64::MIN), [0.0]);
        assert_eq!(of(5, -i64::MAX, -5), [5.0, 0.0]);
        assert_eq!(of(-10, i64::MIN, -1), [0.0]);
        assert_eq!(of(3, i64::from(i32::MAX), -2), [3.0, 1.0]);
        for (start, end, step) in [
            (-1, i64::MIN, 1),
            (5, 0, 5),
            (i64::MAX, -i64::MAX, 5),
            (0, 4, -5),
            (1, i64::from(i32::MAX) - 1, -1),
            (2, 3, -FAR),
            (6, 9, 1),
        ] {
            assert_eq!(of(start, end, step), [0.0; 0], "{start}:{end}:{step}");
        }
    }

    #[test]
    fn an_axis_whose_length_values_tell_is_cut_within_it() {
        let cut = |start: i64, end: i64, step: i64| {
            let bounds = [("from", start), ("to", end), ("axis", 1), ("step", step)];
            let sample =
                Sample::default().input("x", DataType::F32, &[6]).node("NonZero", &["x"], &["at"], &[]);
            let sample = bounds.iter().fold(sample, |sample, (name, value)| sample.integers(name, &[*value]));
            let model =
                sample.node("Slice", &["at", "from", "to", "axis", "step"], &["y"], &[]).output("y").model();
            let x = crate::base::Tensor::f32(&[6], vec![0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
            let answer = model.session().run(&[&x]).unwrap().remove(0);
            match answer.data {
                crate::base::Data::I64(values) => values,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(cut(1, i64::MIN, 1), [0; 0]);
        assert_eq!(cut(-74, i64::from(i32::MAX), 1), [1, 2, 4, 5]);
        assert_eq!(cut(1, 3, 1), [2, 4]);
        assert_eq!(cut(2, 90, 1), [4, 5]);
        assert_eq!(cut(-1, i64::MIN, -2), [5, 2]);
    }

    #[test]
    fn a_step_along_an_axis_that_was_added_is_optimised() {
        let sample =
            Sample::default().input("x", DataType::F32, &[3]).integers("first", &[0]).integers("back", &[-2]);
        let sample = sample.integers("to", &[i64::MIN]).node("Unsqueeze", &["x", "first"], &["u"], &[]);
        let sample = sample.node("Slice", &["u", "first", "to", "first", "back"], &["y"], &[]).output("y");
        let x = crate::base::Tensor::f32(&[3], vec![0.0, 1.0, 2.0]);
        assert_eq!(sample.model().session().run(&[&x]).unwrap()[0].as_f32(), x.as_f32());
    }

    #[test]
    fn what_is_taken_is_counted_from_either_end() {
        let one = |start, end, step| {
            let mut all = taken(&[5], &[start], &[end], None, Some(vec![step])).unwrap();
            let Taken { first, count, .. } = all.remove(0);
            (first, count)
        };
        assert_eq!(
            [one(0, 5, 2), one(-1, -6, -2), one(-9, 9, 1), one(4, -9, -1)],
            [(0, 3), (4, 3), (0, 5), (4, 5)]
        );
    }
}
