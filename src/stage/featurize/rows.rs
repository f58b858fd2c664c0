//! One row of numbers: imputed, completed by derived columns, scaled; or refused.
//!
//! Promise: arithmetic is in 64 bits, as in the training data's tables; only the model's own input
//! rounds. What leaves here is finite, or a missing value that the model asked for.
//! Not here: rows over time (`window`, `mod`).

use super::error::{FeaturizeError, FeaturizeSetupError};
use crate::config::card::{Channel, Derived, DerivedOp};

/// What the card says about the columns of a row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    columns: Vec<Channel>,
    derived: Vec<Derived>,
    /// Whether the model takes 32-bit floats, which overflow sooner.
    narrow: bool,
}

impl Row {
    /// Checks what one column can get wrong on its own.
    pub(super) fn new(
        columns: &[Channel],
        derived: &[Derived],
        narrow: bool,
    ) -> Result<Row, FeaturizeSetupError> {
        let complain = |what: String| Err(FeaturizeSetupError::Card { what });
        if columns.is_empty() {
            return complain("the features have no columns; name at least one".into());
        }
        for channel in columns.iter().chain(derived.iter().map(|derived| &derived.channel)) {
            let name = &channel.name;
            if !channel.mean.is_finite() {
                return complain(format!("`{name}` has mean = {}; it must be finite", channel.mean));
            }
            if !channel.std.is_finite() || channel.std == 0.0 {
                return complain(format!("`{name}` has std = {}; it must be finite and not 0", channel.std));
            }
            if let Some(impute) = channel.impute
                && !impute.is_finite()
            {
                return complain(format!("`{name}` has impute = {impute}; it must be finite"));
            }
        }
        for (i, one) in derived.iter().enumerate() {
            if let Some(of) = one.of.iter().find(|of| **of >= columns.len() + i) {
                let name = &one.channel.name;
                return complain(format!(
                    "derived `{name}` is made of column {of}, which does not come before it"
                ));
            }
        }
        Ok(Row { columns: columns.to_vec(), derived: derived.to_vec(), narrow })
    }

    /// Numbers in a row as it comes.
    pub(super) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Numbers in a row as it leaves.
    pub(super) fn width(&self) -> usize {
        self.columns.len() + self.derived.len()
    }

    /// Appends one row to both lists: to `observed` in its own units, to `scaled` as the model wants
    /// it. On an error they hold part of it. `row` is 1-based, for messages.
    pub(super) fn append(
        &self,
        values: &[f64],
        row: usize,
        observed: &mut Vec<f64>,
        scaled: &mut Vec<f64>,
    ) -> Result<(), FeaturizeError> {
        let start = observed.len();
        for (channel, &value) in self.columns.iter().zip(values) {
            if value.is_infinite() {
                return Err(not_finite(channel, value, row, ""));
            }
            let value = present(channel, value, row)?;
            if channel.whole && value.fract() != 0.0 {
                return Err(FeaturizeError::NotWhole { feature: channel.name.clone(), value, row });
            }
            observed.push(value);
            scaled.push(self.scale(channel, value, row)?);
        }
        for Derived { channel, op, of } in &self.derived {
            let [first, second] = of.map(|of| observed[start + of]);
            let (value, how) = match op {
                DerivedOp::Ratio => (first / second, " (a ratio)"),
                DerivedOp::Difference => (first - second, " (a difference)"),
                DerivedOp::Product => (first * second, " (a product)"),
            };
            // 0 ÷ 0 is NaN, and yet nothing is missing.
            if value.is_infinite() || (value.is_nan() && !first.is_nan() && !second.is_nan()) {
                return Err(not_finite(channel, value, row, how));
            }
            let value = present(channel, value, row)?;
            observed.push(value);
            scaled.push(self.scale(channel, value, row)?);
        }
        Ok(())
    }

    fn scale(&self, channel: &Channel, value: f64, row: usize) -> Result<f64, FeaturizeError> {
        let scaled = (value - channel.mean) / channel.std;
        let as_seen = if self.narrow { f64::from(scaled as f32) } else { scaled };
        if as_seen.is_infinite() {
            return Err(not_finite(channel, value, row, ", too large once it is scaled"));
        }
        Ok(scaled)
    }
}

/// The value, or what stands in for a missing one.
fn present(channel: &Channel, value: f64, row: usize) -> Result<f64, FeaturizeError> {
    match channel.impute {
        _ if !value.is_nan() => Ok(value),
        Some(impute) => Ok(impute),
        None if channel.allow_nan => Ok(value),
        None => Err(FeaturizeError::Missing { feature: channel.name.clone(), row }),
    }
}

fn not_finite(channel: &Channel, value: f64, row: usize, how: &'static str) -> FeaturizeError {
    FeaturizeError::NotFinite { feature: channel.name.clone(), value, row, how }
}

#[cfg(test)]
mod tests {
    use super::super::tests::channel;
    use super::*;

    fn derived(name: &str, op: DerivedOp, of: [usize; 2]) -> Derived {
        Derived { channel: channel(name), op, of }
    }

    fn row(row: &Row, values: &[f64]) -> Result<(Vec<f64>, Vec<f64>), String> {
        let (mut observed, mut scaled) = (Vec::new(), Vec::new());
        row.append(values, 1, &mut observed, &mut scaled).map_err(|error| error.to_string())?;
        Ok((observed, scaled))
    }

    #[test]
    fn derived_columns_build_on_imputed_and_on_derived_ones() {
        let mut torque = channel("torque");
        torque.impute = Some(40.0);
        (torque.mean, torque.std) = (30.0, 5.0);
        let chain = [
            derived("power", DerivedOp::Product, [0, 1]),
            derived("per_wear", DerivedOp::Ratio, [3, 2]),
            derived("rest", DerivedOp::Difference, [4, 0]),
        ];
        let meant = Row::new(&[torque, channel("speed"), channel("wear")], &chain, true).unwrap();
        let (observed, scaled) = row(&meant, &[f64::NAN, 10.0, 5.0]).unwrap();
        assert_eq!(observed, [40.0, 10.0, 5.0, 400.0, 80.0, 40.0]);
        assert_eq!(scaled, [2.0, 10.0, 5.0, 400.0, 80.0, 40.0]);
        assert_eq!((meant.columns(), meant.width()), (3, 6));
    }

    #[test]
    fn a_zero_divisor_names_the_derived_column() {
        let meant =
            Row::new(&[channel("a"), channel("b")], &[derived("r", DerivedOp::Ratio, [0, 1])], true).unwrap();
        assert_eq!(
            row(&meant, &[1.0, 0.0]).unwrap_err(),
            "feature `r` is inf in row 1 (a ratio); a finite number was expected"
        );
        assert!(row(&meant, &[0.0, 0.0]).unwrap_err().contains("feature `r` is NaN"));
    }

    #[test]
    fn missing_values_pass_only_where_the_model_asked_for_them() {
        let mut open = channel("a");
        open.allow_nan = true;
        let mut ratio = derived("r", DerivedOp::Ratio, [0, 1]);
        let refused = Row::new(&[open.clone(), channel("b")], std::slice::from_ref(&ratio), true).unwrap();
        assert!(row(&refused, &[f64::NAN, 1.0]).unwrap_err().contains("feature `r` is missing in row 1"));
        assert!(row(&refused, &[1.0, f64::NAN]).unwrap_err().contains("feature `b` is missing"));
        ratio.channel.allow_nan = true;
        let meant = Row::new(&[open, channel("b")], &[ratio], true).unwrap();
        let (observed, scaled) = row(&meant, &[f64::NAN, 1.0]).unwrap();
        assert!(observed[0].is_nan() && observed[2].is_nan() && scaled[2].is_nan());
    }

    #[test]
    fn what_a_model_would_see_as_infinite_is_refused() {
        let meant = Row::new(&[channel("a")], &[], true).unwrap();
        assert!(row(&meant, &[f64::NEG_INFINITY]).unwrap_err().contains("`a` is -inf"));
        assert!(row(&meant, &[1e300]).unwrap_err().contains("too large once it is scaled"));
        let wide = Row::new(&[channel("a")], &[], false).unwrap();
        assert_eq!(row(&wide, &[1e300]).unwrap().1, [1e300]);
    }

    #[test]
    fn a_card_that_cannot_be_right_is_named() {
        let complaint = |change: fn(&mut Channel)| {
            let mut bad = channel("a");
            change(&mut bad);
            Row::new(&[bad], &[], true).unwrap_err().to_string()
        };
        assert!(complaint(|c| c.std = 0.0).contains("`a` has std = 0; it must be finite and not 0"));
        assert!(complaint(|c| c.mean = f64::NAN).contains("mean = NaN"));
        assert!(complaint(|c| c.impute = Some(f64::INFINITY)).contains("impute = inf"));
        let early = [derived("r", DerivedOp::Ratio, [0, 1])];
        let said = Row::new(&[channel("a")], &early, true).unwrap_err().to_string();
        assert_eq!(said, "derived `r` is made of column 1, which does not come before it");
        assert!(Row::new(&[], &[], true).is_err());
    }
}
