//! What a person sees while the demo runs and at its end: a table of plain lines, 80 columns wide.
//!
//! Pure: a [`Standing`] goes in, lines come out. Colour is a choice of the caller's.
//! Not here: where the lines are drawn (`cli::demo`).

use std::time::Duration;

use super::judge::{Answer, Leg, Score, Standing, Stream, VERDICTS};
use crate::base::Paint;

/// Columns of the widest line.
pub const WIDTH: usize = 80;
const BAR: usize = 34;

/// What the table says besides the standing.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    /// Seed of line and machine.
    pub seed: u64,
    /// Loopback port of the broker.
    pub port: u16,
    /// Frames that will have been sent at the end.
    pub frames: u64,
}

fn painted(verdict: &str, text: &str, paint: Paint) -> String {
    match verdict {
        "pass" => paint.green(text),
        "fail" => paint.red(text),
        "uncertain" => paint.yellow(text),
        _ => text.to_owned(),
    }
}

/// The whole table; always the same number of lines, so that it can be drawn over itself.
pub fn live(heading: &Heading, standing: &Standing, paint: Paint) -> Vec<String> {
    let mut lines = vec![title(heading, paint), progress(heading, standing, paint), String::new()];
    lines.extend(body(standing, paint));
    lines.push(String::new());
    lines.push(standing.last.as_ref().map_or_else(String::new, |answer| newest(answer, paint)));
    lines.push(standing.mistakes.last().map_or_else(String::new, |text| format!(" wrong   {text}")));
    lines
}

/// The two blocks of figures.
pub fn body(standing: &Standing, paint: Paint) -> Vec<String> {
    let mut lines = vec![paint.dim(&format!(
        " {:<12}{:>9}{:>10}{:>11}{:>8}{:>8}{:>11}{:>10}",
        "pipeline", "frames", "answered", "answers/s", VERDICTS[0], VERDICTS[1], VERDICTS[2], "right"
    ))];
    for stream in Stream::ALL {
        lines.push(counts(stream, standing, paint));
    }
    lines.push(String::new());
    lines.push(paint.dim(&format!(
        " {:<12}{:>11}{:>11}{:>11}{:>11}{:>11}{:>12}",
        "p50/p99, ms", "queue", "decode", "featurize", "infer", "device", "round trip"
    )));
    for stream in Stream::ALL {
        lines.push(latencies(stream, &standing.scores[stream as usize], paint));
    }
    lines
}

/// One line that says where things stand, for a log.
pub fn line(heading: &Heading, standing: &Standing) -> String {
    let answered = standing.sum(|score| score.answered);
    format!(
        "{answered} of {} frames answered, {:.1}/s, {} right, round trip p50 {} ms, p99 {} ms",
        heading.frames,
        standing.throughput_per_s(answered),
        percent(standing.accuracy()),
        ms(standing.round_trip_us(0.5)),
        ms(standing.round_trip_us(0.99)),
    )
}

fn title(heading: &Heading, paint: Paint) -> String {
    let name = paint.bold("lineside demo");
    let rest = format!("seed {}   mosquitto_sub -p {} -t 'lineside/#'", heading.seed, heading.port);
    format!(" {name}   {}", paint.dim(&rest))
}

fn progress(heading: &Heading, standing: &Standing, paint: Paint) -> String {
    let answered = standing.sum(|score| score.answered);
    let share = answered as f64 / heading.frames.max(1) as f64;
    let full = ((share * BAR as f64) as usize).min(BAR);
    let bar = paint.green(&"━".repeat(full)) + &paint.dim(&"╌".repeat(BAR - full));
    format!(" {bar}  {answered} of {} answered  {:.1} s", heading.frames, seconds(standing.elapsed))
}

fn counts(stream: Stream, standing: &Standing, paint: Paint) -> String {
    let score = &standing.scores[stream as usize];
    let [pass, fail, uncertain, _] = score.verdicts;
    format!(
        " {}{:>9}{:>10}{:>11.1}{}{}{}{:>10}",
        paint.bold(&format!("{:<12}", stream.name())),
        score.sent,
        score.answered,
        standing.throughput_per_s(score.answered),
        painted("pass", &format!("{pass:>8}"), paint),
        painted("fail", &format!("{fail:>8}"), paint),
        painted("uncertain", &format!("{uncertain:>11}"), paint),
        percent(score.accuracy()),
    )
}

fn latencies(stream: Stream, score: &Score, paint: Paint) -> String {
    let mut line = format!(" {}", paint.bold(&format!("{:<12}", stream.name())));
    for leg in Leg::ALL {
        let width = if leg == Leg::RoundTrip { 12 } else { 11 };
        let text = match score.answered {
            0 => "-".into(),
            _ => format!("{}/{}", ms(score.latency_us(leg, 0.5)), ms(score.latency_us(leg, 0.99))),
        };
        line.push_str(&format!("{text:>width$}"));
    }
    line
}

fn newest(answer: &Answer, paint: Paint) -> String {
    let Answer { stream, index, verdict, label, score, .. } = answer;
    let said = painted(verdict, &format!("{verdict} {label} {score:.2}"), paint);
    format!(" newest  {} {index:06}: {said}", stream.name())
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Milliseconds in at most five letters; ten seconds and more as `12s`.
pub fn ms(micros: u64) -> String {
    match micros as f64 / 1000.0 {
        ms if ms < 9.995 => format!("{ms:.2}"),
        ms if ms < 99.95 => format!("{ms:.1}"),
        ms if ms < 9999.5 => format!("{ms:.0}"),
        ms => format!("{:.0}s", ms / 1000.0),
    }
}

/// `99.2 %`, never rounded up to a hundred.
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".into(),
        Some(share) => format!("{:.1} %", (share * 1000.0 + 1e-9).floor() / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Micros;
    use crate::demo::judge::Judge;

    fn heading() -> Heading {
        Heading { seed: 999_999_999, port: 65_535, frames: 1_000_000 }
    }

    /// A standing of a long run: every number is wide.
    fn wide() -> Standing {
        let mut judge = Judge::new();
        for index in 0..3u64 {
            judge.sent(Micros(index), Stream::Inspection, index, "missing_hole", None);
        }
        for index in 0..2u64 {
            let message = serde_json::json!({
                "schema": "lineside.prediction/1", "pipeline": "inspection", "verdict": "uncertain",
                "label": "scratch", "score": 0.5, "source": {"levels": {"part": index.to_string()}},
                "latency_us": {"queue": 99_000_000, "decode": 5, "infer": 123_456, "total": 99_999},
            });
            judge.heard(Micros(900_000_000), "x/result", message.to_string().as_bytes());
        }
        let board = crate::demo::judge::Board::default();
        board.with(|shared| *shared = judge);
        let mut standing = board.standing(Micros(1_000_000_000));
        for score in &mut standing.scores {
            score.sent = 9_999_999;
        }
        standing
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_and_their_number_stays() {
        let empty = crate::demo::judge::Board::default().standing(Micros(0));
        let (first, later) =
            (live(&heading(), &empty, Paint::Plain), live(&heading(), &wide(), Paint::Plain));
        assert_eq!(first.len(), later.len());
        for line in first.iter().chain(&later) {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        }
        assert!(later.iter().any(|line| line.contains("0.0 %")), "{later:#?}");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let strip = |line: &str| {
            let mut plain = String::new();
            let mut rest = line;
            while let Some(at) = rest.find('\x1b') {
                plain.push_str(&rest[..at]);
                rest = &rest[at..];
                rest = &rest[rest.find('m').unwrap() + 1..];
            }
            plain + rest
        };
        let painted = live(&heading(), &wide(), Paint::Colour);
        assert!(painted.iter().any(|line| line.contains('\x1b')));
        let stripped: Vec<_> = painted.iter().map(|line| strip(line)).collect();
        assert_eq!(stripped, live(&heading(), &wide(), Paint::Plain));
    }

    #[test]
    fn almost_all_is_not_all() {
        assert_eq!(percent(Some(0.99999)), "99.9 %");
        assert_eq!(percent(Some(1.0)), "100.0 %");
        assert_eq!(percent(Some(0.29)), "29.0 %");
        assert_eq!(percent(None), "-");
        assert_eq!([50, 9_990, 12_340, 123_456, 12_000_000].map(ms), ["0.05", "9.99", "12.3", "123", "12s"]);
    }
}
