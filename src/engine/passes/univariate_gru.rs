//! A GRU over one channel runs.
//!
//! tract fuses a GRU into one operator (`GruSeq`); for small ones it multiplies the whole sequence
//! with the input weights itself. With a single channel that product comes out column by column and
//! the operator gives up ("xw not contiguous", 0.23.9). Here the product becomes a node of its own,
//! as tract does for large ones. Goes when tract takes any order of the product.

use tract_core::internal::{AxisOp, TypedModelPatch};
use tract_core::ops::array::Slice;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::gru_seq::GruSeq;
use tract_core::ops::math;
use tract_core::prelude::{DatumType, TractResult, TypedModel, tvec};

/// Rewrites every such node of the outer graph.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let Some(gru) = model.node(id).op_as::<GruSeq>().cloned() else { continue };
        let channels = model.outlet_fact(model.node(id).inputs[0])?.shape.get(2).cloned();
        if gru.projected || !channels.is_some_and(|channels| channels.is_one()) {
            continue;
        }
        let patch = projected(model, id, gru)?;
        patch.apply(model)?;
    }
    Ok(())
}

/// Inputs of the node: X `[batch, time, channel]`, W `[3 · hidden, channel]`, R, perhaps B, initial h.
fn projected(model: &TypedModel, id: usize, gru: GruSeq) -> TractResult<TypedModelPatch> {
    let node = model.node(id);
    let mut patch = TypedModelPatch::new("input product of a univariate GRU");
    let taps = patch.taps(model, &node.inputs)?;
    let name = &node.name;
    let product = EinSum { axes: "btk,gk->btg".parse()?, operating_dt: DatumType::F32, q_params: None };
    let mut product = patch.wire_node(format!("{name}.xw"), product, &[taps[0], taps[1]])?[0];
    if gru.has_bias {
        // The first half of B belongs to the input, the second to the recurrence.
        let axes = patch.outlet_fact(taps[3])?.shape.len();
        let half = Slice::new(axes - 1, 0, 3 * gru.hidden);
        let mut bias = patch.wire_node(format!("{name}.wb"), half, &[taps[3]])?[0];
        for axis in axes..3 {
            bias = patch.wire_node(format!("{name}.wb.axis-{axis}"), AxisOp::Add(0), &[bias])?[0];
        }
        product = patch.wire_node(format!("{name}.xw_b"), math::add(), &[product, bias])?[0];
    }
    let mut inputs = tvec!(product);
    inputs.extend(taps[2..].iter().copied());
    let outputs = patch.wire_node(name.clone(), GruSeq { projected: true, ..gru }, &inputs)?;
    for (slot, output) in outputs.iter().enumerate() {
        patch.shunt_outside(model, (id, slot).into(), *output)?;
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::engine::sample;

    #[test]
    fn one_channel_gives_what_two_give_when_the_second_is_silent() {
        let series = [1.0, -1.0, 0.5, 2.0];
        let silent = series.iter().flat_map(|value| [*value, 0.0]).collect();
        let state = Tensor::f32(&[1, 1, 2], vec![0.3, -0.2]);
        let mut narrow = sample::gru(1).model().session();
        let mut wide = sample::gru(2).model().session();
        let narrow = narrow.run(&[&Tensor::f32(&[4, 1, 1], series.to_vec()), &state]).unwrap();
        let wide = wide.run(&[&Tensor::f32(&[4, 1, 2], silent), &state]).unwrap();
        let pairs =
            narrow.iter().zip(&wide).flat_map(|(a, b)| a.as_f32().unwrap().iter().zip(b.as_f32().unwrap()));
        for (a, b) in pairs {
            assert!((a - b).abs() < 1e-6, "{a} and {b}");
        }
    }
}
