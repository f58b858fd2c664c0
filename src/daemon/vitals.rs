//! Is the daemon alive? By what its parts get done, not by a timer that would outlive them.
//!
//! Promise: a part that has work and does not move for the limit is named; one without work is well
//! however long it rests. Pure: signs and time come in.
//! Not here: who is told (`watchdog`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::Micros;

/// A worker's sign of life.
#[derive(Debug, Default)]
pub struct Pulse {
    turns: AtomicU64,
    at_work: AtomicBool,
}

impl Pulse {
    /// A frame is taken.
    pub fn begin(&self) {
        self.at_work.store(true, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// It is done with.
    pub fn end(&self) {
        self.at_work.store(false, Ordering::Relaxed);
    }

    /// The sign for a part called `part`.
    pub fn sign(&self, part: String) -> Sign {
        Sign {
            part,
            turns: self.turns.load(Ordering::Relaxed),
            has_work: self.at_work.load(Ordering::Relaxed),
        }
    }
}

/// What a part shows of itself at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Its name, as of its thread.
    pub part: String,
    /// A number that changes whenever it gets something done.
    pub turns: u64,
    /// It ought to get something done.
    pub has_work: bool,
}

/// A part that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Its name.
    pub part: String,
    /// For how long.
    pub silent: Duration,
}

/// Remembers when each part moved last.
#[derive(Debug)]
pub struct Vitals {
    limit: Duration,
    seen: Vec<(Sign, Micros)>,
}

impl Vitals {
    /// A part may be silent over its work for `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, seen: Vec::new() }
    }

    /// Looks at all parts; those that are stuck.
    pub fn look(&mut self, now: Micros, signs: Vec<Sign>) -> Vec<Stuck> {
        let seen = std::mem::take(&mut self.seen);
        self.seen = signs
            .into_iter()
            .map(|sign| {
                let before = seen.iter().find(|(before, _)| before.part == sign.part);
                let moved = match before {
                    Some((before, moved))
                        if sign.has_work && before.turns == sign.turns && before.has_work =>
                    {
                        *moved
                    }
                    _ => now,
                };
                (sign, moved)
            })
            .collect();
        self.seen
            .iter()
            .map(|(sign, moved)| Stuck { part: sign.part.clone(), silent: now.since(*moved) })
            .filter(|stuck| stuck.silent >= self.limit)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Micros {
        Micros(secs * 1_000_000)
    }

    fn sign(part: &str, turns: u64, has_work: bool) -> Sign {
        Sign { part: part.into(), turns, has_work }
    }

    #[test]
    fn a_part_that_rests_is_well_for_ever() {
        let mut vitals = Vitals::new(LIMIT);
        for secs in [0, 59, 60, 100_000] {
            assert_eq!(vitals.look(at(secs), vec![sign("worker-0", 7, false)]), []);
        }
    }

    #[test]
    fn a_part_that_does_not_move_over_its_work_is_named_and_the_others_are_not() {
        let mut vitals = Vitals::new(LIMIT);
        let signs = |turns| vec![sign("worker-0", 7, true), sign("worker-1", turns, true)];
        assert_eq!(vitals.look(at(0), signs(1)), []);
        assert_eq!(vitals.look(at(59), signs(2)), []);
        let stuck = Stuck { part: "worker-0".into(), silent: LIMIT };
        assert_eq!(vitals.look(at(60), signs(3)), [stuck]);
    }

    #[test]
    fn the_time_of_rest_does_not_count_against_the_next_frame() {
        let mut vitals = Vitals::new(LIMIT);
        vitals.look(at(0), vec![sign("worker-0", 1, false)]);
        // It took a frame just before this look.
        assert_eq!(vitals.look(at(1_000), vec![sign("worker-0", 2, true)]), []);
        assert_eq!(vitals.look(at(1_059), vec![sign("worker-0", 2, true)]), []);
        assert_eq!(vitals.look(at(1_060), vec![sign("worker-0", 2, true)]).len(), 1);
    }

    #[test]
    fn a_pulse_counts_frames_and_knows_rest() {
        let pulse = Pulse::default();
        pulse.begin();
        assert_eq!(pulse.sign("w".into()), sign("w", 1, true));
        pulse.end();
        assert_eq!(pulse.sign("w".into()), sign("w", 1, false));
    }
}
