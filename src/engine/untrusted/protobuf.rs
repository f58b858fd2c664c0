//! An ONNX file's bytes, walked without allocating: lengths, nesting, counts, text.
//!
//! A decoder makes a structure of some hundred bytes of a message that takes two, and eight bytes of
//! a number that takes one. So they are counted first. Field numbers: onnx.proto3.

/// Nodes, attributes, tensors and their like. The largest exports have some ten thousand.
const MAX_MESSAGES: u64 = 500_000;
/// Names and strings.
const MAX_STRINGS: u64 = 4_000_000;
/// Numbers outside of raw data.
const MAX_NUMBERS: u64 = 1 << 27;
/// Graphs inside graphs (If, Loop, Scan); real ones have two or three.
pub(in crate::engine) const MAX_DEPTH: usize = 16;

/// Messages whose fields matter here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Value,
    Training,
    Function,
    /// Small ones without anything nested that could grow.
    Leaf,
}

/// What stands in a field that has a length.
enum Content {
    Message(Message, &'static str),
    Text,
    Numbers,
    Bytes,
}

fn content(message: Message, field: u64) -> Content {
    use Content::{Bytes, Numbers, Text};
    use Message::{Attribute, Function, Graph, Leaf, Model, Node, SparseTensor, Tensor, Training, Value};
    match (message, field) {
        (Model, 7) => Content::Message(Graph, "graph"),
        (Model, 8 | 14) | (Graph, 14 | 16) | (Node, 9) => Content::Message(Leaf, "entry"),
        (Model, 20) => Content::Message(Training, "training_info"),
        (Model, 25) => Content::Message(Function, "function"),
        (Training, 1 | 2) => Content::Message(Graph, "graph"),
        (Function, 7) => Content::Message(Node, "node"),
        (Function, 11) => Content::Message(Attribute, "attribute"),
        (Graph, 1) => Content::Message(Node, "node"),
        (Graph, 5) => Content::Message(Tensor, "initializer"),
        (Graph, 15) => Content::Message(SparseTensor, "sparse_initializer"),
        (Graph, 11) | (Function, 12) => Content::Message(Value, "input"),
        (Graph, 12) => Content::Message(Value, "output"),
        (Graph, 13) => Content::Message(Value, "value_info"),
        (Node, 5) => Content::Message(Attribute, "attribute"),
        (Attribute, 5 | 10) => Content::Message(Tensor, "tensor"),
        (Attribute, 6 | 11) => Content::Message(Graph, "graph"),
        (Attribute, 22 | 23) => Content::Message(SparseTensor, "sparse_tensor"),
        (SparseTensor, 1 | 2) => Content::Message(Tensor, "tensor"),
        (Tensor, 13) => Content::Message(Leaf, "external_data"),
        (Attribute, 7 | 8) | (Tensor, 1 | 4 | 5 | 7 | 10 | 11) => Numbers,
        (Model, 2..=4 | 6)
        | (Graph, 2 | 10)
        | (Node, 1..=4 | 6 | 7 | 8)
        | (Attribute, 1 | 13 | 21)
        | (Tensor, 8 | 12)
        | (Value, 1 | 3)
        | (Function, 1 | 4 | 5 | 6 | 8 | 10) => Text,
        // Strings of attributes and tensors are bytes by the standard.
        _ => Bytes,
    }
}

/// Refuses what is no whole file, or would not fit once decoded.
pub(in crate::engine) fn look(bytes: &[u8]) -> Result<(), String> {
    let mut walk = Walk { bytes, messages: 0, strings: 0, numbers: 0, place: Vec::new() };
    walk.message(Message::Model, 0, bytes.len(), 0)
}

struct Walk<'b> {
    bytes: &'b [u8],
    messages: u64,
    strings: u64,
    numbers: u64,
    /// Where we are, for messages: field and the byte that it begins at.
    place: Vec<(&'static str, usize)>,
}

impl Walk<'_> {
    fn wrong(&self, at: usize, what: &str) -> String {
        let path: Vec<&str> = self.place.iter().map(|(name, _)| *name).collect();
        let inside = if path.is_empty() { "the model".to_owned() } else { path.join(".") };
        format!("at byte {at}, in {inside}: {what}")
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, String> {
        let begin = *at;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes[..end].get(*at).ok_or_else(|| self.wrong(begin, "the file breaks off"))?;
            *at += 1;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.wrong(begin, "a number without an end"))
    }

    fn message(&mut self, message: Message, begin: usize, end: usize, depth: usize) -> Result<(), String> {
        let mut at = begin;
        while at < end {
            let field_at = at;
            let tag = self.varint(&mut at, end)?;
            let (field, wire) = (tag >> 3, tag & 7);
            if field == 0 {
                return Err(self.wrong(field_at, "a field without a number; this is no ONNX"));
            }
            let length = match wire {
                0 => {
                    self.varint(&mut at, end)?;
                    self.count_number(field_at, 1)?;
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => {
                    let length = self.varint(&mut at, end)?;
                    usize::try_from(length).unwrap_or(usize::MAX)
                }
                _ => return Err(self.wrong(field_at, "a field of an unknown kind; this is no ONNX")),
            };
            let stop = at.checked_add(length).filter(|stop| *stop <= end).ok_or_else(|| {
                self.wrong(
                    field_at,
                    &format!("{length} bytes are announced and {} are left: the file breaks off", end - at),
                )
            })?;
            match if wire == 2 { content(message, field) } else { Content::Bytes } {
                Content::Message(inner, name) => {
                    self.messages += 1;
                    if self.messages > MAX_MESSAGES {
                        return Err(self.wrong(
                            field_at,
                            &format!("more than {MAX_MESSAGES} nodes, tensors and entries"),
                        ));
                    }
                    let deeper = depth + usize::from(inner == Message::Graph);
                    if deeper > MAX_DEPTH {
                        return Err(self.wrong(field_at, &format!("graphs nest deeper than {MAX_DEPTH}")));
                    }
                    self.place.push((name, field_at));
                    self.message(inner, at, stop, deeper)?;
                    self.place.pop();
                }
                Content::Text => {
                    self.count_string(field_at)?;
                    if std::str::from_utf8(&self.bytes[at..stop]).is_err() {
                        return Err(self.wrong(field_at, "a name that is not UTF-8 text"));
                    }
                }
                Content::Numbers => self.count_number(field_at, length as u64)?,
                Content::Bytes => self.count_string(field_at)?,
            }
            at = stop;
        }
        Ok(())
    }

    fn count_string(&mut self, at: usize) -> Result<(), String> {
        self.strings += 1;
        if self.strings > MAX_STRINGS {
            return Err(self.wrong(at, &format!("more than {MAX_STRINGS} strings")));
        }
        Ok(())
    }

    fn count_number(&mut self, at: usize, numbers: u64) -> Result<(), String> {
        self.numbers += numbers;
        if self.numbers > MAX_NUMBERS {
            return Err(self.wrong(at, &format!("more than {MAX_NUMBERS} numbers outside of raw data")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sample;

    fn field(number: u64, content: &[u8]) -> Vec<u8> {
        let varint = |mut value: u64| {
            let mut bytes = Vec::new();
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
            bytes
        };
        [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
    }

    #[test]
    fn a_whole_file_passes_and_each_of_its_beginnings_is_told_from_it() {
        let whole = sample::relu_layer().bytes();
        look(&whole).unwrap();
        let broken = (1..whole.len()).filter(|end| look(&whole[..*end]).is_err()).count();
        // Between two fields of the model itself a cut leaves a shorter, whole message.
        assert!(broken >= whole.len() - 8, "{broken} of {}", whole.len());
        let told = look(&whole[..whole.len() / 2]).unwrap_err();
        assert!(told.contains("breaks off") && told.contains("at byte"), "{told}");
    }

    #[test]
    fn graphs_nested_without_end_are_refused_without_recursing_into_them() {
        let mut graph = Vec::new();
        for _ in 0..2000 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        let told = look(&field(7, &graph)).unwrap_err();
        assert!(told.contains("nest deeper than 16"), "{told}");
    }

    #[test]
    fn a_million_empty_nodes_are_refused_before_they_are_made() {
        let graph: Vec<u8> = std::iter::repeat_n([0x0a, 0x00], 1_000_000).flatten().collect();
        let told = look(&field(7, &graph)).unwrap_err();
        assert!(told.contains("more than 500000 nodes"), "{told}");
    }

    #[test]
    fn a_length_beyond_the_file_is_told_with_its_place() {
        let told = look(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x0a]).unwrap_err();
        assert!(told.contains("announced and 1 are left"), "{told}");
        let told =
            look(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).unwrap_err();
        assert!(told.contains("without an end"), "{told}");
    }

    #[test]
    fn a_name_that_is_no_text_is_told() {
        let node = field(3, &[0xff, 0xfe]);
        let told = look(&field(7, &field(1, &node))).unwrap_err();
        assert!(told.contains("graph.node: a name that is not UTF-8"), "{told}");
    }
}
