//! NonMaxSuppression (opset 10 and 11) where the number of boxes to keep is 0, left out or computed.
//!
//! Source: ONNX, Operators.md, and onnxruntime where it is silent: of each batch and class the boxes come
//! by falling score, of equals the first; one is dropped whose intersection ÷ union with a kept one is
//! above the threshold; 0, the default number, keeps none. tract takes 0 for all (0.23.9); with a
//! constant number above 0 it is right.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose};
use super::values::{floats, ints};

#[derive(Debug)]
struct Suppression {
    /// A box is its centre, width and height, not two corners.
    centred: bool,
}

pub(super) fn non_max_suppression(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let centred = node.get_attr_opt::<i64>("center_point_box")?.unwrap_or(0) != 0;
    choose(context, node, Suppression { centred }, |inputs| {
        let most = inputs.get(2).copied().flatten().and_then(|most| most.konst.as_ref());
        !most.is_some_and(|most| ints(most).is_ok_and(|most| most.first().is_some_and(|most| *most > 0)))
    })
}

/// Corners in order: from and to along each axis.
struct Rectangle {
    from: [f32; 2],
    to: [f32; 2],
}

impl Rectangle {
    fn of(four: &[f32], centred: bool) -> Self {
        let [a, b, c, d] = [four[0], four[1], four[2], four[3]];
        match centred {
            true => Self { from: [a - c / 2.0, b - d / 2.0], to: [a + c / 2.0, b + d / 2.0] },
            false => Self { from: [a.min(c), b.min(d)], to: [a.max(c), b.max(d)] },
        }
    }

    fn area(&self) -> f32 {
        (self.to[0] - self.from[0]) * (self.to[1] - self.from[1])
    }

    /// Intersection ÷ union is above the threshold.
    fn covers(&self, other: &Self, threshold: f32) -> bool {
        let along = |axis: usize| self.to[axis].min(other.to[axis]) - self.from[axis].max(other.from[axis]);
        let (wide, tall) = (along(0), along(1));
        if wide <= 0.0 || tall <= 0.0 {
            return false;
        }
        let both = wide * tall;
        let (ours, theirs) = (self.area(), other.area());
        let union = ours + theirs - both;
        ours > 0.0 && theirs > 0.0 && union > 0.0 && both / union > threshold
    }
}

impl Literal for Suppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (boxes, scores) = (inputs.need(0)?, inputs.need(1)?);
        let (&[batches, count, 4], &[also, classes, of_scores]) = (boxes.shape(), scores.shape()) else {
            bail!("boxes of shape {:?} and scores of shape {:?}", boxes.shape(), scores.shape());
        };
        ensure!(
            batches == also && count == of_scores,
            "boxes of shape {:?} and scores of shape {:?}",
            boxes.shape(),
            scores.shape()
        );
        let number = |at: usize| -> TractResult<Option<f32>> {
            let given = inputs.get(at).map(floats).transpose()?;
            Ok(given.and_then(|numbers| numbers.first().map(|number| *number as f32)))
        };
        let most = inputs.get(2).map(ints).transpose()?.and_then(|most| most.first().copied());
        let most = usize::try_from(most.unwrap_or(0)).unwrap_or(0);
        let (overlap, least) = (number(3)?.unwrap_or(0.0), number(4)?);
        let narrow = |tensor: &Tensor| -> TractResult<Vec<f32>> {
            Ok(floats(tensor)?.into_iter().map(|value| value as f32).collect())
        };
        let (corners, scores) = (narrow(boxes)?, narrow(scores)?);
        let mut kept: Vec<i64> = Vec::new();
        for batch in 0..batches {
            let rectangle =
                |at: usize| Rectangle::of(&corners[(batch * count + at) * 4..][..4], self.centred);
            for class in 0..classes {
                let scores = &scores[(batch * classes + class) * count..][..count];
                let mut order: Vec<usize> =
                    (0..count).filter(|at| least.is_none_or(|least| scores[*at] > least)).collect();
                order
                    .sort_by(|a, b| scores[*b].partial_cmp(&scores[*a]).unwrap_or(std::cmp::Ordering::Equal));
                let mut chosen: Vec<Rectangle> = Vec::new();
                for at in order {
                    if chosen.len() == most {
                        break;
                    }
                    let next = rectangle(at);
                    if !chosen.iter().any(|before| next.covers(before, overlap)) {
                        chosen.push(next);
                        kept.extend([batch as i64, class as i64, at as i64]);
                    }
                }
            }
        }
        Ok(vec![Tensor::from_shape(&[kept.len() / 3, 3], &kept)?])
    }

    fn forms(&self, _: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        Ok(Some(vec![Form::open(DatumType::I64, vec![None, Some(3.to_dim())])]))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{Data, DataType, Tensor};
    use crate::engine::sample::Sample;

    /// Which of three boxes are kept: the second overlaps the first, the third stands alone.
    fn kept(most: Option<i64>) -> (Vec<usize>, Data) {
        let mut sample = Sample::default().input("boxes", DataType::F32, &[1, 3, 4]).input(
            "scores",
            DataType::F32,
            &[1, 1, 3],
        );
        if let Some(most) = most {
            sample = sample.integers("most", &[most]);
        }
        let most = if most.is_some() { "most" } else { "" };
        let model = sample
            .weights("overlap", &[1], &[0.5])
            .node("NonMaxSuppression", &["boxes", "scores", most, "overlap"], &["y"], &[])
            .output("y")
            .model();
        let boxes = vec![0.0, 0.0, 2.0, 2.0, 0.0, 0.1, 2.0, 2.1, 5.0, 5.0, 6.0, 6.0];
        let given = [Tensor::f32(&[1, 3, 4], boxes), Tensor::f32(&[1, 1, 3], vec![0.9, 0.8, 0.7])];
        let answer = model.session().run(&given.each_ref()).unwrap().remove(0);
        (answer.shape, answer.data)
    }

    #[test]
    fn no_box_is_kept_where_none_is_asked_for() {
        for most in [Some(0), None] {
            assert_eq!(kept(most), (vec![0, 3], Data::I64(vec![])), "{most:?}");
        }
        assert_eq!(kept(Some(1)), (vec![1, 3], Data::I64(vec![0, 0, 0])));
        assert_eq!(kept(Some(9)), (vec![2, 3], Data::I64(vec![0, 0, 0, 0, 0, 2])));
    }
}
