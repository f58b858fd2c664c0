//! ONNX operators that tract lacks or answers wrongly, one file each, added to tract's own here.
//!
//! A new operator is one file beside this one and one line in [`OURS`]. It registers under its
//! ONNX name and replaces tract's where there is one; where tract answers some nodes rightly and
//! faster, the builder hands those back to [`stock`]. Other domains list their own (`ml`, `contributed`).
//! Not here: operators that we refuse (`refused`).
//!
//! | file | holds |
//! |---|---|
//! | `literal` | the frame around an operator that is evaluated as the standard writes it |
//! | `values` | tensors as plain numbers and back |
//! | `watched` | what stands around every operator while a graph is read: its node's name, bounds |
//! | `unknown` | inputs that must be known before a run and are not: what to do |
//! | the others | operators; each header names the standard and the arithmetic |

mod attention;
mod axes;
mod batch_norm;
mod bits;
mod branch;
mod cast;
mod centred;
pub(super) mod contributed;
mod einsum;
mod elementwise;
mod fitting;
mod gemm;
mod hardmax;
mod lengths;
mod linear_attention;
mod literal;
mod logarithms;
mod losses;
mod mean_variance;
pub(super) mod ml;
mod moved;
mod patches;
mod powers;
mod quantized;
mod quantized_conv;
mod quantized_lstm;
mod recurrent;
mod reduce;
pub(super) mod requantized;
mod resize;
mod sampled;
mod scatter;
mod sets;
mod single;
mod slice;
mod suppression;
mod tfidf;
mod unknown;
mod values;
mod watched;
mod wider;
mod windows;

use std::sync::OnceLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;

use literal::Built;

type Builder = fn(&ParsingContext<'_>, &NodeProto) -> Built;

/// Every operator of ours in the standard's own domain.
const OURS: &[(&str, Builder)] = &[
    ("Acosh", wider::function),
    ("AffineGrid", sampled::affine_grid),
    ("Asinh", wider::function),
    ("Attention", attention::attention),
    ("AveragePool", single::stock),
    ("BatchNormalization", batch_norm::batch_norm),
    ("BitCast", bits::bit_cast),
    ("BitShift", bits::bit_shift),
    ("BlackmanWindow", windows::blackman),
    ("Cast", cast::cast),
    ("CastLike", cast::cast_like),
    ("CausalConvWithState", linear_attention::causal_conv),
    ("Celu", elementwise::celu),
    ("CenterCropPad", moved::center_crop_pad),
    ("Col2Im", patches::col2im),
    ("Compress", moved::compress),
    ("ConstantOfShape", sets::constant_of_shape),
    ("CumProd", elementwise::cum_prod),
    ("Conv", single::stock),
    ("ConvTranspose", patches::conv_transpose),
    ("CumSum", elementwise::cum_sum),
    ("DeformConv", sampled::deform_conv),
    ("DequantizeLinear", quantized::dequantize),
    ("Det", elementwise::det),
    ("Einsum", einsum::einsum),
    ("Elu", single::stock),
    ("Equal", wider::equal),
    ("Erf", wider::function),
    ("GRU", |context, node| single::in_single(recurrent::gru(context, node))),
    ("Gelu", wider::function),
    ("Gemm", gemm::gemm),
    ("GlobalAveragePool", single::stock),
    ("GlobalLpPool", patches::global_lp_pool),
    ("GroupNormalization", centred::group),
    ("GatherND", moved::gather_nd),
    ("HammingWindow", windows::hamming),
    ("HannWindow", windows::hann),
    ("Hardmax", hardmax::hardmax),
    ("HardSigmoid", single::stock),
    ("HardSwish", wider::function),
    ("If", branch::branch),
    ("InstanceNormalization", centred::instance),
    ("IsInf", wider::is),
    ("IsNaN", wider::is),
    ("LRN", single::stock),
    ("LSTM", recurrent::lstm),
    ("LeakyRelu", wider::function),
    ("LinearAttention", linear_attention::linear_attention),
    ("LogSoftmax", logarithms::log_softmax),
    ("LpNormalization", single::stock),
    ("LpPool", patches::lp_pool),
    ("MatMul", elementwise::mat_mul),
    ("MatMulInteger", elementwise::mat_mul_integer),
    ("MaxPool", patches::max_pool),
    ("MaxUnpool", moved::max_unpool),
    ("MelWeightMatrix", windows::mel_weight_matrix),
    ("Mean", |context, node| single::in_single(elementwise::mean(context, node))),
    ("MeanVarianceNormalization", mean_variance::mean_variance),
    ("Mish", single::stock),
    ("Mod", elementwise::modulo),
    ("NegativeLogLikelihoodLoss", losses::negative_log_likelihood),
    ("NonMaxSuppression", suppression::non_max_suppression),
    ("OneHot", sets::one_hot),
    ("Pad", moved::pad),
    ("Pow", powers::pow),
    ("QLinearConv", quantized_conv::conv),
    ("QLinearMatMul", quantized::matmul),
    ("QuantizeLinear", quantized::quantize),
    ("RMSNormalization", single::stock),
    ("RNN", recurrent::rnn),
    ("ReduceL1", reduce::reduce),
    ("ReduceL2", reduce::reduce),
    ("ReduceLogSum", reduce::reduce),
    ("ReduceLogSumExp", reduce::reduce),
    ("ReduceMax", reduce::reduce),
    ("ReduceMean", reduce::reduce),
    ("ReduceMin", reduce::reduce),
    ("ReduceProd", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("ReduceSumSquare", reduce::reduce),
    ("Resize", resize::resize),
    ("ReverseSequence", moved::reverse_sequence),
    ("RoiAlign", sampled::roi_align),
    ("Round", wider::function),
    ("ScatterElements", scatter::scatter_elements),
    ("ScatterND", scatter::scatter_nd),
    ("Selu", elementwise::selu),
    ("Shape", lengths::shape),
    ("Size", lengths::size),
    ("Sigmoid", wider::function),
    ("Slice", slice::slice),
    ("SoftmaxCrossEntropyLoss", losses::softmax_cross_entropy),
    ("Softmax", single::stock),
    ("Softplus", logarithms::softplus),
    ("Softsign", single::stock),
    ("SpaceToDepth", moved::space_to_depth),
    ("Squeeze", axes::squeeze),
    ("Sum", single::stock),
    ("SwiGLU", elementwise::swiglu),
    ("Swish", wider::function),
    ("TensorScatter", moved::tensor_scatter),
    ("TfIdfVectorizer", tfidf::tfidf),
    ("TopK", wider::top_k),
    ("Unique", sets::unique),
    ("Upsample", resize::upsample),
];

/// tract's ONNX reader with our operators, set to believe the graph's operators only: exported
/// `value_info` and output shapes contradict them in many real files ("Impossible to unify").
pub(super) fn framework() -> Onnx {
    let mut onnx = unwatched();
    watched::register(&mut onnx);
    onnx
}

fn unwatched() -> Onnx {
    let mut onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true)
        .with_ignore_output_types(true);
    ml::register(&mut onnx.op_register);
    for (name, builder) in OURS.iter().chain(contributed::OPERATORS) {
        onnx.op_register.insert(name, *builder);
    }
    onnx
}

/// tract's own operator for a node.
fn stock(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    static STOCK: OnceLock<Onnx> = OnceLock::new();
    match STOCK.get_or_init(tract_onnx::onnx).op_register.0.get(&node.op_type) {
        Some(builder) => builder(context, node),
        None => node.bail("the engine has no such operator"),
    }
}
