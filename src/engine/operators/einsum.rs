//! Einsum (opset 12) with an ellipsis that stands for any number of axes.
//!
//! Source: ONNX, Operators.md; NumPy's notation. tract drops axes where an ellipsis stands for another
//! number of them than one (0.23.9). So the equation is written out, a letter for each axis, as soon
//! as the numbers of axes are known; the product is tract's own.

use std::collections::BTreeMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;

use super::literal::Built;

#[derive(Clone, Debug)]
struct Equation {
    operands: Vec<String>,
    /// `None`: every letter that stands once, in alphabetical order, behind the ellipsis.
    answer: Option<String>,
}

/// Operators without an ellipsis are tract's.
pub(super) fn einsum(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let equation = node.get_attr::<String>("equation")?.replace(' ', "");
    if !equation.contains('.') {
        return super::stock(context, node);
    }
    let (operands, answer) = match equation.split_once("->") {
        Some((operands, answer)) => (operands, Some(answer.to_owned())),
        None => (&*equation, None),
    };
    let operands = operands.split(',').map(str::to_owned).collect();
    Ok((expand(Equation { operands, answer }), vec![]))
}

const ELLIPSIS: &str = "...";

impl Equation {
    /// The same with a letter for each axis of operands of these ranks.
    fn written_out(&self, ranks: &[usize]) -> TractResult<String> {
        ensure!(ranks.len() == self.operands.len(), "{} operands, not {}", ranks.len(), self.operands.len());
        let texts = || self.operands.iter().chain(&self.answer);
        for text in texts() {
            let letters = text.replacen(ELLIPSIS, "", 1);
            ensure!(letters.chars().all(|c| c.is_ascii_alphabetic()), "{text:?} is no list of axes");
        }
        let hidden = self.operands.iter().zip(ranks).map(|(text, rank)| {
            let named = text.replacen(ELLIPSIS, "", 1).len();
            let hidden = rank.checked_sub(named).with_context(|| format!("{rank} axes for {text:?}"))?;
            ensure!(hidden == 0 || text.contains(ELLIPSIS), "{rank} axes for {text:?}");
            Ok(hidden)
        });
        let hidden = hidden.collect::<TractResult<Vec<_>>>()?;
        let most = hidden.iter().copied().max().unwrap_or(0);
        let free = ('a'..='z').chain('A'..='Z').filter(|letter| texts().all(|text| !text.contains(*letter)));
        let free: String = free.take(most).collect();
        ensure!(free.len() == most, "more axes than letters");
        let operands = self.operands.iter().zip(&hidden);
        // Axes of ellipses are counted from the last.
        let operands: Vec<String> =
            operands.map(|(text, hidden)| text.replacen(ELLIPSIS, &free[most - hidden..], 1)).collect();
        let answer = match &self.answer {
            Some(answer) => answer.replacen(ELLIPSIS, &free, 1),
            None => {
                let mut counts = BTreeMap::new();
                let named = self.operands.iter().flat_map(|text| text.chars()).filter(|c| *c != '.');
                named.for_each(|letter| *counts.entry(letter).or_insert(0) += 1);
                let once = counts.iter().filter(|(_, count)| **count == 1).map(|(letter, _)| *letter);
                free.chars().chain(once).collect()
            }
        };
        Ok(format!("{}->{answer}", operands.join(",")))
    }

    fn axes(&self, ranks: &[usize]) -> TractResult<AxesMapping> {
        self.written_out(ranks)?.parse()
    }
}

impl Expansion for Equation {
    fn name(&self) -> StaticName {
        "Einsum".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.operands.len())?;
        check_output_arity(outputs, 1)?;
        for input in inputs {
            s.equals(&input.datum_type, &outputs[0].datum_type)?;
        }
        s.given_all(inputs.iter().map(|input| &input.rank), move |s, ranks| {
            let ranks = ranks.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
            let axes = self.axes(&ranks)?;
            s.equals(&outputs[0].rank, i64::try_from(axes.rank(InOut::Out(0)))?)?;
            for axis in axes.iter_all_axes() {
                let answered = axis.outputs[0].iter().map(|at| outputs[0].shape[*at].bex());
                let read = axis.inputs.iter().zip(inputs);
                let read = read.flat_map(|(places, input)| places.iter().map(|at| input.shape[*at].bex()));
                s.equals_all(answered.chain(read).collect())?;
            }
            Ok(())
        })
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let ranks = inputs.iter().map(|input| Ok(model.outlet_fact(*input)?.rank()));
        let axes = self.axes(&ranks.collect::<TractResult<Vec<_>>>()?)?;
        let datum_type = model.outlet_fact(inputs[0])?.datum_type;
        model.wire_node(name, EinSum::new(axes, datum_type), inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    /// The product of a tensor of ones and a matrix of 3 × 2 ones.
    fn shape_of(equation: &str, shape: &[usize]) -> Vec<usize> {
        let lengths: Vec<i64> = shape.iter().map(|length| i64::try_from(*length).unwrap()).collect();
        let sample = Sample::default()
            .input("x", DataType::F32, &lengths)
            .weights("w", &[3, 2], &[1.0; 6])
            .node("Einsum", &["x", "w"], &["y"], &[Attribute::Text("equation", equation)])
            .output("y");
        let x = Tensor::f32(shape, vec![1.0; shape.iter().product()]);
        let answer = sample.model().session().run(&[&x]).unwrap().remove(0);
        assert!(answer.as_f32().unwrap().iter().all(|sum| *sum == 3.0), "{equation}: {answer:?}");
        answer.shape
    }

    #[test]
    fn an_ellipsis_stands_for_any_number_of_axes() {
        assert_eq!(shape_of("...i,ij->...j", &[3]), [2]);
        assert_eq!(shape_of("...i,ij->...j", &[4, 3]), [4, 2]);
        assert_eq!(shape_of("...i,ij->...j", &[5, 4, 3]), [5, 4, 2]);
        assert_eq!(shape_of("i...,ij->j...", &[3, 4, 5]), [2, 4, 5]);
        assert_eq!(shape_of("...i,ij", &[5, 4, 3]), [5, 4, 2]);
    }

    #[test]
    fn an_equation_that_does_not_fit_is_refused() {
        let equation = |operands: &[&str], answer: Option<&str>| Equation {
            operands: operands.iter().map(ToString::to_string).collect(),
            answer: answer.map(str::to_owned),
        };
        assert!(equation(&["...ij", "jk"], Some("...ik")).written_out(&[1, 2]).is_err());
        assert!(equation(&["...ij", "jk"], Some("...ik")).written_out(&[2, 3]).is_err());
        assert!(equation(&["..ij"], Some("ij")).written_out(&[2]).is_err());
        assert_eq!(equation(&["bn...", "bn"], Some("b...")).written_out(&[4, 2]).unwrap(), "bnac,bn->bac");
        assert_eq!(equation(&["...a", "...a"], None).written_out(&[3, 2]).unwrap(), "bca,ca->bc");
    }
}
