//! `lineside compile`: an ONNX file becomes a model folder for the device.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Exit, Failure, infer, live};
use crate::config::Card;
use crate::config::card::PortSpec;
use crate::engine::compile::{self, CompileError, Compiled, Order};

/// An ONNX file becomes a model folder: checked, saved for the device, with a card
///
/// Shapes are fixed, the graph is saved as it is once all of it is known (NNEF), and the optimised engine is
/// held against itself without optimisation, against the ONNX standard's own arithmetic, and against
/// golden cases: where any two differ, nothing is written, and the first node that differs is named.
/// A card that is there already keeps all but its graph.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lineside compile screw.onnx -o models/screw --golden golden/ --labels labels.txt
  lineside compile pump.onnx -o models/pump --input x=1,8,60
  lineside compile vad.onnx -o models/vad --fix sr=16000 --batch 1")]
pub struct Args {
    /// The .onnx file
    model: PathBuf,
    /// The model folder to write; its name becomes the model's
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Lengths of an input that the file leaves open: NAME=1,3,224,224
    #[arg(long, value_name = "NAME=SHAPE")]
    input: Vec<String>,
    /// An input that never changes becomes a constant: sr=16000
    #[arg(long, value_name = "NAME=VALUE")]
    fix: Vec<String>,
    /// Class names in the order of the scores, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Golden cases, as models/golden.py writes them: checked, and copied into the folder
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// Batch sizes, such as 1,8: a graph for each, compared and saved; `run` takes the first, `infer` the one
    /// that its arrays have
    #[arg(long, value_name = "N", value_delimiter = ',')]
    batch: Vec<usize>,
    /// Largest accepted difference ÷ largest value of a tensor; default 1e-4, half precision 5e-3, quantised 2e-2
    #[arg(long, value_name = "X")]
    tolerance: Option<f64>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let json = args.json;
    let order = order(args)?;
    // A large network takes minutes.
    let waiting = "running the model, optimised and not, on many inputs";
    let compiled = live::meanwhile(waiting, || compile::compile(&order));
    let compiled = compiled.map_err(failure)?;
    // What was drafted must stand before `check`; where a graph has what a card cannot say, it says so.
    let card = Card::read(&compiled.folder);
    let complaints: Vec<String> =
        card.err().map(|wrong| wrong.0.iter().map(ToString::to_string).collect()).unwrap_or_default();
    if json {
        println!("{}", as_json(&compiled, &complaints));
    } else {
        print_text(&compiled, &complaints);
    }
    Ok(())
}

fn order(args: Args) -> Result<Order, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    if args.model.is_dir() {
        let path = args.model.display();
        return Err(usage(format!(
            "{path} is a folder; give the .onnx file itself, such as {path}/model.onnx"
        )));
    }
    let shapes = args.input.iter().map(|argument| {
        let wrong = || usage(format!("--input {argument}: write NAME=1,3,224,224, every length known"));
        let (name, shape) = argument.rsplit_once('=').ok_or_else(wrong)?;
        let lengths: Result<Vec<usize>, _> =
            shape.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse).collect();
        Ok((name.to_owned(), lengths.map_err(|_| wrong())?))
    });
    let fixed = args.fix.iter().map(|argument| {
        let pair = argument.split_once('=');
        let (name, value) =
            pair.ok_or_else(|| usage(format!("--fix {argument}: write NAME=VALUE, as in sr=16000")))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    if args.batch.contains(&0) {
        return Err(usage("--batch 0: a batch holds at least one".to_owned()));
    }
    if let Some(tolerance) = args.tolerance.filter(|tolerance| !(0.0..=1.0).contains(tolerance)) {
        return Err(usage(format!("--tolerance {tolerance}: it must be from 0 to 1")));
    }
    Ok(Order {
        model: args.model,
        folder: args.output,
        shapes: shapes.collect::<Result<_, Failure>>()?,
        fixed: fixed.collect::<Result<_, Failure>>()?,
        labels: args.labels.as_deref().map(labels).transpose()?,
        golden: args.golden,
        batches: args.batch,
        tolerance: args.tolerance,
    })
}

/// One name a line; empty lines and what follows a `#` do not count.
fn labels(file: &Path) -> Result<Vec<String>, Failure> {
    let unreadable =
        |error| Failure::new(Exit::IoErr, format!("cannot read --labels {}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
    let labels: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    match labels.len() {
        0 | 1 => Err(Failure::new(
            Exit::DataErr,
            format!(
                "--labels {}: {} name(s); write one class a line, at least two",
                file.display(),
                labels.len()
            ),
        )),
        _ => Ok(labels),
    }
}

fn failure(error: CompileError) -> Failure {
    match error {
        CompileError::Model(error) => infer::failure(error),
        CompileError::File { .. } => Failure::new(Exit::IoErr, error),
        CompileError::Order(_) => Failure::new(Exit::Usage, error),
        _ => Failure::new(Exit::DataErr, error),
    }
}

fn print_text(compiled: &Compiled, complaints: &[String]) {
    for (i, opinion) in compiled.opinions.iter().enumerate() {
        println!("{:<9} {opinion}", if i == 0 { "compared" } else { "" });
    }
    println!("{:<9} {}, {} bytes", "saved", compiled.file.display(), compiled.file_bytes);
    for (file, inputs, bytes) in &compiled.batches {
        let shapes = PortSpec::shapes_in_words(inputs);
        println!("{:<9} {}, {bytes} bytes, for {shapes}", "", file.display());
    }
    if let Some(why) = &compiled.kept_as_onnx {
        println!("{:<9} as ONNX, because {why}", "");
    }
    for file in &compiled.prepared.files {
        println!("{:<9} {}", "prepared", file.display());
    }
    for (file, why) in &compiled.prepared.without {
        println!("{:<9} not {}: {why}", "prepared", file.display());
    }
    for case in &compiled.left_out {
        println!("{:<9} golden case {case}", "left out");
    }
    let card = compiled.folder.join("model.toml");
    if compiled.kept_card {
        println!("{:<9} {}: kept, its graph brought up to date", "card", card.display());
    } else {
        println!(
            "{:<9} {}: a draft; look at every CONFIRM in it, then remove `draft`:",
            "card",
            card.display()
        );
        for guess in &compiled.to_confirm {
            println!("{:<11} {guess}", "");
        }
    }
    if compiled.golden_cases == 0 {
        println!(
            "{:<9} only by the engine itself; golden cases (models/golden.py, then --golden) tell whether it \
             answers as in training",
            "verified"
        );
    } else {
        println!("{:<9} by {} golden case(s)", "verified", compiled.golden_cases);
    }
    if !complaints.is_empty() {
        println!("{:<9} the card cannot be used before this is put right:", "note");
        for complaint in complaints {
            println!("{:<11} {complaint}", "");
        }
    }
}

fn as_json(compiled: &Compiled, complaints: &[String]) -> serde_json::Value {
    let opinions: Vec<_> = (compiled.opinions.iter())
        .map(|opinion| {
            json!({
                "with": opinion.with,
                "inputs": opinion.inputs,
                "undecided": opinion.undecided,
                "worst_relative": opinion.worst_relative,
                "none_because": opinion.none_because,
            })
        })
        .collect();
    json!({
        "folder": compiled.folder,
        "file": compiled.file,
        "file_bytes": compiled.file_bytes,
        "batches": compiled.batches.iter().map(|(file, inputs, bytes)| json!({
            "file": file,
            "file_bytes": bytes,
            "shapes": inputs.iter().map(|spec| &spec.shape).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "kept_as_onnx": compiled.kept_as_onnx,
        "prepared": compiled.prepared.files,
        "not_prepared": compiled.prepared.without.iter().map(|(file, why)| json!({
            "file": file,
            "why": why,
        })).collect::<Vec<_>>(),
        "opinions": opinions,
        "golden_cases": compiled.golden_cases,
        "left_out": compiled.left_out,
        "kept_card": compiled.kept_card,
        "to_confirm": compiled.to_confirm,
        "card_complaints": complaints,
    })
}
