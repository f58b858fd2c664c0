//! What a random graph grows by: an operator with fitting attributes and weights, or a motif of
//! several that exporters write and optimisers rewrite.

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;

use super::super::value::broadcast;
use super::{Grower, Growth};

/// Convolutions and their company stand more than once: they are what optimisers rewrite most.
pub(super) const GROWTHS: &[Growth] = &[
    unary,
    unary,
    unary,
    binary,
    binary,
    binary,
    constant_binary,
    constant_binary,
    clip,
    prelu,
    choose,
    cast_there_and_back,
    matmul,
    matmul,
    gemm,
    conv,
    conv,
    conv,
    conv_norm_relu,
    conv_transpose,
    pool,
    pool,
    global_pool,
    batch_norm,
    layer_norm,
    instance_norm,
    lp_norm,
    local_response,
    softmax,
    softmax,
    reduce,
    reduce,
    arg_extreme,
    reshape,
    reshape,
    transpose,
    transpose,
    concat,
    concat,
    slice,
    slice,
    pad,
    split,
    squeeze,
    unsqueeze,
    expand,
    tile,
    gather,
    flatten,
    depth_to_space,
    quantise,
    quantise,
    quantised_conv,
    quantised_matmul,
    recurrent,
    resize,
    cumulative,
    top,
    swish,
    shape_of,
];

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, r#type: 2, ..AttributeProto::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: value, r#type: 1, ..AttributeProto::default() }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: value.into(), r#type: 3, ..AttributeProto::default() }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|value| *value as i64).collect();
    AttributeProto { name: name.into(), ints, r#type: 7, ..AttributeProto::default() }
}

fn unary(g: &mut Grower) -> Option<()> {
    const PLAIN: &[&str] = &[
        "Abs",
        "Neg",
        "Relu",
        "Sigmoid",
        "Tanh",
        "Exp",
        "Sqrt",
        "Erf",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Reciprocal",
        "Log",
        "HardSwish",
        "Softplus",
        "Softsign",
        "Sin",
        "Cos",
        "Atan",
        "Identity",
        "Selu",
        "Relu",
        "Sigmoid",
        "Tanh",
    ];
    const PARAMETRIC: &[&str] = &["LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "HardSigmoid"];
    let x = g.pick(|_| true)?;
    if g.chance(4) {
        let op = g.one_of(PARAMETRIC);
        let alpha = g.one_of(&[0.1, 0.25, 0.5, 1.5]);
        let with = if g.chance(3) { vec![] } else { vec![float("alpha", alpha)] };
        g.node(op, &[&x], with)?;
    } else {
        let op = g.one_of(PLAIN);
        g.node(op, &[&x], vec![])?;
    }
    Some(())
}

const BINARY: &[&str] = &["Add", "Sub", "Mul", "Div", "Min", "Max", "Add", "Mul", "Pow"];

/// Two tensors that are there: diamonds.
fn binary(g: &mut Grower) -> Option<()> {
    let a = g.pick(|_| true)?;
    let shape = g.shape(&a);
    let b = g.pick(|other| broadcast(&shape, other).is_ok())?;
    let op = g.one_of(BINARY);
    g.node(op, &[&a, &b], vec![])?;
    Some(())
}

fn constant_binary(g: &mut Grower) -> Option<()> {
    let x = g.pick(|_| true)?;
    // Fewer axes, or axes of one, broadcast.
    let full = g.shape(&x);
    let skipped = g.below(full.len() + 1);
    let shape: Vec<usize> =
        full[skipped..].iter().map(|length| if g.chance(3) { 1 } else { *length }).collect();
    let values: Vec<f64> = match g.below(4) {
        // Neutral elements invite an optimiser.
        0 => vec![g.one_of(&[0.0, 1.0, -1.0, 2.0]); shape.iter().product()],
        _ => g.numbers(shape.iter().product(), 1.0),
    };
    let w = g.constant(&shape, &values);
    let op = g.one_of(BINARY);
    if g.chance(3) {
        g.node(op, &[&w, &x], vec![])?
    } else {
        g.node(op, &[&x, &w], vec![])?
    };
    Some(())
}

fn clip(g: &mut Grower) -> Option<()> {
    let x = g.pick(|_| true)?;
    let (low, high) = (g.constant(&[], &[-0.75]), g.constant(&[], &[6.0]));
    match g.below(3) {
        0 => g.node("Clip", &[&x, &low, &high], vec![])?,
        1 => g.node("Clip", &[&x, "", &high], vec![])?,
        _ => g.node("Clip", &[&x, &low], vec![])?,
    };
    Some(())
}

fn prelu(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() >= 2)?;
    let shape = g.shape(&x);
    let mut slopes = vec![1; shape.len() - 1];
    slopes[0] = shape[1];
    let w = g.weights(&slopes, 0.5);
    g.node("PRelu", &[&x, &w], vec![])?;
    Some(())
}

fn choose(g: &mut Grower) -> Option<()> {
    let a = g.pick(|_| true)?;
    let shape = g.shape(&a);
    let b = g.pick(|other| broadcast(&shape, other).is_ok())?;
    let op = g.one_of(&["Greater", "Less", "GreaterOrEqual", "LessOrEqual"]);
    let mut truth = g.node(op, &[&a, &b], vec![])?;
    if g.chance(3) {
        truth = g.node("Not", &[&truth], vec![])?;
    }
    g.node("Where", &[&truth, &b, &a], vec![])?;
    Some(())
}

fn cast_there_and_back(g: &mut Grower) -> Option<()> {
    let x = g.pick(|_| true)?;
    let to = g.one_of(&[OnnxType::Int64, OnnxType::Int32, OnnxType::Double, OnnxType::Bool]);
    let there = g.node("Cast", &[&x], vec![int("to", to as i64)])?;
    g.node("Cast", &[&there], vec![int("to", OnnxType::Float as i64)])?;
    Some(())
}

fn matmul(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let shape = g.shape(&x);
    let (k, n) = (shape[shape.len() - 1], 1 + g.below(5));
    if g.chance(4) && shape.len() >= 2 {
        let rows = shape[shape.len() - 2];
        let w = g.weights(&[n, rows], 0.5);
        g.node("MatMul", &[&w, &x], vec![])?;
        return Some(());
    }
    let w = match g.below(4) {
        0 => g.weights(&[k], 0.5),
        1 if shape.len() == 3 => g.weights(&[shape[0], k, n], 0.5),
        _ => g.weights(&[k, n], 0.5),
    };
    let y = g.node("MatMul", &[&x, &w], vec![])?;
    if g.chance(2) {
        let b = g.weights(&[*g.shape(&y).last().unwrap_or(&1)], 0.5);
        g.node("Add", &[&y, &b], vec![])?;
    }
    Some(())
}

fn gemm(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() == 2)?;
    let shape = g.shape(&x);
    let (turn_a, turn_b) = (g.chance(3), g.chance(2));
    let (m, k) = if turn_a { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let n = 1 + g.below(5);
    let w = if turn_b { g.weights(&[n, k], 0.5) } else { g.weights(&[k, n], 0.5) };
    let c = match g.below(5) {
        0 => g.weights(&[n], 0.5),
        1 => g.weights(&[m, 1], 0.5),
        2 => g.weights(&[], 0.5),
        3 => g.weights(&[m, n], 0.5),
        _ => String::new(),
    };
    let mut with = vec![int("transA", turn_a.into()), int("transB", turn_b.into())];
    if g.chance(2) {
        with.extend([float("alpha", 0.5), float("beta", 1.5)]);
    }
    let inputs: &[&str] = if c.is_empty() { &[&x, &w] } else { &[&x, &w, &c] };
    g.node("Gemm", inputs, with)?;
    Some(())
}

/// Attributes of a window over `axes` axes, for a kernel that is already chosen.
fn window(g: &mut Grower, axes: usize, dilate: bool, kernel: &[usize]) -> Vec<AttributeProto> {
    let mut with = vec![ints("kernel_shape", kernel)];
    if g.chance(2) {
        let strides: Vec<usize> = (0..axes).map(|_| 1 + g.below(3)).collect();
        with.push(ints("strides", &strides));
    }
    if dilate && g.chance(3) {
        let dilations: Vec<usize> = (0..axes).map(|_| 1 + g.below(2)).collect();
        with.push(ints("dilations", &dilations));
    }
    match g.below(5) {
        0 => with.push(text("auto_pad", "SAME_UPPER")),
        1 => with.push(text("auto_pad", "SAME_LOWER")),
        2 => {
            let pads: Vec<usize> = (0..2 * axes).map(|i| g.below(kernel[i % axes])).collect();
            with.push(ints("pads", &pads));
        }
        _ => {}
    }
    with
}

fn conv(g: &mut Grower) -> Option<()> {
    convolution(g).map(|_| ())
}

fn convolution(g: &mut Grower) -> Option<String> {
    let x = g.pick(|shape| (3..=4).contains(&shape.len()))?;
    let shape = g.shape(&x);
    let (channels, space) = (shape[1], &shape[2..]);
    let kernel: Vec<usize> = space.iter().map(|length| 1 + g.below(3.min(*length))).collect();
    let group = match g.below(4) {
        0 => channels,
        1 if channels % 2 == 0 => 2,
        _ => 1,
    };
    let maps = group * (1 + g.below(3));
    let w = g.weights(&[&[maps, channels / group], kernel.as_slice()].concat(), 0.4);
    let mut with = window(g, space.len(), true, &kernel);
    with.push(int("group", group as i64));
    if g.chance(2) {
        let b = g.weights(&[maps], 0.5);
        g.node("Conv", &[&x, &w, &b], with)
    } else {
        g.node("Conv", &[&x, &w], with)
    }
}

/// What optimisers fold into one.
fn conv_norm_relu(g: &mut Grower) -> Option<()> {
    let y = convolution(g)?;
    let y = normalised(g, &y)?;
    let op = g.one_of(&["Relu", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu"]);
    let y2 = g.node(op, &[&y], vec![])?;
    if g.chance(3) {
        g.node("Add", &[&y2, &y], vec![])?;
    }
    Some(())
}

fn normalised(g: &mut Grower, x: &str) -> Option<String> {
    let channels = *g.shape(x).get(1)?;
    let (scale, bias, mean) =
        (g.weights(&[channels], 0.5), g.weights(&[channels], 0.5), g.weights(&[channels], 0.5));
    let variances: Vec<f64> = g.numbers(channels, 1.0).iter().map(|v| v.abs() + 0.25).collect();
    let variance = g.constant(&[channels], &variances);
    let with = if g.chance(2) { vec![float("epsilon", 1e-3)] } else { vec![] };
    g.node("BatchNormalization", &[x, &scale, &bias, &mean, &variance], with)
}

fn batch_norm(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() >= 2)?;
    normalised(g, &x).map(|_| ())
}

fn conv_transpose(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| (3..=4).contains(&shape.len()))?;
    let shape = g.shape(&x);
    let (channels, axes) = (shape[1], shape.len() - 2);
    let kernel: Vec<usize> = (0..axes).map(|_| 1 + g.below(3)).collect();
    let group = if g.chance(3) { channels } else { 1 };
    let maps = 1 + g.below(2);
    let w = g.weights(&[&[channels, maps], kernel.as_slice()].concat(), 0.4);
    let mut with = vec![ints("kernel_shape", &kernel), int("group", group as i64)];
    let strides: Vec<usize> = (0..axes).map(|_| 1 + g.below(3)).collect();
    with.push(ints("strides", &strides));
    if g.chance(3) {
        let pads: Vec<usize> = (0..2 * axes).map(|i| g.below(kernel[i % axes])).collect();
        with.push(ints("pads", &pads));
    }
    if g.chance(3) {
        let extra: Vec<usize> = strides.iter().map(|stride| g.below(*stride)).collect();
        with.push(ints("output_padding", &extra));
    }
    if g.chance(4) {
        with.push(ints("dilations", &vec![2; axes]));
    }
    if g.chance(2) {
        let b = g.weights(&[maps * group], 0.5);
        g.node("ConvTranspose", &[&x, &w, &b], with)?;
    } else {
        g.node("ConvTranspose", &[&x, &w], with)?;
    }
    Some(())
}

fn pool(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| (3..=4).contains(&shape.len()))?;
    let shape = g.shape(&x);
    let kernel: Vec<usize> = shape[2..].iter().map(|length| 1 + g.below(3.min(*length))).collect();
    let mut with = window(g, kernel.len(), false, &kernel);
    if g.chance(3) {
        with.push(int("ceil_mode", 1));
    }
    if g.chance(2) {
        g.node("MaxPool", &[&x], with)?;
    } else {
        if g.chance(2) {
            with.push(int("count_include_pad", 1));
        }
        g.node("AveragePool", &[&x], with)?;
    }
    Some(())
}

fn global_pool(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() >= 3)?;
    let op = g.one_of(&["GlobalAveragePool", "GlobalMaxPool"]);
    g.node(op, &[&x], vec![])?;
    Some(())
}

fn layer_norm(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty() && *shape.last().unwrap_or(&0) > 2)?;
    let shape = g.shape(&x);
    let from = if g.chance(3) { g.below(shape.len()) } else { shape.len() - 1 };
    let (scale, bias) = (g.weights(&shape[from..], 0.5), g.weights(&shape[from..], 0.5));
    let axis = int("axis", from as i64 - if g.chance(2) { shape.len() as i64 } else { 0 });
    if g.chance(3) {
        g.node("LayerNormalization", &[&x, &scale], vec![axis])?;
    } else {
        g.node("LayerNormalization", &[&x, &scale, &bias], vec![axis])?;
    }
    Some(())
}

fn instance_norm(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() >= 3 && shape[2..].iter().product::<usize>() > 2)?;
    let channels = g.shape(&x)[1];
    let (scale, bias) = (g.weights(&[channels], 0.5), g.weights(&[channels], 0.5));
    g.node("InstanceNormalization", &[&x, &scale, &bias], vec![])?;
    Some(())
}

fn lp_norm(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let axis = g.below(g.shape(&x).len()) as i64;
    let p = g.one_of(&[1, 2]);
    g.node("LpNormalization", &[&x], vec![int("axis", axis), int("p", p)])?;
    Some(())
}

fn local_response(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() == 4)?;
    let size = g.one_of(&[1, 3, 5]);
    g.node(
        "LRN",
        &[&x],
        vec![int("size", size), float("alpha", 0.5), float("beta", 0.75), float("bias", 1.5)],
    )?;
    Some(())
}

fn softmax(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let rank = g.shape(&x).len();
    let axis = g.below(rank) as i64 - if g.chance(2) { rank as i64 } else { 0 };
    let op = g.one_of(&["Softmax", "Softmax", "LogSoftmax"]);
    g.node(op, &[&x], vec![int("axis", axis)])?;
    Some(())
}

fn some_axes(g: &mut Grower, rank: usize) -> Vec<i64> {
    let mut axes: Vec<i64> = (0..rank as i64).filter(|_| g.chance(2)).collect();
    if axes.is_empty() {
        axes.push(g.below(rank) as i64);
    }
    if g.chance(2) {
        axes.iter_mut().for_each(|axis| *axis -= rank as i64);
    }
    axes
}

fn reduce(g: &mut Grower) -> Option<()> {
    const OPS: &[&str] = &[
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceSum",
    ];
    let x = g.pick(|shape| !shape.is_empty())?;
    let rank = g.shape(&x).len();
    let op = g.one_of(OPS);
    let axes = some_axes(g, rank);
    let keep = int("keepdims", g.one_of(&[0, 1]));
    if op == "ReduceSum" {
        let axes = g.list(&axes);
        g.node(op, &[&x, &axes], vec![keep])?;
    } else if g.chance(5) {
        g.node(op, &[&x], vec![keep])?;
    } else {
        let axes = AttributeProto { name: "axes".into(), ints: axes, r#type: 7, ..AttributeProto::default() };
        g.node(op, &[&x], vec![axes, keep])?;
    }
    Some(())
}

fn arg_extreme(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let axis = g.below(g.shape(&x).len()) as i64;
    let op = g.one_of(&["ArgMax", "ArgMin"]);
    let mut with = vec![int("axis", axis), int("keepdims", g.one_of(&[0, 1]))];
    if g.chance(3) {
        with.push(int("select_last_index", 1));
    }
    g.node(op, &[&x], with)?;
    Some(())
}

fn reshape(g: &mut Grower) -> Option<()> {
    let x = g.pick(|_| true)?;
    let shape = g.shape(&x);
    let total: usize = shape.iter().product();
    let mut lengths: Vec<i64> = match g.below(4) {
        0 => vec![total as i64],
        1 => vec![1, total as i64],
        2 => shape.iter().rev().map(|length| *length as i64).collect(),
        _ => {
            let first = (1..=total).filter(|d| total.is_multiple_of(*d)).nth(g.below(3)).unwrap_or(1);
            vec![first as i64, (total / first) as i64]
        }
    };
    if !lengths.is_empty() && g.chance(2) {
        let open = g.below(lengths.len());
        lengths[open] = -1;
    }
    let wanted = g.list(&lengths);
    g.node("Reshape", &[&x, &wanted], vec![])?;
    Some(())
}

fn shuffled(g: &mut Grower, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, g.below(i + 1));
    }
    order
}

fn transpose(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() >= 2)?;
    let order = shuffled(g, g.values[&x].shape.len());
    let with = if g.chance(4) { vec![] } else { vec![ints("perm", &order)] };
    g.node("Transpose", &[&x], with)?;
    Some(())
}

fn concat(g: &mut Grower) -> Option<()> {
    let a = g.pick(|shape| !shape.is_empty())?;
    let shape = g.shape(&a);
    let axis = g.below(shape.len());
    let fits = |other: &[usize]| {
        other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || other[i] == shape[i])
    };
    let b = g.pick(fits)?;
    let counted = int("axis", axis as i64 - if g.chance(2) { shape.len() as i64 } else { 0 });
    if g.chance(3) {
        let w = g.weights(&shape, 1.0);
        g.node("Concat", &[&a, &w, &b], vec![counted])?;
    } else {
        g.node("Concat", &[&a, &b], vec![counted])?;
    }
    Some(())
}

fn slice(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.iter().any(|length| *length > 1))?;
    let shape = g.shape(&x);
    let axis = g.below(shape.len());
    let length = shape[axis] as i64;
    let from = g.below(shape[axis]) as i64;
    let (start, end, step) = match g.below(4) {
        0 => (from, i64::MAX, 1),
        1 => (-1, i64::MIN, -1),
        2 => (0, length, 2),
        _ => (from - length, -1, 1),
    };
    let (starts, ends, axes, steps) =
        (g.list(&[start]), g.list(&[end]), g.list(&[axis as i64]), g.list(&[step]));
    g.node("Slice", &[&x, &starts, &ends, &axes, &steps], vec![])?;
    Some(())
}

fn pad(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| (1..=4).contains(&shape.len()))?;
    let shape = g.shape(&x);
    let mode = g.one_of(&["constant", "constant", "reflect", "edge"]);
    let pads: Vec<i64> =
        (0..2 * shape.len()).map(|i| g.below(3.min(shape[i % shape.len()])) as i64).collect();
    let pads = g.list(&pads);
    if mode == "constant" && g.chance(2) {
        let filler = g.constant(&[], &[0.5]);
        g.node("Pad", &[&x, &pads, &filler], vec![text("mode", mode)])?;
    } else {
        g.node("Pad", &[&x, &pads], vec![text("mode", mode)])?;
    }
    Some(())
}

fn split(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.iter().any(|length| *length > 1))?;
    let shape = g.shape(&x);
    let axis = (0..shape.len()).find(|axis| shape[*axis] > 1)?;
    let first = 1 + g.below(shape[axis] - 1);
    let lengths = g.list(&[first as i64, (shape[axis] - first) as i64]);
    g.nodes("Split", &[&x, &lengths], 2, vec![int("axis", axis as i64)])?;
    Some(())
}

fn squeeze(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.contains(&1))?;
    let axis = g.shape(&x).iter().position(|length| *length == 1)?;
    let axes = g.list(&[axis as i64]);
    if g.chance(2) {
        g.node("Squeeze", &[&x], vec![])?
    } else {
        g.node("Squeeze", &[&x, &axes], vec![])?
    };
    Some(())
}

fn unsqueeze(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() < 4)?;
    let axis = g.below(g.values[&x].shape.len() + 1) as i64;
    let axes = g.list(&[axis]);
    g.node("Unsqueeze", &[&x, &axes], vec![])?;
    Some(())
}

fn expand(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.contains(&1))?;
    let lengths: Vec<i64> = g
        .shape(&x)
        .iter()
        .map(|length| if *length == 1 { 1 + g.below(3) as i64 } else { *length as i64 })
        .collect();
    let wanted = g.list(&lengths);
    g.node("Expand", &[&x, &wanted], vec![])?;
    Some(())
}

fn tile(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let repeats: Vec<i64> = (0..g.shape(&x).len()).map(|_| 1 + g.below(2) as i64).collect();
    let repeats = g.list(&repeats);
    g.node("Tile", &[&x, &repeats], vec![])?;
    Some(())
}

fn gather(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let shape = g.shape(&x);
    let axis = g.below(shape.len());
    let length = shape[axis] as i64;
    let indices: Vec<i64> = (0..1 + g.below(3))
        .map(|_| g.below(shape[axis]) as i64 - if g.chance(2) { length } else { 0 })
        .collect();
    let indices = g.list(&indices);
    g.node("Gather", &[&x, &indices], vec![int("axis", axis as i64)])?;
    Some(())
}

fn flatten(g: &mut Grower) -> Option<()> {
    let x = g.pick(|_| true)?;
    let axis = g.below(g.values[&x].shape.len() + 1) as i64;
    g.node("Flatten", &[&x], vec![int("axis", axis)])?;
    Some(())
}

fn depth_to_space(g: &mut Grower) -> Option<()> {
    if g.chance(2) {
        let x = g.pick(|shape| shape.len() == 4 && shape[1] % 4 == 0)?;
        let mode = g.one_of(&["DCR", "CRD"]);
        g.node("DepthToSpace", &[&x], vec![int("blocksize", 2), text("mode", mode)])?;
    } else {
        let x = g.pick(|shape| shape.len() == 4 && shape[2] % 2 == 0 && shape[3] % 2 == 0)?;
        g.node("SpaceToDepth", &[&x], vec![int("blocksize", 2)])?;
    }
    Some(())
}

/// A scale that is no power of two and a zero point, both scalars.
fn quantisation(g: &mut Grower, signed: bool) -> (String, String) {
    let step = g.one_of(&[0.031, 0.017, 0.043]);
    let scale = g.constant(&[], &[step]);
    let zero = if signed {
        let zero = g.one_of(&[0_i8, -7, 11]);
        g.initializer(&[], OnnxType::Int8, zero.to_le_bytes().to_vec())
    } else {
        let zero = g.one_of(&[128_u8, 0, 117]);
        g.initializer(&[], OnnxType::Uint8, vec![zero])
    };
    (scale, zero)
}

fn through_bytes(g: &mut Grower, x: &str, signed: bool) -> Option<String> {
    let (scale, zero) = quantisation(g, signed);
    let q = g.node("QuantizeLinear", &[x, &scale, &zero], vec![])?;
    g.node("DequantizeLinear", &[&q, &scale, &zero], vec![])
}

fn quantise(g: &mut Grower) -> Option<()> {
    let x = g.pick(|_| true)?;
    let signed = g.chance(2);
    through_bytes(g, &x, signed).map(|_| ())
}

/// As quantisers write them: bytes in, weights in bytes with a scale a map, bytes out.
fn quantised_conv(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() == 4 && shape[2] > 2 && shape[3] > 2)?;
    let channels = g.shape(&x)[1];
    let signed = g.chance(2);
    let x = through_bytes(g, &x, signed)?;
    let maps = 1 + g.below(3);
    let count = maps * channels * 9;
    let bytes = (0..count).map(|_| (g.random.next() % 255) as u8).collect();
    let w = g.initializer(&[maps, channels, 3, 3], OnnxType::Int8, bytes);
    let scales: Vec<f64> = (0..maps).map(|i| 0.003 + 0.001 * i as f64).collect();
    let scale = g.constant(&[maps], &scales);
    let zero = g.initializer(&[maps], OnnxType::Int8, vec![0; maps]);
    let w = g.node("DequantizeLinear", &[&w, &scale, &zero], vec![int("axis", 0)])?;
    let mut y = g.node("Conv", &[&x, &w], vec![])?;
    if g.chance(2) {
        y = g.node("Relu", &[&y], vec![])?;
    }
    through_bytes(g, &y, signed).map(|_| ())
}

fn quantised_matmul(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() == 2)?;
    let (k, n) = (g.shape(&x)[1], 1 + g.below(4));
    let (scale, zero) = quantisation(g, false);
    let q = g.node("QuantizeLinear", &[&x, &scale, &zero], vec![])?;
    let bytes = (0..k * n).map(|_| (g.random.next() % 255) as u8).collect();
    let w = g.initializer(&[k, n], OnnxType::Int8, bytes);
    if g.chance(3) {
        let w_zero = g.initializer(&[], OnnxType::Int8, vec![3]);
        let y = g.node("MatMulInteger", &[&q, &w, &zero, &w_zero], vec![])?;
        g.node("Cast", &[&y], vec![int("to", OnnxType::Float as i64)])?;
        return Some(());
    }
    let w_scale = g.constant(&[], &[0.011]);
    let w_zero = g.initializer(&[], OnnxType::Int8, vec![0]);
    let y_scale = g.constant(&[], &[0.073]);
    let y_zero = g.initializer(&[], OnnxType::Uint8, vec![121]);
    let y =
        g.node("QLinearMatMul", &[&q, &scale, &zero, &w, &w_scale, &w_zero, &y_scale, &y_zero], vec![])?;
    g.node("DequantizeLinear", &[&y, &y_scale, &y_zero], vec![])?;
    Some(())
}

fn recurrent(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() == 3)?;
    let input = g.shape(&x)[2];
    let hidden = 1 + g.below(3);
    let (op, gates) = g.one_of(&[("LSTM", 4), ("GRU", 3), ("RNN", 1)]);
    let directions = if g.chance(3) { 2 } else { 1 };
    let w = g.weights(&[directions, gates * hidden, input], 0.4);
    let r = g.weights(&[directions, gates * hidden, hidden], 0.4);
    let b = g.weights(&[directions, 2 * gates * hidden], 0.4);
    let mut with = vec![int("hidden_size", hidden as i64)];
    if directions == 2 {
        with.push(text("direction", "bidirectional"));
    }
    if op == "GRU" && g.chance(2) {
        with.push(int("linear_before_reset", 1));
    }
    let outputs = if op == "LSTM" { 3 } else { 2 };
    g.nodes(op, &[&x, &w, &r, &b], outputs, with)?;
    Some(())
}

fn resize(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() == 4)?;
    let mode = g.one_of(&["nearest", "linear"]);
    let transform = g.one_of(&["asymmetric", "half_pixel", "align_corners"]);
    let mut with = vec![text("mode", mode), text("coordinate_transformation_mode", transform)];
    if mode == "nearest" {
        let rounding = g.one_of(&["floor", "round_prefer_floor", "ceil"]);
        with.push(text("nearest_mode", rounding));
    }
    let scale = g.one_of(&[2.0, 1.5, 3.0]);
    let scales = g.constant(&[4], &[1.0, 1.0, scale, 2.0]);
    g.node("Resize", &[&x, "", &scales], with)?;
    Some(())
}

fn cumulative(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let axis = g.below(g.shape(&x).len()) as i64;
    let raw = axis.to_le_bytes().to_vec();
    let axis = g.initializer(&[], OnnxType::Int64, raw);
    let with = vec![int("exclusive", g.one_of(&[0, 1])), int("reverse", g.one_of(&[0, 1]))];
    g.node("CumSum", &[&x, &axis], with)?;
    Some(())
}

fn top(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| !shape.is_empty())?;
    let shape = g.shape(&x);
    let axis = g.below(shape.len());
    let k = 1 + g.below(shape[axis]) as i64;
    let k = g.list(&[k]);
    let largest = g.one_of(&[0, 1]);
    g.nodes("TopK", &[&x, &k], 2, vec![int("axis", axis as i64), int("largest", largest)])?;
    Some(())
}

/// x · sigmoid(x), which engines know as one operator, and its cousins.
fn swish(g: &mut Grower) -> Option<()> {
    let x = g.pick(|_| true)?;
    if g.chance(2) {
        let s = g.node("Sigmoid", &[&x], vec![])?;
        g.node("Mul", &[&x, &s], vec![])?;
        return Some(());
    }
    // 0.5 · x · (1 + erf(x ÷ √2)): GELU as exporters write it.
    let (root, one, half) =
        (g.constant(&[], &[std::f64::consts::SQRT_2]), g.constant(&[], &[1.0]), g.constant(&[], &[0.5]));
    let scaled = g.node("Div", &[&x, &root], vec![])?;
    let erf = g.node("Erf", &[&scaled], vec![])?;
    let sum = g.node("Add", &[&erf, &one], vec![])?;
    let product = g.node("Mul", &[&x, &sum], vec![])?;
    g.node("Mul", &[&product, &half], vec![])?;
    Some(())
}

/// Shapes computed inside the graph, as exporters do for `x.view(x.size(0), -1)`.
fn shape_of(g: &mut Grower) -> Option<()> {
    let x = g.pick(|shape| shape.len() >= 2)?;
    let shape = g.node("Shape", &[&x], vec![])?;
    let (first, rest) = (g.list(&[0]), g.list(&[-1]));
    let batch = g.node("Gather", &[&shape, &first], vec![int("axis", 0)])?;
    let wanted = g.node("Concat", &[&batch, &rest], vec![int("axis", 0)])?;
    g.node("Reshape", &[&x, &wanted], vec![])?;
    Some(())
}
