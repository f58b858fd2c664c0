//! What a graph says about its inputs and outputs, and making that concrete.
//!
//! A [`Port`] is as exported: axes may have a symbol or nothing instead of a length. A
//! [`PortSpec`] has every length. Not here: what fills a port (`stage::infer`).

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::ModelError;
use crate::base::DataType;
use crate::config::card::PortSpec;

/// Bytes that one input may take. A shape beyond this is a slip, not a frame.
const MAX_INPUT_BYTES: usize = 1 << 30;

/// An input or output as the graph declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name in the graph.
    pub name: String,
    /// Element type; `None` where the graph does not say, or says one that we do not carry
    /// (sequences, maps, bfloat16).
    pub data_type: Option<DataType>,
    /// Length of each axis; `None` where not even their number is known.
    pub dims: Option<Vec<Dim>>,
}

/// Length of one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Named but open, such as `batch`; equal names have equal lengths.
    Symbol(String),
    /// Open, without a name.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for Port {
    /// `images f32 [N, 3, 416, 416]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.type_name(), self.shape_text())
    }
}

impl Port {
    /// Element type in words; `?` when open.
    pub fn type_name(&self) -> &'static str {
        self.data_type.map_or("?", DataType::as_str)
    }

    /// The shape in words: `[N, 3, 416, 416]`, `[…]` when not even the number of axes is known.
    pub fn shape_text(&self) -> String {
        match &self.dims {
            Some(dims) => format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")),
            None => "[…]".to_owned(),
        }
    }

    /// A shape to give, as an example: what is known, and 1 for what is open; `1,…` when not even the number of axes is known.
    pub fn example(&self) -> String {
        let length = |dim: &Dim| match dim {
            Dim::Fixed(length) if *length > 0 => length.to_string(),
            _ => "1".to_owned(),
        };
        match &self.dims {
            Some(dims) => dims.iter().map(length).collect::<Vec<_>>().join(","),
            None => "1,…".to_owned(),
        }
    }

    /// The whole shape, when every length is known.
    pub fn shape(&self) -> Option<Vec<usize>> {
        let known = |dim: &Dim| match dim {
            Dim::Fixed(length) => Some(*length),
            Dim::Symbol(_) | Dim::Unknown => None,
        };
        self.dims.as_ref()?.iter().map(known).collect()
    }

    /// The port as a spec, when type and every length are known.
    pub fn concrete(&self) -> Option<PortSpec> {
        Some(PortSpec { name: self.name.clone(), data_type: self.data_type?, shape: self.shape()? })
    }
}

/// The graph's inputs with what was given for them, in the graph's order.
///
/// A given port must fit what the graph declares: same type, same number of axes, same fixed
/// lengths, one length for each symbol. Inputs that nothing was given for must be concrete already.
pub(super) fn concretise(
    path: &Path,
    ports: &[Port],
    given: &[PortSpec],
) -> Result<Vec<PortSpec>, ModelError> {
    let mut mismatches = Vec::new();
    for (i, spec) in given.iter().enumerate() {
        if !ports.iter().any(|port| port.name == spec.name) {
            let names = ports.iter().map(|port| format!("{:?}", port.name)).collect::<Vec<_>>();
            mismatches.push(format!(
                "there is no input {:?}; the graph's inputs are {}",
                spec.name,
                names.join(", ")
            ));
        }
        if given[..i].iter().any(|earlier| earlier.name == spec.name) {
            mismatches.push(format!("input {:?} is given twice", spec.name));
        }
    }

    let mut symbols: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut open = Vec::new();
    let mut specs = Vec::new();
    for port in ports {
        let Some(spec) =
            given.iter().find(|spec| spec.name == port.name).cloned().or_else(|| port.concrete())
        else {
            open.push(format!("input {:?} is {} {}", port.name, port.type_name(), port.shape_text()));
            continue;
        };
        mismatches.extend(contradiction(port, &spec));
        for (dim, &length) in port.dims.iter().flatten().zip(&spec.shape) {
            let Dim::Symbol(symbol) = dim else { continue };
            let &mut (known, by) = symbols.entry(symbol).or_insert((length, &port.name));
            if known != length {
                mismatches.push(format!(
                    "axis {symbol} is {known} in input {by:?} and {length} in input {:?}; it must be one length",
                    port.name
                ));
            }
        }
        specs.push(spec);
    }
    match (mismatches.is_empty(), open.is_empty()) {
        (false, _) => Err(ModelError::Inputs { path: path.to_owned(), mismatches }),
        (true, false) => Err(ModelError::OpenShape { path: path.to_owned(), open }),
        (true, true) => Ok(specs),
    }
}

/// What is wrong with `spec` for this port, in words.
pub(super) fn contradiction(port: &Port, spec: &PortSpec) -> Option<String> {
    let name = &port.name;
    if let Some(expected) = port.data_type.filter(|expected| *expected != spec.data_type) {
        return Some(format!("input {name:?} is given as {}, the graph wants {expected}", spec.data_type));
    }
    let fits = match &port.dims {
        None => true,
        Some(dims) => {
            dims.len() == spec.shape.len()
                && dims.iter().zip(&spec.shape).all(|(dim, length)| match dim {
                    Dim::Fixed(expected) => expected == length,
                    Dim::Symbol(_) | Dim::Unknown => true,
                })
        }
    };
    if !fits {
        return Some(format!(
            "input {name:?} is given with shape {:?}, the graph wants {}",
            spec.shape,
            port.shape_text()
        ));
    }
    // 8 is the widest element.
    let bytes = spec.shape.iter().try_fold(8_usize, |bytes, length| bytes.checked_mul(*length));
    if bytes.is_none_or(|bytes| bytes > MAX_INPUT_BYTES) {
        return Some(format!(
            "input {name:?} with shape {:?} is larger than {MAX_INPUT_BYTES} bytes",
            spec.shape
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, dims: Vec<Dim>) -> Port {
        Port { name: name.into(), data_type: Some(DataType::F32), dims: Some(dims) }
    }

    fn spec(name: &str, shape: &[usize]) -> PortSpec {
        PortSpec { name: name.into(), data_type: DataType::F32, shape: shape.to_vec() }
    }

    fn refused(ports: &[Port], given: &[PortSpec]) -> String {
        concretise(Path::new("m.onnx"), ports, given).unwrap_err().to_string()
    }

    #[test]
    fn a_symbol_takes_the_given_length_and_a_fixed_axis_does_not() {
        let ports = [port("x", vec![Dim::Symbol("N".into()), Dim::Fixed(3)])];
        let specs = concretise(Path::new("m.onnx"), &ports, &[spec("x", &[5, 3])]).unwrap();
        assert_eq!(specs, [spec("x", &[5, 3])]);
        let message = refused(&ports, &[spec("x", &[5, 4])]);
        assert!(message.contains("[5, 4]") && message.contains("[N, 3]"), "{message}");
    }

    #[test]
    fn an_open_axis_is_named_with_its_input() {
        let message = refused(&[port("x", vec![Dim::Symbol("N".into()), Dim::Unknown])], &[]);
        assert!(message.contains("\"x\" is f32 [N, ?]"), "{message}");
    }

    #[test]
    fn one_symbol_has_one_length() {
        let n = || Dim::Symbol("N".into());
        let message = refused(
            &[port("a", vec![n()]), port("b", vec![n()])],
            &[spec("a", &[2]), spec("b", &[3]), spec("c", &[1])],
        );
        assert!(message.contains("axis N is 2 in input \"a\" and 3 in input \"b\""), "{message}");
        assert!(message.contains("no input \"c\""), "{message}");
    }

    #[test]
    fn an_absurd_shape_is_refused_before_anything_is_allocated() {
        let ports = [port("x", vec![Dim::Unknown, Dim::Unknown])];
        assert!(refused(&ports, &[spec("x", &[usize::MAX, 2])]).contains("larger than"));
    }
}
