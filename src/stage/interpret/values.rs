//! Named quantities: the model's numbers, brought to their units.
//!
//! Promise: every published value is finite; the verdict is about the first target only.

use core::ops::Range;

use super::{Decision, InterpretError, SetupError, check_names, check_range, scores, wanted_row};
use crate::base::{Scored, Tensor, Verdict};
use crate::config::card::Target;

/// Targets and the passing range of the first.
#[derive(Clone, Debug)]
pub(super) struct Values {
    targets: Vec<Target>,
    range: Option<(f64, f64)>,
}

impl Values {
    pub(super) fn new(
        targets: &[Target],
        range: Option<(f64, f64)>,
        decision: Decision,
    ) -> Result<Self, SetupError> {
        check_names("targets", targets.iter().map(|target| target.name.as_str()))?;
        for target in targets {
            for (key, value) in [("scale", target.scale), ("offset", target.offset)] {
                if !value.is_finite() || (key == "scale" && value == 0.0) {
                    return Err(SetupError::Number {
                        key: format!("{key} of target `{}`", target.name),
                        value,
                        rule: if key == "scale" { "a finite number other than 0" } else { "a finite number" },
                    });
                }
            }
        }
        if let Some((low, high)) = range {
            check_range("range", low, high)?;
        }
        if let Some(value) = decision.threshold {
            return Err(SetupError::ThresholdUnused {
                value,
                place: "on a regression",
                remedy: "its verdict comes from `range`, the passing range of the first target",
            });
        }
        Ok(Self { targets: targets.to_vec(), range })
    }

    pub(super) fn layout(&self, shape: &[usize]) -> Option<Range<usize>> {
        scores::last_row(shape, self.targets.len())
    }

    pub(super) fn wanted(&self) -> String {
        wanted_row(self.targets.len(), "one for each target")
    }

    pub(super) fn interpret(
        &self,
        tensor: &Tensor,
        row: Range<usize>,
        name: &str,
        decision: Decision,
    ) -> Result<(Verdict, Scored), InterpretError> {
        let start = row.start;
        let mut numbers = scores::finite(scores::read(tensor, row, name)?, start, name)?;
        for (number, target) in numbers.iter_mut().zip(&self.targets) {
            *number = *number * target.scale + target.offset;
        }
        // Again: a large number times a large scale is infinite.
        let numbers = scores::finite(numbers, start, name)?;
        let first = numbers[0];
        let verdict = if decision.is_uncertain(first as f32) {
            Verdict::Uncertain
        } else {
            match self.range {
                None => Verdict::None,
                Some((low, high)) if (low..=high).contains(&first) => Verdict::Pass,
                Some(_) => Verdict::Fail,
            }
        };
        let values = numbers
            .into_iter()
            .zip(&self.targets)
            .map(|(value, target)| (target.name.clone(), value, target.unit.clone()))
            .collect();
        Ok((verdict, Scored::Values { values }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Interpreter;
    use super::super::tests::{image, output, seen};
    use super::*;
    use crate::base::Data;
    use crate::config::card::OutputKind;

    fn target(name: &str, scale: f64, offset: f64) -> Target {
        Target { name: name.into(), unit: "µm".into(), scale, offset }
    }

    fn regression(range: Option<(f64, f64)>) -> OutputKind {
        OutputKind::Regression { targets: vec![target("wear", 100.0, -5.0), target("age", 1.0, 0.0)], range }
    }

    fn run(
        kind: OutputKind,
        band: Option<(f32, f32)>,
        data: Data,
    ) -> Result<(Verdict, Scored), InterpretError> {
        let interpreter = Interpreter::new(&output(kind), &image(), None, band).unwrap();
        let tensor = Tensor { shape: vec![1, 2], data };
        interpreter.interpret(&tensor, &seen(&[]), &mut interpreter.fresh())
    }

    #[test]
    fn numbers_are_brought_to_their_units_and_named() {
        let (verdict, scored) = run(regression(None), None, Data::F32(vec![0.5, 7.0])).unwrap();
        assert_eq!(verdict, Verdict::None);
        let wanted = vec![("wear".into(), 45.0, "µm".into()), ("age".into(), 7.0, "µm".into())];
        assert_eq!(scored, Scored::Values { values: wanted });
    }

    #[test]
    fn the_first_target_passes_inside_its_range_ends_included() {
        let verdict =
            |raw: f64, band| run(regression(Some((0.0, 45.0))), band, Data::F64(vec![raw, 7.0])).unwrap().0;
        assert_eq!(verdict(0.5, None), Verdict::Pass);
        assert_eq!(verdict(0.05, None), Verdict::Pass);
        assert_eq!(verdict(0.51, None), Verdict::Fail);
        assert_eq!(verdict(0.0, None), Verdict::Fail);
        assert_eq!(verdict(0.51, Some((44.0, 47.0))), Verdict::Uncertain);
    }

    #[test]
    fn a_value_that_is_no_number_loses_the_frame() {
        for raw in [f64::NAN, f64::INFINITY, 1e308] {
            let error = run(regression(None), None, Data::F64(vec![raw, 1.0])).unwrap_err();
            assert!(matches!(error, InterpretError::NotFinite { index: 0, .. }), "{error}");
        }
    }

    #[test]
    fn a_threshold_a_zero_scale_and_a_reversed_range_are_refused() {
        let refuse = |kind, threshold| {
            Interpreter::new(&output(kind), &image(), threshold, None).unwrap_err().to_string()
        };
        assert!(refuse(regression(None), Some(0.5)).contains("no effect on a regression"));
        assert!(refuse(regression(Some((5.0, 1.0))), None).contains("range is [5, 1]"));
        let flat = OutputKind::Regression { targets: vec![target("wear", 0.0, 0.0)], range: None };
        assert_eq!(
            refuse(flat, None),
            "[output] scale of target `wear` is 0; it must be a finite number other than 0"
        );
        let none = OutputKind::Regression { targets: vec![], range: None };
        assert!(refuse(none, None).contains("no targets"));
    }
}
