//! The snapshot in Prometheus' text format; each metric is explained in `docs/metrics.md`.
//!
//! Promise: a pure function of the snapshot: nothing is recorded between scrapes, so nothing grows
//! when nobody scrapes, and a pipeline that is gone leaves no series behind. Families and series
//! come in alphabetical order. Every reason for a loss is there from the start, at 0; a percentile
//! of no samples is absent.
//! The recorder is built anew for each scrape and never installed: what other libraries send to the
//! global one is not ours to publish.

use std::fmt::Write;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::{Part, PipelineView, PortView, Snapshot, Summary};

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a metric's values move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until the process begins anew.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Percentiles, with sum and count.
    Summary,
}

impl Kind {
    /// As in the text format's `# TYPE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, unit included.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($constant:ident = $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(const $constant: Metric = Metric {
            name: $name, kind: Kind::$kind, labels: &$labels, help: $help,
        };)*

        /// Everything that is exposed.
        pub const ALL: &[Metric] = &[$($constant,)*];
    };
}

metrics_table! {
    BUILD_INFO = Gauge "lineside_build_info" ["device", "version"] "Always 1; its labels say what runs where.";
    CLOCK_SYNCED = Gauge "lineside_clock_synced" [] "1 while the board's date can be trusted.";
    READY = Gauge "lineside_ready" [] "1 while models are loaded, all links are up and all ports open.";
    SAFE_MODE = Gauge "lineside_safe_mode" [] "1 while no frames are taken because the board restarted over and over.";
    UPTIME = Gauge "lineside_uptime_seconds" [] "Seconds since the process began.";
    RESIDENT = Gauge "lineside_memory_resident_bytes" [] "Memory that the process holds.";
    PEAK = Gauge "lineside_memory_peak_bytes" [] "The most memory that the process ever held.";
    TEMPERATURE = Gauge "lineside_board_temperature_celsius" [] "The hottest thermal zone of the board.";
    THROTTLED = Gauge "lineside_board_throttled" [] "1 while the processor is slowed down for heat or voltage.";
    BOARD_MEMORY = Gauge "lineside_board_memory_available_bytes" [] "Memory that programs can still have.";
    BOARD_DISK = Gauge "lineside_board_disk_free_bytes" [] "Free on the disk that holds the outbox.";
    MODEL_INFO = Gauge "lineside_model_info" ["pipeline", "model", "version"] "Always 1; its labels say which model decides.";
    FRAMES = Counter "lineside_frames_total" ["pipeline"] "Frames taken from the source, refused ones included.";
    FRAME_BYTES = Counter "lineside_frame_bytes_total" ["pipeline"] "Bytes of those frames.";
    REDELIVERED = Counter "lineside_frames_redelivered_total" ["pipeline"] "Frames that came again: marked so by the broker, or retained and handed out anew.";
    ABSORBED = Counter "lineside_frames_absorbed_total" ["pipeline"] "Frames that filled a window or a state and wanted no prediction of their own.";
    LOST = Counter "lineside_frames_lost_total" ["pipeline", "reason"] "Frames that got no prediction, by reason.";
    PREDICTIONS = Counter "lineside_predictions_total" ["pipeline"] "Predictions made.";
    SETTLED = Counter "lineside_predictions_settled_total" ["pipeline"] "Predictions acknowledged by the broker (at QoS 0: handed to the network).";
    RESENT = Counter "lineside_predictions_resent_total" ["pipeline"] "Predictions sent a second time because no acknowledgement came.";
    EVICTED = Counter "lineside_sources_evicted_total" ["pipeline"] "Windows or states dropped because more than max_sources sources spoke.";
    GAPS = Counter "lineside_gaps_total" ["pipeline"] "Windows begun anew because of a gap in time.";
    QUEUE_DEPTH = Gauge "lineside_queue_depth_frames" ["pipeline"] "Frames that wait for a worker.";
    QUEUE_BYTES = Gauge "lineside_queue_bytes" ["pipeline"] "Bytes of the frames that wait for a worker.";
    OUTBOX_DEPTH = Gauge "lineside_outbox_depth_predictions" [] "Predictions that wait for their acknowledgement.";
    OUTBOX_BYTES = Gauge "lineside_outbox_bytes" [] "Bytes of the predictions that wait for their acknowledgement.";
    OUTBOX_MAX_BYTES = Gauge "lineside_outbox_max_bytes" [] "Bytes at which the outbox is full.";
    DISK_READY = Gauge "lineside_outbox_disk_ready" [] "1 while the disk under the outbox takes predictions.";
    DISK_DEPTH = Gauge "lineside_outbox_disk_depth_predictions" [] "Predictions on disk.";
    DISK_BYTES = Gauge "lineside_outbox_disk_bytes" [] "Bytes of the files that hold them.";
    DISK_WRITTEN = Counter "lineside_outbox_disk_written_total" [] "Predictions written to disk.";
    DISK_WRITTEN_BYTES = Counter "lineside_outbox_disk_written_bytes_total" [] "Bytes written to disk.";
    DISK_SYNCS = Counter "lineside_outbox_disk_syncs_total" [] "Groups of predictions made safe on disk.";
    DISK_ERRORS = Counter "lineside_outbox_disk_errors_total" [] "Operations of the disk that failed.";
    DISK_DAMAGED = Gauge "lineside_outbox_disk_damaged_bytes" [] "Bytes that belong to no whole prediction.";
    DROPPED_UNNAMED = Counter "lineside_outbox_dropped_unnamed_total" [] "Predictions dropped to make room whose pipeline is of an earlier configuration.";
    LINK_UP = Gauge "lineside_link_up" ["link"] "1 while connected and, for intake, subscribed.";
    LINK_CONNECTS = Counter "lineside_link_connects_total" ["link"] "Connections that the broker accepted.";
    LINK_FAILURES = Counter "lineside_link_failures_total" ["link"] "Connections lost, and attempts that failed.";
    LINK_UNMATCHED = Counter "lineside_link_unmatched_frames_total" ["link"] "Frames on a topic that no pipeline asked for.";
    PORT_UP = Gauge "lineside_port_up" ["port"] "1 while the serial port is open.";
    PORT_STALLED = Gauge "lineside_port_stalled" ["port"] "1 while no frame, or none of a sensor in `sensors`, has come for stale_after_ms.";
    PORT_OPENS = Counter "lineside_port_opens_total" ["port"] "Times that the port was opened.";
    PORT_FAILURES = Counter "lineside_port_failures_total" ["port"] "Times that the port could not be opened, and times that it went away.";
    PORT_BYTES = Counter "lineside_port_bytes_total" ["port"] "Bytes read.";
    PORT_FRAMES = Counter "lineside_port_frames_total" ["port"] "Frames that held their checksum.";
    PORT_BAD = Counter "lineside_port_bad_total" ["port", "kind"] "What was no good frame: damaged frames by kind, and stray bytes.";
    PORT_LINE = Counter "lineside_port_line_faults_total" ["port", "fault"] "What the driver counts, where it does.";
    PORT_LOST = Counter "lineside_port_sequence_lost_frames_total" ["port"] "Frames missing by their sequence numbers.";
    PORT_REPEATED = Counter "lineside_port_sequence_repeated_frames_total" ["port"] "Frames whose sequence number came twice.";
    PORT_RESTARTS = Counter "lineside_port_sequence_restarts_total" ["port"] "Senders that began to count anew.";
    PORT_UNMATCHED = Counter "lineside_port_unmatched_frames_total" ["port"] "Frames of sensors that no pipeline listens to.";
    MODBUS_REQUESTS = Counter "lineside_modbus_requests_total" ["port"] "Modbus requests sent; as a listener: overheard.";
    MODBUS_REPLIES = Counter "lineside_modbus_replies_total" ["port"] "Good replies to them.";
    MODBUS_FAULTS = Counter "lineside_modbus_faults_total" ["port", "fault"] "Requests without a good reply: silent, exception, other_unit, bad_crc, garbage.";
    MODBUS_ROUNDS = Counter "lineside_modbus_rounds_total" ["port"] "Rounds over all registers.";
    MODBUS_SKIPPED = Counter "lineside_modbus_rounds_skipped_total" ["port"] "Rounds that did not begin because the one before took too long, or the bus was never silent.";
    MODBUS_MISSING = Counter "lineside_modbus_values_missing_total" ["port"] "Values that a round went without.";
    MODBUS_STRAY = Counter "lineside_modbus_stray_bytes_total" ["port"] "Bytes that belong to no reply.";
    WRITTEN_BACK = Counter "lineside_verdicts_written_total" ["pipeline"] "Verdicts written to a port; where the other side confirms: confirmed.";
    WRITE_LOST = Counter "lineside_verdicts_not_written_total" ["pipeline", "reason"] "Verdicts that were not written: expired, overtaken, refused, redelivered.";
    LATENCY = Summary "lineside_latency_seconds" ["pipeline", "part"] "Time that a part of the way takes: percentiles of the last stats period, sum and count since the process began.";
}

/// The snapshot in the text format ([`CONTENT_TYPE`]).
pub fn render(snapshot: &Snapshot) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    for metric in ALL {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Summary => {}
        }
    }
    let flag = |on: bool| f64::from(u8::from(on));
    gauge(&recorder, BUILD_INFO, &[&snapshot.device, &snapshot.version], 1.0);
    gauge(&recorder, CLOCK_SYNCED, &[], flag(snapshot.clock_synced));
    gauge(&recorder, READY, &[], flag(snapshot.not_ready().is_empty()));
    gauge(&recorder, SAFE_MODE, &[], flag(snapshot.safe_mode.is_some()));
    gauge(&recorder, UPTIME, &[], snapshot.uptime.as_secs_f64());
    if let Some(memory) = snapshot.memory {
        gauge(&recorder, RESIDENT, &[], memory.resident_bytes as f64);
        gauge(&recorder, PEAK, &[], memory.peak_bytes as f64);
    }
    let board = &snapshot.board;
    for (metric, value) in [
        (TEMPERATURE, board.temperature_celsius),
        (THROTTLED, board.throttled.map(flag)),
        (BOARD_MEMORY, board.memory_available_bytes.map(|bytes| bytes as f64)),
        (BOARD_DISK, board.disk_free_bytes.map(|bytes| bytes as f64)),
    ] {
        if let Some(value) = value {
            gauge(&recorder, metric, &[], value);
        }
    }
    gauge(&recorder, OUTBOX_DEPTH, &[], snapshot.outbox.depth_predictions as f64);
    gauge(&recorder, OUTBOX_BYTES, &[], snapshot.outbox.bytes as f64);
    gauge(&recorder, OUTBOX_MAX_BYTES, &[], snapshot.outbox.max_bytes as f64);
    let disk = &snapshot.outbox.disk;
    gauge(&recorder, DISK_READY, &[], flag(disk.state == "ready"));
    gauge(&recorder, DISK_DEPTH, &[], disk.depth_predictions as f64);
    gauge(&recorder, DISK_BYTES, &[], disk.bytes as f64);
    gauge(&recorder, DISK_DAMAGED, &[], disk.damaged_bytes as f64);
    for (metric, count) in [
        (DISK_WRITTEN, disk.written_predictions),
        (DISK_WRITTEN_BYTES, disk.written_bytes),
        (DISK_SYNCS, disk.syncs),
        (DISK_ERRORS, disk.errors),
        (DROPPED_UNNAMED, disk.dropped_unnamed),
    ] {
        counter(&recorder, metric, &[], count);
    }
    for link in &snapshot.links {
        gauge(&recorder, LINK_UP, &[&link.name], flag(link.up));
        counter(&recorder, LINK_CONNECTS, &[&link.name], link.connects);
        counter(&recorder, LINK_FAILURES, &[&link.name], link.failures);
        counter(&recorder, LINK_UNMATCHED, &[&link.name], link.unmatched);
    }
    for view in &snapshot.ports {
        port(&recorder, view);
    }
    for view in &snapshot.pipelines {
        pipeline(&recorder, view);
    }
    let mut families = sorted_families(&recorder.handle().render());
    families.push(latency_family(&snapshot.pipelines));
    families.sort();
    families.concat()
}

fn port(recorder: &PrometheusRecorder, view: &PortView) {
    let name = view.name.as_str();
    gauge(recorder, PORT_UP, &[name], f64::from(u8::from(view.up)));
    gauge(recorder, PORT_STALLED, &[name], f64::from(u8::from(view.stalled)));
    for (metric, count) in [
        (PORT_OPENS, view.opens),
        (PORT_FAILURES, view.failures),
        (PORT_BYTES, view.bytes),
        (PORT_FRAMES, view.frames),
        (PORT_LOST, view.sequence_lost),
        (PORT_REPEATED, view.sequence_repeated),
        (PORT_RESTARTS, view.sequence_restarts),
        (PORT_UNMATCHED, view.unmatched),
    ] {
        counter(recorder, metric, &[name], count);
    }
    if let Some(modbus) = &view.modbus {
        for (metric, count) in [
            (MODBUS_REQUESTS, modbus.requests),
            (MODBUS_REPLIES, modbus.replies),
            (MODBUS_ROUNDS, modbus.rounds),
            (MODBUS_SKIPPED, modbus.rounds_skipped),
            (MODBUS_MISSING, modbus.values_missing),
            (MODBUS_STRAY, modbus.stray_bytes),
        ] {
            counter(recorder, metric, &[name], count);
        }
        for (fault, count) in &modbus.faults {
            counter(recorder, MODBUS_FAULTS, &[name, fault.as_str()], *count);
        }
    }
    for (kind, count) in &view.bad {
        counter(recorder, PORT_BAD, &[name, kind.as_str()], *count);
    }
    for (fault, count) in &view.line {
        counter(recorder, PORT_LINE, &[name, fault.as_str()], *count);
    }
}

fn pipeline(recorder: &PrometheusRecorder, view: &PipelineView) {
    let name = view.name.as_str();
    gauge(recorder, MODEL_INFO, &[name, &view.model.name, &view.model.version], 1.0);
    for (metric, count) in [
        (FRAMES, view.frames),
        (FRAME_BYTES, view.frame_bytes),
        (REDELIVERED, view.redelivered),
        (ABSORBED, view.absorbed),
        (PREDICTIONS, view.predictions),
        (SETTLED, view.settled),
        (RESENT, view.resent),
        (EVICTED, view.sources_evicted),
        (GAPS, view.gaps),
        (WRITTEN_BACK, view.written_back),
    ] {
        counter(recorder, metric, &[name], count);
    }
    for (why, count) in &view.write_lost {
        counter(recorder, WRITE_LOST, &[name, why.as_str()], *count);
    }
    for (reason, count) in &view.lost {
        counter(recorder, LOST, &[name, reason.as_str()], *count);
    }
    gauge(recorder, QUEUE_DEPTH, &[name], view.queue.depth_frames as f64);
    gauge(recorder, QUEUE_BYTES, &[name], view.queue.bytes as f64);
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

fn key(metric: Metric, values: &[&str]) -> Key {
    let labels = metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

fn counter(recorder: &PrometheusRecorder, metric: Metric, labels: &[&str], value: u64) {
    recorder.register_counter(&key(metric, labels), &METADATA).absolute(value);
}

fn gauge(recorder: &PrometheusRecorder, metric: Metric, labels: &[&str], value: f64) {
    recorder.register_gauge(&key(metric, labels), &METADATA).set(value);
}

/// The exporter keeps hash maps; people who compare two scrapes want an order. A family ends with
/// an empty line; its `#` lines stay in front.
fn sorted_families(text: &str) -> Vec<String> {
    let families = text.split("\n\n").map(str::trim).filter(|family| !family.is_empty());
    families
        .map(|family| {
            let mut lines: Vec<&str> = family.lines().collect();
            lines.sort_by_key(|line| (!line.starts_with('#'), *line));
            lines.join("\n") + "\n"
        })
        .collect()
}

/// The exporter takes samples and makes percentiles of them; ours are made already, in bounded
/// memory, so this one family is written here.
fn latency_family(pipelines: &[PipelineView]) -> String {
    let Metric { name, kind, help, .. } = LATENCY;
    let mut out = format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
    for view in pipelines {
        for part in Part::ALL {
            let labels = format!("pipeline=\"{}\",part=\"{}\"", escaped(&view.name), part.as_str());
            let Summary { p50_us, p99_us, max_us, .. } = *view.latency.recent(part);
            for (quantile, us) in [("0.5", p50_us), ("0.99", p99_us), ("1", max_us)] {
                if let Some(us) = us {
                    line(&mut out, name, &format!("{labels},quantile=\"{quantile}\""), seconds(us));
                }
            }
            let lifetime = view.latency.lifetime(part);
            line(&mut out, &format!("{name}_sum"), &labels, seconds(lifetime.sum_us));
            line(&mut out, &format!("{name}_count"), &labels, lifetime.count);
        }
    }
    out
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    writeln!(out, "{name}{{{labels}}} {value}").expect("text takes every character");
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Text format 0.0.4: backslash, quote and line feed are escaped in label values.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;
    use crate::base::Reason;

    /// Names after `# TYPE`, with their kinds.
    fn families(text: &str) -> Vec<(&str, &str)> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split_once(' ').expect("name and kind")).collect()
    }

    #[test]
    fn every_metric_of_the_table_is_exposed_once_and_no_other() {
        let text = render(&snapshot());
        let mut wanted: Vec<_> = ALL.iter().map(|metric| (metric.name, metric.kind.as_str())).collect();
        wanted.sort_unstable();
        assert_eq!(families(&text), wanted);
        for metric in ALL {
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
        }
    }

    #[test]
    fn the_documentation_names_what_is_exposed_and_nothing_else() {
        let page = include_str!("../../docs/metrics.md");
        let mut documented: Vec<String> = page
            .lines()
            .filter(|line| line.starts_with("| `lineside_"))
            .map(|line| {
                let cells: Vec<_> = line.split('|').map(str::trim).collect();
                format!("{} {} {}", cells[1].replace('`', ""), cells[2], cells[3].replace('`', ""))
            })
            .collect();
        let mut exposed: Vec<String> = ALL
            .iter()
            .map(|metric| format!("{} {} {}", metric.name, metric.kind.as_str(), metric.labels.join(", ")))
            .collect();
        documented.sort();
        exposed.sort();
        assert_eq!(documented, exposed);
        for reason in Reason::ALL {
            assert!(page.contains(&format!("`{}`", reason.as_str())), "{}", reason.as_str());
        }
        for part in Part::ALL {
            assert!(page.contains(&format!("`{}`", part.as_str())), "{}", part.as_str());
        }
    }

    #[test]
    fn values_are_those_of_the_snapshot() {
        let text = render(&snapshot());
        for line in [
            "lineside_frames_total{pipeline=\"screw\"} 1000",
            "lineside_frames_lost_total{pipeline=\"screw\",reason=\"malformed\"} 7",
            "lineside_frames_lost_total{pipeline=\"screw\",reason=\"infer_panicked\"} 0",
            "lineside_predictions_settled_total{pipeline=\"screw\"} 985",
            "lineside_queue_depth_frames{pipeline=\"screw\"} 4",
            "lineside_outbox_depth_predictions 5",
            "lineside_link_up{link=\"publish\"} 1",
            "lineside_build_info{device=\"press-07\",version=\"0.1.0\"} 1",
            "lineside_latency_seconds{pipeline=\"screw\",part=\"queue\",quantile=\"0.99\"} 0.000099",
            "lineside_latency_seconds_sum{pipeline=\"screw\",part=\"infer\"} 0.1",
            "lineside_latency_seconds_count{pipeline=\"screw\",part=\"infer\"} 100",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_percentile_of_no_samples_is_absent_and_names_are_escaped() {
        let text = render(&snapshot());
        let idle = text.lines().filter(|line| line.contains(r#"pipeline="an \"odd\" one",part="#));
        assert_eq!(idle.clone().count(), 2 * Part::ALL.len()); // sum and count only
        assert!(idle.clone().all(|line| !line.contains("quantile") && line.ends_with(" 0")));
        assert!(text.contains(r#"lineside_frames_total{pipeline="an \"odd\" one"} 0"#));
    }

    #[test]
    fn two_scrapes_of_one_moment_are_equal_and_every_line_is_well_formed() {
        let text = render(&snapshot());
        assert_eq!(text, render(&snapshot()));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("series and value");
            assert!(series.starts_with("lineside_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn counters_end_in_total_and_gauges_do_not() {
        for metric in ALL {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        }
    }
}
