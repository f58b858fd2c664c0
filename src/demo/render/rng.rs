//! Chance with a seed, the same on every machine and for all time.
//!
//! Promise: xoshiro256++ as published, seeded through SplitMix64, and a sine of our own, because
//! the platform's may differ in the last bit; so a picture's bytes depend on its seed only.
//! Not here: anything for secrets.

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub(super) struct Rng {
    state: [u64; 4],
}

/// One step of SplitMix64: spreads neighbouring seeds over all of the 64 bits.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream number `stream` of `seed`; other streams of the same seed are independent of it.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = seed;
        let mut state = split_mix(&mut mixed) ^ stream.wrapping_mul(0xd134_2543_de82_ef95);
        Self { state: core::array::from_fn(|_| split_mix(&mut state)) }
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let drawn = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        drawn
    }

    /// Evenly in `[0, 1)`.
    pub(super) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Evenly in `[low, high)`.
    pub(super) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A whole number below `bound`, which is at least 1 and small (the bias is `bound` ÷ 2³²).
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// True once in `n` draws, on average.
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }
}

/// Sine and cosine of an angle of at most a few turns, by their series in `f64`: additions and
/// multiplications only, which IEEE 754 makes equal everywhere.
pub(super) fn sin_cos(radians: f32) -> (f32, f32) {
    let turn = core::f64::consts::TAU;
    let x = f64::from(radians);
    let x = x - turn * (x / turn).round();
    let (mut sine, mut cosine, mut term) = (0.0, 0.0, 1.0);
    // 24 terms: πⁿ ÷ n! is below 1e-11 there.
    for n in 0..24u32 {
        match n % 4 {
            0 => cosine += term,
            1 => sine += term,
            2 => cosine -= term,
            _ => sine -= term,
        }
        term *= x / f64::from(n + 1);
    }
    (sine as f32, cosine as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_gives_the_published_numbers() {
        let mut state = 1_234_567;
        assert_eq!(split_mix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(&mut state), 3_203_168_211_198_807_973);
    }

    #[test]
    fn streams_of_one_seed_and_seeds_of_one_stream_differ() {
        let draw = |seed, stream| Rng::new(seed, stream).bits();
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(0, 1), draw(1, 0));
        assert_eq!(draw(7, 9), draw(7, 9));
    }

    #[test]
    fn draws_fill_their_range_and_never_leave_it() {
        let mut rng = Rng::new(3, 4);
        let mut counts = [0; 7];
        for _ in 0..7_000 {
            counts[rng.below(7) as usize] += 1;
            let x = rng.range(-2.0, 5.0);
            assert!((-2.0..5.0).contains(&x), "{x}");
        }
        assert!(counts.iter().all(|&n| (850..1150).contains(&n)), "{counts:?}");
    }

    #[test]
    fn the_series_agrees_with_the_platform() {
        for step in -100..=100 {
            let angle = step as f32 * 0.1;
            let (sine, cosine) = sin_cos(angle);
            assert!((sine - angle.sin()).abs() < 1e-6, "sin {angle}: {sine}");
            assert!((cosine - angle.cos()).abs() < 1e-6, "cos {angle}: {cosine}");
        }
    }
}
