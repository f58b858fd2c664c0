//! `lineside bench`: how fast a model is on this machine.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::infer::failure;
use super::inspect::{shapes, specs};
use super::{Exit, Failure};
use crate::base::{Data, DataType, Tensor};
use crate::config::Card;
use crate::config::card::PortSpec;
use crate::engine::{InferError, Model, folder, golden};

/// How fast a model is here: time to ready, latency percentiles, throughput, peak memory
///
/// Each thread has a session of its own, as each worker of the daemon has. The input is the model's
/// first golden case, or seeded noise. The first runs (a tenth of the time; with --runs, one) are not
/// counted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An .onnx or .nnef.tgz file, or a model folder
    model: PathBuf,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Measure so many runs a session instead, one before them: for whoever counts instructions; 0: until it is ready
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    runs: Option<u64>,
    /// Sessions at work at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Lengths for open axes: NAME=1,3,224,224 (an open batch is 1)
    #[arg(long, value_name = "NAME=SHAPE")]
    input: Vec<String>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// How long to measure.
#[derive(Clone, Copy)]
enum Length {
    /// After a tenth of it to warm up.
    Time(Duration),
    /// After one to warm up: a number of runs is then a number of instructions.
    Runs(u64),
}

impl Length {
    fn is_warm(self, warming: Duration) -> bool {
        match self {
            Self::Time(time) => warming >= time / 10,
            Self::Runs(_) => true,
        }
    }

    fn is_over(self, took: Duration, runs: u64) -> bool {
        match self {
            Self::Time(time) => took >= time && runs > 0,
            Self::Runs(wanted) => runs >= wanted,
        }
    }
}

/// What a run of the bench came to.
struct Measured {
    /// Nanoseconds of each run, all threads together.
    latency_ns: Histogram<u64>,
    /// Runs a second, all threads together.
    per_second: f64,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { model: path, seconds, runs, threads, input, json } = args;
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err(Failure::new(Exit::Usage, format!("--seconds is {}; give 0.1 to 86400", seconds)));
    }
    if !(1..=1024).contains(&threads) {
        return Err(Failure::new(Exit::Usage, format!("--threads is {}; give 1 to 1024", threads)));
    }
    if runs == Some(0) {
        let model = loaded(&path, &input)?.0;
        let ready_ms = milliseconds(model.ready_in());
        if json {
            println!("{}", json!({ "model": path, "ready_ms": ready_ms }));
        } else {
            println!("ready       {ready_ms:.1} ms from opening the file");
        }
        return Ok(());
    }
    let (model, inputs, source) = open(&path, &input)?;
    let length = runs.map_or(Length::Time(Duration::from_secs_f64(seconds)), Length::Runs);
    let measured = measure(&model, &inputs, length, threads)?;
    let us = |quantile: f64| measured.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    let max_us = measured.latency_ns.max() as f64 / 1e3;
    let ready_ms = milliseconds(model.ready_in());
    let peak = peak_rss_kib();
    if json {
        println!(
            "{}",
            json!({
                "model": path,
                "input": source,
                "threads": threads,
                "ready_ms": ready_ms,
                "runs": measured.latency_ns.len(),
                "latency_us": {
                    "p50": us(0.50), "p90": us(0.90), "p99": us(0.99), "max": max_us,
                    "mean": measured.latency_ns.mean() / 1e3,
                },
                "per_second": measured.per_second,
                "peak_rss_kib": peak,
            })
        );
        return Ok(());
    }
    let shapes =
        model.inputs().iter().map(|spec| format!("{} {} {:?}", spec.name, spec.data_type, spec.shape));
    println!("input       {} ({source})", shapes.collect::<Vec<_>>().join(", "));
    println!("ready       {ready_ms:.1} ms from opening the file");
    println!(
        "latency     p50 {:.1} µs, p90 {:.1} µs, p99 {:.1} µs, max {max_us:.1} µs ({} runs)",
        us(0.50),
        us(0.90),
        us(0.99),
        measured.latency_ns.len()
    );
    println!("throughput  {:.1} a second with {} thread(s)", measured.per_second, threads);
    if let Some(peak) = peak {
        println!("peak memory {peak} KiB resident, loading included");
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The model, as the daemon loads it where no shapes are given, and its card where that has cases of these shapes.
fn loaded(path: &Path, arguments: &[String]) -> Result<(Model, Option<Card>), Failure> {
    if path.is_dir() && arguments.is_empty() {
        let card = folder::card(path).map_err(failure)?;
        return Ok((Model::load(&card).map_err(failure)?, Some(card)));
    }
    let opened = folder::open_any(path).map_err(failure)?;
    let given = shapes(arguments, opened.graph.inputs())?;
    let specs = specs(opened.graph.inputs(), opened.card.as_ref(), &given)
        .map_err(|open| Failure::new(Exit::DataErr, format!("{}: {open}", path.display())))?;
    let folder::Opened { graph, card } = opened.for_inputs(&specs).map_err(failure)?;
    let model = graph.prepare(&specs).map_err(failure)?;
    // Golden cases have the card's shapes.
    Ok((model, card.filter(|_| given.is_empty())))
}

/// The model with something to run it on, and where that comes from.
fn open(path: &Path, arguments: &[String]) -> Result<(Model, Vec<Tensor>, &'static str), Failure> {
    let (model, card) = loaded(path, arguments)?;
    let case = card.map(|card| golden::first_inputs(&model, &card)).transpose().map_err(failure)?;
    Ok(match case.flatten() {
        Some(inputs) => (model, inputs, "first golden case"),
        None => {
            let inputs = noise(model.inputs());
            (model, inputs, "seeded noise")
        }
    })
}

/// Floats in [0, 1), zeros and ones for everything else (indices stay in range), the same each time.
fn noise(specs: &[PortSpec]) -> Vec<Tensor> {
    // xorshift64 (Marsaglia 2003); the seed is any number but 0.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // 24 bits: every value is exact in f32.
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let tensor = |spec: &PortSpec| {
        let count = spec.shape.iter().product();
        let mut fill = || std::iter::repeat_with(&mut next).take(count).collect::<Vec<f32>>();
        macro_rules! bits {
            ($variant:ident) => {
                Data::$variant(fill().into_iter().map(|value| (value >= 0.5).into()).collect())
            };
        }
        let data = match spec.data_type {
            DataType::F32 => Data::F32(fill()),
            DataType::F64 => Data::F64(fill().into_iter().map(f64::from).collect()),
            // Bits of 0.0 and 1.0.
            DataType::F16 => {
                Data::F16(fill().into_iter().map(|v| if v >= 0.5 { 0x3c00 } else { 0 }).collect())
            }
            DataType::I64 => bits!(I64),
            DataType::I32 => bits!(I32),
            DataType::I16 => bits!(I16),
            DataType::I8 => bits!(I8),
            DataType::U64 => bits!(U64),
            DataType::U32 => bits!(U32),
            DataType::U16 => bits!(U16),
            DataType::U8 => bits!(U8),
            DataType::Bool => bits!(Bool),
            DataType::Text => Data::Text(vec![String::new(); count]),
        };
        Tensor { shape: spec.shape.clone(), data }
    };
    specs.iter().map(tensor).collect()
}

/// Runs `threads` sessions for `length`.
fn measure(model: &Model, inputs: &[Tensor], length: Length, threads: usize) -> Result<Measured, Failure> {
    let failed = |error: InferError| Failure::new(Exit::DataErr, error);
    let start = Barrier::new(threads);
    let worker = || -> Result<(Histogram<u64>, Duration), InferError> {
        let mut session = model.session();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let warm = Instant::now();
        let warmed = loop {
            let result = session.run(&inputs);
            if result.is_err() || length.is_warm(warm.elapsed()) {
                break result;
            }
        };
        // Before the `?`: who fails must not leave the others waiting.
        start.wait();
        warmed?;
        let mut latency_ns = Histogram::new_with_bounds(1, u64::from(u32::MAX) * 1000, 3)
            .expect("the bounds are in order and three digits are allowed");
        let begun = Instant::now();
        while !length.is_over(begun.elapsed(), latency_ns.len()) {
            let run = Instant::now();
            session.run(&inputs)?;
            latency_ns.saturating_record(u64::try_from(run.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok((latency_ns, begun.elapsed()))
    };
    let results: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().map(|handle| handle.join()).collect()
    });
    let mut all: Option<Histogram<u64>> = None;
    let mut per_second = 0.0;
    for result in results {
        let (latency_ns, took) = result
            .map_err(|_| Failure::new(Exit::Software, "a measuring thread panicked"))?
            .map_err(failed)?;
        per_second += latency_ns.len() as f64 / took.as_secs_f64();
        match &mut all {
            Some(all) => *all += latency_ns,
            None => all = Some(latency_ns),
        }
    }
    let latency_ns = all.ok_or_else(|| Failure::new(Exit::Usage, "--threads is 0; give at least 1"))?;
    Ok(Measured { latency_ns, per_second })
}

/// The most memory that this process ever had resident; Linux says so.
fn peak_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_each_time_and_keeps_indices_small() {
        let spec = |data_type| PortSpec { name: "x".into(), data_type, shape: vec![2, 50] };
        let specs = [spec(DataType::F32), spec(DataType::I64)];
        let tensors = noise(&specs);
        assert_eq!(tensors, noise(&specs));
        let floats = tensors[0].as_f32().unwrap_or_default();
        assert!(floats.len() == 100 && floats.iter().all(|value| (0.0..1.0).contains(value)));
        assert!(floats.iter().any(|value| *value > 0.9) && floats.iter().any(|value| *value < 0.1));
        let Data::I64(whole) = &tensors[1].data else { panic!("{:?}", tensors[1]) };
        assert!(whole.iter().all(|value| matches!(value, 0 | 1)));
    }
}
