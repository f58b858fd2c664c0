//! Which delivery of which frame this is, as far as MQTT can tell.
//!
//! A frame's identity must not be shared by two frames, and should be kept by one frame that is
//! delivered twice. QoS 0 frames come once: each gets a number of its own. A QoS 1 frame that comes
//! again has DUP set and, while the session lives, its old packet id; topic, payload and packet id
//! then find the number that it got before. Memory is bounded by [`REMEMBERED`] frames; a frame that
//! comes again later than that, or after a restart of this process, gets a new number unless it
//! carries an id of its own (`id_field`).

use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh3::Xxh3;

use crate::base::Identity;

/// A broker has at most its in-flight window of unacknowledged frames to send again; mosquitto's is
/// 20 by default, and none that we know goes beyond some thousands.
pub(super) const REMEMBERED: usize = 4096;

/// Gives out identities.
pub struct Identities {
    next: u64,
    by_key: HashMap<u64, u64>,
    /// Keys, oldest first.
    order: VecDeque<u64>,
}

impl Identities {
    /// `start` differs from one process to the next.
    pub fn new(start: u64) -> Self {
        Self { next: start, by_key: HashMap::new(), order: VecDeque::new() }
    }

    /// The identity of a frame; `pkid` is `None` at QoS 0.
    pub fn identify(&mut self, topic: &str, payload: &[u8], pkid: Option<u16>, dup: bool) -> Identity {
        let Some(pkid) = pkid else {
            return Identity { delivery: self.fresh(), redelivered: false };
        };
        let key = key(topic, payload, pkid);
        if dup && let Some(&delivery) = self.by_key.get(&key) {
            return Identity { delivery, redelivered: true };
        }
        let delivery = self.fresh();
        if self.by_key.insert(key, delivery).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        Identity { delivery, redelivered: dup }
    }

    fn fresh(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

fn key(topic: &str, payload: &[u8], pkid: u16) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&pkid.to_le_bytes());
    hash.update(&(topic.len() as u32).to_le_bytes());
    hash.update(topic.as_bytes());
    hash.update(payload);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redelivered_frame_keeps_its_identity() {
        let mut identities = Identities::new(0);
        let first = identities.identify("t", b"x", Some(1), false);
        let other = identities.identify("t", b"x", Some(2), false);
        let again = identities.identify("t", b"x", Some(1), true);
        assert_ne!(first.delivery, other.delivery);
        assert_eq!((first.delivery, true), (again.delivery, again.redelivered));
    }

    #[test]
    fn equal_bytes_with_a_used_packet_id_are_another_frame_unless_marked_as_duplicate() {
        let mut identities = Identities::new(0);
        let first = identities.identify("t", b"x", Some(1), false);
        let later = identities.identify("t", b"x", Some(1), false);
        assert_ne!(first.delivery, later.delivery);
        assert_eq!(identities.identify("t", b"x", Some(1), true).delivery, later.delivery);
        let other_payload = identities.identify("t", b"y", Some(1), true);
        assert_ne!(other_payload.delivery, later.delivery);
    }

    #[test]
    fn memory_is_bounded() {
        let mut identities = Identities::new(0);
        for i in 0..3 * REMEMBERED as u32 {
            identities.identify("t", &i.to_le_bytes(), Some((i % 65_535) as u16 + 1), false);
        }
        assert_eq!(identities.by_key.len(), REMEMBERED);
        assert_eq!(identities.order.len(), REMEMBERED);
    }
}
