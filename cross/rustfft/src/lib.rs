//! Discrete Fourier transforms of any length, behind the few names of rustfft that tract calls.
//!
//! tract computes DFT and STFT with rustfft: butterflies for each small length, in each precision, for each
//! processor. That is half a megabyte of a device's binary and a good part of the engine's compile time, for
//! operators that few models have. Here is one algorithm, in f64: radix 2 (Cooley and Tukey, 1965), and for the other
//! lengths Bluestein's chirp (1970) around it. More exact than rustfft in f32, slower by a small factor.
//! Neither is scaled, as there.
//!
//! Not here: anything else of rustfft.

use std::f64::consts::PI;
use std::fmt::Debug;
use std::sync::Arc;

use num_complex::Complex;
use num_traits::{FromPrimitive, Signed, ToPrimitive};

pub use num_complex;
pub use num_traits;

/// What can be transformed.
pub trait FftNum: Copy + FromPrimitive + ToPrimitive + Signed + Sync + Send + Debug + 'static {}
impl<T: Copy + FromPrimitive + ToPrimitive + Signed + Sync + Send + Debug + 'static> FftNum for T {}

/// The sign of the exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FftDirection {
    /// exp(−2πi·j·k/n).
    Forward,
    /// exp(+2πi·j·k/n).
    Inverse,
}

/// Makes transforms.
#[derive(Debug, Default)]
pub struct FftPlanner;

impl FftPlanner {
    /// A planner.
    pub fn new() -> Self {
        Self
    }

    /// A transform of `length` numbers.
    pub fn plan_fft(&mut self, length: usize, direction: FftDirection) -> Arc<Fft> {
        Arc::new(Fft::of(length, direction))
    }

    /// The same, forward.
    pub fn plan_fft_forward(&mut self, length: usize) -> Arc<Fft> {
        self.plan_fft(length, FftDirection::Forward)
    }
}

/// A transform of one length in one direction.
#[derive(Debug)]
pub struct Fft {
    length: usize,
    /// Of the power of two that is computed: exp(∓2πi·k/n) for the first half of its ks.
    twiddles: Vec<Complex<f64>>,
    chirp: Option<Chirp>,
}

/// Bluestein's: a transform of any length is a convolution with a chirp.
#[derive(Debug)]
struct Chirp {
    /// exp(∓πi·k²/n).
    factors: Vec<Complex<f64>>,
    /// The transform of its conjugate, wrapped around, divided by its length.
    spectrum: Vec<Complex<f64>>,
}

fn turn(part: usize, of: usize, sign: f64) -> Complex<f64> {
    Complex::from_polar(1.0, sign * 2.0 * PI * part as f64 / of as f64)
}

impl Fft {
    fn of(length: usize, direction: FftDirection) -> Self {
        let sign = if direction == FftDirection::Forward { -1.0 } else { 1.0 };
        let twiddles =
            |length: usize, sign: f64| (0..length / 2).map(|k| turn(k, length, sign)).collect::<Vec<_>>();
        if length <= 1 || length.is_power_of_two() {
            return Self { length, twiddles: twiddles(length, sign), chirp: None };
        }
        let padded = (2 * length - 1).next_power_of_two();
        let twiddles = twiddles(padded, -1.0);
        // k² modulo 2n, so that the angle stays exact.
        let square = |k: usize| ((k as u128 * k as u128) % (2 * length as u128)) as usize;
        let factors: Vec<Complex<f64>> = (0..length).map(|k| turn(square(k), 2 * length, sign)).collect();
        let mut spectrum = vec![Complex::new(0.0, 0.0); padded];
        for (k, factor) in factors.iter().enumerate() {
            spectrum[k] = factor.conj() / padded as f64;
            spectrum[(padded - k) % padded] = spectrum[k];
        }
        radix_2(&mut spectrum, &twiddles);
        Self { length, twiddles, chirp: Some(Chirp { factors, spectrum }) }
    }

    /// Transforms each part of the transform's length in place; a rest that is shorter stays as it is.
    pub fn process<T: FftNum>(&self, buffer: &mut [Complex<T>]) {
        for part in buffer.chunks_exact_mut(self.length.max(1)) {
            let number = |x: T| x.to_f64().unwrap_or(f64::NAN);
            let mut numbers: Vec<Complex<f64>> =
                part.iter().map(|x| Complex::new(number(x.re), number(x.im))).collect();
            self.transform(&mut numbers);
            let back = |x: f64| T::from_f64(x).unwrap_or_else(T::zero);
            for (x, number) in part.iter_mut().zip(numbers) {
                *x = Complex::new(back(number.re), back(number.im));
            }
        }
    }

    fn transform(&self, numbers: &mut Vec<Complex<f64>>) {
        let Some(Chirp { factors, spectrum }) = &self.chirp else {
            return radix_2(numbers, &self.twiddles);
        };
        let times = |numbers: &mut [Complex<f64>], by: &[Complex<f64>]| {
            numbers.iter_mut().zip(by).for_each(|(number, by)| *number *= by);
        };
        times(numbers, factors);
        numbers.resize(spectrum.len(), Complex::new(0.0, 0.0));
        radix_2(numbers, &self.twiddles);
        times(numbers, spectrum);
        // Backwards is forwards between conjugates.
        numbers.iter_mut().for_each(|number| *number = number.conj());
        radix_2(numbers, &self.twiddles);
        numbers.iter_mut().for_each(|number| *number = number.conj());
        numbers.truncate(self.length);
        times(numbers, factors);
    }
}

/// In place, for as many numbers as there are twiddles twice.
fn radix_2(numbers: &mut [Complex<f64>], twiddles: &[Complex<f64>]) {
    let length = numbers.len();
    if length < 2 {
        return;
    }
    let shift = usize::BITS - length.trailing_zeros();
    for at in 0..length {
        let mirrored = at.reverse_bits() >> shift;
        if at < mirrored {
            numbers.swap(at, mirrored);
        }
    }
    let mut half = 1;
    while half < length {
        let stride = length / (2 * half);
        for pair in numbers.chunks_exact_mut(2 * half) {
            let (even, odd) = pair.split_at_mut(half);
            for ((even, odd), twiddle) in even.iter_mut().zip(odd).zip(twiddles.iter().step_by(stride)) {
                let turned = *odd * twiddle;
                (*even, *odd) = (*even + turned, *even - turned);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is defined.
    fn defined(numbers: &[Complex<f64>], sign: f64) -> Vec<Complex<f64>> {
        let n = numbers.len();
        (0..n).map(|k| numbers.iter().enumerate().map(|(j, x)| x * turn(j * k % n, n, sign)).sum()).collect()
    }

    #[test]
    fn every_length_is_transformed_as_the_definition_says() {
        for n in (0..=130).chain([243, 400, 480, 499, 512, 1000, 1024]) {
            let numbers: Vec<Complex<f64>> = (0..n)
                .map(|k| Complex::new((k as f64 * 0.7).sin() - 0.2, (k * k % 17) as f64 * 0.1))
                .collect();
            for (direction, sign) in [(FftDirection::Forward, -1.0), (FftDirection::Inverse, 1.0)] {
                let mut ours = numbers.clone();
                FftPlanner::new().plan_fft(n, direction).process(&mut ours);
                let right = defined(&numbers, sign);
                let largest = right.iter().map(|x| x.norm()).fold(1.0, f64::max);
                let error = ours.iter().zip(&right).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
                assert!(error < 1e-12 * largest, "{n}, {direction:?}: {error} of {largest}");
            }
        }
    }

    #[test]
    fn single_floats_and_parts_of_a_buffer_are_transformed_too() {
        let mut buffer: Vec<Complex<f32>> = (0..7).map(|k| Complex::new(k as f32, 0.0)).collect();
        FftPlanner::new().plan_fft_forward(3).process(&mut buffer);
        assert_eq!((buffer[0].re, buffer[3].re, buffer[6].re), (3.0, 12.0, 6.0));
    }
}
