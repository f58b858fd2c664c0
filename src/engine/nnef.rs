//! NNEF archives (`.nnef.tgz`, `.nnef.tar`): the decluttered form of a model.
//!
//! tract reads these as a typed graph, so there is nothing to infer: open lengths are symbols, and
//! giving an input a shape gives the symbols their values.

use std::collections::HashMap;
use std::path::Path;

use tract_core::internal::{DimLike, TVec, bail};
use tract_core::prelude::{Framework, TDim, TractResult, TypedFact, TypedModel};
use tract_nnef::deser::{ModelBuilder, ResolvedInvocation, Value};
use tract_nnef::internal::{
    DatLoader, GraphNnefLoader, GraphQuantLoader, Nnef, ResourceLoader, TypedModelLoader,
};
use tract_nnef::ops::{self, nnef::deser};
use tract_onnx::WithOnnx;

use super::error::{EngineError, ModelError, Step};
use super::port::{Dim, Port};
use super::{caught::caught, convert, untrusted};
use crate::config::card::PortSpec;

/// Whether these bytes are an archive (gzip, or a tar).
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b]) || bytes.get(257..262) == Some(b"ustar")
}

/// tract's reader and writer, with the operators of its ONNX reader.
pub(super) fn framework() -> Nnef {
    let mut framework = reader();
    framework.stdlib = tract_nnef::framework::stdlib();
    framework
}

/// Without the text of the standard's fragments, which only the writer looks at: reading it takes longer
/// than a small graph.
fn reader() -> Nnef {
    let mut framework = Nnef {
        stdlib: vec![],
        registries: vec![ops::tract_nnef(), ops::tract_core()],
        resource_loaders: vec![
            GraphNnefLoader.into_boxed(),
            DatLoader.into_boxed(),
            GraphQuantLoader.into_boxed(),
            TypedModelLoader::new(false).into_boxed(),
        ],
        allow_extended_identifier_syntax: true,
        extern_all_constants: false,
    };
    framework.enable_onnx();
    let name = "transpose".into();
    for primitive in framework.registries.iter_mut().filter_map(|known| known.primitives.get_mut(&name)) {
        primitive.to_tract = transpose;
    }
    framework
}

/// tract's own, which never ends with axes that are no permutation.
fn transpose(builder: &mut ModelBuilder<'_>, invocation: &ResolvedInvocation<'_>) -> TractResult<Value> {
    let axes: TVec<usize> = invocation.named_arg_as(builder, "axes")?;
    if !untrusted::graph::is_permutation(&axes) {
        bail!("the axes {axes:?} do not name each axis once");
    }
    deser::transpose(builder, invocation)
}

/// Whether files of `writer` (`tract 0.23.9`) are read: tract promises it within `0.N` for writers no
/// newer than itself.
pub(super) fn reads(writer: &str) -> bool {
    let parts = |version: &str| -> Option<[u32; 3]> {
        let parts: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        parts.try_into().ok()
    };
    match (writer.strip_prefix("tract ").and_then(parts), parts(super::TRACT_VERSION)) {
        (Some([major, minor, patch]), Some(ours)) => [major, minor] == ours[..2] && patch <= ours[2],
        _ => false,
    }
}

/// Reads the archive. `path` is for messages only.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<TypedModel, ModelError> {
    let not_a_model = |why| ModelError::NotAModel { path: path.to_owned(), why };
    let plain = untrusted::archive::look(bytes).map_err(not_a_model)?;
    let framework = reader();
    let engine = |source| ModelError::Engine { path: path.to_owned(), step: Step::Translate, source };
    caught(|| framework.model_for_read(&mut &*plain))
        .map_err(|panic| engine(EngineError::panicked(&panic)))?
        .map_err(|error| engine(EngineError::of(&error)))
}

/// The graph's inputs, in order.
pub(super) fn inputs(model: &TypedModel) -> TractResult<Vec<Port>> {
    let outlets = model.input_outlets()?.iter();
    outlets.map(|outlet| Ok(port(&model.node(outlet.node).name, model.outlet_fact(*outlet)?))).collect()
}

/// The graph's outputs, in order; by their labels where they have one.
pub(super) fn outputs(model: &TypedModel) -> TractResult<Vec<Port>> {
    let outlets = model.output_outlets()?.iter();
    outlets
        .map(|outlet| {
            let name = model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name);
            Ok(port(name, model.outlet_fact(*outlet)?))
        })
        .collect()
}

/// A typed fact as a port.
pub(super) fn port(name: &str, fact: &TypedFact) -> Port {
    let dims = fact.shape.iter().map(|dim| match dim.to_usize() {
        Ok(length) => Dim::Fixed(length),
        Err(_) => Dim::Symbol(dim.to_string()),
    });
    Port { name: name.to_owned(), data_type: convert::data_type(fact.datum_type), dims: Some(dims.collect()) }
}

/// The graph with every symbol of its inputs replaced by the length that `specs` give it.
/// `specs` fit the ports (see `port::concretise`).
pub(super) fn concretise(model: TypedModel, specs: &[PortSpec]) -> TractResult<TypedModel> {
    let mut values = HashMap::new();
    for (ix, spec) in specs.iter().enumerate() {
        for (dim, &length) in model.input_fact(ix)?.shape.iter().zip(&spec.shape) {
            if let TDim::Sym(symbol) = dim {
                values.insert(symbol.clone(), TDim::Val(i64::try_from(length)?));
            }
        }
    }
    if values.is_empty() { Ok(model) } else { model.set_symbols(&values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writers_of_the_same_series_and_no_newer_are_read() {
        assert!(reads(&format!("tract {}", crate::engine::TRACT_VERSION)) && reads("tract 0.23.0"));
        for writer in ["tract 0.23.99", "tract 0.22.9", "tract 1.23.0", "tract", "0.23.9", "tract 0.23"] {
            assert!(!reads(writer), "{writer}");
        }
    }

    #[test]
    fn a_transpose_that_is_none_ends_in_words() {
        let with = |axes: &str| {
            let graph = format!(
                "version 1.0;\ngraph g(x) -> (y) {{ x = external<scalar>(shape = [2, 3, 5]); \
                 y = transpose(x, axes = {axes}); }}\n"
            );
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(graph.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, "graph.nnef", graph.as_bytes()).unwrap();
            decode(Path::new("m.nnef.tar"), &archive.into_inner().unwrap())
        };
        assert!(with("[2, 0, 1]").is_ok() && with("[1, 0]").is_ok());
        for axes in ["[1, 1, 0]", "[3, 0, 1]", "[0, 0]"] {
            let error = with(axes).unwrap_err();
            let words = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let words: String = words.map(|error| error.to_string()).collect();
            assert!(words.contains("do not name each axis once"), "{words}");
        }
    }

    #[test]
    fn the_version_is_the_one_that_is_built_in() {
        let pinned = format!("tract-core = {{ version = \"={}\"", crate::engine::TRACT_VERSION);
        assert!(include_str!("../../Cargo.toml").contains(&pinned), "{pinned}");
    }
}
