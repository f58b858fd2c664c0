//! What is wrong with a line, found in its counters and said once.
//!
//! Pure: counts and time come in, words go out. A condition is said when it begins and when frames come
//! again, never in between; what comes and goes is said ever more seldom. So neither a sensor that is silent
//! for a year fills a log nor one that speaks every quarter of an hour.

use std::time::Duration;

use super::tty::LineCounts;
use super::{Expects, Settings};
use crate::base::Micros;
use crate::base::counters::{BadBytes, LineFault, PortCounters};

/// Silence that is worth a line in the log, where the config names no `stale_after_ms`.
const SILENT_AFTER: Duration = Duration::from_secs(10);
/// After something wrong was said and has passed, nothing is said for so long; twice as long each time, until
/// all was well for that long.
const HOLD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(24 * 60 * 60));
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
    /// One of several on the line.
    SilentSensor(u8),
}

/// A sensor that a pipeline names, and after how long its silence matters.
#[derive(Debug)]
struct Watched {
    sensor: u8,
    stale_after: Duration,
    frame_at: Micros,
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
    expects: Expects,
    sensors: Vec<Watched>,
    trouble: Option<Trouble>,
    said: Said,
    /// At the last look.
    seen: Seen,
    /// At the last good frame, or the opening.
    good: Seen,
    looked_at: Micros,
    heard_at: Micros,
    frame_at: Micros,
    line: Option<LineCounts>,
    overruns_said: bool,
}

/// What the log says, and when it may say more.
#[derive(Debug)]
struct Said {
    /// Since the last frame.
    troubles: Vec<Trouble>,
    /// Nothing new is said before.
    free_at: Micros,
    hold: Duration,
    /// When something was wrong last.
    troubled_at: Micros,
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
    pub(super) fn new(settings: &Settings) -> Self {
        let said = Said { troubles: Vec::new(), free_at: Micros(0), hold: HOLD.0, troubled_at: Micros(0) };
        Self {
            port: settings.port.clone(),
            baud: settings.line.baud,
            max_frame_bytes: settings.max_frame_bytes,
            stale_after: settings.stale_after,
            expects: settings.expects,
            sensors: settings
                .sensors
                .iter()
                .map(|&(sensor, stale_after)| Watched { sensor, stale_after, frame_at: Micros(0) })
                .collect(),
            trouble: None,
            said,
            seen: Seen::default(),
            good: Seen::default(),
            looked_at: Micros(0),
            heard_at: Micros(0),
            frame_at: Micros(0),
            line: None,
            overruns_said: false,
        }
    }

    /// The port was opened; `line`: what its driver has counted for whoever had it before.
    pub(super) fn opened(&mut self, now: Micros, counters: &PortCounters, line: Option<LineCounts>) {
        self.seen = Seen::of(counters);
        self.good = self.seen;
        (self.looked_at, self.heard_at, self.frame_at) = (now, now, now);
        self.sensors.iter_mut().for_each(|watched| watched.frame_at = now);
        self.line = line;
        // What was wrong belonged to the line as it was; the log says that it is open.
        self.trouble = None;
        self.said.troubles.clear();
    }

    /// No frame has come for `stale_after_ms`, or none of a sensor that is named, be the port open or away.
    pub(super) fn is_stalled(&self, now: Micros) -> bool {
        self.stale_after.is_some_and(|limit| now.since(self.frame_at) > limit)
            || self.silent_sensors(now).next().is_some()
    }

    fn silent_sensors(&self, now: Micros) -> impl Iterator<Item = &Watched> {
        self.sensors.iter().filter(move |watched| now.since(watched.frame_at) > watched.stale_after)
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

    /// Looks at the counters of an open port; once a second is enough. `is_read`: there is room for more frames;
    /// `spoke`: whether a sensor has sent a frame since the last look.
    pub(super) fn look(
        &mut self,
        now: Micros,
        counters: &PortCounters,
        is_read: bool,
        spoke: impl Fn(u8) -> bool,
    ) -> Vec<Remark> {
        let seen = Seen::of(counters);
        let mut remarks = Vec::new();
        if !is_read && seen.bytes == self.seen.bytes {
            // What nobody fetches does not come, whatever the sensor sends: this time does not count.
            let unread = now.since(self.looked_at);
            self.heard_at = self.heard_at + unread;
            self.frame_at = self.frame_at + unread;
            self.sensors.iter_mut().for_each(|watched| watched.frame_at = watched.frame_at + unread);
        }
        self.looked_at = now;
        for watched in self.sensors.iter_mut().filter(|watched| spoke(watched.sensor)) {
            watched.frame_at = now;
        }
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
        self.trouble = self.trouble_now(now);
        remarks.extend(self.change(now));
        remarks
    }

    /// What the log does not say yet and may.
    fn change(&mut self, now: Micros) -> Option<Remark> {
        let said = &mut self.said;
        match self.trouble {
            None => {
                if now.since(said.troubled_at) > said.hold {
                    said.hold = HOLD.0;
                }
                if said.troubles.is_empty() {
                    return None;
                }
                said.troubles.clear();
                said.free_at = now + said.hold;
                said.hold = (2 * said.hold).min(HOLD.1);
                Some(self.remark(log::Level::Info, "frames come again".into()))
            }
            Some(trouble) => {
                said.troubled_at = now;
                if said.troubles.contains(&trouble) || now < said.free_at {
                    return None;
                }
                said.troubles.push(trouble);
                Some(self.remark(log::Level::Warn, self.words(trouble, now)))
            }
        }
    }

    fn remark(&self, level: log::Level, words: String) -> Remark {
        Remark { level, words: format!("port {}: {words}", self.port) }
    }

    fn trouble_now(&self, now: Micros) -> Option<Trouble> {
        let (seen, good) = (&self.seen, &self.good);
        let limit = self.stale_after.unwrap_or(SILENT_AFTER);
        if self.expects != Expects::Nothing && now.since(self.heard_at) > limit {
            return Some(Trouble::Silent);
        }
        let bytes = seen.bytes - good.bytes;
        let bad = seen.bad - good.bad;
        let faults = seen.framing - good.framing + seen.parity - good.parity;
        // A wrong rate breaks most characters, noise breaks few.
        if faults > BAD_IN_A_ROW && faults * 20 > bytes {
            return Some(Trouble::WrongBaud);
        }
        match self.expects {
            Expects::Frames => {}
            Expects::Nothing => return None,
            // Others are asked on that bus too: bytes alone tell nothing before a round should have come.
            Expects::Rounds if bytes > BYTES_WITHOUT_FRAME && now.since(self.frame_at) > limit => {
                return Some(Trouble::Garbage);
            }
            Expects::Rounds => return self.trouble.filter(|_| bytes > 0),
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
        let stays = |trouble: &Trouble| bytes > 0 && !matches!(trouble, Trouble::SilentSensor(_));
        self.trouble.filter(stays).or_else(|| self.silent_sensor(now))
    }

    /// The first of which the log does not speak yet.
    fn silent_sensor(&self, now: Micros) -> Option<Trouble> {
        let silent = || self.silent_sensors(now).map(|watched| Trouble::SilentSensor(watched.sensor));
        silent().find(|trouble| !self.said.troubles.contains(trouble)).or_else(|| silent().next())
    }

    fn words(&self, trouble: Trouble, now: Micros) -> String {
        let bytes = self.seen.bytes - self.good.bytes;
        match trouble {
            Trouble::Silent => format!(
                "nothing has come for {:.1} s; {}",
                now.since(self.heard_at).as_secs_f64(),
                match self.expects {
                    Expects::Rounds =>
                        "does the other master ask, and are A and B of the bus joined to ours?",
                    _ => "is the sensor powered, and its TX joined to our RX?",
                }
            ),
            Trouble::SilentSensor(sensor) => format!(
                "nothing has come from sensor {sensor} within stale_after_ms, while others send; is it powered, and \
                 joined to the line?"
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
            Trouble::Garbage if self.expects == Expects::Rounds => format!(
                "{bytes} bytes came and no round of these registers among them; wrong baud ({}) or parity, or nobody \
                 asks for them",
                self.baud
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
    use crate::config::serial::Line;

    const LINE: Line = Line { baud: 9600, ..Line::USUAL };

    struct Bench {
        health: Health,
        counters: PortCounters,
        now: u64,
    }

    impl Bench {
        fn new(stale_after_ms: Option<u64>) -> Self {
            Self::of(Expects::Frames, stale_after_ms)
        }

        fn of(expects: Expects, stale_after_ms: Option<u64>) -> Self {
            Self::watching(expects, stale_after_ms, &[])
        }

        fn watching(expects: Expects, stale_after_ms: Option<u64>, sensors: &[(u8, Duration)]) -> Self {
            let counters = PortCounters::default();
            let mut health = Health::new(&Settings {
                port: "/dev/x".into(),
                line: LINE,
                max_frame_bytes: 64,
                stale_after: stale_after_ms.map(Duration::from_millis),
                durable: false,
                expects,
                routes: Vec::new(),
                sensors: sensors.to_vec(),
            });
            health.opened(Micros(0), &counters, Some(LineCounts::default()));
            Self { health, counters, now: 0 }
        }

        /// Seconds pass, in each of which `happens` counts; what is said.
        fn for_seconds(&mut self, seconds: u64, happens: impl Fn(u64, &PortCounters)) -> Vec<String> {
            let mut said = Vec::new();
            for second in 0..seconds {
                happens(second, &self.counters);
                said.extend(self.look());
            }
            said
        }

        /// A second passes.
        fn look(&mut self) -> Vec<String> {
            self.now += 1_000_000;
            self.look_at(true)
        }

        fn look_at(&mut self, is_read: bool) -> Vec<String> {
            let remarks = self.health.look(Micros(self.now), &self.counters, is_read, |_| false);
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
    fn a_sensor_that_speaks_seldom_is_spoken_of_ever_more_seldom() {
        let mut bench = Bench::new(None);
        let every_12_s = |second: u64, counters: &PortCounters| {
            if second % 12 == 11 {
                counters.bytes.add(10);
                counters.frames.bump();
            }
        };
        let first_day = bench.for_seconds(86_400, every_12_s);
        assert!((6..40).contains(&first_day.len()), "{} lines", first_day.len());
        let tenth_day = (0..9).map(|_| bench.for_seconds(86_400, every_12_s).len()).last().unwrap();
        assert!(tenth_day <= 4, "{tenth_day} lines");
        // After a time in which all is well the next silence is said at once.
        bench.for_seconds(3 * 86_400, |_, counters| {
            counters.bytes.add(10);
            counters.frames.bump();
        });
        assert_eq!(bench.for_seconds(12, |_, _| ()).len(), 1);
    }

    #[test]
    fn bytes_that_are_no_frame_end_no_silence() {
        let mut bench = Bench::new(None);
        let hello = |second: u64, counters: &PortCounters| {
            if second % 12 == 11 {
                counters.bytes.add(6);
                counters.bad(BadBytes::Short).bump();
            }
        };
        let said = bench.for_seconds(86_400, hello);
        assert!(said[0].contains("nothing has come for"), "{said:?}");
        assert!(said[1].contains("no frame among them") && said.len() == 2, "{said:?}");
        bench.counters.frames.bump();
        assert_eq!(bench.look(), ["port /dev/x: frames come again"]);
    }

    #[test]
    fn an_overheard_bus_that_is_dead_or_noise_is_told_and_one_that_is_asked_is_not() {
        let noise = |_, counters: &PortCounters| counters.bytes.add(600);
        let mut bench = Bench::of(Expects::Rounds, None);
        let said = bench.for_seconds(60, |_, _| ());
        assert!(said[0].contains("does the other master ask") && said.len() == 1, "{said:?}");
        let mut bench = Bench::of(Expects::Rounds, None);
        let said = bench.for_seconds(60, noise);
        assert!(said[0].contains("no round of these registers") && said.len() == 1, "{said:?}");
        // Traffic of others between two rounds is none of this.
        let mut bench = Bench::of(Expects::Rounds, None);
        let said = bench.for_seconds(60, |second, counters| {
            counters.bytes.add(600);
            if second % 5 == 0 {
                counters.frames.bump();
            }
        });
        assert_eq!(said, Vec::<String>::new());
        let mut bench = Bench::of(Expects::Nothing, None);
        assert_eq!(bench.for_seconds(60, |_, _| ()).len() + bench.for_seconds(60, noise).len(), 0);
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
    fn a_port_that_is_not_read_for_want_of_room_says_nothing_of_its_sensor() {
        let mut bench = Bench::new(Some(2_500));
        for _ in 0..60 {
            bench.now += 1_000_000;
            assert_eq!(bench.look_at(false), Vec::<String>::new());
            assert!(!bench.health.is_stalled(Micros(bench.now)));
        }
        assert_eq!(bench.for_seconds(2, |_, _| ()), Vec::<String>::new());
        assert!(bench.look()[0].contains("nothing has come for 3.0 s"));
    }

    #[test]
    fn a_sensor_that_is_named_and_silent_is_told_once_while_others_on_its_line_send() {
        let five_s = Duration::from_secs(5);
        let mut bench =
            Bench::watching(Expects::Frames, Some(2_500), &[(1, five_s), (2, five_s), (3, five_s)]);
        let mut send = |seconds: u64, of: &[u8]| {
            let mut said = Vec::new();
            for _ in 0..seconds {
                bench.now += 1_000_000;
                bench.counters.bytes.add(20);
                bench.counters.frames.bump();
                let spoke = |sensor| of.contains(&sensor);
                let remarks = bench.health.look(Micros(bench.now), &bench.counters, true, spoke);
                said.extend(remarks.into_iter().map(|remark| remark.words));
            }
            (said, bench.health.is_stalled(Micros(bench.now)))
        };
        assert_eq!(send(5, &[1, 2, 3]), (Vec::new(), false));
        let (said, is_stalled) = send(60, &[2]);
        assert!(said.len() == 2 && is_stalled, "{said:?}");
        assert!(said[0].contains("from sensor 1") && said[1].contains("from sensor 3"), "{said:?}");
        assert_eq!(send(1, &[1, 2, 3]), (vec!["port /dev/x: frames come again".into()], false));
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
