//! The retained `stats` message, and what `/stats` answers.
//!
//! Promise: a pure function of the snapshot; schema `lineside.stats/1`, fields always in the same
//! order. Counts are since the process began, `latency_us` is of the last period between two
//! messages. A percentile of no samples is null, a reason that never happened is left out.

use serde::{Serialize, Serializer};

use super::{LatencyView, Part, Snapshot, Summary};

#[derive(Serialize)]
struct Stats<'a> {
    schema: &'static str,
    device: &'a str,
    version: &'a str,
    at: String,
    clock_synced: bool,
    uptime_s: u64,
    safe_mode: Option<SafeMode>,
    pipelines: Named<'a, Pipeline<'a>>,
    outbox: Outbox,
    links: Named<'a, Link>,
    ports: Named<'a, Port<'a>>,
    memory: Option<Memory>,
    board: Board,
}

#[derive(Serialize)]
struct SafeMode {
    short_boots: u32,
    resumes_in_s: u64,
}

#[derive(Serialize)]
struct Pipeline<'a> {
    model: Model<'a>,
    frames: u64,
    frame_bytes: u64,
    redelivered: u64,
    absorbed: u64,
    predictions: u64,
    settled: u64,
    resent: u64,
    lost: Named<'a, u64>,
    lost_total: u64,
    sources_evicted: u64,
    gaps: u64,
    write_back: WriteBack<'a>,
    queue: Queue,
    latency_us: Named<'a, Percentiles>,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct Queue {
    depth: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Percentiles {
    p50: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

#[derive(Serialize)]
struct Outbox {
    depth: u64,
    bytes: u64,
    max_bytes: u64,
    disk: Disk,
}

#[derive(Serialize)]
struct Disk {
    state: &'static str,
    depth: u64,
    bytes: u64,
    written: u64,
    written_bytes: u64,
    syncs: u64,
    errors: u64,
    damaged_bytes: u64,
    dropped_unnamed: u64,
}

#[derive(Serialize)]
struct Link {
    up: bool,
    connects: u64,
    failures: u64,
    unmatched: u64,
}

#[derive(Serialize)]
struct Port<'a> {
    up: bool,
    stalled: bool,
    opens: u64,
    failures: u64,
    bytes: u64,
    frames: u64,
    sequence_lost: u64,
    sequence_repeated: u64,
    sequence_restarts: u64,
    unmatched: u64,
    bad: Named<'a, u64>,
    line: Named<'a, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modbus: Option<Modbus<'a>>,
}

#[derive(Serialize)]
struct Modbus<'a> {
    requests: u64,
    replies: u64,
    rounds: u64,
    rounds_skipped: u64,
    values_missing: u64,
    stray_bytes: u64,
    faults: Named<'a, u64>,
}

#[derive(Serialize)]
struct WriteBack<'a> {
    written: u64,
    lost: Named<'a, u64>,
}

#[derive(Serialize)]
struct Memory {
    resident_bytes: u64,
    peak_bytes: u64,
}

#[derive(Serialize)]
struct Board {
    temperature_celsius: Option<f64>,
    throttled: Option<bool>,
    memory_available_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
}

/// An object with its entries in the given order.
struct Named<'a, T>(Vec<(&'a str, T)>);

impl<T: Serialize> Serialize for Named<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The snapshot as one JSON object, schema `lineside.stats/1`.
pub fn stats_json(snapshot: &Snapshot) -> Vec<u8> {
    let stats = Stats {
        schema: "lineside.stats/1",
        device: &snapshot.device,
        version: &snapshot.version,
        at: snapshot.at.to_string(),
        clock_synced: snapshot.clock_synced,
        uptime_s: snapshot.uptime.as_secs(),
        safe_mode: snapshot
            .safe_mode
            .map(|mode| SafeMode { short_boots: mode.short_boots, resumes_in_s: mode.resumes_in.as_secs() }),
        pipelines: Named(
            snapshot.pipelines.iter().map(|view| (view.name.as_str(), pipeline(view))).collect(),
        ),
        outbox: Outbox {
            depth: snapshot.outbox.depth_predictions,
            bytes: snapshot.outbox.bytes,
            max_bytes: snapshot.outbox.max_bytes,
            disk: disk(&snapshot.outbox.disk),
        },
        links: Named(
            snapshot
                .links
                .iter()
                .map(|link| {
                    let (connects, failures) = (link.connects, link.failures);
                    (link.name.as_str(), Link { up: link.up, connects, failures, unmatched: link.unmatched })
                })
                .collect(),
        ),
        ports: Named(snapshot.ports.iter().map(|view| (view.name.as_str(), port(view))).collect()),
        memory: snapshot
            .memory
            .map(|memory| Memory { resident_bytes: memory.resident_bytes, peak_bytes: memory.peak_bytes }),
        board: Board {
            temperature_celsius: snapshot.board.temperature_celsius,
            throttled: snapshot.board.throttled,
            memory_available_bytes: snapshot.board.memory_available_bytes,
            disk_free_bytes: snapshot.board.disk_free_bytes,
        },
    };
    serde_json::to_vec(&stats).expect("memory takes every byte, and every key is text")
}

fn disk(view: &super::DiskView) -> Disk {
    Disk {
        state: view.state,
        depth: view.depth_predictions,
        bytes: view.bytes,
        written: view.written_predictions,
        written_bytes: view.written_bytes,
        syncs: view.syncs,
        errors: view.errors,
        damaged_bytes: view.damaged_bytes,
        dropped_unnamed: view.dropped_unnamed,
    }
}

fn port(view: &super::PortView) -> Port<'_> {
    Port {
        up: view.up,
        stalled: view.stalled,
        opens: view.opens,
        failures: view.failures,
        bytes: view.bytes,
        frames: view.frames,
        sequence_lost: view.sequence_lost,
        sequence_repeated: view.sequence_repeated,
        sequence_restarts: view.sequence_restarts,
        unmatched: view.unmatched,
        bad: Named(view.bad.iter().map(|(kind, count)| (kind.as_str(), *count)).collect()),
        line: Named(view.line.iter().map(|(fault, count)| (fault.as_str(), *count)).collect()),
        modbus: view.modbus.as_ref().map(|view| Modbus {
            requests: view.requests,
            replies: view.replies,
            rounds: view.rounds,
            rounds_skipped: view.rounds_skipped,
            values_missing: view.values_missing,
            stray_bytes: view.stray_bytes,
            faults: Named(view.faults.iter().map(|(fault, count)| (fault.as_str(), *count)).collect()),
        }),
    }
}

fn pipeline(view: &super::PipelineView) -> Pipeline<'_> {
    let lost = view.lost.iter().filter(|(_, count)| *count > 0);
    Pipeline {
        model: Model { name: &view.model.name, version: &view.model.version },
        frames: view.frames,
        frame_bytes: view.frame_bytes,
        redelivered: view.redelivered,
        absorbed: view.absorbed,
        predictions: view.predictions,
        settled: view.settled,
        resent: view.resent,
        lost: Named(lost.map(|(reason, count)| (reason.as_str(), *count)).collect()),
        lost_total: view.lost_total(),
        sources_evicted: view.sources_evicted,
        gaps: view.gaps,
        write_back: WriteBack {
            written: view.written_back,
            lost: Named(view.write_lost.iter().map(|(why, count)| (why.as_str(), *count)).collect()),
        },
        queue: Queue { depth: view.queue.depth_frames, bytes: view.queue.bytes },
        latency_us: latency(&view.latency),
    }
}

fn latency(view: &LatencyView) -> Named<'static, Percentiles> {
    let percentiles =
        |summary: &Summary| Percentiles { p50: summary.p50_us, p99: summary.p99_us, max: summary.max_us };
    Named(Part::ALL.iter().map(|part| (part.as_str(), percentiles(view.recent(*part)))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;
    use serde_json::{Value, json};

    fn stats(snapshot: &Snapshot) -> Value {
        serde_json::from_slice(&stats_json(snapshot)).expect("JSON")
    }

    #[test]
    fn stats_read_as_documented() {
        let stats = stats(&snapshot());
        assert_eq!(stats["schema"], "lineside.stats/1");
        assert_eq!(stats["at"], "2024-02-29T23:59:59.000001Z");
        assert_eq!(stats["uptime_s"], 61);
        let screw = &stats["pipelines"]["screw"];
        assert_eq!(screw["model"], json!({"name": "pitting", "version": "1.2.0"}));
        assert_eq!(screw["lost"], json!({"stale": 3, "malformed": 7}));
        assert_eq!(screw["lost_total"], 10);
        assert_eq!(screw["latency_us"]["queue"], json!({"p50": 50, "p99": 99, "max": 100}));
        assert_eq!(screw["latency_us"]["infer"]["max"], 1000);
        let disk = json!({"state": "ready", "depth": 3, "bytes": 1500, "written": 7, "written_bytes": 3500,
            "syncs": 2, "errors": 0, "damaged_bytes": 0, "dropped_unnamed": 0});
        assert_eq!(
            stats["outbox"],
            json!({"depth": 5, "bytes": 2500, "max_bytes": 67_108_864, "disk": disk})
        );
        assert_eq!(stats["links"]["intake"]["up"], true);
        assert_eq!(stats["memory"]["resident_bytes"], 30_000_000);
    }

    #[test]
    fn what_never_happened_is_null_or_absent() {
        let mut snapshot = snapshot();
        snapshot.memory = None;
        let stats = stats(&snapshot);
        let idle = &stats["pipelines"]["an \"odd\" one"];
        assert_eq!(idle["lost"], json!({}));
        assert_eq!(idle["latency_us"]["total"], json!({"p50": null, "p99": null, "max": null}));
        assert_eq!(stats["pipelines"]["screw"]["latency_us"]["acknowledge"]["p50"], Value::Null);
        assert_eq!(stats["memory"], Value::Null);
    }

    #[test]
    fn equal_snapshots_give_equal_bytes_in_the_order_of_the_config() {
        let first = stats_json(&snapshot());
        assert_eq!(first, stats_json(&snapshot()));
        let text = String::from_utf8(first).expect("UTF-8");
        assert!(
            text.starts_with(r#"{"schema":"lineside.stats/1","device":"press-07","version":"0.1.0","at":"#)
        );
        let place = |name| text.find(name).expect("a pipeline's name");
        assert!(place("screw") < place("odd"));
    }

    /// The same keys, down to the last; what numbers and texts say may differ.
    fn same_keys(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                a.keys().eq(b.keys()) && a.iter().all(|(key, a)| same_keys(a, &b[key]))
            }
            (a, b) => a.is_object() == b.is_object(),
        }
    }

    #[test]
    fn the_documented_example_has_the_fields_of_a_real_message() {
        let page = include_str!("../../docs/metrics.md");
        let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next());
        let example: Value = serde_json::from_str(example.expect("an example in JSON")).expect("JSON");
        let mut snapshot = snapshot();
        snapshot.pipelines.truncate(1);
        snapshot.links.truncate(1);
        // `lost` names reasons that happened: the same ones in both.
        assert!(same_keys(&example, &stats(&snapshot)), "{example:#}\n{:#}", stats(&snapshot));
        snapshot.memory = None;
        assert!(!same_keys(&example, &stats(&snapshot)));
    }
}
