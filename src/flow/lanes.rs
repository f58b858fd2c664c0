//! Frames waiting for a worker: one bounded lane a pipeline, any worker takes from any lane.
//!
//! Promise: a lane never holds more items or bytes than its limits, except for one single item that
//! is larger than the byte limit on its own. Lanes take turns. An *ordered* lane is served by one
//! worker at a time, in order: windows and recurrent state need that.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::config::WhenFull;

/// Limits of one lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Items that may wait.
    pub items: usize,
    /// Bytes that may wait.
    pub bytes: usize,
    /// What happens to the next one.
    pub when_full: WhenFull,
    /// Served by one worker at a time.
    pub ordered: bool,
}

/// What became of a push. What did not stay comes back, to be counted and settled.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed<T> {
    /// It waits.
    Queued,
    /// It waits; these older ones had to go.
    DroppedOldest(Vec<T>),
    /// It was refused (`drop_newest`, or the lanes are closed).
    Refused(T),
    /// No room now (`block`): hold it, and push again after [`Lanes::on_space`] called.
    Full(T),
}

struct Lane<T> {
    limits: LaneLimits,
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    busy: bool,
    somebody_waits_for_space: bool,
}

impl<T> Lane<T> {
    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.is_empty()
            || (self.waiting.len() < self.limits.items && self.bytes + bytes <= self.limits.bytes)
    }

    fn pop(&mut self) -> Option<T> {
        let (item, bytes) = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }

    fn may_be_served(&self) -> bool {
        let taken = self.limits.ordered && self.busy;
        !taken && !self.waiting.is_empty()
    }

    /// Beside those who are at work. An ordered lane that is being served needs nobody: its worker takes
    /// again when it is done.
    fn workers_needed(&self) -> usize {
        match self.limits.ordered {
            true => usize::from(self.may_be_served()),
            false => self.waiting.len(),
        }
    }
}

struct Inner<T> {
    lanes: Vec<Lane<T>>,
    next: usize,
    /// Workers that sleep: with none, nobody need be woken, which costs a system call.
    sleeping: usize,
    /// Those of them that were woken and are on their way.
    called: usize,
    closed: bool,
}

/// The lanes of all pipelines.
pub struct Lanes<T> {
    inner: Mutex<Inner<T>>,
    /// Which lanes are ordered: for the others nothing waits for [`Lanes::done`], and no lock is taken.
    ordered: Vec<bool>,
    work: Condvar,
    on_space: Box<dyn Fn() + Send + Sync>,
}

impl<T> Lanes<T> {
    /// One lane for each of `limits`. `on_space` is called when a lane that answered
    /// [`Pushed::Full`] has room again; it must not push itself.
    pub fn new(
        limits: impl IntoIterator<Item = LaneLimits>,
        on_space: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let lane = |limits| Lane {
            limits,
            waiting: VecDeque::new(),
            bytes: 0,
            busy: false,
            somebody_waits_for_space: false,
        };
        let lanes: Vec<_> = limits.into_iter().map(lane).collect();
        Self {
            ordered: lanes.iter().map(|lane| lane.limits.ordered).collect(),
            inner: Mutex::new(Inner { lanes, next: 0, sleeping: 0, called: 0, closed: false }),
            work: Condvar::new(),
            on_space: Box::new(on_space),
        }
    }

    /// Adds an item of `bytes` to `lane`; never waits, and wakes nobody: [`Lanes::wake`] does, once for
    /// all that came together.
    pub fn push(&self, lane: usize, item: T, bytes: usize) -> Pushed<T> {
        let mut inner = self.lock();
        if inner.closed {
            return Pushed::Refused(item);
        }
        let lane = &mut inner.lanes[lane];
        let mut dropped = Vec::new();
        while !lane.has_room(bytes) {
            match lane.limits.when_full {
                WhenFull::DropOldest => dropped.extend(lane.pop()),
                WhenFull::DropNewest => return Pushed::Refused(item),
                WhenFull::Block => {
                    lane.somebody_waits_for_space = true;
                    return Pushed::Full(item);
                }
            }
        }
        lane.waiting.push_back((item, bytes));
        lane.bytes += bytes;
        drop(inner);
        if dropped.is_empty() { Pushed::Queued } else { Pushed::DroppedOldest(dropped) }
    }

    /// Wakes as many workers as what was pushed needs. To be called after pushing, before the source
    /// waits for anything.
    pub fn wake(&self) {
        let mut inner = self.lock();
        let needed: usize = inner.lanes.iter().map(Lane::workers_needed).sum();
        let called = needed.min(inner.sleeping).saturating_sub(inner.called);
        inner.called += called;
        drop(inner);
        for _ in 0..called {
            self.work.notify_one();
        }
    }

    /// Waits for the next item; `None` once the lanes are closed and empty. Hand the lane back
    /// with [`Lanes::done`].
    pub fn take(&self) -> Option<(usize, T)> {
        let mut inner = self.lock();
        loop {
            let count = inner.lanes.len();
            let next = inner.next;
            let turn = (0..count).map(|i| (next + i) % count).find(|&i| inner.lanes[i].may_be_served());
            if let Some(index) = turn {
                inner.next = (index + 1) % count;
                let lane = &mut inner.lanes[index];
                let item = lane.pop().expect("a lane that may be served has an item");
                lane.busy = true;
                let space = std::mem::take(&mut lane.somebody_waits_for_space);
                drop(inner);
                if space {
                    (self.on_space)();
                }
                return Some((index, item));
            }
            if inner.closed && inner.lanes.iter().all(|lane| lane.waiting.is_empty()) {
                return None;
            }
            inner.sleeping += 1;
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.sleeping -= 1;
            inner.called = inner.called.saturating_sub(1);
        }
    }

    /// The worker is finished with the item that it took from `lane`, and takes again: what waits in
    /// this lane is its own, or that of the worker whose item it takes instead.
    pub fn done(&self, lane: usize) {
        if !self.ordered[lane] {
            return;
        }
        let mut inner = self.lock();
        inner.lanes[lane].busy = false;
        let closed = inner.closed;
        drop(inner);
        if closed {
            // When closed, every worker must look again: the last one out ends them all.
            self.work.notify_all();
        }
    }

    /// Nothing more goes in; workers drain what waits and are then told to end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// Takes out all that still waits.
    pub fn drain(&self) -> Vec<(usize, T)> {
        let mut inner = self.lock();
        let mut left = Vec::new();
        for (index, lane) in inner.lanes.iter_mut().enumerate() {
            while let Some(item) = lane.pop() {
                left.push((index, item));
            }
        }
        drop(inner);
        self.work.notify_all();
        left
    }

    /// Items and bytes that wait in `lane`.
    pub fn depth(&self, lane: usize) -> (usize, usize) {
        let inner = self.lock();
        (inner.lanes[lane].waiting.len(), inner.lanes[lane].bytes)
    }

    /// A worker that panicked elsewhere cannot have left a lane half changed: nothing here panics
    /// between two changes.
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn limits(items: usize, bytes: usize, when_full: WhenFull) -> LaneLimits {
        LaneLimits { items, bytes, when_full, ordered: false }
    }

    #[test]
    fn drop_oldest_hands_back_as_many_as_the_new_one_needs() {
        let lanes = Lanes::new([limits(8, 10, WhenFull::DropOldest)], || {});
        assert_eq!(lanes.push(0, 'a', 4), Pushed::Queued);
        assert_eq!(lanes.push(0, 'b', 4), Pushed::Queued);
        assert_eq!(lanes.push(0, 'c', 9), Pushed::DroppedOldest(vec!['a', 'b']));
        assert_eq!(lanes.depth(0), (1, 9));
    }

    #[test]
    fn drop_newest_keeps_what_waits() {
        let lanes = Lanes::new([limits(1, 10, WhenFull::DropNewest)], || {});
        assert_eq!(lanes.push(0, 'a', 1), Pushed::Queued);
        assert_eq!(lanes.push(0, 'b', 1), Pushed::Refused('b'));
        assert_eq!(lanes.take(), Some((0, 'a')));
    }

    #[test]
    fn a_blocked_source_is_called_once_when_there_is_room() {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = calls.clone();
        let lanes = Lanes::new([limits(1, 10, WhenFull::Block)], move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(lanes.push(0, 'a', 1), Pushed::Queued);
        assert_eq!(lanes.push(0, 'b', 1), Pushed::Full('b'));
        assert_eq!(lanes.take(), Some((0, 'a')));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(lanes.push(0, 'b', 1), Pushed::Queued);
        assert_eq!(lanes.take(), Some((0, 'b')));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_item_over_the_byte_limit_passes_alone() {
        let lanes = Lanes::new([limits(8, 10, WhenFull::DropNewest)], || {});
        assert_eq!(lanes.push(0, 'a', 100), Pushed::Queued);
        assert_eq!(lanes.push(0, 'b', 1), Pushed::Refused('b'));
    }

    #[test]
    fn lanes_take_turns() {
        let lanes =
            Lanes::new([limits(8, 99, WhenFull::DropNewest), limits(8, 99, WhenFull::DropNewest)], || {});
        for item in 0..3 {
            lanes.push(0, item, 1);
        }
        lanes.push(1, 10, 1);
        let order: Vec<_> = (0..4).filter_map(|_| lanes.take()).collect();
        assert_eq!(order, [(0, 0), (1, 10), (0, 1), (0, 2)]);
    }

    #[test]
    fn an_ordered_lane_waits_until_its_worker_is_done() {
        let ordered = LaneLimits { ordered: true, ..limits(8, 99, WhenFull::DropNewest) };
        let lanes = Lanes::new([ordered, limits(8, 99, WhenFull::DropNewest)], || {});
        lanes.push(0, 'a', 1);
        lanes.push(0, 'b', 1);
        lanes.push(1, 'x', 1);
        assert_eq!(lanes.take(), Some((0, 'a')));
        assert_eq!(lanes.take(), Some((1, 'x')));
        lanes.done(0);
        assert_eq!(lanes.take(), Some((0, 'b')));
    }

    /// A worker, until the lanes are closed.
    fn work(lanes: &Lanes<usize>, taken: &AtomicUsize) {
        while let Some((lane, _)) = lanes.take() {
            taken.fetch_add(1, Ordering::Relaxed);
            lanes.done(lane);
        }
    }

    #[test]
    fn nothing_stays_while_a_worker_sleeps() {
        const ITEMS: usize = 30_000;
        let ordered = LaneLimits { ordered: true, ..limits(99_999, 99_999, WhenFull::DropNewest) };
        let lanes = Lanes::new([ordered, ordered, LaneLimits { ordered: false, ..ordered }], || {});
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| work(&lanes, &taken));
            }
            // Bursts of every length up to 16, each awaited: a worker sleeps before the next one comes.
            for burst in 0.. {
                let until = taken.load(Ordering::Relaxed) + 1 + burst % 16;
                for item in 0..=burst % 16 {
                    lanes.push((burst / 16 + item * 7) % 3, item, 1);
                }
                lanes.wake();
                let begun = std::time::Instant::now();
                while taken.load(Ordering::Relaxed) < until {
                    if begun.elapsed().as_secs() > 20 {
                        lanes.close(); // or the scope waits for the sleepers
                        panic!("burst {burst}: an item is left to sleepers");
                    }
                    std::thread::yield_now();
                }
                if until >= ITEMS {
                    break;
                }
            }
            lanes.close();
        });
    }

    #[test]
    fn closing_drains_what_waits_and_then_ends_every_worker() {
        let ordered = LaneLimits { ordered: true, ..limits(99, 999, WhenFull::DropNewest) };
        let lanes = Lanes::new([ordered], || {});
        for item in 0..50 {
            lanes.push(0, item, 1);
        }
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| work(&lanes, &taken));
            }
            lanes.close();
        });
        assert_eq!(taken.load(Ordering::Relaxed), 50);
        assert_eq!(lanes.push(0, 1, 1), Pushed::Refused(1));
    }
}
