//! What is wrong with a line, found in its counters and said once.
//!
//! Pure: counts and time come in, words go out. A condition is said when it begins and when it ends,
//! never in between, so that a sensor that is silent for a year fills no log.

use std::time::Duration;

use super::tty::LineCounts;
use crate::base::Micros;
use crate::base::counters::{BadBytes, LineFault, PortCounters};

/// Silence of a sensor that is worth a line in the log, where the config names no `stale_after_ms`.
const SILENT_AFTER: Duration = Duration::from_secs(10);
/// Bad frames in a row, with no good one between them, that are more than noise.
const BAD_IN_A_ROW: u64 = 16;
/// Bytes without any frame that are more than the rest of one.
const BYTES_WITHOUT_FRAME: u64 = 512;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Silent,
    WrongBaud,
    Endless,
    OnlyDelimiters,
    Garbage,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) level: log::Level,
    pub(super) words: String,
}

/// Watches one port.
#[derive(Debug)]
pub(super) struct Health {
    port: String,
    baud: u32,
    max_frame_bytes: usize,
    /// `stale_after_ms`.
    stale_after: Option<Duration>,
    trouble: Option<Trouble>,
    /// At the last look.
    seen: Seen,
    /// At the last good frame, or the opening.
    good: Seen,
    heard_at: Micros,
    frame_at: Micros,
    line: Option<LineCounts>,
    overruns_said: bool,
    expects_frames: bool,
}

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    frames: u64,
    bad: u64,
    overlong: u64,
    stray: u64,
    framing: u64,
    parity: u64,
}

impl Seen {
    fn of(counters: &PortCounters) -> Self {
        Self {
            bytes: counters.bytes.get(),
            frames: counters.frames.get(),
            bad: counters.bad_frames(),
            overlong: counters.bad(BadBytes::Overlong).get(),
            stray: counters.bad(BadBytes::Stray).get(),
            framing: counters.line(LineFault::Framing).get(),
            parity: counters.line(LineFault::Parity).get(),
        }
    }
}

impl Health {
    pub(super) fn new(port: &str, baud: u32, max_frame_bytes: usize, stale_after: Option<Duration>) -> Self {
        Self {
            port: port.into(),
            baud,
            max_frame_bytes,
            stale_after,
            trouble: None,
            seen: Seen::default(),
            good: Seen::default(),
            heard_at: Micros(0),
            frame_at: Micros(0),
            line: None,
            overruns_said: false,
            expects_frames: true,
        }
    }

    /// Nobody sends frames by himself here: units are asked, or nothing is read. Whoever asks knows
    /// better what is wrong.
    pub(super) fn of_a_bus(self) -> Self {
        Self { expects_frames: false, ..self }
    }

    /// The port was opened; `line`: what its driver has counted for whoever had it before.
    pub(super) fn opened(&mut self, now: Micros, counters: &PortCounters, line: Option<LineCounts>) {
        self.seen = Seen::of(counters);
        self.good = self.seen;
        (self.heard_at, self.frame_at) = (now, now);
        self.line = line;
        // What was wrong belonged to the line as it was; the log says that it is open.
        self.trouble = None;
    }

    /// No frame has come for `stale_after_ms`, be the port open or away.
    pub(super) fn is_stalled(&self, now: Micros) -> bool {
        self.stale_after.is_some_and(|limit| now.since(self.frame_at) > limit)
    }

    /// Takes over what the driver has counted since the last look.
    pub(super) fn line(&mut self, counters: &PortCounters, now: Option<LineCounts>) {
        if let (Some(now), Some(before)) = (now, self.line) {
            for (fault, now, before) in [
                (LineFault::Framing, now.framing, before.framing),
                (LineFault::Parity, now.parity, before.parity),
                (LineFault::Overrun, now.overrun, before.overrun),
                (LineFault::BufferOverrun, now.buffer_overrun, before.buffer_overrun),
                (LineFault::Break, now.breaks, before.breaks),
            ] {
                counters.line(fault).add(u64::from(now.wrapping_sub(before)));
            }
        }
        self.line = now;
    }

    /// Looks at the counters of an open port; once a second is enough.
    pub(super) fn look(&mut self, now: Micros, counters: &PortCounters) -> Vec<Remark> {
        let seen = Seen::of(counters);
        let mut remarks = Vec::new();
        if seen.bytes != self.seen.bytes {
            self.heard_at = now;
        }
        if seen.frames != self.seen.frames {
            self.frame_at = now;
            self.good = seen;
        }
        self.seen = seen;
        let overruns =
            counters.line(LineFault::Overrun).get() + counters.line(LineFault::BufferOverrun).get();
        if overruns > 0 && !self.overruns_said {
            self.overruns_said = true;
            remarks.push(self.remark(
                log::Level::Warn,
                format!("{overruns} byte(s) were lost because nobody fetched them in time; use flow = \"hardware\", or a lower baud rate"),
            ));
        }
        let trouble = self.trouble_now(now);
        if trouble != self.trouble {
            self.trouble = trouble;
            remarks.push(match trouble {
                None => self.remark(log::Level::Info, "frames come again".into()),
                Some(trouble) => self.remark(log::Level::Warn, self.words(trouble, now)),
            });
        }
        remarks
    }

    fn remark(&self, level: log::Level, words: String) -> Remark {
        Remark { level, words: format!("port {}: {words}", self.port) }
    }

    fn trouble_now(&self, now: Micros) -> Option<Trouble> {
        let (seen, good) = (&self.seen, &self.good);
        if self.expects_frames && now.since(self.heard_at) > self.stale_after.unwrap_or(SILENT_AFTER) {
            return Some(Trouble::Silent);
        }
        let bytes = seen.bytes - good.bytes;
        let bad = seen.bad - good.bad;
        let faults = seen.framing - good.framing + seen.parity - good.parity;
        // A wrong rate breaks most characters, noise breaks few.
        if faults > BAD_IN_A_ROW && faults * 20 > bytes {
            return Some(Trouble::WrongBaud);
        }
        if !self.expects_frames {
            return None;
        }
        // In noise some frames are overlong too; of a sender of long ones all are.
        if 2 * (seen.overlong - good.overlong) > bad {
            return Some(Trouble::Endless);
        }
        if bytes > 2 * self.max_frame_bytes as u64 + BYTES_WITHOUT_FRAME
            && bad == 0
            && seen.stray == good.stray
        {
            return Some(Trouble::OnlyDelimiters);
        }
        if bad > BAD_IN_A_ROW
            || (bad > 0 || seen.stray > good.stray)
                && bytes > BYTES_WITHOUT_FRAME.max(self.max_frame_bytes as u64)
        {
            return Some(Trouble::Garbage);
        }
        // What was wrong stays wrong until a frame comes.
        self.trouble.filter(|trouble| *trouble != Trouble::Silent && seen.frames == good.frames && bytes > 0)
    }

    fn words(&self, trouble: Trouble, now: Micros) -> String {
        let bytes = self.seen.bytes - self.good.bytes;
        match trouble {
            Trouble::Silent => format!(
                "nothing has come for {:.1} s; is the sensor powered, and its TX joined to our RX?",
                now.since(self.heard_at).as_secs_f64()
            ),
            Trouble::WrongBaud => format!(
                "the driver counts {} framing and {} parity errors in {bytes} bytes; the sender most likely runs at another rate or parity than {} baud",
                self.seen.framing - self.good.framing,
                self.seen.parity - self.good.parity,
                self.baud
            ),
            Trouble::Endless => format!(
                "a frame did not end within max_frame_bytes = {}; a longer frame needs a higher limit, otherwise baud ({}) or framing is wrong",
                self.max_frame_bytes, self.baud
            ),
            Trouble::OnlyDelimiters => format!(
                "{bytes} bytes came and no frame ended in them: only delimiters, or a frame without an end; is the sensor's framing ours?"
            ),
            Trouble::Garbage => format!(
                "{bytes} bytes came and no frame among them ({} damaged ones); wrong baud ({}), framing or crc",
                self.seen.bad - self.good.bad,
                self.baud
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        health: Health,
        counters: PortCounters,
        now: u64,
    }

    impl Bench {
        fn new(stale_after_ms: Option<u64>) -> Self {
            let counters = PortCounters::default();
            let mut health = Health::new("/dev/x", 9600, 64, stale_after_ms.map(Duration::from_millis));
            health.opened(Micros(0), &counters, Some(LineCounts::default()));
            Self { health, counters, now: 0 }
        }

        /// A second passes.
        fn look(&mut self) -> Vec<String> {
            self.now += 1_000_000;
            let remarks = self.health.look(Micros(self.now), &self.counters);
            remarks.into_iter().map(|remark| remark.words).collect()
        }
    }

    #[test]
    fn silence_is_said_once_when_it_begins_and_once_when_it_ends() {
        let mut bench = Bench::new(None);
        let said: Vec<Vec<String>> = (0..60).map(|_| bench.look()).collect();
        assert_eq!(said.concat().len(), 1, "{said:?}");
        assert!(said[10][0].contains("nothing has come for 11.0 s"), "{said:?}");
        bench.counters.bytes.add(10);
        bench.counters.frames.bump();
        assert_eq!(bench.look(), ["port /dev/x: frames come again"]);
        assert_eq!(bench.look(), Vec::<String>::new());
    }

    #[test]
    fn a_stalled_sensor_is_one_without_frames_even_when_bytes_come() {
        let mut bench = Bench::new(Some(2_500));
        for stalled in [false, false, true, true] {
            bench.counters.bytes.bump();
            bench.look();
            assert_eq!(bench.health.is_stalled(Micros(bench.now)), stalled);
        }
        bench.counters.frames.bump();
        bench.look();
        assert!(!bench.health.is_stalled(Micros(bench.now)));
    }

    #[test]
    fn a_port_that_was_away_is_opened_without_a_word_of_frames() {
        let mut bench = Bench::new(None);
        (0..12).for_each(|_| drop(bench.look()));
        assert_eq!(bench.health.trouble, Some(Trouble::Silent));
        bench.health.opened(Micros(bench.now), &bench.counters, None);
        assert_eq!(bench.look(), Vec::<String>::new());
    }

    #[test]
    fn damaged_frames_in_a_row_are_garbage_and_a_few_are_noise() {
        let mut bench = Bench::new(None);
        for _ in 0..10 {
            bench.counters.bytes.add(100);
            bench.counters.frames.add(10);
            bench.counters.bad(BadBytes::Checksum).add(3);
            assert_eq!(bench.look(), Vec::<String>::new());
        }
        for _ in 0..10 {
            bench.counters.bytes.add(100);
            bench.counters.bad(BadBytes::Checksum).add(5);
            bench.look();
        }
        assert_eq!(bench.health.trouble, Some(Trouble::Garbage));
    }

    #[test]
    fn a_driver_that_counts_framing_errors_shows_a_wrong_rate() {
        let mut bench = Bench::new(None);
        bench.counters.bytes.add(100);
        bench.health.line(&bench.counters, Some(LineCounts { framing: 40, ..LineCounts::default() }));
        let said = bench.look();
        assert!(said[0].contains("counts 40 framing") && said[0].contains("9600 baud"), "{said:?}");
        assert_eq!(bench.counters.line(LineFault::Framing).get(), 40);
    }

    #[test]
    fn only_delimiters_and_frames_without_an_end_are_told_apart() {
        let mut bench = Bench::new(None);
        bench.counters.bytes.add(1_000);
        assert!(bench.look()[0].contains("only delimiters"));
        let mut bench = Bench::new(None);
        bench.counters.bytes.add(1_000);
        bench.counters.bad(BadBytes::Overlong).bump();
        assert!(bench.look()[0].contains("did not end within max_frame_bytes = 64"));
    }

    #[test]
    fn noise_in_which_some_frames_are_overlong_is_noise() {
        let mut bench = Bench::new(None);
        bench.counters.bytes.add(4_000);
        bench.counters.bad(BadBytes::Overlong).add(2);
        bench.counters.bad(BadBytes::Malformed).add(14);
        assert!(bench.look()[0].contains("no frame among them (16 damaged ones)"));
    }

    #[test]
    fn lost_bytes_are_said_once() {
        let mut bench = Bench::new(None);
        bench.health.line(
            &bench.counters,
            Some(LineCounts { overrun: 2, buffer_overrun: 1, ..LineCounts::default() }),
        );
        assert!(bench.look()[0].contains("3 byte(s) were lost"));
        assert_eq!(bench.look(), Vec::<String>::new());
    }
}
