//! Lines on standard error that are drawn over themselves, while a person looks at them.
//!
//! Promise: nothing is written where standard error is no terminal, and nothing of it stays after `clear`. How wide
//! the terminal is need not be known: it is told to cut what is too long.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a person sees something new.
const PERIOD: Duration = Duration::from_millis(100);

/// Where lines are drawn.
#[derive(Debug)]
pub(super) struct Live {
    is_seen: bool,
    lines: Vec<String>,
    drawn: Option<Instant>,
}

impl Live {
    /// Standard error, where it is a terminal that can be drawn on.
    pub(super) fn stderr() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self::hidden(is_dumb || !std::io::stderr().is_terminal())
    }

    /// Nowhere, if so.
    pub(super) fn hidden(hidden: bool) -> Self {
        Self { is_seen: !hidden, lines: Vec::new(), drawn: None }
    }

    /// Draws these instead of what stands there; not more often than anybody sees.
    pub(super) fn draw(&mut self, lines: impl FnOnce() -> Vec<String>) {
        if !self.is_seen || self.drawn.is_some_and(|drawn| drawn.elapsed() < PERIOD) {
            return;
        }
        let before = self.lines.len();
        self.lines = lines();
        self.drawn = Some(Instant::now());
        write(&over(before, &self.lines));
    }

    /// Takes them away.
    pub(super) fn clear(&mut self) {
        if !self.lines.is_empty() {
            write(&over(self.lines.len(), &[]));
            self.lines.clear();
        }
    }

    /// Does something that writes to the same terminal, with the lines out of its way.
    pub(super) fn aside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        if self.lines.is_empty() {
            return work();
        }
        write(&over(self.lines.len(), &[]));
        let done = work();
        write(&over(0, &self.lines));
        done
    }
}

/// The way back over so many lines, and these in their place.
fn over(drawn: usize, lines: &[String]) -> String {
    let up = match drawn {
        0 | 1 => String::new(),
        _ => format!("\x1b[{}A", drawn - 1),
    };
    // Long lines end at the margin, while these are written.
    format!("\r{up}\x1b[J\x1b[?7l{}\x1b[?7h", lines.join("\r\n"))
}

fn write(text: &str) {
    let mut to = std::io::stderr().lock();
    // A terminal that is gone cannot be drawn on, and nobody looks at it.
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Does something long; that it is at work is seen meanwhile.
#[cfg(feature = "compile")]
pub(super) fn meanwhile<T>(words: &str, work: impl FnOnce() -> T) -> T {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    let (working, done) = channel::<()>();
    let mut live = Live::stderr();
    let turn = move || {
        for sign in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".chars().cycle() {
            live.draw(|| vec![format!("{sign} {words}")]);
            if done.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
                return live.clear();
            }
        }
    };
    std::thread::scope(|scope| {
        // Without a thread for it the work goes on unseen.
        let _ = std::thread::Builder::new().spawn_scoped(scope, turn);
        // Falls with a panic as well, so that the other thread ends.
        let _working = working;
        work()
    })
}

/// How far something is that goes on for a while.
#[derive(Debug)]
pub(super) struct Bar {
    live: Live,
    total: Option<u64>,
    unit: String,
    begun: Instant,
}

impl Bar {
    /// Of so many units, if that is known.
    pub(super) fn new(live: Live, total: Option<u64>, unit: &str) -> Self {
        Self { live, total, unit: unit.to_owned(), begun: Instant::now() }
    }

    /// So many units and bytes are done.
    pub(super) fn at(&mut self, done: u64, bytes: u64) {
        let Self { live, total, unit, begun } = self;
        live.draw(|| vec![progress(done, *total, unit, begun.elapsed(), bytes)]);
    }

    /// Takes it away.
    pub(super) fn clear(&mut self) {
        self.live.clear();
    }
}

fn progress(done: u64, total: Option<u64>, unit: &str, took: Duration, bytes: u64) -> String {
    const CELLS: u64 = 36;
    let rate = done as f64 / took.as_secs_f64().max(1e-3);
    let bytes = Bytes(bytes);
    let Some(total) = total else {
        return format!("{done} {unit}  {rate:.1}/s  {} s  {bytes}", took.as_secs());
    };
    let full = (u128::from(done.min(total)) * u128::from(CELLS) / u128::from(total.max(1))) as usize;
    let (full, empty) = ("━".repeat(full), "╌".repeat(CELLS as usize - full));
    let left = (total.saturating_sub(done) as f64 / rate.max(1e-9)).ceil();
    let left = if done == 0 { String::new() } else { format!("{left} s left  ") };
    format!("{full}{empty} {done}/{total} {unit}  {rate:.1}/s  {left}{bytes}")
}

/// So many, in the unit that a person reads: 1.50 MiB.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB"];
        let Some((power, unit)) =
            units.iter().enumerate().rev().find(|(power, _)| self.0 >> (10 * (power + 1)) > 0)
        else {
            return write!(f, "{} B", self.0);
        };
        write!(f, "{:.2} {unit}", self.0 as f64 / (1_u64 << (10 * (power + 1))) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_a_person_reads() {
        let told = |bytes| Bytes(bytes).to_string();
        assert_eq!([told(0), told(1023), told(1024)], ["0 B", "1023 B", "1.00 KiB"]);
        assert_eq!([told(3 << 19), told(u64::MAX)], ["1.50 MiB", "16777216.00 TiB"]);
    }

    #[test]
    fn progress_tells_share_rate_and_what_is_left() {
        let line = progress(25, Some(100), "frames", Duration::from_secs(5), 2048);
        assert_eq!(
            line,
            format!("{}{} 25/100 frames  5.0/s  15 s left  2.00 KiB", "━".repeat(9), "╌".repeat(27))
        );
        let endless = progress(25, None, "frames", Duration::from_secs(5), 2048);
        assert_eq!(endless, "25 frames  5.0/s  5 s  2.00 KiB");
    }

    #[test]
    fn progress_at_its_ends_is_a_line_as_well() {
        for (done, total) in [(0, 0), (0, 1), (9, 3), (u64::MAX, u64::MAX)] {
            let line = progress(done, Some(total), "frames", Duration::ZERO, 0);
            assert_eq!(line.chars().filter(|cell| "━╌".contains(*cell)).count(), 36, "{line}");
            assert!(!line.contains("NaN") && !line.contains("inf"), "{line}");
        }
    }

    #[test]
    fn lines_are_drawn_over_the_ones_before_and_cut_at_the_margin() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(over(0, &lines), "\r\x1b[J\x1b[?7la\r\nb\x1b[?7h");
        assert_eq!(over(2, &lines[..1]), "\r\x1b[1A\x1b[J\x1b[?7la\x1b[?7h");
    }

    #[test]
    fn where_nobody_looks_nothing_is_even_put_into_words() {
        let mut live = Live::hidden(true);
        live.draw(|| unreachable!());
        assert_eq!(live.aside(|| 3), 3);
        live.clear();
    }
}
