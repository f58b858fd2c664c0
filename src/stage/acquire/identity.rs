//! Which delivery of which frame this is, as far as MQTT can tell.
//!
//! A frame's identity must not be shared by two frames, and should be kept by one frame that is
//! delivered twice. QoS 0 frames come once: each gets a number of its own. A QoS 1 frame that comes
//! again has DUP set and its old packet id (MQTT 3.1.1 §4.4); topic, payload and packet id then find
//! the number that it got before, among the last [`REMEMBERED`] frames.
//!
//! A broker may give a packet id out again as soon as it is acknowledged. Of one that does (most count to
//! 65,535 first) a DUP whose packet id we have acknowledged is taken for another frame with equal bytes
//! that was lost on its way: answering a frame twice is a nuisance, not answering one is a loss.
//!
//! Promise: numbers begin at a random place, so no two processes give out the same one, whatever their
//! clocks say. What is remembered outlives the process, killed or not, where a [`Memory`] keeps it; it
//! does not outlive the power, because nothing is written to a disk for it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use xxhash_rust::xxh3::Xxh3;

use super::memory::{Memory, Remembered};
use crate::base::{Clock, Identity, SystemClock};

/// A broker has at most its in-flight window of unacknowledged frames to send again; mosquitto's is
/// 20 by default, and none that we know goes beyond some thousands.
pub const REMEMBERED: usize = 4096;

/// Room of a table for them, in whole at once, so that memory stays what it is after the first frames. A
/// table in which things come and go doubles when more than half of its room is in use.
const TABLE: usize = 2 * (REMEMBERED + 1);

/// What is known of a frame that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never, as far as is remembered.
    New,
    /// By this process: its ledger knows the rest.
    Here,
    /// By an earlier process: whether it answered is not known.
    Before,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    delivery: u64,
    here: bool,
    /// Its PUBACK went out.
    acknowledged: bool,
    /// Under which it came to this process.
    pkid: Option<u16>,
}

/// Gives out identities.
pub struct Identities {
    next: u64,
    by_key: HashMap<u128, Known>,
    /// Keys, oldest first.
    order: VecDeque<u128>,
    /// The last frame of each packet id, while it is remembered.
    by_pkid: HashMap<u16, u128>,
    /// The broker gives packet ids out again before it has counted through them.
    reuses_pkids: bool,
    memory: Option<Memory>,
}

impl Identities {
    /// Starts with what `memory` and `also` (the outbox) know from earlier processes.
    pub fn new(memory: Option<Memory>, also: impl IntoIterator<Item = Remembered>) -> Self {
        Self::starting_at(random(), memory, also)
    }

    fn starting_at(
        next: u64,
        mut memory: Option<Memory>,
        also: impl IntoIterator<Item = Remembered>,
    ) -> Self {
        let mut this = Self {
            next,
            by_key: HashMap::with_capacity(TABLE),
            order: VecDeque::with_capacity(REMEMBERED + 1),
            by_pkid: HashMap::with_capacity(TABLE),
            reuses_pkids: false,
            memory: None,
        };
        let remembered = memory.as_mut().map(Memory::recall).unwrap_or_default();
        for Remembered { key, delivery } in also.into_iter().chain(remembered) {
            this.insert(key, Known { delivery, here: false, acknowledged: false, pkid: None });
        }
        this.memory = memory;
        this
    }

    /// The identity of a frame, and what is known of it; `pkid` is `None` at QoS 0.
    pub fn identify(
        &mut self,
        topic: &str,
        payload: &[u8],
        pkid: Option<u16>,
        dup: bool,
    ) -> (Identity, Seen) {
        let Some(pkid) = pkid else {
            return (Identity { delivery: self.fresh(), redelivered: false, key: 0 }, Seen::New);
        };
        let key = key(topic, payload, pkid);
        if let Some(last) = self.by_pkid.insert(pkid, key)
            && !dup
        {
            self.reuses_pkids |= self.by_key.contains_key(&last);
        }
        let known = self.by_key.get(&key).filter(|known| dup && !(known.acknowledged && self.reuses_pkids));
        let (delivery, seen) = match known {
            Some(&Known { delivery, here: true, .. }) => (delivery, Seen::Here),
            Some(&Known { delivery, here: false, .. }) => (delivery, Seen::Before),
            None => (self.fresh(), Seen::New),
        };
        if seen != Seen::Here {
            self.insert(key, Known { delivery, here: true, acknowledged: false, pkid: Some(pkid) });
        }
        if seen == Seen::New
            && let Some(memory) = &mut self.memory
        {
            memory.remember(Remembered { key, delivery });
        }
        (Identity { delivery, redelivered: dup, key }, seen)
    }

    /// The PUBACK of `pkid` goes out.
    pub fn acknowledged(&mut self, pkid: u16) {
        let key = self.by_pkid.get(&pkid);
        if let Some(known) = key.and_then(|key| self.by_key.get_mut(key)) {
            known.acknowledged = true;
        }
    }

    /// The broker has begun a new session: its packet ids mean nothing that was.
    pub fn new_session(&mut self) {
        self.by_key.clear();
        self.order.clear();
        self.by_pkid.clear();
        self.reuses_pkids = false;
    }

    fn insert(&mut self, key: u128, known: Known) {
        if self.by_key.insert(key, known).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
            && let Some(Known { pkid: Some(pkid), .. }) = self.by_key.remove(&oldest)
            && self.by_pkid.get(&pkid) == Some(&oldest)
        {
            self.by_pkid.remove(&pkid);
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

/// A number that no other process draws: the system's randomness, and, for a board that has gathered
/// none yet, what differs between two starts.
pub fn random() -> u64 {
    let mut hash = RandomState::new().build_hasher();
    hash.write_u64(SystemClock.wall().0);
    hash.write_u32(std::process::id());
    // The kernel's own, mixed from all that it knows; absent outside Linux.
    hash.write(&std::fs::read("/proc/sys/kernel/random/uuid").unwrap_or_default());
    hash.finish()
}

fn key(topic: &str, payload: &[u8], pkid: u16) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&pkid.to_le_bytes());
    hash.update(&(topic.len() as u32).to_le_bytes());
    hash.update(topic.as_bytes());
    hash.update(payload);
    // 0 says that there is none.
    hash.digest128().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities() -> Identities {
        Identities::starting_at(0, None, [])
    }

    #[test]
    fn a_redelivered_frame_keeps_its_identity() {
        let mut identities = identities();
        let (first, seen) = identities.identify("t", b"x", Some(1), false);
        assert_eq!(seen, Seen::New);
        let (other, _) = identities.identify("t", b"x", Some(2), false);
        let (again, seen) = identities.identify("t", b"x", Some(1), true);
        assert_ne!(first.delivery, other.delivery);
        assert_eq!((first.delivery, true, Seen::Here), (again.delivery, again.redelivered, seen));
    }

    #[test]
    fn equal_bytes_with_a_used_packet_id_are_another_frame_unless_marked_as_duplicate() {
        let mut identities = identities();
        let (first, _) = identities.identify("t", b"x", Some(1), false);
        let (later, seen) = identities.identify("t", b"x", Some(1), false);
        assert_eq!(seen, Seen::New);
        assert_ne!(first.delivery, later.delivery);
        assert_eq!(identities.identify("t", b"x", Some(1), true).0.delivery, later.delivery);
        let (other_payload, seen) = identities.identify("t", b"y", Some(1), true);
        assert_ne!(other_payload.delivery, later.delivery);
        assert_eq!(seen, Seen::New, "sent before, but it never reached us");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_its_tables_never_grow() {
        let mut identities = identities();
        let room = |identities: &Identities| [identities.by_key.capacity(), identities.by_pkid.capacity()];
        let at_start = room(&identities);
        for i in 0..20 * REMEMBERED as u32 {
            identities.identify("t", &i.to_le_bytes(), Some((i % 65_535) as u16 + 1), false);
            assert!(room(&identities).iter().zip(at_start).all(|(now, first)| *now <= first), "frame {i}");
        }
        assert_eq!(identities.by_key.len(), REMEMBERED);
        assert_eq!(identities.order.len(), REMEMBERED);
        assert!(identities.by_pkid.len() <= REMEMBERED, "packet ids of forgotten frames are forgotten");
    }

    #[test]
    fn a_frame_keeps_its_identity_in_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recent");
        let mut killed = Identities::new(Some(Memory::open(&path).unwrap()), []);
        let (first, _) = killed.identify("t", b"x", Some(1), false);
        let (second, _) = killed.identify("t", b"x", Some(1), false);
        assert_ne!(first.delivery, second.delivery);
        drop(killed);
        for _ in 0..2 {
            let mut next = Identities::new(Some(Memory::open(&path).unwrap()), []);
            let (again, seen) = next.identify("t", b"x", Some(1), true);
            assert_eq!((again.delivery, seen), (second.delivery, Seen::Before));
            assert_eq!(next.identify("t", b"x", Some(1), true).1, Seen::Here);
        }
        let mut powerless = Identities::new(None, []);
        assert_ne!(powerless.identify("t", b"x", Some(1), true).0.delivery, second.delivery);
    }

    #[test]
    fn a_broker_that_counts_packet_ids_sends_again_what_it_sent() {
        let mut identities = identities();
        let (first, _) = identities.identify("t", b"x", Some(1), false);
        identities.identify("t", b"x", Some(2), false);
        identities.acknowledged(1);
        let (again, seen) = identities.identify("t", b"x", Some(1), true);
        assert_eq!((again.delivery, seen), (first.delivery, Seen::Here), "our PUBACK was lost");
    }

    #[test]
    fn a_broker_that_reuses_packet_ids_may_send_a_frame_of_equal_bytes_for_the_first_time() {
        let mut identities = identities();
        identities.identify("t", b"x", Some(1), false);
        identities.acknowledged(1);
        let (second, _) = identities.identify("t", b"x", Some(1), false);
        assert_eq!(
            identities.identify("t", b"x", Some(1), true),
            (Identity { redelivered: true, ..second }, Seen::Here),
            "not acknowledged: it is the same one"
        );
        identities.acknowledged(1);
        let (third, seen) = identities.identify("t", b"x", Some(1), true);
        assert_eq!(seen, Seen::New);
        assert_ne!(third.delivery, second.delivery);
    }

    #[test]
    fn a_new_session_knows_no_packet_id() {
        let mut identities = identities();
        let (first, _) = identities.identify("t", b"x", Some(1), false);
        identities.new_session();
        let (other, seen) = identities.identify("t", b"x", Some(1), true);
        assert_eq!(seen, Seen::New);
        assert_ne!(first.delivery, other.delivery);
    }

    #[test]
    fn two_processes_never_draw_one_number() {
        let drawn: std::collections::HashSet<u64> = (0..1000).map(|_| random()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
