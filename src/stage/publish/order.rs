//! Whether the broker acknowledges in the order of sending, and how long a message is waited for that later
//! ones have overtaken.
//!
//! Brokers do as a rule, and a byte that breaks on its way can make a message into something that is passed
//! over. Frames behind the lost one's wait for it, and soon the whole line. So it is given up soon;
//! but a broker whose acknowledgements come late by more than that would never be seen to be one: after
//! a connection was given up, the next ones are patient until many acknowledgements have come in order.

use std::time::Duration;

/// A message that others have overtaken is lost after so long.
pub(super) const OVERTAKEN_FOR: Duration = Duration::from_millis(500);
/// The same of a broker that acknowledges in another order, or may do so.
pub(super) const OVERTAKEN_FOR_WHERE_USUAL: Duration = Duration::from_secs(5);
/// Acknowledgements in order that show, after a connection was given up, that the broker keeps to it. One
/// that does not in one message of 200 is seen to within as many, nine times in ten.
pub(super) const SHOWN_AFTER: u32 = 500;

/// What acknowledgements have shown so far. Messages are numbered in the order of sending, over all connections.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The newest message that was acknowledged.
    up_to: u64,
    /// One was acknowledged after later ones.
    shuffles: bool,
    /// Acknowledgements to come before the broker is believed again.
    to_show: u32,
}

impl Order {
    /// Message `nth` has been acknowledged.
    pub(super) fn acknowledged(&mut self, nth: u64) {
        self.shuffles |= nth < self.up_to;
        self.up_to = self.up_to.max(nth);
        self.to_show = self.to_show.saturating_sub(1);
    }

    /// Whether message `nth`, the oldest under way, has been lost; the connection is then given up.
    pub(super) fn is_lost(&mut self, nth: u64, waits: Duration) -> bool {
        let is_patient = self.shuffles || self.to_show > 0;
        let patience = if is_patient { OVERTAKEN_FOR_WHERE_USUAL } else { OVERTAKEN_FOR };
        let is_lost = nth < self.up_to && waits >= patience;
        if is_lost {
            self.to_show = SHOWN_AFTER;
        }
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_whose_acknowledgements_come_late_is_given_up_once_and_then_known() {
        let late_by = Duration::from_millis(800);
        let mut order = Order::default();
        order.acknowledged(2);
        assert!(order.is_lost(1, late_by), "nothing is known of it");
        order.acknowledged(4);
        assert!(!order.is_lost(3, late_by), "it gets the time to show what it does");
        order.acknowledged(3);
        (5..10_000).for_each(|nth| order.acknowledged(nth));
        order.acknowledged(10_001);
        assert!(!order.is_lost(10_000, late_by));
        assert!(order.is_lost(10_000, OVERTAKEN_FOR_WHERE_USUAL));
    }

    #[test]
    fn a_link_that_has_shown_its_order_again_is_given_up_as_soon_as_before() {
        let mut order = Order::default();
        order.acknowledged(2);
        assert!(order.is_lost(1, OVERTAKEN_FOR));
        let shown = 3 + u64::from(SHOWN_AFTER);
        (3..shown).for_each(|nth| order.acknowledged(nth));
        order.acknowledged(shown + 1);
        assert!(order.is_lost(shown, OVERTAKEN_FOR));
    }
}
