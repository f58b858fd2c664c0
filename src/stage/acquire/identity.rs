//! Which delivery of which frame this is, as far as MQTT can tell.
//!
//! A frame's identity must not be shared by two frames, and should be kept by one frame that is
//! delivered twice. QoS 0 frames come once: each gets a number of its own. A QoS 1 frame that comes
//! again has DUP set and its old packet id (MQTT 3.1.1 §4.4); topic, payload and packet id then find
//! the number that it got before, among the last [`REMEMBERED`] frames.
//!
//! A broker may give a packet id out again as soon as it is acknowledged. So a DUP that equals a frame
//! whose PUBACK went out is that frame, if the PUBACK was lost, or another one that was lost on its way.
//! It is answered again, under the same number: that wrongs neither, where silence would lose the other.
//!
//! A retained frame comes at each SUBSCRIBE, under any packet id, without DUP, also to the next process:
//! its number is that of the last frame with its topic and payload, else it follows from both.
//!
//! Promise: numbers begin at a random place, so no two processes give out the same one, whatever their
//! clocks say. What is remembered outlives the process, killed or not, where a [`Memory`] keeps it; it
//! does not outlive the power, because nothing is written to a disk for it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

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
    /// By this process, which has acknowledged it. It may be another one, although this broker has not
    /// been seen to give a packet id out again.
    Acknowledged,
    /// It may have been answered, and is to be answered again.
    Before,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    delivery: u64,
    /// Its place among all that came: the last of several.
    nth: u32,
    /// It came to this process.
    here: bool,
    /// Its PUBACK went out.
    acknowledged: bool,
    /// In a session that the broker has forgotten: its packet id means nothing any more.
    past: bool,
}

impl Known {
    fn seen(&self) -> Seen {
        match self {
            Self { here: false, .. } => Seen::Before,
            Self { acknowledged: true, .. } => Seen::Acknowledged,
            Self { .. } => Seen::Here,
        }
    }
}

/// Gives out identities.
pub struct Identities {
    next: u64,
    by_key: HashMap<u128, Known>,
    /// Keys of the last frames, oldest first; one that came again is in it several times.
    order: VecDeque<u128>,
    /// Frames that were put in `order`.
    came: u32,
    /// The last frame of each packet id, while it is remembered.
    by_pkid: HashMap<u16, u128>,
    /// The last packet id of each topic and payload, while it is remembered.
    by_content: HashMap<u64, u16>,
    /// The broker gives packet ids out again before it has counted through them.
    reuses_pkids: bool,
    retained: Retained,
    memory: Option<Memory>,
}

/// The retained frame of each topic, of the last [`REMEMBERED`] topics. Apart from the others, which come
/// by thousands between two times that we subscribe.
#[derive(Default)]
struct Retained {
    /// Hash of a topic → its frame's key and number.
    by_topic: HashMap<u64, (u128, u64)>,
    /// Topics, oldest first.
    order: VecDeque<u64>,
}

impl Retained {
    /// The number of the topic's frame, if that is this one.
    fn number(&self, topic: &str, key: u128) -> Option<u64> {
        let &(last, delivery) = self.by_topic.get(&xxh3_64(topic.as_bytes()))?;
        (last == key).then_some(delivery)
    }

    fn insert(&mut self, topic: &str, key: u128, delivery: u64) {
        let topic = xxh3_64(topic.as_bytes());
        if self.by_topic.insert(topic, (key, delivery)).is_none() {
            self.order.push_back(topic);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_topic.remove(&oldest);
        }
    }
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
            came: 0,
            by_pkid: HashMap::with_capacity(TABLE),
            by_content: HashMap::with_capacity(TABLE),
            reuses_pkids: false,
            retained: Retained::default(),
            memory: None,
        };
        let remembered = memory.as_mut().map(Memory::recall).unwrap_or_default();
        for Remembered { key, delivery } in also.into_iter().chain(remembered) {
            this.insert(key, delivery, false);
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
        let last = self.by_pkid.insert(pkid, key);
        self.reuses_pkids |= !dup && last.is_some();
        // Where another one has had the packet id since, it is none that we know.
        let same = |known: &&Known| dup && !known.past && last.is_none_or(|last| last == key);
        let known = self.by_key.get(&key).filter(same);
        let (delivery, seen) = match known {
            None => (self.fresh(), Seen::New),
            Some(known) if known.acknowledged && self.reuses_pkids => (known.delivery, Seen::Before),
            Some(known) => (known.delivery, known.seen()),
        };
        self.insert(key, delivery, true);
        if seen == Seen::New {
            self.keep(key, delivery);
        }
        (Identity { delivery, redelivered: dup, key }, seen)
    }

    /// The same for a frame that the broker had kept for whoever subscribes. One that comes again
    /// unchanged is the same one; after another one of its topic it is to be answered again.
    pub fn identify_retained(
        &mut self,
        topic: &str,
        payload: &[u8],
        pkid: Option<u16>,
        dup: bool,
    ) -> (Identity, Seen) {
        let key = key(topic, payload, NO_PKID);
        let last = self.by_content.get(&content(key)).and_then(|&pkid| {
            let key = key | u128::from(pkid);
            Some((pkid, self.by_key.get(&key)?))
        });
        let held = self.retained.number(topic, key);
        let (delivery, seen) = match (held, last) {
            (Some(delivery), _) => (delivery, Seen::Here),
            (None, None) => (content(key), Seen::New),
            // Another one has been retained since, so this one was published anew.
            (None, Some((NO_PKID, known))) => (known.delivery, Seen::Before),
            (None, Some((_, known))) => (known.delivery, known.seen()),
        };
        // Thousands may come again at once: they push out no frame that waits for its answer.
        if held.is_none() {
            self.retained.insert(topic, key, delivery);
            self.insert(key, delivery, true);
        }
        if seen == Seen::New {
            self.keep(key, delivery);
        }
        let key = if pkid.is_some() { key } else { 0 };
        (Identity { delivery, redelivered: dup || seen != Seen::New, key }, seen)
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
        self.by_key.values_mut().for_each(|known| known.past = true);
        self.by_pkid.clear();
        self.reuses_pkids = false;
    }

    fn insert(&mut self, key: u128, delivery: u64, here: bool) {
        let known = Known { delivery, nth: self.came, here, acknowledged: false, past: false };
        self.by_key.insert(key, known);
        self.by_content.insert(content(key), pkid(key));
        self.order.push_back(key);
        self.came = self.came.wrapping_add(1);
        if self.order.len() > REMEMBERED {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let nth = self.came.wrapping_sub(self.order.len() as u32);
        let Some(key) = self.order.pop_front() else { return };
        // Else it has come again since.
        if self.by_key.get(&key).is_some_and(|known| known.nth == nth) {
            self.by_key.remove(&key);
            remove_if(&mut self.by_pkid, pkid(key), key);
            remove_if(&mut self.by_content, content(key), pkid(key));
        }
    }

    fn keep(&mut self, key: u128, delivery: u64) {
        if let Some(memory) = &mut self.memory {
            memory.remember(Remembered { key, delivery });
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

fn remove_if<K: Eq + Hash, V: PartialEq>(map: &mut HashMap<K, V>, key: K, is: V) {
    if map.get(&key) == Some(&is) {
        map.remove(&key);
    }
}

/// In the key of a retained frame: no packet has it.
const NO_PKID: u16 = 0;

/// What finds a frame: a hash of topic and payload, and in the last 16 bits its packet id.
fn key(topic: &str, payload: &[u8], pkid: u16) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&(topic.len() as u32).to_le_bytes());
    hash.update(topic.as_bytes());
    hash.update(payload);
    // 0 says that there is none.
    let content = (hash.digest128() >> 16).max(1);
    content << 16 | u128::from(pkid)
}

fn content(key: u128) -> u64 {
    (key >> 64) as u64
}

fn pkid(key: u128) -> u16 {
    key as u16
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
        let room = |Identities { by_key, by_pkid, by_content, .. }: &Identities| {
            [by_key.capacity(), by_pkid.capacity(), by_content.capacity()]
        };
        let at_start = room(&identities);
        for i in 0..20 * REMEMBERED as u32 {
            identities.identify("t", &i.to_le_bytes(), Some((i % 65_535) as u16 + 1), false);
            assert!(room(&identities).iter().zip(at_start).all(|(now, first)| *now <= first), "frame {i}");
        }
        assert_eq!(identities.by_key.len(), REMEMBERED);
        assert_eq!(identities.order.len(), REMEMBERED);
        assert!(identities.by_pkid.len() <= REMEMBERED, "packet ids of forgotten frames are forgotten");
        assert!(identities.by_content.len() <= REMEMBERED, "and their contents");
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
    fn a_duplicate_of_an_acknowledged_frame_is_answered_again_under_its_number() {
        let mut identities = identities();
        let (first, _) = identities.identify("t", b"x", Some(1), false);
        identities.identify("t", b"x", Some(2), false);
        identities.acknowledged(1);
        let again = (Identity { redelivered: true, ..first }, Seen::Acknowledged);
        assert_eq!(
            identities.identify("t", b"x", Some(1), true),
            again,
            "our PUBACK was lost, or it is another"
        );
        let shared = (again.0, Seen::Here);
        assert_eq!(identities.identify("t", b"x", Some(1), true), shared, "its second answer is under way");
        identities.acknowledged(1);
        assert_eq!(identities.identify("t", b"x", Some(1), true), again);
    }

    #[test]
    fn a_broker_that_reuses_packet_ids_is_known_from_then_on() {
        let mut identities = identities();
        identities.identify("t", b"x", Some(1), false);
        identities.acknowledged(1);
        let (second, _) = identities.identify("t", b"x", Some(1), false);
        let again = Identity { redelivered: true, ..second };
        let not_acknowledged = identities.identify("t", b"x", Some(1), true);
        assert_eq!(not_acknowledged, (again, Seen::Here), "it is the same one");
        identities.acknowledged(1);
        assert_eq!(identities.identify("t", b"x", Some(1), true), (again, Seen::Before));
    }

    #[test]
    fn a_duplicate_whose_packet_id_another_frame_has_had_since_is_a_frame_of_its_own() {
        let mut identities = identities();
        let (first, _) = identities.identify("t", b"x", Some(1), false);
        identities.acknowledged(1);
        identities.identify("t", b"y", Some(1), false);
        identities.acknowledged(1);
        let (third, seen) = identities.identify("t", b"x", Some(1), true);
        assert_eq!(seen, Seen::New, "the broker has had our PUBACK of the first: it gave its packet id to y");
        assert_ne!(third.delivery, first.delivery);
    }

    #[test]
    fn a_frame_that_came_again_is_as_young_as_its_last_coming() {
        let mut identities = identities();
        let (first, _) = identities.identify("t", b"x", Some(1), false);
        let others = |identities: &mut Identities, topic| {
            for pkid in 2..REMEMBERED as u16 {
                identities.identify(topic, b"", Some(pkid), false);
            }
        };
        others(&mut identities, "a");
        identities.identify("t", b"x", Some(1), true);
        others(&mut identities, "b");
        let (again, seen) = identities.identify("t", b"x", Some(1), true);
        assert_eq!((again.delivery, seen), (first.delivery, Seen::Here));
    }

    #[test]
    fn a_retained_frame_is_the_same_in_every_session_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recent");
        let mut killed = Identities::new(Some(Memory::open(&path).unwrap()), []);
        let (first, seen) = killed.identify_retained("t", b"x", Some(1), false);
        assert_eq!((first.redelivered, seen), (false, Seen::New));
        let again = Identity { redelivered: true, ..first };
        killed.new_session();
        assert_eq!(killed.identify_retained("t", b"x", Some(7), false), (again, Seen::Here));
        let mut next = Identities::new(Some(Memory::open(&path).unwrap()), []);
        next.new_session();
        assert_eq!(next.identify_retained("t", b"x", Some(9), false), (again, Seen::Before));
        let mut powerless = Identities::new(None, []);
        assert_eq!(powerless.identify_retained("t", b"x", Some(1), false), (first, Seen::New));
        for (topic, payload) in [("t", b"y"), ("u", b"x")] {
            assert_ne!(
                powerless.identify_retained(topic, payload, Some(2), false).0.delivery,
                first.delivery
            );
        }
    }

    #[test]
    fn a_frame_that_a_subscription_hands_out_after_it_came_live_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recent");
        let mut killed = Identities::new(Some(Memory::open(&path).unwrap()), []);
        let mut live = |n: u16| killed.identify("t", b"x", Some(n), false).0;
        let (_, last) = (live(1), live(2));
        let (other, _) = killed.identify("u", b"x", Some(3), false);
        let again = |(identity, seen): (Identity, Seen)| (identity.delivery, identity.redelivered, seen);
        killed.acknowledged(2);
        killed.new_session();
        let handed_out = again(killed.identify_retained("t", b"x", Some(1), false));
        assert_eq!(handed_out, (last.delivery, true, Seen::Acknowledged));
        let once_more = again(killed.identify_retained("t", b"x", Some(1), false));
        assert_eq!(once_more, (last.delivery, true, Seen::Here));
        let under_way = again(killed.identify_retained("u", b"x", Some(2), false));
        assert_eq!(under_way, (other.delivery, true, Seen::Here));
        let mut next = Identities::new(Some(Memory::open(&path).unwrap()), []);
        let restarted = again(next.identify_retained("t", b"x", Some(4), false));
        assert_eq!(restarted, (last.delivery, true, Seen::Before));
    }

    #[test]
    fn a_retained_frame_that_comes_after_another_of_its_topic_is_answered_again() {
        let mut identities = identities();
        let (first, _) = identities.identify_retained("t", b"x", Some(1), false);
        identities.identify_retained("t", b"y", Some(2), false);
        let again = identities.identify_retained("t", b"x", Some(3), false);
        assert_eq!(again, (Identity { redelivered: true, ..first }, Seen::Before));
    }

    #[test]
    fn the_retained_frames_of_as_many_topics_are_remembered_whatever_comes_between() {
        let mut identities = identities();
        let retained = |identities: &mut Identities, topics: std::ops::Range<usize>| -> Vec<Seen> {
            topics.map(|n| identities.identify_retained(&n.to_string(), b"x", Some(1), false).1).collect()
        };
        retained(&mut identities, 0..REMEMBERED);
        for n in 0..2 * REMEMBERED as u32 {
            identities.identify("live", &n.to_le_bytes(), Some(n as u16 + 1), false);
        }
        assert_eq!(retained(&mut identities, 0..REMEMBERED), [Seen::Here; REMEMBERED]);
        retained(&mut identities, REMEMBERED..REMEMBERED + 1);
        assert_eq!(identities.retained.by_topic.len(), REMEMBERED);
        let seen = retained(&mut identities, 1..REMEMBERED + 1);
        assert_eq!(seen, [Seen::Here; REMEMBERED], "one more pushes out the oldest alone");
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
