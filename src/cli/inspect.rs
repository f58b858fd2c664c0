//! `lineside inspect`: a model's page.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::infer::failure;
use super::{Exit, Failure};
use crate::base::DataType;
use crate::config::Card;
use crate::config::card::{OutputKind, PortSpec};
use crate::engine::{Dim, Memory, Model, ModelError, Page, Port, folder, golden};

/// A model's page: inputs, outputs, operators, parameters, memory, labels, and whether it runs here
///
/// Axes that the model leaves open are shown by their symbol. What can be read is shown even of a
/// model that cannot run; the exit code is then 65 and the reason stands below.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An .onnx or .nnef.tgz file, or a model folder
    model: PathBuf,
    /// Lengths for open axes, to try the model and estimate its memory: NAME=1,3,224,224
    #[arg(long, value_name = "NAME=SHAPE")]
    input: Vec<String>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What came of trying the model here.
enum Trial {
    /// It can run, with these shapes.
    Runs {
        inputs: Vec<PortSpec>,
        memory: Option<Memory>,
        ready_ms: f64,
        golden: Option<golden::Report>,
        /// What became of the prepared graph beside it.
        prepared: Prepared,
        /// The card's other batch sizes, which run as well.
        batches: Vec<Batch>,
    },
    /// It was not tried, because lengths are open.
    NotTried(String),
    /// It cannot.
    Fails(ModelError),
}

/// Whether the prepared graph beside it runs.
enum Prepared {
    Used(PathBuf),
    Unfit(String),
    None,
}

impl Prepared {
    fn of(model: &Model) -> Self {
        match (model.unprepared(), model.is_prepared()) {
            (Some(why), _) => Self::Unfit(why.to_string()),
            (None, true) => Self::Used(model.path().to_owned()),
            (None, false) => Self::None,
        }
    }
}

/// The graph of another batch size.
struct Batch {
    file: PathBuf,
    inputs: Vec<PortSpec>,
    memory: Option<Memory>,
    golden_cases: usize,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { model: path, input, json } = args;
    let opened = folder::open_any(&path).map_err(failure)?;
    let page = opened.graph.page();
    let shapes = shapes(&input, &page.inputs)?;
    let card = opened.card;
    let trial = match specs(&page.inputs, card.as_ref(), &shapes) {
        Err(open) => match page.unknown_operators.is_empty() {
            true => Trial::NotTried(open),
            // Whatever the shapes, it cannot run; preparing it says why.
            false => opened.graph.prepare(&[]).map_or_else(Trial::Fails, |_| Trial::NotTried(open)),
        },
        Ok(specs) => {
            let model = match &card {
                Some(card) if shapes.is_empty() => Model::load(card),
                _ => folder::Opened { graph: opened.graph, card: card.clone() }
                    .for_inputs(&specs)
                    .and_then(|opened| opened.graph.prepare(&specs)),
            };
            match model {
                Ok(model) => tried(&model, card.as_ref()),
                Err(error) => Trial::Fails(error),
            }
        }
    };
    if json {
        println!("{}", as_json(&page, card.as_ref(), &trial));
    } else {
        print_text(&page, card.as_ref(), &trial);
    }
    match trial {
        Trial::Fails(error) => Err(failure(error)),
        Trial::Runs { .. } | Trial::NotTried(_) => Ok(()),
    }
}

/// `NAME=1,3,224,224` for each argument; a bare shape is the first input's.
pub(super) fn shapes(arguments: &[String], inputs: &[Port]) -> Result<Vec<(String, Vec<usize>)>, Failure> {
    arguments
        .iter()
        .map(|argument| {
            let (name, shape) = match (argument.rsplit_once('='), inputs.first()) {
                (Some((name, shape)), _) => (name, shape),
                (None, Some(first)) => (first.name.as_str(), argument.as_str()),
                (None, None) => ("", argument.as_str()),
            };
            let lengths: Result<Vec<usize>, _> = (shape.split(',').map(str::trim))
                .filter(|length| !length.is_empty())
                .map(str::parse)
                .collect();
            match lengths {
                Ok(lengths) => Ok((name.to_owned(), lengths)),
                Err(_) => Err(Failure::new(
                    Exit::Usage,
                    format!("--input {argument}: {shape:?} is no shape; write NAME=1,3,224,224"),
                )),
            }
        })
        .collect()
}

/// Concrete inputs: as given, else the card's, else as exported with an open first axis taken as 1.
/// What stays open is told in words.
pub(super) fn specs(
    ports: &[Port],
    card: Option<&Card>,
    given: &[(String, Vec<usize>)],
) -> Result<Vec<PortSpec>, String> {
    if given.is_empty()
        && let Some(card) = card
    {
        return Ok(card.graph.inputs.clone());
    }
    let mut specs = Vec::new();
    for (name, shape) in given {
        let port = ports.iter().find(|port| port.name == *name);
        let data_type = port.and_then(|port| port.data_type).unwrap_or(DataType::F32);
        specs.push(PortSpec { name: name.clone(), data_type, shape: shape.clone() });
    }
    for port in ports {
        if specs.iter().any(|spec| spec.name == port.name) {
            continue;
        }
        let mut batch_of_one = port.clone();
        if let Some(first) = batch_of_one.dims.as_mut().and_then(|dims| dims.first_mut())
            && !matches!(first, Dim::Fixed(_))
        {
            *first = Dim::Fixed(1);
        }
        match batch_of_one.concrete() {
            Some(spec) => specs.push(spec),
            None => {
                return Err(format!(
                    "input {port} is open; give its shape, as in --input {}={}",
                    port.name,
                    port.example()
                ));
            }
        }
    }
    Ok(specs)
}

fn tried(model: &Model, card: Option<&Card>) -> Trial {
    let golden = match card.map(|card| golden::check(model, card)).transpose() {
        Ok(golden) => golden,
        Err(error) => return Trial::Fails(error),
    };
    let sizes = card.map(Card::sizes).unwrap_or_default();
    let batches = match sizes.iter().skip(1).map(batch).collect() {
        Ok(batches) => batches,
        Err(error) => return Trial::Fails(error),
    };
    Trial::Runs {
        inputs: model.inputs().to_vec(),
        memory: model.memory(),
        ready_ms: model.ready_in().as_secs_f64() * 1e3,
        golden,
        prepared: Prepared::of(model),
        batches,
    }
}

fn batch(size: &Card) -> Result<Batch, ModelError> {
    let model = Model::load(size)?;
    Ok(Batch {
        file: size.graph.file.clone(),
        inputs: model.inputs().to_vec(),
        memory: model.memory(),
        golden_cases: golden::check(&model, size)?.cases.len(),
    })
}

fn labels(card: &Card) -> &[String] {
    match &card.output.kind {
        OutputKind::Classification { labels, .. } | OutputKind::MultiLabel { labels, .. } => labels,
        OutputKind::Regression { .. } | OutputKind::Anomaly { .. } => &[],
    }
}

fn print_text(page: &Page, card: Option<&Card>, trial: &Trial) {
    if let Some(card) = card {
        println!("{} {}: {}", card.name, card.version, card.summary);
        println!("licence     {}", card.licence);
        if !labels(card).is_empty() {
            println!("labels      {}", labels(card).join(", "));
        }
    }
    println!("file        {} ({}, {} bytes)", page.path.display(), page.format, page.file_bytes);
    println!("sha256      {}", page.sha256);
    if let Some(producer) = &page.producer {
        println!("producer    {producer}");
    }
    if !page.opsets.is_empty() {
        let named = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
        let sets = page.opsets.iter().map(|(domain, version)| format!("{} {version}", named(domain)));
        println!("opset       {}", sets.collect::<Vec<_>>().join(", "));
    }
    print_ports("inputs", &page.inputs);
    print_ports("outputs", &page.outputs);
    for (output, classes) in &page.classes {
        println!("classes     {output}: {}", classes.join(", "));
    }
    println!("parameters  {}", page.parameters);
    let total: usize = page.operators.iter().map(|count| count.nodes).sum();
    println!("operators   {total} nodes");
    for count in &page.operators {
        println!("  {:>5}  {}", count.nodes, count.operator);
    }
    for (key, value) in &page.metadata {
        println!("metadata    {key} = {}", value.replace('\n', " "));
    }
    match trial {
        Trial::Runs { inputs, memory, ready_ms, golden, prepared, batches } => {
            println!(
                "runs        yes, ready in {ready_ms:.0} ms, with {}",
                PortSpec::shapes_in_words(inputs)
            );
            match prepared {
                Prepared::Used(file) => println!("prepared    {}", file.display()),
                Prepared::Unfit(why) => {
                    println!("prepared    no: {why}; make it anew with `lineside prepare`")
                }
                Prepared::None => {}
            }
            match memory {
                Some(memory) => println!(
                    "memory      about {} at its peak: {} weights (shared), {} intermediates (each worker)",
                    kib(memory.peak_bytes()),
                    kib(memory.weights_bytes),
                    kib(memory.intermediates_bytes)
                ),
                None => println!("memory      cannot be told: shapes depend on values"),
            }
            match golden.as_ref().map(|report| report.cases.len()) {
                None => {}
                Some(0) => println!("golden      no cases: nobody has checked its answers"),
                Some(cases) => println!(
                    "golden      {cases} of {cases} right, worst relative difference {:.1e}",
                    golden.as_ref().map_or(0.0, golden::Report::worst_relative)
                ),
            }
            for Batch { file, inputs, memory, golden_cases } in batches {
                let peak = memory.map_or("not told".to_owned(), |memory| kib(memory.peak_bytes()));
                println!(
                    "batch       with {}: {}, about {peak} at its peak, {golden_cases} golden case(s) right",
                    PortSpec::shapes_in_words(inputs),
                    file.display()
                );
            }
        }
        Trial::NotTried(why) => println!("runs        not tried: {why}"),
        Trial::Fails(_) => println!("runs        no"),
    }
}

fn print_ports(title: &str, ports: &[Port]) {
    for (i, port) in ports.iter().enumerate() {
        println!("{:<11} {port}", if i == 0 { title } else { "" });
    }
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

fn as_json(page: &Page, card: Option<&Card>, trial: &Trial) -> Value {
    let ports = |ports: &[Port]| {
        let port = |port: &Port| {
            let dims = port.dims.as_ref().map(|dims| {
                let dim = |dim: &Dim| match dim {
                    Dim::Fixed(length) => json!(length),
                    Dim::Symbol(name) => json!(name),
                    Dim::Unknown => Value::Null,
                };
                dims.iter().map(dim).collect::<Vec<_>>()
            });
            json!({ "name": port.name, "type": port.data_type.map(|t| t.as_str()), "shape": dims })
        };
        ports.iter().map(port).collect::<Vec<_>>()
    };
    let operators: serde_json::Map<String, Value> =
        page.operators.iter().map(|count| (count.operator.clone(), json!(count.nodes))).collect();
    let metadata: serde_json::Map<String, Value> =
        page.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let opsets: serde_json::Map<String, Value> =
        page.opsets.iter().map(|(domain, version)| (domain.clone(), json!(version))).collect();
    let specs = |inputs: &[PortSpec]| {
        let spec = |spec: &PortSpec| json!({"name": spec.name, "type": spec.data_type.as_str(), "shape": spec.shape});
        inputs.iter().map(spec).collect::<Vec<_>>()
    };
    let bytes = |memory: &Memory| {
        json!({
            "peak_bytes": memory.peak_bytes(),
            "weights_bytes": memory.weights_bytes,
            "intermediates_bytes": memory.intermediates_bytes,
        })
    };
    let batch = |batch: &Batch| {
        json!({
            "file": batch.file,
            "inputs": specs(&batch.inputs),
            "memory": batch.memory.as_ref().map(bytes),
            "golden_cases": batch.golden_cases,
        })
    };
    let (runs, memory, golden) = match trial {
        Trial::Runs { inputs, memory, ready_ms, golden, prepared, batches } => (
            json!({
                "ok": true,
                "ready_ms": ready_ms,
                "prepared": match prepared {
                    Prepared::Used(file) => json!({ "file": file }),
                    Prepared::Unfit(why) => json!({ "not_used_because": why }),
                    Prepared::None => Value::Null,
                },
                "inputs": specs(inputs),
                "batches": batches.iter().map(batch).collect::<Vec<_>>(),
            }),
            memory.as_ref().map(bytes),
            golden.as_ref().map(
                |report| json!({ "cases": report.cases.len(), "worst_relative": report.worst_relative() }),
            ),
        ),
        Trial::NotTried(why) => (json!({ "ok": null, "why": why }), None, None),
        Trial::Fails(error) => (json!({ "ok": false, "why": error.to_string() }), None, None),
    };
    json!({
        "file": page.path,
        "format": page.format,
        "file_bytes": page.file_bytes,
        "sha256": page.sha256,
        "producer": page.producer,
        "opsets": opsets,
        "inputs": ports(&page.inputs),
        "outputs": ports(&page.outputs),
        "classes": page.classes.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "parameters": page.parameters,
        "operators": operators,
        "unknown_operators": page.unknown_operators,
        "metadata": metadata,
        "runs": runs,
        "memory": memory,
        "golden": golden,
        "card": card.map(|card| json!({
            "name": card.name,
            "version": card.version,
            "summary": card.summary,
            "licence": card.licence,
            "labels": labels(card),
        })),
    })
}
