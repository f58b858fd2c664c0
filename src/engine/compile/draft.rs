//! The card that can be told from the graph, and the folder around it.
//!
//! A graph does not say what its pictures were scaled by or what its numbers are called. The draft
//! is a card that works, with every guess marked `CONFIRM` and `draft = true` until a person has
//! looked. Promise: a card that is there already stays as it is, but for its graph.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::cases::Case;
use super::save::{STEM, Saved};
use super::{CompileError, Order, graph};
use tract_onnx::pb::ModelProto;

use crate::base::DataType;
use crate::config::card::PortSpec;
use crate::engine::{Model, Page, Port, TRACT_VERSION, golden, npy};

/// What the card is drafted from.
pub(super) struct Draft<'a> {
    pub(super) name: &'a str,
    pub(super) order: &'a Order,
    pub(super) page: &'a Page,
    pub(super) proto: &'a ModelProto,
    pub(super) model: &'a Model,
    pub(super) saved: &'a Saved,
    /// Further batch sizes, with their inputs.
    pub(super) batches: &'a [(Vec<PortSpec>, Saved)],
    pub(super) source_sha256: &'a str,
    /// Golden cases held.
    pub(super) verified: bool,
    pub(super) tolerance: f64,
}

/// What became of the folder.
pub(super) struct Written {
    pub(super) kept_card: bool,
    pub(super) to_confirm: Vec<String>,
}

/// An output as long as its input and no shorter than this is what the model thinks the input was.
const RECONSTRUCTED: usize = 8;

/// More columns than this are no table that a person names.
const MAX_COLUMNS: usize = 4096;

/// Writes graph, card and cases.
pub(super) fn write(folder: &Path, draft: &Draft<'_>, cases: &[Case]) -> Result<Written, CompileError> {
    let put = |path: &Path, bytes: &[u8]| fs::write(path, bytes).map_err(CompileError::file("write", path));
    let card_file = folder.join("model.toml");
    let earlier = match fs::read_to_string(&card_file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(CompileError::file("read", &card_file)(error)),
    };
    let mut to_confirm = Vec::new();
    let card = match &earlier {
        Some(text) => renewed(text, &draft.graph_section(), draft.verified),
        None => draft.card(&mut to_confirm),
    };
    fs::create_dir_all(folder).map_err(CompileError::file("make", folder))?;
    let saved = || std::iter::once(draft.saved).chain(draft.batches.iter().map(|(_, saved)| saved));
    // What an earlier order left and this one does not use would only be copied to the device.
    for other in fs::read_dir(folder).map_err(CompileError::file("read", folder))? {
        let other = other.map_err(CompileError::file("read", folder))?.path();
        let is_source = other.canonicalize().ok() == draft.order.model.canonicalize().ok();
        let name = other.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_graph_of_ours(name) && !saved().any(|saved| saved.file == name) && !is_source {
            fs::remove_file(&other).map_err(CompileError::file("remove", &other))?;
        }
    }
    for saved in saved() {
        put(&folder.join(&saved.file), &saved.bytes)?;
    }
    put(&card_file, card.as_bytes())?;
    let golden = folder.join("golden");
    for case in cases {
        let place = golden.join(&case.name);
        fs::create_dir_all(&place).map_err(CompileError::file("make", &place))?;
        for (kind, tensors) in [("input", &case.inputs), ("output", &case.outputs)] {
            for (position, tensor) in tensors.iter().enumerate() {
                let file = place.join(format!("{kind}-{position}.npy"));
                npy::write(&file, tensor).map_err(CompileError::file("write", &file))?;
            }
        }
    }
    if !cases.is_empty() {
        let source = draft.order.model.file_name().unwrap_or_default().to_string_lossy();
        let line = format!("{}  {source}\n", draft.source_sha256);
        put(&golden.join(golden::HASH_FILE), line.as_bytes())?;
    }
    Ok(Written { kept_card: earlier.is_some(), to_confirm })
}

/// `model.onnx`, `model.nnef.tar`, `model-batch-8.nnef.tar`.
fn is_graph_of_ours(file: &str) -> bool {
    let Some(rest) = file.strip_prefix(STEM) else { return false };
    if [".onnx", ".nnef.tar"].contains(&rest) {
        return true;
    }
    let batch = rest.strip_prefix("-batch-").and_then(|rest| rest.strip_suffix(".nnef.tar"));
    batch.is_some_and(|batch| batch.parse::<usize>().is_ok())
}

/// An earlier card with its graph brought up to date: `[graph]` with its inputs, and who verified it.
fn renewed(card: &str, graph: &str, verified: bool) -> String {
    let mut out = String::new();
    let mut written = false;
    let mut inside = false;
    // Comments inside the graph's section, which belong to the next one if nothing else follows.
    let mut held = String::new();
    for line in card.split_inclusive('\n') {
        let text = line.trim();
        if text.starts_with('[') {
            inside =
                ["[graph]", "[[graph.input]]", "[[graph.batch]]"].iter().any(|own| text.starts_with(own));
            if inside && !written {
                out.push_str(graph);
                out.push('\n');
                written = true;
            }
            if !inside {
                out.push_str(&held);
            }
            held.clear();
        }
        if inside {
            match text.starts_with('#') {
                true => held.push_str(line),
                false => held.clear(),
            }
            continue;
        }
        match line.trim_start().strip_prefix("verified") {
            Some(rest) if rest.trim_start().starts_with('=') => {
                out.push_str(verified_line(verified));
                out.push('\n');
            }
            _ => out.push_str(line),
        }
    }
    if !written {
        out.push('\n');
        out.push_str(graph);
    }
    out
}

fn verified_line(verified: bool) -> &'static str {
    if verified {
        "verified  = \"golden\""
    } else {
        "verified  = \"self\"   # nobody but this engine has looked at the answers: add golden cases"
    }
}

/// A string as TOML writes it; JSON's escapes are TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let line = format!("[{}]", names.join(", "));
    if line.len() <= 100 { line } else { format!("[\n    {},\n]", names.join(",\n    ")) }
}

impl Draft<'_> {
    fn graph_section(&self) -> String {
        let Saved { file, sha256, .. } = self.saved;
        let mut text = format!("[graph]\nfile   = {}\nsha256 = {}\n", quoted(file), quoted(sha256));
        if self.saved.kept_as_onnx.is_none() {
            let _ = writeln!(text, "writer = {}", quoted(&format!("tract {TRACT_VERSION}")));
        }
        if self.saved.sha256 != self.source_sha256 {
            let _ = writeln!(text, "source_sha256 = {}", quoted(self.source_sha256));
        }
        for PortSpec { name, data_type, shape } in self.model.inputs() {
            let _ = write!(
                text,
                "\n[[graph.input]]\nname  = {}\ntype  = {}\nshape = {shape:?}\n",
                quoted(name),
                quoted(data_type.as_str())
            );
        }
        for (inputs, Saved { file, sha256, .. }) in self.batches {
            let shapes: Vec<&Vec<usize>> = inputs.iter().map(|spec| &spec.shape).collect();
            let _ = write!(
                text,
                "\n[[graph.batch]]\nfile   = {}\nsha256 = {}\nshapes = {shapes:?}\n",
                quoted(file),
                quoted(sha256)
            );
        }
        text
    }

    /// The whole card; what must be looked at goes to `confirm` as well.
    fn card(&self, confirm: &mut Vec<String>) -> String {
        let metadata = |key: &str| self.page.metadata.iter().find(|(known, _)| known == key).map(|(_, v)| v);
        let version = metadata("version").map_or("1", String::as_str);
        let mut text = format!(
            "# Written by `lineside compile`. What a graph cannot say is guessed: each guess is marked CONFIRM.\n\
             # Look at each, correct it, then take `draft` away; until then `lineside check` warns.\n\
             schema  = \"lineside.card/1\"\n\
             draft   = true\n\
             name    = {}\n\
             version = {}\n\
             summary = {}   # CONFIRM: one sentence on what it decides\n\
             licence = \"unknown\"   # CONFIRM: of the weights, as SPDX\n\n{}",
            quoted(self.name),
            quoted(version),
            quoted(&format!("The model {}", self.name)),
            self.graph_section()
        );
        confirm.extend(["summary".to_owned(), "licence".to_owned()]);
        let states = states(self.model);
        let fed = |spec: &&PortSpec| !states.iter().any(|(input, _)| *input == spec.name);
        let input = self.model.inputs().iter().find(fed).or(self.model.inputs().first());
        let mut columns = Vec::new();
        if let Some(input) = input {
            let (features, why) = features(input);
            let _ = write!(text, "\n{features}");
            confirm.push(why);
            let named =
                |line: &str| line.strip_prefix("name = \"")?.split_once('"').map(|(name, _)| name.to_owned());
            columns = features.lines().filter_map(named).collect();
        }
        for (input, output) in &states {
            let _ = write!(
                text,
                "\n[[state]]   # CONFIRM: this output of one run is this input of the next\ninput  = {}\noutput = {}\n",
                quoted(input),
                quoted(output)
            );
            confirm.push(format!("state {input}"));
        }
        let _ = write!(text, "\n{}", self.output(&states, input, &columns, confirm));
        let _ =
            write!(text, "\n[golden]\ntolerance = {:e}\n{}\n", self.tolerance, verified_line(self.verified));
        text
    }

    fn output(
        &self,
        states: &[(String, String)],
        input: Option<&PortSpec>,
        columns: &[String],
        confirm: &mut Vec<String>,
    ) -> String {
        let outputs: Vec<&Port> = (self.model.outputs().iter())
            .filter(|port| !states.iter().any(|(_, output)| *output == port.name))
            .collect();
        let is_real =
            |port: &&&Port| matches!(port.data_type, Some(DataType::F32 | DataType::F64 | DataType::F16));
        let spoken = |port: &&&Port| {
            let name = port.name.to_lowercase();
            ["prob", "score", "softmax"].iter().any(|word| name.contains(word))
        };
        let reals = || outputs.iter().filter(is_real);
        let Some(port) = reals().find(spoken).or(reals().next()).or(outputs.first()) else {
            return "[output]\n".to_owned();
        };
        let shape = port.shape().unwrap_or_default();
        let count: usize = shape.iter().product();
        let labels = self.labels(count);
        let activation = match graph::maker(self.proto, &port.name) {
            Some("Softmax") => Some("none"),
            Some("Sigmoid") if labels.is_some() => Some("none"),
            _ if labels.is_none() => None,
            // Scores that add up to one by themselves, of trees and their like.
            _ if port.name.to_lowercase().contains("prob") => Some("none"),
            _ => Some("softmax"),
        };
        let tensor = quoted(&port.name);
        if count >= 2
            && let Some(activation) = activation
        {
            let known = labels.is_some();
            let labels = labels.unwrap_or_else(|| (0..count).map(|i| format!("class-{i}")).collect());
            let good = ["ok", "good", "pass", "passed", "normal", "fine", "healthy", "no defect"];
            let pass: Vec<String> = labels
                .iter()
                .filter(|label| good.contains(&label.to_lowercase().as_str()))
                .cloned()
                .collect();
            confirm.push(if known { "output.pass" } else { "output.labels and output.pass" }.to_owned());
            let mark = if known { "" } else { "   # CONFIRM: in the order of the scores (--labels FILE)" };
            return format!(
                "[output]\nkind       = \"classification\"\ntensor     = {tensor}\nactivation = \"{activation}\"   # \
                 CONFIRM: softmax where the model gives logits\nlabels     = {}{mark}\npass       = {}   # CONFIRM: \
                 the labels that are in order; none: no verdict\n",
                list(&labels),
                list(&pass)
            );
        }
        if input.is_some_and(|input| input.shape == shape && count >= RECONSTRUCTED) && !columns.is_empty() {
            confirm.push("output".to_owned());
            return format!(
                "[output]   # CONFIRM: a reconstruction, because it has the shape of the input\nkind = \
                 \"anomaly\"\ntensor = {tensor}\nby = \"error\"\nof = {}\nframes_ahead = 0\n",
                list(columns)
            );
        }
        confirm.push("output".to_owned());
        let targets: String = (0..count.clamp(1, MAX_COLUMNS))
            .map(|i| {
                format!(
                    "\n[[output.target]]\nname  = \"value-{i}\"   # CONFIRM: name, unit, scale and offset\n"
                )
            })
            .collect();
        format!(
            "[output]   # CONFIRM: quantities; for classes give --labels FILE, for a score of how unusual kind = \
             \"anomaly\"\nkind   = \"regression\"\ntensor = {tensor}\n{targets}"
        )
    }

    /// Class names: as ordered, as the exporter wrote them, as a classifier in the graph has them.
    fn labels(&self, count: usize) -> Option<Vec<String>> {
        let given = self.order.labels.clone();
        let names = self.page.metadata.iter().find(|(key, _)| key == "names").map(|(_, text)| names(text));
        given.or(names).or(graph::class_labels(self.proto)).filter(|labels| labels.len() == count)
    }
}

/// Class names in metadata: `{0: 'ok', 1: 'bad'}` as Python prints it, or JSON's list.
fn names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '"']) {
        let quote = &rest[at..=at];
        let Some(length) = rest[at + 1..].find(quote) else { break };
        let before: String = rest[..at].chars().filter(char::is_ascii_digit).collect();
        found.push((before.parse().unwrap_or(found.len()), rest[at + 1..at + 1 + length].to_owned()));
        rest = &rest[at + 2 + length..];
    }
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, name)| name).collect()
}

/// Inputs that look like the last run's outputs: the same shape and type, and names that differ by
/// what stands for in and out.
fn states(model: &Model) -> Vec<(String, String)> {
    let stem = |name: &str| {
        let mut name = name.to_lowercase();
        for word in ["output", "input", "initial", "out", "new", "next", "prev", "in"] {
            name = name.replace(word, "");
        }
        name.retain(|c| c.is_alphanumeric());
        name.trim_end_matches('n').to_owned()
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    for spec in model.inputs().iter().skip(1) {
        let fits = |port: &&Port| {
            port.concrete().is_some_and(|out| (out.data_type, &out.shape) == (spec.data_type, &spec.shape))
                && !pairs.iter().any(|(_, taken)| *taken == port.name)
        };
        let outputs = || model.outputs().iter().filter(fits);
        let found = outputs().find(|port| stem(&port.name) == stem(&spec.name)).or_else(|| outputs().next());
        if let Some(port) = found {
            pairs.push((spec.name.clone(), port.name.clone()));
        }
    }
    pairs
}

/// `[features]` for an input of this shape, and what is to be confirmed in it.
fn features(input: &PortSpec) -> (String, String) {
    let tensor = quoted(&input.name);
    let picture = |layout: &str, channels: usize, height: usize, width: usize| {
        let (colours, mark) = if channels == 3 {
            ("\"rgb\"", "rgb, or bgr as OpenCV reads")
        } else {
            ("\"grey\"", "one channel of luma")
        };
        let scale = if input.data_type == DataType::U8 { "1" } else { "0.00392156862745098" };
        let (zeros, ones) = (vec!["0.0"; channels].join(", "), vec!["1.0"; channels].join(", "));
        let text = format!(
            "# The model sees (byte × scale − mean) ÷ std. Take the numbers from the training code.\n\
             [features]\nkind     = \"image\"\ninput    = {tensor}\nwidth    = {width}\nheight   = {height}\n\
             channels = {colours}   # CONFIRM: {mark}\n\
             layout   = \"{layout}\"\n\
             fit      = \"stretch\"   # CONFIRM: or letterbox, centre_crop, exact\n\
             filter   = \"bilinear\"   # CONFIRM: Pillow's; bilinear_fast is OpenCV's\n\
             scale    = {scale}   # CONFIRM: 1/255 for 0 to 1, 1 for 0 to 255\n\
             mean     = [{zeros}]   # CONFIRM\n\
             std      = [{ones}]   # CONFIRM\n"
        );
        (text, "features: channels, fit, filter, scale, mean, std".to_owned())
    };
    let window = |layout: &str, channels: usize, samples: usize| {
        let mut text = format!(
            "[features]\nkind    = \"window\"\ninput   = {tensor}\nsamples = {samples}\nlayout  = \"{layout}\"   # CONFIRM: \
             order of batch, channel and time\n"
        );
        text.extend((0..channels).map(|i| channel("channel", i)));
        (text, "features: layout, and each channel's name, unit, mean and std".to_owned())
    };
    let count: usize = input.shape.iter().product();
    match *input.shape.as_slice() {
        [1, c @ (1 | 3), h, w] if h > 1 && w > 1 && h <= 16_384 && w <= 16_384 => picture("nchw", c, h, w),
        [1, h, w, c @ (1 | 3)] if h > 1 && w > 1 && h <= 16_384 && w <= 16_384 => picture("nhwc", c, h, w),
        // A window is longer than it has channels, mostly.
        [1, c, t] if c <= t && c <= MAX_COLUMNS => window("nct", c, t),
        [1, t, c] if c <= MAX_COLUMNS => window("ntc", c, t),
        [t, 1, c] if c <= MAX_COLUMNS => window("tnc", c, t),
        // Several rows are no row of a table.
        [t, c] if t > 1 && c <= MAX_COLUMNS => window("ntc", c, t),
        _ if count <= MAX_COLUMNS => {
            let mut text = format!("[features]\nkind  = \"table\"\ninput = {tensor}\n");
            text.extend((0..count.max(1)).map(|i| channel("column", i)));
            (text, "features: each column's name, unit, mean and std".to_owned())
        }
        [a, b, c] if a * b <= 16_384 && c <= 16_384 => picture("nchw", 1, a * b, c),
        _ => window("nct", 1, count),
    }
}

fn channel(key: &str, i: usize) -> String {
    format!(
        "\n[[features.{key}]]\nname = \"{key}-{i}\"   # CONFIRM: field in JSON, header in CSV; then unit, mean, std, impute\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_read_as_python_and_as_json_write_them() {
        assert_eq!(names("{0: 'ok', 2: 'pit', 1: \"crack's\"}"), ["ok", "crack's", "pit"]);
        assert_eq!(names("[\"ok\", \"bad\"]"), ["ok", "bad"]);
        assert_eq!(names("none"), Vec::<String>::new());
    }

    #[test]
    fn a_card_that_a_person_wrote_keeps_all_but_its_graph() {
        let card = "name = \"m\"  # mine\n[graph]\nfile = \"old\"\n[[graph.input]]\nname = \"x\"\n# mine as well\n[features]\n\
                    kind = \"table\"\n[golden]\nverified = \"self\"\n";
        let new = renewed(card, "[graph]\nfile = \"new\"\n", true);
        assert_eq!(
            new,
            "name = \"m\"  # mine\n[graph]\nfile = \"new\"\n\n# mine as well\n[features]\nkind = \"table\"\n[golden]\nverified  = \
             \"golden\"\n"
        );
        assert_eq!(renewed(&new, "[graph]\nfile = \"new\"\n", true), new, "a second time changes nothing");
    }

    #[test]
    fn an_inputs_shape_tells_a_picture_from_a_window_and_a_table() {
        let kind = |shape: &[usize]| {
            let spec = PortSpec { name: "x".into(), data_type: DataType::F32, shape: shape.to_vec() };
            let (text, _) = features(&spec);
            let word = text.split("kind").nth(1).and_then(|rest| rest.split('"').nth(1)).unwrap_or_default();
            let layout =
                text.split("layout").nth(1).and_then(|rest| rest.split('"').nth(1)).unwrap_or_default();
            format!("{word} {layout}")
        };
        assert_eq!(kind(&[1, 3, 64, 64]), "image nchw");
        assert_eq!(kind(&[1, 64, 64, 3]), "image nhwc");
        assert_eq!(kind(&[1, 8, 60]), "window nct");
        assert_eq!(kind(&[1, 60, 8]), "window ntc");
        assert_eq!(kind(&[1, 9]), "table ");
        assert_eq!(kind(&[9]), "table ");
        assert_eq!(kind(&[2, 3]), "window ntc");
    }
}
