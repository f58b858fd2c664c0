//! The last samples of several channels, ready to be copied out when a window is due.
//!
//! Promise: which windows come out depends on the samples alone, never on how many arrived at once.
//! Nothing is allocated after the first sample.
//! Not here: units, scaling, time (`rows`, `mod`): what goes in is what comes out.

/// A ring of rows. A window is due with the first `samples` rows, then after every `stride` more.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ring {
    /// `samples` rows of `channels` values; `next` is the oldest once all are filled.
    values: Vec<f64>,
    channels: usize,
    samples: usize,
    stride: usize,
    /// Row to be written next.
    next: usize,
    /// Rows that are still wanted before a window is due.
    wanted: usize,
}

impl Ring {
    /// An empty ring. All three are at least 1; 0 counts as 1.
    pub(super) fn new(channels: usize, samples: usize, stride: usize) -> Ring {
        let (channels, samples, stride) = (channels.max(1), samples.max(1), stride.max(1));
        Ring { values: Vec::new(), channels, samples, stride, next: 0, wanted: samples }
    }

    /// Forgets every row.
    pub(super) fn clear(&mut self) {
        self.next = 0;
        self.wanted = self.samples;
    }

    /// Windows that `rows` more rows would complete.
    pub(super) fn due(&self, rows: usize) -> usize {
        if rows < self.wanted { 0 } else { 1 + (rows - self.wanted) / self.stride }
    }

    /// Takes rows of `channels` values each, as many as it can before a window is due or its end is
    /// reached. How many it took, and whether a window is due with the last of them.
    pub(super) fn take(&mut self, rows: &[f64]) -> (usize, bool) {
        // A window of an origin that is silent, or only ever wrong, costs nothing.
        if self.values.is_empty() {
            self.values.resize(self.samples * self.channels, 0.0);
        }
        let taken = (rows.len() / self.channels).min(self.wanted).min(self.samples - self.next);
        let (start, len) = (self.next * self.channels, taken * self.channels);
        self.values[start..start + len].copy_from_slice(&rows[..len]);
        self.next = (self.next + taken) % self.samples;
        self.wanted -= taken;
        let is_due = self.wanted == 0;
        if is_due {
            self.wanted = self.stride;
        }
        (taken, is_due)
    }

    /// The rows of a window, oldest first. Only of meaning when one is due.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        let (newer, older) = self.values.split_at(self.next * self.channels);
        older.chunks_exact(self.channels).chain(newer.chunks_exact(self.channels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windows(ring: &mut Ring, mut samples: &[f64]) -> Vec<Vec<f64>> {
        let mut windows = Vec::new();
        while !samples.is_empty() {
            let (taken, is_due) = ring.take(samples);
            samples = &samples[taken * ring.channels..];
            windows.extend(is_due.then(|| ring.rows().flatten().copied().collect()));
        }
        windows
    }

    #[test]
    fn windows_overlap_by_what_the_stride_leaves() {
        let mut ring = Ring::new(1, 4, 2);
        let samples: Vec<f64> = (0..9).map(f64::from).collect();
        let expected = [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 6.0, 7.0]];
        assert_eq!(windows(&mut ring, &samples), expected);
    }

    #[test]
    fn a_cleared_ring_waits_for_a_whole_window() {
        let mut ring = Ring::new(1, 3, 1);
        assert_eq!(windows(&mut ring, &[1.0, 2.0, 3.0, 4.0]).len(), 2);
        ring.clear();
        assert_eq!(windows(&mut ring, &[5.0, 6.0]), Vec::<Vec<f64>>::new());
        assert_eq!(windows(&mut ring, &[7.0]), [[5.0, 6.0, 7.0]]);
    }

    proptest! {
        #[test]
        fn windows_equal_slices_of_the_whole_history(
            channels in 1..4usize, samples in 1..9usize, stride in 1..12usize, rows in 0..60usize,
        ) {
            let history: Vec<f64> = (0..rows * channels).map(|i| i as f64).collect();
            let mut ring = Ring::new(channels, samples, stride);
            prop_assert_eq!(ring.due(rows), if rows < samples { 0 } else { 1 + (rows - samples) / stride });
            let expected: Vec<Vec<f64>> = (0..)
                .map(|i| i * stride)
                .take_while(|start| start + samples <= rows)
                .map(|start| history[start * channels..(start + samples) * channels].to_vec())
                .collect();
            prop_assert_eq!(windows(&mut ring, &history), expected);
        }
    }
}
