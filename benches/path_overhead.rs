//! What does the way cost on top of the model? From publish to prediction, less the model's own
//! time, beside a bare rumqttc echo client: same broker, same 4 kB at QoS 1, in alternating rounds.
//!
//!     cargo bench --bench path_overhead -- --rounds 10 --frames 200 --seconds 60 --rate 200
//!
//! Both ends of both paths use two connections and no Nagle; otherwise delayed acknowledgements of
//! TCP (40 ms) are all that is measured.

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::fmt::Write as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::load::{Listener, Sender, offer};
use common::support::models::{Model, array};
use common::support::onnx::Graph;
use common::support::site::{DEVICE, Site, pipeline_with_ids};
use common::{Bound, Figure, percentile, report, setting};

const COLUMNS: usize = 500;

/// One row of 500 readings to one number: next to nothing to compute, 4 kB to carry.
fn wide() -> Model {
    let mut meaning = "[features]\nkind = \"table\"\ninput = \"X\"\n".to_owned();
    for column in 0..COLUMNS {
        writeln!(meaning, "[[features.column]]\nname = \"r{column}\"\nunit = \"1\"")
            .expect("text takes text");
    }
    meaning +=
        "\n[output]\nkind = \"regression\"\ntensor = \"y\"\n[[output.target]]\nname = \"y\"\nunit = \"1\"\n";
    let mean = [1.0 / COLUMNS as f32; COLUMNS];
    Model {
        name: "wide",
        graph: Graph::default()
            .input("X", &[1, COLUMNS])
            .output("y", &[1, 1])
            .floats("W", &[COLUMNS, 1], &mean)
            .node("MatMul", &["X", "W"], "y", &[]),
        meaning,
        golden: (vec![array(&[1, COLUMNS], &[2.0; COLUMNS])], vec![array(&[1, 1], &[2.0])]),
    }
}

/// 4,096 bytes: an id that the answer repeats, and 500 readings.
fn frame(n: usize) -> Vec<u8> {
    let mut text = format!("{{\"id\":\"{n:08}\",\"values\":[");
    for column in 0..COLUMNS {
        let separator = if column == 0 { "" } else { "," };
        write!(text, "{separator}{}.{:04}", (n + column) % 10, (n * 31 + column * 17) % 10_000)
            .expect("text takes text");
    }
    text += "]}";
    let padding = 4096 - text.len();
    text.insert_str(text.len() - 1, &" ".repeat(padding));
    text.into_bytes()
}

/// Runs this program as the echo on two connections.
fn echo(port: u16) {
    let open = |id: &str| {
        let mut options = rumqttc::MqttOptions::new(id, "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = rumqttc::Client::new(options, 100);
        let mut network = rumqttc::NetworkOptions::new();
        network.set_tcp_nodelay(true);
        connection.eventloop.set_network_options(network);
        (client, connection)
    };
    let (out, mut out_connection) = open("echo-out");
    std::thread::spawn(move || out_connection.iter().for_each(drop));
    let (into, mut connection) = open("echo-in");
    into.subscribe("echo/frame", rumqttc::QoS::AtLeastOnce).expect("the event loop is there");
    for event in connection.iter() {
        if let Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) = event {
            out.publish("echo/result", rumqttc::QoS::AtLeastOnce, false, publish.payload)
                .expect("the event loop is there");
        }
    }
}

struct Echo(Child);

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A path under measurement: where frames go, where answers come from.
struct Path {
    topic: &'static str,
    answers: Listener,
}

/// Number of the frame that this answers, and microseconds that the model itself took.
fn read(answer: &[u8]) -> (usize, f64) {
    let json: serde_json::Value = serde_json::from_slice(answer).expect("answers are JSON");
    let id = json["id"].as_str().filter(|id| id.len() == 8).or_else(|| json["source"]["frame_id"].as_str());
    let number = id.and_then(|id| id.parse().ok()).expect("answers name their frame");
    (number, json["latency_us"]["infer"].as_f64().unwrap_or(0.0))
}

impl Path {
    /// Microseconds from publish to answer less the model's, one frame at a time.
    fn one_by_one(&self, sender: &mut Sender, frames: usize) -> Vec<f64> {
        (0..frames)
            .map(|n| {
                let payload = frame(n);
                let sent = Instant::now();
                sender.publish(self.topic, &payload);
                sender.flush();
                let (came, answer) =
                    self.answers.next(Duration::from_secs(10)).expect("every frame is answered");
                let (number, model_us) = read(&answer);
                assert_eq!(number, n, "answers come one by one");
                (came - sent).as_secs_f64() * 1e6 - model_us
            })
            .collect()
    }

    /// The same at a steady rate; from when each frame was due.
    fn steady(&self, sender: &mut Sender, rate: f64, duration: Duration) -> Vec<f64> {
        let due = Mutex::new(Vec::new());
        let total = std::thread::scope(|scope| {
            let sending =
                scope.spawn(|| offer(sender, rate, duration, &due, |n| (self.topic.into(), frame(n))));
            sending.join().expect("the sender does not panic")
        });
        let due = due.into_inner().expect("the sender is done");
        (0..total)
            .map(|_| {
                let (came, answer) =
                    self.answers.next(Duration::from_secs(10)).expect("every frame is answered");
                let (number, model_us) = read(&answer);
                came.saturating_duration_since(due[number]).as_secs_f64() * 1e6 - model_us
            })
            .collect()
    }
}

/// First and second change places each round: whatever favours a place favours both.
fn in_turn(round: usize) -> [usize; 2] {
    if round.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

fn main() -> ExitCode {
    let echo_port: u16 = setting("echo", 0);
    if echo_port != 0 {
        echo(echo_port);
        return ExitCode::SUCCESS;
    }
    let (rounds, frames): (usize, usize) = (setting("rounds", 10), setting("frames", 200));
    let (seconds, rate): (f64, f64) = (setting("seconds", 60.0), setting("rate", 200.0));

    let site = Site::new(&[wide()]);
    let port = site.broker.port;
    let _daemon = site.run(&pipeline_with_ids("wide", "wide", "wide/frame"));
    let program = std::env::current_exe().expect("this program has a path");
    let peer = Command::new(program).args(["--echo", &port.to_string()]).stdin(Stdio::null()).spawn();
    let _echo = Echo(peer.expect("this program starts again"));
    let paths = [
        Path {
            topic: "wide/frame",
            answers: Listener::connect(port, "ours", &format!("lineside/{DEVICE}/wide/result")),
        },
        Path { topic: "echo/frame", answers: Listener::connect(port, "theirs", "echo/result") },
    ];
    let mut sender = Sender::connect(port, "sender", 1);
    std::thread::sleep(Duration::from_millis(500)); // the echo subscribes

    for path in &paths {
        path.one_by_one(&mut sender, 100); // warm caches and connections
    }
    let mut single = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in in_turn(round) {
            single[turn].extend(paths[turn].one_by_one(&mut sender, frames));
        }
    }
    let mut steady = [Vec::new(), Vec::new()];
    let slices = (seconds / 10.0).ceil().max(1.0);
    for round in 0..slices as usize {
        for turn in in_turn(round) {
            steady[turn].extend(paths[turn].steady(
                &mut sender,
                rate,
                Duration::from_secs_f64(seconds / slices),
            ));
        }
    }
    let (p50, p99) =
        (single.map(|samples| percentile(&samples, 0.5)), steady.map(|samples| percentile(&samples, 0.99)));
    report(
        "path_overhead",
        &[
            Figure { name: "one_by_one_p50_us", value: p50[0], bound: Bound::None },
            Figure { name: "one_by_one_p50_us_of_echo", value: p50[1], bound: Bound::None },
            Figure { name: "one_by_one_p50_ratio", value: p50[0] / p50[1], bound: Bound::Most(1.5) },
            Figure { name: "steady_p99_us", value: p99[0], bound: Bound::None },
            Figure { name: "steady_p99_us_of_echo", value: p99[1], bound: Bound::None },
            Figure { name: "steady_p99_ratio", value: p99[0] / p99[1], bound: Bound::Most(2.0) },
        ],
    )
}
