//! How long frames take, part by part.
//!
//! Promise: some 240 KB a pipeline, whatever the number of frames and however long they took;
//! percentiles are exact to 1 %, count, sum and largest are exact. Two views: of the last period
//! between two `stats` messages, and since the start.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::{Counter, Histogram};

use crate::base::Latency;

/// Longer ones count as this long in percentiles: after an hour the exact time says nothing more.
const LONGEST_US: u64 = 3_600_000_000;
/// 2: percentiles to 1 %, at an eighth of the memory of 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 2;

/// A part of a frame's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From the frame's last byte to a worker taking it.
    Queue,
    /// Payload to values or pixels.
    Decode,
    /// Values or pixels to a filled model input.
    Featurize,
    /// The model itself.
    Infer,
    /// From the frame's last byte to the prediction being handed to the outbox.
    Total,
    /// From there to the broker's acknowledgement.
    Acknowledge,
}

impl Part {
    /// Every part, in the order of the frame's way.
    pub const ALL: [Part; 6] =
        [Self::Queue, Self::Decode, Self::Featurize, Self::Infer, Self::Total, Self::Acknowledge];

    /// Name in stats and in the `part` label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Featurize => "featurize",
            Self::Infer => "infer",
            Self::Total => "total",
            Self::Acknowledge => "acknowledge",
        }
    }
}

/// Durations of one part over one span of time. Without a sample there are no percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Samples.
    pub count: u64,
    /// Sum of all.
    pub sum_us: u64,
    /// Half took at most so long.
    pub p50_us: Option<u64>,
    /// 99 of 100 took at most so long.
    pub p99_us: Option<u64>,
    /// The longest.
    pub max_us: Option<u64>,
}

/// Durations of every part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyView {
    /// Of the last whole period ([`Latencies::rotate`]), in the order of [`Part::ALL`].
    pub recent: [Summary; Part::ALL.len()],
    /// Since the start, in the same order.
    pub lifetime: [Summary; Part::ALL.len()],
}

impl LatencyView {
    /// One part of the last whole period.
    pub fn recent(&self, part: Part) -> &Summary {
        &self.recent[part as usize]
    }

    /// One part since the start.
    pub fn lifetime(&self, part: Part) -> &Summary {
        &self.lifetime[part as usize]
    }
}

/// Durations of one pipeline, recorded by all of its threads.
#[derive(Debug)]
pub struct Latencies(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Since the last rotation. 32 bits: 4 billion frames in a period cannot be.
    period: [Track<u32>; Part::ALL.len()],
    recent: [Summary; Part::ALL.len()],
    lifetime: [Track<u64>; Part::ALL.len()],
}

#[derive(Debug)]
struct Track<C: Counter> {
    histogram: Histogram<C>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl<C: Counter> Track<C> {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that hdrhistogram accepts");
        Self { histogram, count: 0, sum_us: 0, max_us: 0 }
    }

    fn record(&mut self, us: u64) {
        self.histogram.saturating_record(us);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    fn summary(&self) -> Summary {
        // The histogram gives a bucket's upper end, which may lie over the largest sample.
        let quantile = |q| (self.count > 0).then(|| self.histogram.value_at_quantile(q).min(self.max_us));
        Summary {
            count: self.count,
            sum_us: self.sum_us,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            max_us: (self.count > 0).then_some(self.max_us),
        }
    }

    fn clear(&mut self) {
        self.histogram.reset();
        (self.count, self.sum_us, self.max_us) = (0, 0, 0);
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// No samples yet.
    pub fn new() -> Self {
        Self(Mutex::new(Inner {
            period: std::array::from_fn(|_| Track::new()),
            recent: Default::default(),
            lifetime: std::array::from_fn(|_| Track::new()),
        }))
    }

    /// A prediction was handed to the outbox.
    pub fn record(&self, latency: &Latency) {
        let mut inner = self.lock();
        for (part, us) in [
            (Part::Queue, latency.queue_us),
            (Part::Decode, latency.decode_us),
            (Part::Featurize, latency.featurize_us),
            (Part::Infer, latency.infer_us),
            (Part::Total, latency.total_us),
        ] {
            inner.record(part, us);
        }
    }

    /// A prediction was acknowledged, so long after it had been handed to the outbox.
    pub fn acknowledged(&self, after: Duration) {
        self.lock().record(Part::Acknowledge, u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    }

    /// Ends a period: its durations become the recent ones. Called once a `stats` message.
    pub fn rotate(&self) {
        let mut inner = self.lock();
        inner.recent = std::array::from_fn(|i| inner.period[i].summary());
        inner.period.iter_mut().for_each(Track::clear);
    }

    /// The durations; looking changes nothing.
    pub fn view(&self) -> LatencyView {
        let inner = self.lock();
        LatencyView { recent: inner.recent, lifetime: std::array::from_fn(|i| inner.lifetime[i].summary()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic between two records leaves numbers, not broken structures.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, part: Part, us: u64) {
        self.period[part as usize].record(us);
        self.lifetime[part as usize].record(us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn total(us: u64) -> Latency {
        Latency { total_us: us, ..Latency::default() }
    }

    #[test]
    fn without_a_sample_there_is_no_percentile() {
        assert_eq!(Latencies::new().view(), LatencyView::default());
        assert_eq!(Summary::default().p99_us, None);
    }

    #[test]
    fn a_period_ends_with_its_rotation_and_the_lifetime_does_not() {
        let latencies = Latencies::new();
        latencies.record(&total(100));
        latencies.acknowledged(Duration::from_millis(3));
        assert_eq!(latencies.view().recent(Part::Total).count, 0);
        latencies.rotate();
        latencies.record(&total(300));
        let view = latencies.view();
        assert_eq!(view, latencies.view());
        assert_eq!(view.recent(Part::Total).max_us, Some(100));
        assert_eq!(view.recent(Part::Acknowledge).p50_us, Some(3000));
        assert_eq!((view.lifetime(Part::Total).count, view.lifetime(Part::Total).sum_us), (2, 400));
        latencies.rotate();
        latencies.rotate();
        assert_eq!(latencies.view().recent(Part::Total), &Summary::default());
        assert_eq!(latencies.view().lifetime(Part::Total).max_us, Some(300));
    }

    #[test]
    fn a_day_is_counted_as_an_hour_in_percentiles_and_exactly_elsewhere() {
        let latencies = Latencies::new();
        let day = 24 * LONGEST_US;
        latencies.record(&total(day));
        let summary = *latencies.view().lifetime(Part::Total);
        assert_eq!(summary.max_us, Some(day));
        let p50 = summary.p50_us.expect("one sample");
        assert!((LONGEST_US..LONGEST_US * 5 / 4).contains(&p50), "{p50}");
    }

    #[test]
    fn threads_record_side_by_side() {
        let latencies = Latencies::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|us| latencies.record(&total(us))));
            }
        });
        assert_eq!(latencies.view().lifetime(Part::Total).count, 4000);
    }

    proptest! {
        #[test]
        fn percentiles_are_within_one_percent(mut samples in prop::collection::vec(0_u64..1_000_000_000, 1..300)) {
            let latencies = Latencies::new();
            samples.iter().for_each(|us| latencies.record(&total(*us)));
            let summary = *latencies.view().lifetime(Part::Total);
            samples.sort_unstable();
            for (q, got) in [(0.5, summary.p50_us), (0.99, summary.p99_us)] {
                let rank = ((q * samples.len() as f64).ceil() as usize).max(1);
                let (exact, got) = (samples[rank - 1] as f64, got.expect("samples") as f64);
                prop_assert!((got - exact).abs() <= exact * 0.01 + 1.0, "{q}: {got} for {exact}");
            }
            prop_assert_eq!(summary.max_us, samples.last().copied());
            prop_assert_eq!(summary.sum_us, samples.iter().sum::<u64>());
        }
    }
}
