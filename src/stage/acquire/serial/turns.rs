//! Ports that share a thread take turns.
//!
//! Promise: a port's step waits for nothing, so that one that is absent or full holds up no other. Busy
//! ports rest until the same instants ([`super::pace`]), and one wake-up serves them all: that is what
//! eight full ports cost least with.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::super::Intake;
use super::Talk;
use super::source::{SerialSource, Wait};
use crate::base::{Clock, Micros, SystemClock};

/// Serves `ports`, which put their frames into `intake`, until the handle of each has ended it.
pub fn serve<T: Talk>(mut ports: Vec<SerialSource<T>>, intake: &Intake) {
    loop {
        ports.retain(|port| !port.bell().is_stopping());
        if ports.is_empty() {
            return; // closing the lanes wakes whom the last frames need
        }
        let waits: Vec<Wait> = ports.iter_mut().map(SerialSource::prepare).collect();
        intake.wake(); // once for the frames of all ports
        match wait(&ports, &waits) {
            Ok(ready) => {
                for ((port, wait), [tty, bell]) in ports.iter_mut().zip(waits).zip(ready) {
                    port.go_on(wait, tty, bell);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => ports.iter_mut().for_each(|port| port.lost(&errno.into())),
        }
    }
}

/// Until something is ready or the first time has come: what of each port's file and bell.
fn wait<T: Talk>(ports: &[SerialSource<T>], waits: &[Wait]) -> Result<Vec<[PollFlags; 2]>, Errno> {
    let mut fds = Vec::with_capacity(2 * ports.len());
    for (port, wait) in ports.iter().zip(waits) {
        fds.push(PollFd::new(port.bell().pipe(), PollFlags::IN));
        if let (Some(interest), Some(tty)) = (wait.interest, port.tty()) {
            fds.push(PollFd::new(tty.file(), interest));
        }
    }
    let until = waits.iter().map(|wait| wait.until).min().unwrap_or(Micros(0));
    poll(&mut fds, Some(&timespec(until.since(SystemClock.now()))))?;
    let mut ready = fds.iter().map(PollFd::revents);
    let mut next = || ready.next().unwrap_or(PollFlags::empty());
    Ok(waits
        .iter()
        .map(|wait| {
            let bell = next();
            let tty = if wait.interest.is_some() { next() } else { PollFlags::empty() };
            [tty, bell]
        })
        .collect())
}

fn timespec(wait: Duration) -> Timespec {
    // A day at most: the clock is looked at again anyway.
    let wait = wait.min(Duration::from_secs(86_400));
    Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos() as _ }
}
