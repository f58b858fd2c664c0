//! `ai.onnx.ml`: what scikit-learn, LightGBM and XGBoost exporters write.
//!
//! Built from the operators' text in the standard (ai.onnx.ml 1 to 5); where it is silent, from what
//! onnxruntime 1.32 does. Each file says which. tract's own versions of five of them are replaced:
//! they differ from both. A new operator is one file beside these and one line in [`OPERATORS`].

mod array_feature_extractor;
mod attributes;
mod binarizer;
mod feature_vectorizer;
mod imputer;
mod kernel;
mod linear;
mod mapping;
mod maps;
mod normalizer;
mod one_hot_encoder;
mod post_transform;
mod scaler;
mod svm;
mod tree;

use std::sync::Arc;

use tract_core::internal::{TractResult, format_err};
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::InferenceOp;

use attributes::Attributes;
pub(in crate::engine) use kernel::weights_bytes;
use kernel::{Kernel, Node};

/// The domain that all of them belong to.
pub(in crate::engine) const DOMAIN: &str = "ai.onnx.ml";

type Build = fn(&Attributes<'_>) -> TractResult<Arc<dyn Kernel>>;

const OPERATORS: &[(&str, Build)] = &[
    ("ArrayFeatureExtractor", array_feature_extractor::build),
    ("Binarizer", binarizer::build),
    ("CategoryMapper", mapping::category_mapper),
    ("DictVectorizer", maps::dict_vectorizer),
    ("FeatureVectorizer", feature_vectorizer::build),
    ("Imputer", imputer::build),
    ("LabelEncoder", mapping::label_encoder),
    ("LinearClassifier", linear::classifier),
    ("LinearRegressor", linear::regressor),
    ("Normalizer", normalizer::build),
    ("OneHotEncoder", one_hot_encoder::build),
    ("SVMClassifier", svm::classifier),
    ("SVMRegressor", svm::regressor),
    ("Scaler", scaler::build),
    ("TreeEnsemble", tree::ensemble),
    ("TreeEnsembleClassifier", tree::classifier),
    ("TreeEnsembleRegressor", tree::regressor),
    ("ZipMap", maps::zip_map),
];

/// Whether the domain has this operator, as far as we know it.
pub(in crate::engine) fn has(operator: &str) -> bool {
    find(operator).is_some()
}

fn find(operator: &str) -> Option<&'static (&'static str, Build)> {
    OPERATORS.iter().find(|(name, _)| *name == operator)
}

/// Adds them to tract's register, which knows names and no domains; `onnx` looks at those.
pub(super) fn register(register: &mut OnnxOpRegister) {
    for (name, _) in OPERATORS {
        register.insert(name, build);
    }
}

fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (name, build) = find(&node.op_type).ok_or_else(|| format_err!("{} is none of ours", node.op_type))?;
    let kernel = build(&Attributes::new(context, node))?;
    Ok((Node::boxed(name, kernel, &node.output), Vec::new()))
}
