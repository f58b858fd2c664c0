//! Tiny model folders whose right answers can be worked out in one's head.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::onnx::{Attribute, Graph};

/// A tensor of a golden case.
pub(crate) struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Shorthand for an [`Array`].
pub(crate) fn array(shape: &[usize], values: &[f32]) -> Array {
    Array { shape: shape.to_vec(), values: values.to_vec() }
}

/// A model folder in the making.
pub(crate) struct Model {
    /// Folder name.
    pub(crate) name: &'static str,
    /// The graph.
    pub(crate) graph: Graph,
    /// Card from `[features]` to the end of `[output]`.
    pub(crate) meaning: String,
    /// One golden case: inputs, then outputs.
    pub(crate) golden: (Vec<Array>, Vec<Array>),
}

impl Model {
    /// The card's text.
    pub(crate) fn card(&self) -> String {
        let mut card = format!(
            "schema = \"lineside.card/1\"\nname = \"{}\"\nversion = \"1.2.3\"\nsummary = \"A test's own model\"\n\
             licence = \"CC0-1.0\"\n\n[graph]\nfile = \"model.onnx\"\nsha256 = \"{:x}\"\n",
            self.name,
            Sha256::digest(self.graph.encode()),
        );
        for port in self.graph.inputs() {
            write!(
                card,
                "[[graph.input]]\nname = \"{}\"\ntype = \"f32\"\nshape = {:?}\n",
                port.name, port.shape
            )
            .expect("text takes text");
        }
        write!(card, "\n{}\n\n[golden]\ntolerance = 1e-4\n", self.meaning).expect("text takes text");
        card
    }

    /// Writes the folder below `models`; returns it.
    pub(crate) fn write(&self, models: &Path) -> PathBuf {
        let folder = models.join(self.name);
        let case = folder.join("golden/one");
        fs::create_dir_all(&case).expect("the temporary folder is writable");
        fs::write(folder.join("model.onnx"), self.graph.encode()).expect("the temporary folder is writable");
        fs::write(folder.join("model.toml"), self.card()).expect("the temporary folder is writable");
        for (kind, arrays) in [("input", &self.golden.0), ("output", &self.golden.1)] {
            for (index, array) in arrays.iter().enumerate() {
                fs::write(case.join(format!("{kind}-{index}.npy")), npy(array))
                    .expect("the temporary folder is writable");
            }
        }
        folder
    }
}

/// NumPy's format 1.0, little-endian floats.
fn npy(array: &Array) -> Vec<u8> {
    let lengths: String = array.shape.iter().map(|length| format!("{length},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({lengths}), }}");
    // The whole prefix is a multiple of 64 long and ends in a line break.
    header.extend(std::iter::repeat_n(' ', 63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(array.values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

const TABLE_OF_ABC: &str = r#"[features]
kind = "table"
input = "X"
[[features.column]]
name = "a"
unit = "kg"
[[features.column]]
name = "b"
unit = "kg"
[[features.column]]
name = "c"
unit = "kg"
"#;

/// `y = 2a + 3b − c + 0.5`, in kg; a missing `c` counts as 4.
pub(crate) fn weigh() -> Model {
    Model {
        name: "weigh",
        graph: Graph::default()
            .input("X", &[1, 3])
            .output("y", &[1, 1])
            .floats("W", &[3, 1], &[2.0, 3.0, -1.0])
            .floats("B", &[1], &[0.5])
            .node("MatMul", &["X", "W"], "xw", &[])
            .node("Add", &["xw", "B"], "y", &[]),
        meaning: format!(
            "{TABLE_OF_ABC}impute = 4.0\n\n[output]\nkind = \"regression\"\ntensor = \"y\"\nrange = [0.0, 100.0]\n\
             [[output.target]]\nname = \"y\"\nunit = \"kg\"\n"
        ),
        golden: (vec![array(&[1, 3], &[1.0, 2.0, 3.0])], vec![array(&[1, 1], &[5.5])]),
    }
}

/// What [`weigh`] must answer.
pub(crate) fn weighed(a: f64, b: f64, c: f64) -> f64 {
    2.0 * a + 3.0 * b - c + 0.5
}

fn brightness(name: &'static str, channels: &str, count: usize, fit: &str) -> Model {
    let weights: Vec<f32> = [-1.0, 1.0].iter().flat_map(|sign| vec![sign / count as f32; count]).collect();
    let shape = [1, count, 4, 4];
    Model {
        name,
        graph: Graph::default()
            .input("picture", &shape)
            .output("scores", &[1, 2])
            .floats("W", &[2, count], &weights)
            .floats("B", &[2], &[1.0, 0.0])
            .node("GlobalAveragePool", &["picture"], "pooled", &[])
            .node("Flatten", &["pooled"], "flat", &[("axis", Attribute::Int(1))])
            .node("Gemm", &["flat", "W", "B"], "scores", &[("transB", Attribute::Int(1))]),
        meaning: format!(
            "[features]\nkind = \"image\"\ninput = \"picture\"\nwidth = 4\nheight = 4\n\
             channels = \"{channels}\"\nfit = \"{fit}\"\nfilter = \"bilinear\"\nlayout = \"nchw\"\n\n\
             [output]\nkind = \"classification\"\ntensor = \"scores\"\nactivation = \"none\"\n\
             labels = [\"dark\", \"bright\"]\npass = [\"bright\"]\n"
        ),
        golden: (vec![array(&shape, &vec![0.25; 16 * count])], vec![array(&[1, 2], &[0.75, 0.25])]),
    }
}

/// A colour picture of any size: score of `bright` is its mean ÷ 255, of `dark` the rest. `bright` passes.
pub(crate) fn bright() -> Model {
    brightness("bright", "rgb", 3, "stretch")
}

/// The same for grey pictures of exactly 4 × 4.
pub(crate) fn bright_grey() -> Model {
    brightness("bright-grey", "grey", 1, "exact")
}

/// Means of two channels over five samples.
pub(crate) fn means() -> Model {
    Model {
        name: "means",
        graph: Graph::default().input("window", &[1, 2, 5]).output("means", &[1, 2]).node(
            "ReduceMean",
            &["window"],
            "means",
            &[("axes", Attribute::Ints(vec![2])), ("keepdims", Attribute::Int(0))],
        ),
        meaning: "[features]\nkind = \"window\"\ninput = \"window\"\nsamples = 5\nlayout = \"nct\"\ngap = \"ignore\"\n\
                  [[features.channel]]\nname = \"u\"\nunit = \"V\"\n[[features.channel]]\nname = \"i\"\nunit = \"A\"\n\n\
                  [output]\nkind = \"regression\"\ntensor = \"means\"\n\
                  [[output.target]]\nname = \"u_mean\"\nunit = \"V\"\n[[output.target]]\nname = \"i_mean\"\nunit = \"A\"\n"
            .into(),
        golden: (
            vec![array(&[1, 2, 5], &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 10.0, 10.0, 10.0, 20.0])],
            vec![array(&[1, 2], &[3.0, 12.0])],
        ),
    }
}

fn one_column(output: &str) -> String {
    format!(
        "[features]\nkind = \"table\"\ninput = \"X\"\n[[features.column]]\nname = \"x\"\nunit = \"1\"\n\n{output}"
    )
}

/// The sum of everything that one source has sent, carried as a state.
pub(crate) fn total() -> Model {
    let regression = "[[state]]\ninput = \"before\"\noutput = \"after\"\n\n[output]\nkind = \"regression\"\n\
                      tensor = \"total\"\n[[output.target]]\nname = \"total\"\nunit = \"1\"\n";
    Model {
        name: "total",
        graph: Graph::default()
            .input("X", &[1, 1])
            .input("before", &[1, 1])
            .output("total", &[1, 1])
            .output("after", &[1, 1])
            .floats("zero", &[1], &[0.0])
            .node("Add", &["X", "before"], "after", &[])
            .node("Add", &["after", "zero"], "total", &[]),
        meaning: one_column(regression),
        golden: (
            vec![array(&[1, 1], &[2.0]), array(&[1, 1], &[5.0])],
            vec![array(&[1, 1], &[7.0]), array(&[1, 1], &[7.0])],
        ),
    }
}

const QUARTERS: &str = "[output]\nkind = \"classification\"\ntensor = \"scores\"\nactivation = \"none\"\n\
                        labels = [\"q0\", \"q1\", \"q2\", \"q3\"]\npass = [\"q0\", \"q1\", \"q2\"]\n";

/// One label for each of x = 0, 1, 2, 3. Any other x divides whole numbers by 0: the engine returns an
/// error or panics.
pub(crate) fn brittle() -> Model {
    Model {
        name: "brittle",
        graph: Graph::default()
            .input("X", &[1, 1])
            .output("scores", &[1, 4])
            .integers("depth", &[], &[4])
            .floats("values", &[2], &[0.0, 1.0])
            .floats("middle", &[1], &[1.5])
            .floats("reach", &[1], &[2.0])
            .node("Sub", &["X", "middle"], "off", &[])
            .node("Abs", &["off"], "distance", &[])
            .node("Less", &["distance", "reach"], "known", &[])
            .node("Cast", &["known"], "one", &[("to", Attribute::Int(7))])
            .node("Cast", &["X"], "number", &[("to", Attribute::Int(7))])
            .node("Div", &["number", "one"], "index", &[])
            .node("OneHot", &["index", "depth", "values"], "hot", &[])
            .node("Flatten", &["hot"], "scores", &[("axis", Attribute::Int(1))]),
        meaning: one_column(QUARTERS),
        golden: (vec![array(&[1, 1], &[2.0])], vec![array(&[1, 4], &[0.0, 0.0, 1.0, 0.0])]),
    }
}

/// The same by table look-up: for any other x the engine returns an error or panics.
pub(crate) fn lookup() -> Model {
    let rows: Vec<f32> = (0..16).map(|i| if i % 5 == 0 { 1.0 } else { 0.0 }).collect();
    Model {
        name: "lookup",
        graph: Graph::default()
            .input("X", &[1, 1])
            .output("scores", &[1, 4])
            .floats("rows", &[4, 4], &rows)
            .node("Cast", &["X"], "index", &[("to", Attribute::Int(7))])
            .node("Gather", &["rows", "index"], "row", &[("axis", Attribute::Int(0))])
            .node("Flatten", &["row"], "scores", &[("axis", Attribute::Int(1))]),
        meaning: one_column(QUARTERS),
        golden: (vec![array(&[1, 1], &[1.0])], vec![array(&[1, 4], &[0.0, 1.0, 0.0, 0.0])]),
    }
}

/// `y = x`, after `products` multiplications of 1024 × 1024 matrices: 20 to 100 ms each on one core. It
/// is there to be late. Powers of two keep every sum exact. No answer to 0, which it divides by.
pub(crate) fn slow(products: usize) -> Model {
    const SIDE: usize = 1024;
    let regression =
        "[output]\nkind = \"regression\"\ntensor = \"y\"\n[[output.target]]\nname = \"y\"\nunit = \"1\"\n";
    let mut graph = Graph::default()
        .input("X", &[1, 1])
        .output("y", &[1, 1])
        .integers("shape", &[2], &[SIDE as i64, SIDE as i64])
        // M = x ÷ side everywhere and x ÷ x·M = M: each product gives x² ÷ side, the division takes x off.
        .floats("side", &[1], &[SIDE as f32])
        .node("Expand", &["X", "shape"], "wide", &[])
        .node("Div", &["wide", "side"], "m0", &[]);
    for i in 0..products {
        let (m, square, next) = (format!("m{i}"), format!("s{i}"), format!("m{}", i + 1));
        graph = graph.node("MatMul", &[&m, "m0"], &square, &[]).node("Div", &[&square, "X"], &next, &[]);
    }
    let last = format!("m{products}");
    let graph = graph
        .node(
            "ReduceMean",
            &[&last],
            "mean",
            &[("axes", Attribute::Ints(vec![0, 1])), ("keepdims", Attribute::Int(1))],
        )
        .node("Mul", &["mean", "side"], "y", &[]);
    Model {
        name: "slow",
        graph,
        meaning: one_column(regression),
        golden: (vec![array(&[1, 1], &[2.0])], vec![array(&[1, 1], &[2.0])]),
    }
}
