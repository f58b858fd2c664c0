//! A pooling over all places, row by row.
//!
//! For each element of its answer tract's largest, smallest and sum go through an index of any number of axes, allocated
//! anew (0.23.9); and a build for size inlines none of it. Where the axes are the last ones, what goes into an element
//! stands side by side: here it is taken as the slice that it is, in tract's own order, so that the answer is tract's.

use tract_core::internal::*;
use tract_core::ops::nn::{Reduce, Reducer};
use tract_core::tract_linalg::routines::Func;

use super::eight_sums::eight_sums;

/// Takes the place of tract's operators in a graph that is optimised already.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let Some(reduce) = node.op_as::<Reduce>() else { continue };
        if let Some(ours) = RowByRow::of(reduce, model.outlet_fact(node.inputs[0])?) {
            model.node_mut(id).op = Box::new(ours);
        }
    }
    Ok(())
}

/// The reduction itself, whoever computes it.
pub(super) fn reduction(op: &dyn TypedOp) -> Option<&Reduce> {
    op.downcast_ref::<RowByRow>().map(|ours| &ours.0).or_else(|| op.downcast_ref())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RowByRow(Reduce);

impl RowByRow {
    fn of(reduce: &Reduce, input: &TypedFact) -> Option<Self> {
        let rank = input.rank();
        let last = reduce.axes.iter().copied().eq(rank.saturating_sub(reduce.axes.len())..rank);
        let known = match reduce.reducer {
            Reducer::Max | Reducer::Min => !reduce.axes.is_empty(),
            // Of one axis tract takes slices as well, and all in blocks.
            Reducer::Sum => (2..rank).contains(&reduce.axes.len()),
            _ => false,
        };
        (known && last && input.datum_type == DatumType::F32).then(|| Self(reduce.clone()))
    }
}

impl Op for RowByRow {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.0.info()
    }

    op_as_typed_op!();
}

impl EvalOp for RowByRow {
    op_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (kept, reduced) = inputs[0].shape().split_at(inputs[0].rank() - self.0.axes.len());
        let length: usize = reduced.iter().product();
        if length == 0 {
            return self.0.eval(context, inputs);
        }
        let shape: TVec<usize> = kept.iter().copied().chain(reduced.iter().map(|_| 1)).collect();
        let plain = inputs[0].try_as_plain_ram()?;
        let rows = plain.as_slice::<f32>()?.chunks_exact(length);
        let answers: Vec<f32> = match self.0.reducer {
            Reducer::Max => {
                let largest = Func::ReduceMax.reduce_f32()?;
                rows.map(|row| largest.run(row)).collect::<TractResult<_>>()?
            }
            Reducer::Min => {
                let smallest = Func::ReduceMin.reduce_f32()?;
                rows.map(|row| smallest.run(row)).collect::<TractResult<_>>()?
            }
            _ => rows.map(sum).collect(),
        };
        Ok(tvec!(Tensor::from_shape(&shape, &answers)?.into_tvalue()))
    }
}

impl TypedOp for RowByRow {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}

/// As `ndarray` adds.
fn sum(row: &[f32]) -> f32 {
    let ([a, b, c, d, e, f, g, h], rest) = eight_sums(row);
    let sum = 0.0 + (a + e) + (b + f) + (c + g) + (d + h);
    rest.iter().fold(sum, |sum, x| sum + x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pooled_rows_are_tracts_own_bit_for_bit(
            shape in prop::collection::vec(1_usize..7, 2..5),
            reducer in prop::sample::select(vec![Reducer::Max, Reducer::Min, Reducer::Sum]),
            axes in 1_usize..4,
            seed in any::<u32>(),
        ) {
            let axes = axes.min(shape.len());
            let reduce = Reduce::new((shape.len() - axes..shape.len()).collect(), reducer);
            let ours = RowByRow::of(&reduce, &f32::fact(&shape));
            prop_assert_eq!(ours.is_some(), reducer != Reducer::Sum || (2..shape.len()).contains(&axes));
            let mut state = seed | 1;
            let mut number = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 65_536.0 - 100.0
            };
            let numbers: Vec<f32> = (0..shape.iter().product::<usize>()).map(|_| number()).collect();
            let input = Tensor::from_shape(&shape, &numbers).unwrap().into_tvalue();
            if let Some(ours) = ours {
                let right = reduce.eval_out_of_plan(tvec!(input.clone())).unwrap().unwrap();
                prop_assert_eq!(ours.eval_out_of_plan(tvec!(input)).unwrap().unwrap(), right);
            }
        }
    }

    #[test]
    fn other_axes_types_and_reductions_stay_tracts() {
        let of = |axes: &[usize], reducer, fact: &TypedFact| {
            RowByRow::of(&Reduce::new(axes.into(), reducer), fact).is_some()
        };
        let (floats, whole) = (f32::fact([2, 3, 4]), i64::fact([2, 3, 4]));
        assert!(of(&[1, 2], Reducer::Max, &floats));
        assert!(!of(&[0, 2], Reducer::Max, &floats) && !of(&[0, 1], Reducer::Max, &floats));
        assert!(!of(&[1, 2], Reducer::Max, &whole) && !of(&[1, 2], Reducer::Prod, &floats));
    }

    #[test]
    fn rows_without_elements_are_answered_as_tract_does() {
        let reduce = Reduce::new(tvec!(1, 2), Reducer::Sum);
        let ours = RowByRow::of(&reduce, &f32::fact([2, 0, 3])).unwrap();
        let input = Tensor::zero::<f32>(&[2, 0, 3]).unwrap().into_tvalue();
        let answer = ours.eval_out_of_plan(tvec!(input)).unwrap().unwrap();
        assert_eq!(*answer[0], Tensor::zero::<f32>(&[2, 1, 1]).unwrap());
    }
}
