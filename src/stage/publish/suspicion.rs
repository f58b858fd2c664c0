//! Whether the other side ended a connection over a message, as a pure decision.
//!
//! MQTT 3.1.1 knows no refusal, and under MQTT 5 too a broker may end the connection over a message that it
//! will not have. That message would be among the first of the next connection, and end it as well. So the first
//! message that had not been acknowledged when two connections in a row ended travels alone on the
//! next one; if that ends as well while the message is under way, it counts as refused.
//!
//! Not here: what a refusal comes to. It is no loss: others go first, and show whether it is the message.

/// What the end of a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<M> {
    /// Nothing of a message.
    Nothing,
    /// It may be over this one, which is to travel alone.
    Suspect(M),
    /// It travelled alone.
    Refused(M),
}

/// What earlier ends have shown.
#[derive(Debug)]
pub(super) struct Suspicion<M> {
    /// The first message that was not acknowledged when the last connection ended.
    first: Option<M>,
}

impl<M: Copy + Eq> Suspicion<M> {
    /// Of nothing.
    pub(super) fn new() -> Self {
        Self { first: None }
    }

    /// A connection has ended with `first` as the first message that was not acknowledged. `may_be`: the other
    /// side ended it, for no reason that has nothing to do with messages. `alone`: no other was under way.
    pub(super) fn ended(&mut self, may_be: bool, first: Option<M>, alone: bool) -> Verdict<M> {
        let before = std::mem::replace(&mut self.first, first.filter(|_| may_be && !alone));
        match first {
            Some(message) if may_be && alone => Verdict::Refused(message),
            Some(message) if may_be && before == first => Verdict::Suspect(message),
            _ => Verdict::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_ends_in_a_row_is_to_travel_alone_and_only_then_refused() {
        let mut suspicion = Suspicion::new();
        assert_eq!(suspicion.ended(true, Some('a'), false), Verdict::Nothing);
        assert_eq!(suspicion.ended(true, Some('a'), false), Verdict::Suspect('a'));
        assert_eq!(suspicion.ended(true, Some('a'), true), Verdict::Refused('a'));
        assert_eq!(suspicion.ended(true, Some('b'), false), Verdict::Nothing);
    }

    #[test]
    fn a_line_that_got_on_meanwhile_or_an_end_for_another_reason_clears_all() {
        let mut suspicion = Suspicion::new();
        for first in ['a', 'b', 'a', 'c'] {
            assert_eq!(suspicion.ended(true, Some(first), false), Verdict::Nothing);
        }
        assert_eq!(suspicion.ended(false, Some('c'), true), Verdict::Nothing);
        assert_eq!(suspicion.ended(true, Some('c'), false), Verdict::Nothing);
        assert_eq!(suspicion.ended(true, None, false), Verdict::Nothing);
        assert_eq!(suspicion.ended(true, Some('c'), false), Verdict::Nothing);
    }
}
