//! Whether memory grows: the slope of samples over time, and how far chance alone would tilt them.
//!
//! An allocator takes and gives back in steps, so that each sample tells little beyond the one before. The
//! error of the slope is widened by what neighbours have in common: without that, one step is a trend.

use std::fmt;

use super::chance::Chance;

/// Slope and its standard error, in kB a minute.
pub(crate) struct Trend {
    slope: f64,
    noise: f64,
}

impl Trend {
    /// Least squares over samples of minutes and kB; the rests are taken for an AR(1) process.
    pub(crate) fn of(samples: &[(f64, f64)]) -> Trend {
        let n = samples.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|s| s.0), mean(|s| s.1));
        let spread: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
        let slope = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum::<f64>() / spread;
        let rests: Vec<f64> = samples.iter().map(|s| s.1 - y - slope * (s.0 - x)).collect();
        let squares: f64 = rests.iter().map(|rest| rest.powi(2)).sum();
        let products: f64 = rests.windows(2).map(|pair| pair[0] * pair[1]).sum();
        // No rest at all: nothing is in common.
        let alike = if squares > 0.0 { (products / squares).clamp(0.0, 0.99) } else { 0.0 };
        // Through two samples there is always a line.
        let noise = match samples.len() {
            ..3 => f64::INFINITY,
            _ => (squares / (n - 2.0) / spread * (1.0 + alike) / (1.0 - alike)).sqrt(),
        };
        Trend { slope, noise }
    }

    /// By more than three standard errors, and than a page a minute.
    pub(crate) fn grows(&self) -> bool {
        self.slope > (3.0 * self.noise).max(4.0)
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ± {:.1} kB/min", self.slope, self.noise)
    }
}

/// Leaks of several kinds are seen, and an allocator's steps are not taken for one: twenty minutes, each case
/// with many seeds. Gives the number of cases.
pub(crate) fn self_test() -> usize {
    type Grown = fn(minute: f64) -> f64;
    let leaks: [(&str, Grown); 3] = [
        ("a little at each frame", |minute| 10.0 * minute),
        ("a buffer at each blow", |minute| 16.0 * (minute * 8.0).floor()),
        ("a buffer at each restart", |minute| 100.0 * (minute / 1.5).floor()),
    ];
    let mut cases = 0;
    for seed in 0..20 {
        let mut chance = Chance::new(seed, "trend");
        // Some 450 kB are kept after a bad moment and given back after another, a page more or less always.
        let mut kept = 0.0;
        let mut steps: Vec<(f64, f64)> = Vec::new();
        let mut pages: Vec<(f64, f64)> = Vec::new();
        for sample in 0..160 {
            let minute = f64::from(sample) / 8.0;
            if chance.per_cent(5) {
                kept = 450.0 - kept;
            }
            let page = 4.0 * chance.within(0..3) as f64;
            pages.push((minute, 31_000.0 + page));
            steps.push((minute, 31_000.0 + page + kept));
        }
        let few = Trend::of(&[pages[0], (pages[1].0, pages[1].1 + 100.0)]);
        assert!(!few.grows(), "seed {seed}: two samples are no trend: {few}");
        for calm in [&pages, &steps] {
            let trend = Trend::of(calm);
            assert!(!trend.grows(), "seed {seed}: taken for growth: {trend}");
            cases += 1;
        }
        for (name, grown) in leaks {
            let leaking: Vec<(f64, f64)> = pages.iter().map(|&(at, kb)| (at, kb + grown(at))).collect();
            let trend = Trend::of(&leaking);
            assert!(trend.grows(), "seed {seed}: {name} is not seen: {trend}");
            cases += 1;
        }
    }
    cases
}
