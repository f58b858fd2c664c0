//! The foot of a sigmoid, to the digits of an f32.
//!
//! tract's sigmoid is good to 1e-7 of one, and ends at 4.8e-7 (0.23.9). That is 2e-3 of the score at −10, and its logarithm is
//! −14.6 where it should be −50: PyTorch's exporter writes `logsigmoid` so, and losses add a little to it first.
//! Below [`FOOT`] a sigmoid is e^x ÷ (1 + e^x) here, with e^x by a polynomial (Cephes' `expf`) and without a
//! branch, so that many are computed at once. Whether there is one is asked of tract's kernel for the least, which is as
//! fast in a device's build, where our own loops are compiled for size. `not_a_number` has the wrap around the operator.

use std::sync::OnceLock;

use tract_core::internal::*;
use tract_core::tract_linalg::reduce::Reduce;
use tract_core::tract_linalg::routines::Func;

use super::not_a_number::sum_is_finite;

/// Above it tract's is good to 2e-5 of itself.
const FOOT: f32 = -6.0;

/// Whether no element lies at the foot, or is NaN. An infinite one may count as either.
pub(super) fn is_above(x: &Tensor) -> bool {
    static LEAST: OnceLock<Option<Box<dyn Reduce<f32>>>> = OnceLock::new();
    let least = LEAST.get_or_init(|| Func::ReduceMin.reduce_f32().ok());
    let plain = x.try_as_plain_ram();
    let Some(slice) = plain.as_ref().ok().and_then(|plain| plain.as_slice::<f32>().ok()) else { return true };
    match least {
        // The kernel passes over NaN; the sum does not.
        Some(least) => sum_is_finite(slice) && least.run(slice).is_ok_and(|least| least >= FOOT),
        None => slice.iter().fold(true, |all, x| all & (*x >= FOOT)),
    }
}

/// Writes what lies at the foot anew; of other types nothing.
pub(super) fn apply(x: &Tensor, sigmoid: &mut Tensor) -> TractResult<()> {
    if x.datum_type() != DatumType::F32 || sigmoid.datum_type() != DatumType::F32 {
        return Ok(());
    }
    let mut sigmoid = sigmoid.try_as_plain_ram_mut()?;
    let x = x.try_as_plain_ram()?;
    // Most parts have nothing at the foot.
    for (ys, xs) in sigmoid.as_slice_mut::<f32>()?.chunks_mut(16).zip(x.as_slice::<f32>()?.chunks(16)) {
        if !xs.iter().fold(false, |any, x| any | (*x < FOOT)) {
            continue;
        }
        for (y, x) in ys.iter_mut().zip(xs) {
            let power = exponential(*x);
            *y = if *x < FOOT { power / (1.0 + power) } else { *y };
        }
    }
    Ok(())
}

/// e^x for x below 0; anything for others.
fn exponential(x: f32) -> f32 {
    // Added to a small number, its last bits are the nearest whole one.
    const WHOLE: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const TERMS: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    // Where f32 ends.
    let x = x.clamp(-110.0, 0.0);
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let doublings = shifted.to_bits().wrapping_sub(WHOLE.to_bits()) as i32;
    let whole = shifted - WHOLE;
    let rest = (x - whole * LN_2[0]) - whole * LN_2[1];
    let sum = TERMS.iter().fold(0.0, |sum, term| sum * rest + term);
    let power = sum * rest * rest + rest + 1.0;
    // In two steps, so that it ends below the normal numbers and not at them.
    let half = doublings >> 1;
    let doubled = |times: i32| f32::from_bits(((times + 127) as u32) << 23);
    power * doubled(half) * doubled(doublings - half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DataType;
    use crate::engine::sample::Sample;

    #[test]
    fn the_exponential_is_good_to_the_digits_of_an_f32() {
        for step in 0..110_000 {
            let x = -(step as f32) / 1000.0;
            let (ours, right) = (f64::from(exponential(x)), f64::from(x).exp());
            // The least number that there is.
            let least = f64::from(f32::from_bits(1));
            assert!((ours - right).abs() <= (2e-7 * right).max(least), "{x}: {ours}, not {right}");
        }
    }

    #[test]
    fn one_at_the_foot_is_seen_wherever_it_stands() {
        for length in [1, 63, 64, 1023, 1024, 1025, 3000] {
            let of = |place: usize, value: f32| {
                let mut x: Vec<f32> = (0..length).map(|i| (i % 17) as f32 - 5.5).collect();
                x[place] = value;
                is_above(&tensor1(&x))
            };
            for place in [0, length / 2, length - 1] {
                assert!(of(place, FOOT) && of(place, 1e30), "{place} of {length}");
                for value in [-6.001, -1e30, f32::NEG_INFINITY, f32::NAN] {
                    assert!(!of(place, value), "{value} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_small_score_has_all_its_digits_and_its_logarithm() {
        let sample = Sample::default().input("x", DataType::F32, &[6]);
        let sample = sample.node("Sigmoid", &["x"], &["s"], &[]).node("Log", &["s"], &["y"], &[]);
        let xs = [-10.0, -50.0, -87.0, 0.0, 30.0, f32::NAN];
        let x = crate::base::Tensor::f32(&[6], xs.to_vec());
        let answer = sample.output("s").output("y").model().session().run(&[&x]).unwrap();
        let (scores, logarithms) = (answer[0].as_f32().unwrap(), answer[1].as_f32().unwrap());
        for (at, x) in xs.iter().take(3).enumerate() {
            let right = 1.0 / (1.0 + f64::from(-x).exp());
            assert!((f64::from(scores[at]) / right - 1.0).abs() < 1e-6, "{scores:?}");
            assert!((logarithms[at] / right.ln() as f32 - 1.0).abs() < 1e-6, "{logarithms:?}");
        }
        assert!(scores[3] == 0.5 && (scores[4] - 1.0).abs() < 1e-6, "{scores:?}");
        assert!(scores[5].is_nan() && logarithms[5].is_nan());
    }
}
