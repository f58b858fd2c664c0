//! How long to wait before the next attempt: doubling, jittered, and slow to forgive.
//!
//! Pure: time comes in, a wait goes out. The wait starts small again only after a connection has
//! stood for [`STABLE`]: a broker that accepts and drops us at once (a second client with our id,
//! say) is otherwise hammered. A connection that stood for at least as long as the wait before it
//! was worth that wait: the next one is half of it. So a link that breaks now and then is waited for
//! less and less, down to what keeps it standing for half of the time that it could.

use std::time::Duration;

use crate::base::Micros;

/// First wait. A broker that restarts is back within a second; asking twice a second costs nothing.
const FIRST: Duration = Duration::from_millis(250);
/// Longest wait: a site that was without power for a night is back within half a minute.
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that stood this long was a good one.
const STABLE: Duration = Duration::from_secs(60);

/// Waits between attempts to connect.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    /// The last wait.
    waited: Duration,
    up_since: Option<Micros>,
    random: u64,
}

impl Backoff {
    /// For brokers. `seed` sets devices apart that lost the same one at the same moment.
    pub fn new(seed: u64) -> Self {
        Self::between(FIRST, LONGEST, seed)
    }

    /// With a first and a longest wait for something else.
    pub fn between(first: Duration, longest: Duration, seed: u64) -> Self {
        // Xorshift needs a state that is not zero.
        Self { first, longest, failures: 0, waited: Duration::ZERO, up_since: None, random: seed | 1 }
    }

    /// The connection stands.
    pub fn connected(&mut self, now: Micros) {
        self.up_since = Some(now);
    }

    /// The attempt failed or the connection is gone: wait this long. Between half and all of the
    /// doubled wait, so that many devices do not come back in step.
    pub fn failed(&mut self, now: Micros) -> Duration {
        if let Some(since) = self.up_since.take() {
            let stood = now.since(since);
            if stood >= STABLE {
                self.failures = 0;
            } else if stood >= self.waited {
                self.failures = self.failures.saturating_sub(2);
            }
        }
        let doubled = self.doubled(self.failures);
        if doubled < self.longest {
            self.failures += 1;
        }
        let half = doubled / 2;
        self.waited = half + Duration::from_micros((half.as_micros() as f64 * self.next_unit()) as u64);
        self.waited
    }

    /// The wait after so many failures, before jitter.
    fn doubled(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.min(16)).min(self.longest)
    }

    /// Uniform in [0, 1): xorshift64*.
    fn next_unit(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_stay_within_their_jitter() {
        let mut backoff = Backoff::new(7);
        for attempt in 0..20u32 {
            let full = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
            let wait = backoff.failed(Micros(0));
            assert!(wait >= full / 2 && wait <= full, "attempt {attempt}: {wait:?} of {full:?}");
        }
    }

    #[test]
    fn a_link_that_breaks_every_few_seconds_stands_for_half_of_the_time_and_is_not_hammered() {
        for stands in [1, 3, 10, 25].map(Duration::from_secs) {
            let mut backoff = Backoff::new(7);
            let (mut now, mut stood, mut attempts) = (Micros(0), Duration::ZERO, 0);
            while now < Micros(3_600_000_000) {
                backoff.connected(now);
                now = now + stands;
                stood += stands;
                now = now + backoff.failed(now);
                attempts += 1;
            }
            assert!(stood.as_secs() > 3_600 / 3, "{stands:?}: stood for {stood:?}");
            assert!(Duration::from_secs(3_600) / attempts > stands, "{stands:?}: {attempts} attempts");
        }
        let mut backoff = Backoff::new(7);
        let waits = (0..20).map(|_| {
            backoff.connected(Micros(0));
            backoff.failed(Micros(1000))
        });
        assert!(waits.last() >= Some(LONGEST / 2), "a broker that drops us at once waits longest");
    }

    #[test]
    fn a_link_that_stands_for_as_long_as_it_was_away_is_waited_for_less_each_time() {
        let mut backoff = Backoff::new(7);
        let mut wait = (0..20).map(|_| backoff.failed(Micros(0))).last().unwrap();
        let mut now = Micros(0);
        for _ in 0..8 {
            backoff.connected(now);
            now = now + wait;
            wait = backoff.failed(now);
        }
        assert!(wait <= 2 * FIRST, "{wait:?}");
    }

    #[test]
    fn a_short_connection_does_not_reset_and_a_stable_minute_does() {
        let mut backoff = Backoff::new(7);
        for _ in 0..10 {
            backoff.failed(Micros(0));
        }
        backoff.connected(Micros(0));
        assert!(backoff.failed(Micros(0) + LONGEST / 4) >= LONGEST / 2);
        backoff.connected(Micros(0));
        assert!(backoff.failed(Micros(0) + STABLE) <= FIRST);
    }
}
