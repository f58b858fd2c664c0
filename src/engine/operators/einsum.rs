//! Einsum (opset 12) with an ellipsis that stands for any number of axes, and one whose answer has none.
//!
//! Source: ONNX, Operators.md; NumPy's notation. tract drops axes where an ellipsis stands for another
//! number of them than one, and takes `ij->` for `ij`, which sums nothing (0.23.9). So the equation is written out, a letter for each axis, as soon
//! as the numbers of axes are known; the product is tract's own.

use std::collections::BTreeMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::tract_core::ops::nn::{Reduce, Reducer};

use super::literal::Built;

#[derive(Clone, Debug)]
struct Equation {
    operands: Vec<String>,
    /// `None`: every letter that stands once, in alphabetical order, behind the ellipsis.
    answer: Option<String>,
}

/// Others than these are tract's.
pub(super) fn einsum(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let equation = node.get_attr::<String>("equation")?.replace(' ', "");
    let sums_all = equation.ends_with("->") && equation.contains(|letter: char| letter.is_ascii_alphabetic());
    if !equation.contains('.') && !sums_all {
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
            let written = self.written_out(&ranks)?;
            let (operands, answer) = written.split_once("->").context("an answer")?;
            s.equals(&outputs[0].rank, i64::try_from(answer.len())?)?;
            let mut lengths: BTreeMap<char, Vec<_>> = BTreeMap::new();
            let tensors = operands.split(',').zip(inputs).chain([(answer, &outputs[0])]);
            for (letters, tensor) in tensors {
                for (at, letter) in letters.chars().enumerate() {
                    lengths.entry(letter).or_default().push(tensor.shape[at].bex());
                }
            }
            lengths.into_values().try_for_each(|same| s.equals_all(same))?;
            Ok(())
        })
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let ranks = inputs.iter().map(|input| Ok(model.outlet_fact(*input)?.rank()));
        let equation = self.written_out(&ranks.collect::<TractResult<Vec<_>>>()?)?;
        let datum_type = model.outlet_fact(inputs[0])?.datum_type;
        if !equation.ends_with("->") {
            return model.wire_node(name, EinSum::new(equation.parse()?, datum_type), inputs);
        }
        // The optimiser reads an equation without axes wrongly as well, so that one is summed afterwards.
        let kept =
            equation.chars().find(char::is_ascii_alphabetic).context("a product of numbers without axes")?;
        let axes = format!("{equation}{kept}").parse()?;
        let kept = model.wire_node(format!("{name}.kept"), EinSum::new(axes, datum_type), inputs)?;
        let sum = Reduce { axes: tvec!(0), reducer: Reducer::Sum };
        let sum = model.wire_node(format!("{name}.sum"), sum, &kept)?;
        model.wire_node(name, AxisOp::Rm(0), &sum)
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
    fn an_answer_without_axes_is_the_sum_of_all() {
        let sum = |equation: &str, factors: usize| {
            let sample =
                Sample::default().input("x", DataType::F32, &[2, 3]).weights("w", &[3], &[1.0, 2.0, -1.0]);
            let inputs = &["x", "w", "w"][..factors];
            let sample = sample.node("Einsum", inputs, &["y"], &[Attribute::Text("equation", equation)]);
            let x = Tensor::f32(&[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let answer = sample.output("y").model().session().run(&[&x]).unwrap().remove(0);
            assert_eq!(answer.shape, [0; 0]);
            answer.as_f32().unwrap()[0]
        };
        assert_eq!(sum("ij->", 1), 21.0);
        assert_eq!(sum("ij, j ->", 2), 10.0);
        assert_eq!(sum("ij,k->", 2), 42.0);
        assert_eq!(sum("ij,j,k->", 3), 20.0);
        assert_eq!(sum("...,...,k->", 3), 20.0);
        let number = Sample::default().input("x", DataType::F32, &[]).output("y");
        let number = number.node("Einsum", &["x"], &["y"], &[Attribute::Text("equation", "->")]).model();
        let x = Tensor::f32(&[], vec![7.0]);
        assert_eq!(number.session().run(&[&x]).unwrap(), [x]);
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
