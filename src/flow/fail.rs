//! Fail points: named steps at which a test build can be made to die, wait, or get an error.
//!
//! `LINESIDE_FAIL_POINT="NAME[#N]=ACTION"` arms one of [`Point::ALL`]; several are separated by `;`.
//!
//! | action | does |
//! |---|---|
//! | `kill` | SIGKILL to this process, at the N-th pass (default: the first) |
//! | `sleep:MS` | waits, from the N-th pass on |
//! | `errno:E` | the operating system's error E, at points that can fail, from the N-th pass on |
//! | `errno:E:FILE` | the same, while FILE exists |
//!
//! Promise: without the feature `failpoints` (device builds have none) every call here is empty. With
//! it an unarmed point costs one look at a flag.

use std::io;

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A step of settlement.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Point { $($(#[$doc])* $name,)* }

        impl Point {
            /// Every point, in the order of the frame's way.
            pub const ALL: &'static [Point] = &[$(Point::$name,)*];

            /// Its name in `LINESIDE_FAIL_POINT`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Point::$name => $text,)* }
            }
        }
    };
}

points! {
    /// A frame has been received and named; it is in no lane yet.
    FrameTaken = "frame_taken",
    /// A frame's answer is made; it is not in the outbox yet.
    AnswerMade = "answer_made",
    /// The answer is in the outbox, in memory.
    AnswerQueued = "answer_queued",
    /// The answer is encoded for the socket.
    AnswerSent = "answer_sent",
    /// The broker's PUBACK of an answer has been read; nothing has been made of it.
    AnswerAcknowledged = "answer_acknowledged",
    /// The last answer of a frame is safe; its PUBACK is not encoded yet.
    FrameSettled = "frame_settled",
    /// The PUBACK of a frame is encoded for the socket.
    FrameAcknowledged = "frame_acknowledged",
    /// The outbox is about to create a segment. Can fail.
    SegmentCreate = "segment_create",
    /// Records are about to be written. Can fail.
    RecordsWrite = "records_write",
    /// Records are written and about to be synced. Can fail.
    RecordsSync = "records_sync",
    /// Records are synced; their frames are not settled yet.
    RecordsSynced = "records_synced",
    /// A segment is about to be read back. Can fail.
    SegmentRead = "segment_read",
    /// Every record of a segment is settled; it is about to be removed. Can fail.
    SegmentRemove = "segment_remove",
}

/// Passes `point`: may not return.
#[inline]
pub fn pass(point: Point) {
    // What cannot fail takes no notice of an error.
    let _ = may_fail(point);
}

/// Passes `point`, which may fail.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn may_fail(_: Point) -> io::Result<()> {
    Ok(())
}

/// Passes `point`, which may fail.
#[cfg(feature = "failpoints")]
#[inline]
pub fn may_fail(point: Point) -> io::Result<()> {
    armed::PLAN.iter().try_for_each(|armed| armed.pass(point))
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io;
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::Point;

    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Kill,
        Sleep(Duration),
        Errno(i32, Option<PathBuf>),
    }

    #[derive(Debug)]
    pub(super) struct Armed {
        point: Point,
        from_pass: u64,
        action: Action,
        passes: AtomicU64,
    }

    /// Read once. A plan that cannot be read ends the process: a storm that tests nothing is worse.
    pub(super) static PLAN: LazyLock<Vec<Armed>> = LazyLock::new(|| {
        let text = std::env::var("LINESIDE_FAIL_POINT").unwrap_or_default();
        parse(&text).unwrap_or_else(|| {
            eprintln!("lineside: LINESIDE_FAIL_POINT cannot be read: {text}");
            std::process::exit(64)
        })
    });

    pub(super) fn parse(text: &str) -> Option<Vec<Armed>> {
        text.split(';').filter(|part| !part.trim().is_empty()).map(|part| one(part.trim())).collect()
    }

    fn one(text: &str) -> Option<Armed> {
        let (name, action) = text.split_once('=')?;
        let (name, from_pass) = match name.split_once('#') {
            Some((name, nth)) => (name, nth.parse().ok().filter(|nth| *nth > 0)?),
            None => (name, 1),
        };
        let point = *Point::ALL.iter().find(|point| point.as_str() == name)?;
        let action = match action.split_once(':') {
            None if action == "kill" => Action::Kill,
            Some(("sleep", ms)) => Action::Sleep(Duration::from_millis(ms.parse().ok()?)),
            Some(("errno", rest)) => match rest.split_once(':') {
                Some((code, file)) => Action::Errno(code.parse().ok()?, Some(file.into())),
                None => Action::Errno(rest.parse().ok()?, None),
            },
            _ => return None,
        };
        Some(Armed { point, from_pass, action, passes: AtomicU64::new(0) })
    }

    impl Armed {
        pub(super) fn pass(&self, point: Point) -> io::Result<()> {
            if point != self.point || self.passes.fetch_add(1, Ordering::Relaxed) + 1 < self.from_pass {
                return Ok(());
            }
            match &self.action {
                Action::Kill => {
                    // SIGKILL as from outside: no handler, no flush, no goodbye.
                    let _ = signal_hook::low_level::raise(9);
                    Ok(())
                }
                Action::Sleep(wait) => {
                    std::thread::sleep(*wait);
                    Ok(())
                }
                Action::Errno(_, Some(file)) if !file.exists() => Ok(()),
                Action::Errno(code, _) => Err(io::Error::from_raw_os_error(*code)),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_plan_reads_as_documented_and_a_slip_is_refused() {
            let plan =
                parse("frame_taken#3=kill; records_write=errno:28:/tmp/full ;records_sync=sleep:5").unwrap();
            let read: Vec<_> =
                plan.iter().map(|armed| (armed.point, armed.from_pass, &armed.action)).collect();
            assert_eq!(
                read,
                [
                    (Point::FrameTaken, 3, &Action::Kill),
                    (Point::RecordsWrite, 1, &Action::Errno(28, Some("/tmp/full".into()))),
                    (Point::RecordsSync, 1, &Action::Sleep(Duration::from_millis(5))),
                ]
            );
            for slip in [
                "frame=kill",
                "frame_taken=die",
                "frame_taken#0=kill",
                "frame_taken",
                "records_write=errno:x",
            ] {
                assert!(parse(slip).is_none(), "{slip}");
            }
            assert!(parse("").unwrap().is_empty());
        }

        #[test]
        fn an_error_comes_from_the_nth_pass_on_and_only_at_its_point() {
            let plan = parse("records_sync#2=errno:5").unwrap();
            assert!(plan[0].pass(Point::RecordsSync).is_ok());
            assert!(plan[0].pass(Point::RecordsWrite).is_ok());
            assert_eq!(plan[0].pass(Point::RecordsSync).unwrap_err().raw_os_error(), Some(5));
        }
    }
}
