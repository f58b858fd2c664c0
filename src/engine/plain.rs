//! What ONNX lets a file write in several ways, written in the one that the engine reads.
//!
//! | as written | as read |
//! |---|---|
//! | `""` behind the last input or output that is there | left away |
//! | `""` for an output before one that is wanted | a name that nothing reads |
//! | `u32`, `u64` in a tensor's `uint64_data` | its bytes, in `raw_data` |
//!
//! Promise: the graph means the same. Not here: functions (`functions`), what is refused (`refused`).

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::dense;

/// Operators whose first outputs tract counts by their names; recurrent ones it takes by their places.
const COUNTED: &[&str] = &["Dropout", "DynamicQuantizeLinear", "MaxPool", "Split", "TopK", "Unique"];

/// Rewrites `graph` and every graph inside its nodes.
pub(super) fn write(graph: &mut GraphProto) {
    graph.initializer.iter_mut().for_each(in_bytes);
    for (at, node) in graph.node.iter_mut().enumerate() {
        names(node, at);
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(in_bytes);
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(write);
        }
    }
}

fn names(node: &mut NodeProto, at: usize) {
    let behind =
        |names: &[String]| names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    node.input.truncate(behind(&node.input));
    node.output.truncate(behind(&node.output));
    if !COUNTED.contains(&node.op_type.as_str()) {
        return;
    }
    // A slash and a number that no exporter writes in front of everything.
    for (output, name) in node.output.iter_mut().enumerate().filter(|(_, name)| name.is_empty()) {
        *name = format!("/unread/{at}/{output}");
    }
}

fn in_bytes(tensor: &mut TensorProto) {
    let unsigned = matches!(OnnxType::try_from(tensor.data_type), Ok(OnnxType::Uint32 | OnnxType::Uint64));
    if !unsigned || tensor.uint64_data.is_empty() || !tensor.raw_data.is_empty() {
        return;
    }
    // Of a number beyond its type the low half, which is what protobuf's readers take.
    if let Some((_, bytes)) = dense::bytes(tensor) {
        tensor.raw_data = bytes;
        tensor.uint64_data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Data, DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    #[test]
    fn an_output_that_is_left_out_is_no_output() {
        let sample = Sample::default().input("x", DataType::F32, &[3]).integers("k", &[1]);
        let sample = sample.node("TopK", &["x", "k"], &["", "y"], &[Attribute::Int("axis", 0)]).output("y");
        let x = Tensor::f32(&[3], vec![1.0, 9.0, 4.0]);
        assert_eq!(
            sample.model().session().run(&[&x]).unwrap(),
            [Tensor { shape: vec![1], data: Data::I64(vec![1]) }]
        );
        let sample = Sample::default().input("x", DataType::F32, &[3]);
        let sample = sample.node("Dropout", &["x", "", ""], &["y", ""], &[]).output("y");
        assert_eq!(sample.model().session().run(&[&x]).unwrap(), [x]);
    }

    #[test]
    fn unsigned_numbers_are_read_wherever_they_stand() {
        for (data_type, bytes) in [(OnnxType::Uint32, 8), (OnnxType::Uint64, 16)] {
            let mut tensor = TensorProto {
                dims: vec![2],
                data_type: data_type as i32,
                uint64_data: vec![4_000_000_000, 7],
                ..TensorProto::default()
            };
            in_bytes(&mut tensor);
            assert_eq!((tensor.raw_data.len(), tensor.uint64_data.len()), (bytes, 0));
            assert_eq!(tensor.raw_data[..4], 4_000_000_000_u32.to_le_bytes());
        }
    }
}
