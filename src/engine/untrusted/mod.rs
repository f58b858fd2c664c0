//! Bytes from anywhere, looked at before anything that trusts them.
//!
//! Promise: whatever a file claims, what is decoded stays within a small multiple of its own size and
//! nothing outside of it is opened. Each refusal says what was found and where.
//! Not here: operators that the engine lacks (`onnx`), answers that would be wrong (`refused`), what
//! operators make of little (`operators::watched`).
//!
//! | file | looks at |
//! |---|---|
//! | `protobuf` | an ONNX file's bytes, before they are decoded |
//! | `graph` | the decoded graph: names, circles, tensors that are not what they claim |
//! | `archive` | an NNEF archive: gzip, tar, each tensor's header, the text's nesting |

pub(super) mod archive;
#[cfg(test)]
mod fuzz;
pub(super) mod graph;
pub(super) mod protobuf;
