//! Named threads, and who of them was late when they were asked to end.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Threads that are ended together.
pub struct Threads {
    running: Vec<(String, JoinHandle<()>)>,
    ended: (Sender<()>, Receiver<()>),
}

impl Default for Threads {
    fn default() -> Self {
        Self { running: Vec::new(), ended: channel() }
    }
}

impl Threads {
    /// Starts `work` on a thread called `name` (the kernel shows its first 15 bytes).
    pub fn spawn(&mut self, name: impl Into<String>, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let name = name.into();
        let ended = self.ended.0.clone();
        let handle = Builder::new().name(name.clone()).spawn(move || {
            // Sent on the way out even when `work` panics.
            let _bell = Bell(ended);
            work();
        })?;
        self.running.push((name, handle));
        Ok(())
    }

    /// Waits until all have ended or `deadline` has passed; the names of the late ones. They are
    /// left to run: a thread cannot be stopped from outside.
    pub fn join(mut self, deadline: Instant) -> Vec<String> {
        self.wait(deadline);
        self.running.into_iter().map(|(name, _)| name).collect()
    }

    /// Waits until all have ended or `deadline` has passed; they may be joined later.
    pub fn wait(&mut self, deadline: Instant) {
        loop {
            let (done, running) =
                self.running.drain(..).partition(|(_, handle): &(_, JoinHandle<()>)| handle.is_finished());
            self.running = running;
            let done: Vec<_> = done;
            for (name, handle) in done {
                if handle.join().is_err() {
                    log::error!("thread {name} ended by a panic");
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.running.is_empty() || left.is_zero() {
                return;
            }
            // The bell rings a moment before the thread is finished: look again soon after.
            match self.ended.1.recv_timeout(left.min(Duration::from_millis(50))) {
                Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

struct Bell(Sender<()>);

impl Drop for Bell {
    fn drop(&mut self) {
        // Nobody listens any more: then nobody waits either.
        let _ = self.0.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_late_one_is_named_and_the_others_are_not() {
        let mut threads = Threads::default();
        let (stop, stopped) = channel::<()>();
        threads.spawn("quick", || {}).unwrap();
        threads
            .spawn("late", move || {
                let _ = stopped.recv();
            })
            .unwrap();
        let late = threads.join(Instant::now() + Duration::from_millis(200));
        assert_eq!(late, ["late"]);
        drop(stop);
    }
}
