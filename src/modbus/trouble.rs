//! Which faults of a unit, or of what is written to it, are worth a line in the log: each kind once, until all
//! was well for a while. A flickering line then costs a line a while and not one a request.

use core::time::Duration;

use crate::base::Micros;

/// So long without a fault, and the trouble is over.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// The trouble with one unit.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// A bit for each kind that has been told.
    told: u8,
    well_since: Option<Micros>,
}

impl Trouble {
    /// Something went wrong, the kinds of which are counted from 0. Whether to say so.
    pub fn fault(&mut self, kind: u8) -> bool {
        self.well_since = None;
        let bit = 1 << kind;
        let is_news = self.told & bit == 0;
        self.told |= bit;
        is_news
    }

    /// All was well. Whether to say that it is again.
    pub fn well(&mut self, now: Micros) -> bool {
        if self.told == 0 {
            return false;
        }
        let since = *self.well_since.get_or_insert(now);
        let is_over = now.since(since) >= WELL_AFTER;
        if is_over {
            *self = Self::default();
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::counters::ModbusFault;

    #[test]
    fn each_kind_is_told_once_and_the_end_once() {
        let mut trouble = Trouble::default();
        let at = |secs: u64| Micros(secs * 1_000_000);
        assert!(!trouble.well(at(0)));
        assert!(trouble.fault(ModbusFault::Silent as u8));
        assert!(trouble.fault(ModbusFault::BadCrc as u8));
        assert!(!trouble.fault(ModbusFault::Silent as u8));
        assert!(!trouble.well(at(1)));
        assert!(!trouble.fault(ModbusFault::Silent as u8));
        assert!(!trouble.well(at(20)), "the fault at 1 s began the wait anew");
        assert!(trouble.well(at(30)));
        assert!(!trouble.well(at(40)));
        assert!(trouble.fault(ModbusFault::Silent as u8));
    }
}
