"""One-node models over grids of attributes, types and shapes, with onnxruntime's answers.

    sweep.py OUT [SEED [EACH]]

Writes cases as `cases.rs` reads them. EACH is how many models are drawn of every operator's grid (40).
Whatever onnxruntime itself refuses is no case; parameters (axes, pads, scales) are constants, as
exporters write them.
"""
import json
import pathlib
import random
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(sys.argv[1])
RNG = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
EACH = int(sys.argv[3]) if len(sys.argv) > 3 else 40
NP = np.random.default_rng(RNG.randrange(1 << 30))
F32, F64, F16, I64, I32, I8, U8, BOOL = (
    np.float32, np.float64, np.float16, np.int64, np.int32, np.int8, np.uint8, np.bool_)
MISSING = object()


def data(dtype, shape, low=-3.0, high=3.0):
    if dtype == BOOL:
        return NP.random(shape) < 0.5
    if np.issubdtype(dtype, np.integer):
        low = max(int(low), np.iinfo(dtype).min)
        return NP.integers(low, int(high) + 1, shape).astype(dtype)
    return NP.uniform(low, high, shape).astype(dtype)


def weights(dtype, shape):
    """Quantised weights. Without VNNI onnxruntime adds products of u8 and i8 in pairs of 16 bits, which saturate: within
    ±63 they cannot (2 · 255 · 63 < 2^15)."""
    return data(dtype, shape, 0 if dtype == U8 else -63, 127 if dtype == U8 else 63)


class Node:
    """Inputs are arrays given at the run, `Const` arrays, or None for an absent one."""

    def __init__(self, op, inputs, attrs=None, outputs=1, opset=17, domain=""):
        self.op, self.inputs, self.outputs, self.opset, self.domain = op, inputs, outputs, opset, domain
        self.attrs = {k: v for k, v in (attrs or {}).items() if v is not MISSING}


class Const:
    def __init__(self, value, dtype=None):
        self.value = np.asarray(value, dtype)


def some(*values):
    return RNG.choice(values)


def shape(rank, low=1, high=5):
    return [RNG.randint(low, high) for _ in range(rank)]


def unary():
    op = some("Abs", "Ceil", "Floor", "Round", "Sign", "Neg", "Exp", "Log", "Sqrt", "Sin", "Cos", "Tan", "Asin", "Acos",
              "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Sigmoid", "Relu", "Elu", "Selu", "Celu",
              "LeakyRelu", "ThresholdedRelu", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Erf", "Reciprocal",
              "Gelu", "Mish", "Shrink", "IsNaN", "IsInf", "Identity")
    attrs = {}
    if op in ("Elu", "Celu", "LeakyRelu", "ThresholdedRelu"):
        attrs["alpha"] = some(MISSING, 0.1, 0.7, 2.0)
    if op == "Selu":
        attrs = {"alpha": some(MISSING, 1.3), "gamma": some(MISSING, 0.8)}
    if op == "HardSigmoid":
        attrs = {"alpha": some(MISSING, 0.3), "beta": some(MISSING, 0.4)}
    if op == "Shrink":
        attrs = {"lambd": some(0.5, 1.5), "bias": some(MISSING, 0.3)}
    if op == "Gelu":
        attrs["approximate"] = some("none", "tanh")
    if op == "IsInf":
        attrs = {"detect_negative": some(MISSING, 0), "detect_positive": some(MISSING, 0)}
    dtype = some(F32, F32, F32, F64, F16)
    if op in ("Abs", "Neg", "Sign", "Relu"):
        dtype = some(F32, F64, I32, I64, I8)
    x = data(dtype, shape(some(0, 1, 2, 3)))
    if dtype in (F32, F64, F16) and x.size and RNG.random() < 0.4:
        flat = x.reshape(-1)
        flat[0] = some(np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 88.0, -90.0)
    return Node(op, [x], attrs, opset=20)


def broadcast_pair(dtype, **kw):
    full = shape(some(1, 2, 3, 4))
    other = [n if RNG.random() < 0.6 else 1 for n in full][RNG.randint(0, len(full)):]
    pair = [data(dtype, full, **kw), data(dtype, other, **kw)]
    RNG.shuffle(pair)
    return pair


def binary():
    op = some("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Equal", "Less", "Greater",
              "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
    attrs = {}
    dtype = some(F32, F32, F64, I32, I64)
    if op in ("And", "Or", "Xor"):
        dtype = BOOL
    if op.startswith("Bit"):
        dtype = some(np.uint8, np.uint32, np.uint64) if op == "BitShift" else some(I32, I64, U8)
    a, b = broadcast_pair(dtype)
    if op in ("Div", "Mod") and np.issubdtype(dtype, np.integer):
        b[b == 0] = some(2, -3)
    if op == "Mod":
        attrs["fmod"] = 1 if dtype in (F32, F64) else some(0, 1)
    if op == "BitShift":
        attrs["direction"] = some("LEFT", "RIGHT")
        a, b = data(dtype, a.shape, 0, 200), data(dtype, b.shape, 0, 7)
    if op == "Pow":
        a = np.abs(a) + (1 if np.issubdtype(dtype, np.integer) else dtype(0.1))
        b = np.abs(b) if np.issubdtype(dtype, np.integer) else b
        a = a.astype(dtype)
    if op in ("Max", "Min") and dtype in (F32, F64) and RNG.random() < 0.3:
        a.reshape(-1)[:1] = np.nan
    if op == "PRelu":
        a = data(F32, shape(4)); b = data(F32, some([a.shape[1], 1, 1], [1], list(a.shape)))
    constant = Const(b) if RNG.random() < 0.5 else b
    return Node(op, [a, constant], attrs, opset=18)


def cast():
    types = [F32, F64, F16, I64, I32, I8, U8, np.int16, np.uint16, np.uint32, np.uint64, BOOL]
    to = some(*types)
    low = 0 if np.issubdtype(to, np.unsignedinteger) else -3
    x = data(some(*types), shape(2), low, 100)
    return Node("Cast", [x], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(to))}, opset=19)


def reduce():
    op = some("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
              "ReduceLogSumExp", "ReduceSumSquare", "ArgMax", "ArgMin")
    rank = some(1, 2, 3, 4)
    x = data(some(F32, F32, F64, I32, I64), shape(rank))
    if op in ("ReduceLogSum",):
        x = np.abs(x) + x.dtype.type(1)
    if op == "ReduceLogSumExp":
        x = x.astype(F32)  # of whole numbers onnxruntime takes exponentials in whole numbers
    keep = some(MISSING, 0, 1)
    if op.startswith("Arg"):
        if RNG.random() < 0.5:
            x = np.round(x).astype(x.dtype)
        return Node(op, [x], {"axis": some(MISSING, *range(-rank, rank)), "keepdims": keep,
                              "select_last_index": some(MISSING, 0, 1)}, opset=13)
    axes = RNG.sample(range(rank), RNG.randint(1, rank))
    axes = [a - rank if RNG.random() < 0.5 else a for a in axes]
    how = some("given", "given", "none", "old")
    if how == "old":
        old = 12 if op == "ReduceSum" else 17
        return Node(op, [x], {"axes": some(MISSING, axes), "keepdims": keep}, opset=some(11, old) if op != "ReduceSum" else 11)
    if op != "ReduceSum" and not op.startswith("Reduce"):
        how = "given"
    return Node(op, [x] + ([Const(axes, I64)] if how == "given" else []),
                {"keepdims": keep, "noop_with_empty_axes": some(MISSING, 0, 1)}, opset=18)


def softmax():
    rank = some(1, 2, 3, 4)
    x = data(some(F32, F32, F64), shape(rank), -20, 20)
    op = some("Softmax", "LogSoftmax", "Hardmax")
    return Node(op, [x], {"axis": some(MISSING, *range(-rank, rank))}, opset=some(11, 13, 17))


def norm():
    op = some("BatchNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization", "LRN",
              "GroupNormalization", "MeanVarianceNormalization", "RMSNormalization")
    if op == "LpNormalization":
        rank = some(1, 2, 3)
        return Node(op, [data(F32, shape(rank))], {"axis": some(MISSING, *range(-rank, rank)), "p": some(MISSING, 1, 2)})
    if op == "LRN":
        return Node(op, [data(F32, shape(4, 2, 6))], {"size": some(1, 2, 3, 4, 5), "alpha": some(MISSING, 0.01), "beta": some(MISSING, 0.5),
                                                      "bias": some(MISSING, 2.0)})
    if op == "MeanVarianceNormalization":
        return Node(op, [data(F32, shape(4, 2, 4))], {"axes": some(MISSING, [0, 2, 3], [1, 2], [-1])})
    if op in ("LayerNormalization", "RMSNormalization"):
        rank = some(2, 3, 4)
        x = data(F32, shape(rank, 2, 5))
        axis = some(*range(-rank, rank))
        part = list(x.shape)[axis if axis >= 0 else axis + rank:]
        ins = [x, Const(data(F32, part))] + ([Const(data(F32, part))] if op[0] == "L" and RNG.random() < 0.6 else [])
        return Node(op, ins, {"axis": axis, "epsilon": some(MISSING, 1e-3)}, opset=17 if op[0] == "L" else 23)
    c = some(2, 4, 6)
    x = data(F32, [some(1, 2), c] + shape(some(1, 2, 3) if op != "BatchNormalization" else some(0, 1, 2, 3), 2, 4))
    vec = lambda: Const(data(F32, [c]))  # noqa: E731
    eps = some(MISSING, 1e-2)
    if op == "BatchNormalization":
        return Node(op, [x, vec(), vec(), vec(), Const(data(F32, [c], 0.2, 2))], {"epsilon": eps}, opset=15)
    if op == "InstanceNormalization":
        return Node(op, [x, vec(), vec()], {"epsilon": eps})
    return Node(op, [x, vec(), vec()], {"num_groups": some(1, 2, c), "epsilon": eps}, opset=21)


def spatial(n):
    return shape(n, 4, 9)


def pads_or_auto(n, kernel, ceil):
    auto = some("NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    attrs = {"strides": some(MISSING, [RNG.randint(1, 3) for _ in range(n)]),
             "dilations": some(MISSING, MISSING, [RNG.randint(1, 2) for _ in range(n)])}
    if auto == "NOTSET":
        attrs["pads"] = some(MISSING, [RNG.randint(0, max(0, k - 1)) for k in kernel * 2])
    else:
        attrs["auto_pad"] = auto
        if auto.startswith("SAME"):
            attrs["dilations"] = MISSING
    if ceil and auto != "VALID":  # together onnxruntime gives one more than the standard's formula
        attrs["ceil_mode"] = some(MISSING, 0, 1)
    return attrs


def pool():
    n = some(1, 2, 2, 3)
    kernel = shape(n, 1, 3)
    op = some("MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
    x = data(some(F32, F32, F32, U8, I8) if op == "MaxPool" else F32, [some(1, 2), some(1, 3)] + spatial(n))
    if op.startswith("Global"):
        return Node(op, [x], {"p": some(MISSING, 1, 3)} if op == "GlobalLpPool" else {})
    attrs = {"kernel_shape": kernel, **pads_or_auto(n, kernel, True)}
    outputs = 1
    if op == "AveragePool":
        attrs["count_include_pad"] = some(MISSING, 0, 1)
    if op == "LpPool":
        attrs["p"] = some(MISSING, 1, 3)
    if op == "MaxPool":
        outputs = some(1, 1, 2)
        if outputs == 2:
            attrs["storage_order"] = some(MISSING, 0)
    return Node(op, [x], attrs, outputs=outputs, opset=19)


def conv():
    n = some(1, 2, 2, 3)
    kernel, group = shape(n, 1, 3), some(1, 1, 2, 4)
    op = some("Conv", "Conv", "ConvTranspose", "ConvInteger", "QLinearConv")
    cin = group * some(1, 2)
    cout = group * some(1, 3)
    dims = [some(1, 2), cin] + spatial(n)
    attrs = {"kernel_shape": some(MISSING, kernel), "group": group, **pads_or_auto(n, kernel, False)}
    w_shape = [cout, cin // group] + kernel
    if op == "ConvTranspose":
        w_shape = [cin, cout // group] + kernel
        strides = attrs["strides"] if attrs["strides"] is not MISSING else [1] * n
        attrs["output_padding"] = some(MISSING, [RNG.randint(0, s - 1) for s in strides])
        bias = [Const(data(F32, [cout]))] if RNG.random() < 0.5 else []
        return Node(op, [data(F32, dims), Const(data(F32, w_shape))] + bias, attrs)
    if op == "Conv":
        bias = [Const(data(F32, [cout]))] if RNG.random() < 0.5 else []
        return Node(op, [data(F32, dims), Const(data(F32, w_shape))] + bias, attrs)
    wt = some(I8, U8) if op == "QLinearConv" else U8
    x, w = data(U8, dims, 0, 255), weights(wt, w_shape)
    if op == "ConvInteger":
        return Node(op, [x, Const(w), Const(np.uint8(some(0, 120))), Const(wt(some(0, 3)))], attrs)
    scales = Const(data(F32, [cout], 0.01, 0.1)) if RNG.random() < 0.5 else Const(F32(0.02))
    zeros = Const(np.zeros(scales.value.shape, wt))
    bias = [Const(data(I32, [cout], -500, 500))] if RNG.random() < 0.5 else []
    return Node(op, [x, Const(F32(0.05)), Const(U8(some(0, 127))), Const(w), scales, zeros, Const(F32(0.3)),
                     Const(U8(some(0, 100)))] + bias, attrs)


def matmul():
    op = some("MatMul", "MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")
    m, k, n = RNG.randint(1, 6), RNG.randint(1, 6), RNG.randint(1, 6)
    batch = shape(some(0, 0, 1, 2), 1, 3)
    if op == "Gemm":
        ta, tb = some(0, 1), some(0, 1)
        a, b = data(F32, [k, m] if ta else [m, k]), data(F32, [n, k] if tb else [k, n])
        c = some([], [Const(data(F32, some([n], [1, n], [m, 1], [m, n], [1])))])
        return Node(op, [a, Const(b) if RNG.random() < 0.5 else b] + c,
                    {"transA": ta, "transB": tb, "alpha": some(MISSING, 0.5), "beta": some(MISSING, 2.0)})
    a_shape, b_shape = batch + [m, k], some(batch, [1] * len(batch), [])[:] + [k, n]
    if op == "MatMul":
        if RNG.random() < 0.2:
            a_shape = [k]
        if RNG.random() < 0.2:
            b_shape = [k]
        dtype = some(F32, F32, F64, I32)
        b = data(dtype, b_shape)
        return Node(op, [data(dtype, a_shape), Const(b) if RNG.random() < 0.5 else b])
    at, bt = some(U8, I8), some(U8, I8)
    a, b = data(at, a_shape, -128, 255 if at == U8 else 127), weights(bt, [k, n] if op[0] == "Q" else b_shape)
    if op == "MatMulInteger":
        zeros = [Const(at(some(0, 5))), Const(some(bt(3), np.full([n], 2, bt)))][:some(0, 1, 2)]
        return Node(op, [a, Const(b)] + zeros)
    bs = some(F32(0.03), data(F32, [n], 0.01, 0.05))
    return Node(op, [a, Const(F32(0.02)), Const(at(some(0, 7))), Const(b), Const(bs), Const(np.full(np.shape(bs), some(0, 3), bt)),
                     Const(F32(some(0.05, 0.5))), Const(at(some(0, 10)))])


def quantize():
    op = some("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
    if op == "DynamicQuantizeLinear":
        return Node(op, [data(F32, shape(2), some(-3, 0, 1), 3)], outputs=3)
    t = some(U8, I8, np.uint16, np.int16)
    rank = some(1, 2, 3)
    dims = shape(rank)
    axis = some(*range(-rank, rank))
    per = RNG.random() < 0.5
    scale = data(F32, [dims[axis]] if per else [], 0.02, 0.2)
    zero = data(t, scale.shape, 0, 20)
    zeros = [Const(zero)] if RNG.random() < 0.8 or t not in (U8,) else []
    x = data(F32, dims, -8, 8) if op[0] == "Q" else data(t, dims, np.iinfo(t).min, np.iinfo(t).max)
    return Node(op, [x, Const(scale)] + zeros, {"axis": axis} if per else {}, opset=21)


def resize():
    rank = 4
    x = data(some(F32, F32, F32, U8), [1, some(1, 2)] + shape(2, 2, 7), 0, 100)
    attrs = {"mode": some("nearest", "linear", "cubic"),
             "coordinate_transformation_mode": some(MISSING, "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric",
                                                    "half_pixel_symmetric")}
    if attrs["mode"] != "nearest":  # a byte is cut off, and whether at 64 or at 63.99999 is a rounding
        x = x.astype(F32)
    if attrs["mode"] == "nearest":
        attrs["nearest_mode"] = some(MISSING, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if attrs["mode"] == "cubic":
        attrs["cubic_coeff_a"] = some(MISSING, -0.5)
        attrs["exclude_outside"] = some(MISSING, 0, 1)
    if attrs["mode"] != "nearest":
        attrs["antialias"] = some(MISSING, MISSING, 0, 1)
    empty = Const(np.zeros([0], F32))
    out = [x.shape[0], x.shape[1]] + shape(2, 1, 12)
    if RNG.random() < 0.5:
        ins = [x, None, None, Const(out, I64)]
    else:
        factors = [1.0, 1.0, some(0.5, 0.6, 1.5, 2.0, 3.0), some(0.5, 0.7, 1.0, 2.0, 2.5)]
        ins = [x, empty, Const(factors, F32)]
    return Node("Resize", ins, attrs, opset=some(13, 18, 19) if "antialias" not in attrs or attrs["antialias"] is MISSING else 18)


def pad():
    rank = some(1, 2, 3, 4)
    x = data(some(F32, F32, I64, I32, U8), shape(rank, 3, 5), 0, 9)
    mode = some("constant", "constant", "reflect", "edge", "wrap")
    low = -1 if mode == "constant" else 0
    pads = [RNG.randint(low, 2) for _ in range(2 * rank)]
    value = [Const(x.dtype.type(some(0, 3)))] if mode == "constant" and RNG.random() < 0.6 else []
    return Node("Pad", [x, Const(pads, I64)] + value, {"mode": mode}, opset=19)


def slices():
    op = some("Slice", "Slice", "Split", "Concat", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Tile",
              "Expand", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Trilu", "EyeLike", "Shape", "Size", "Where", "Compress",
              "ReverseSequence", "DepthToSpace", "SpaceToDepth", "OneHot", "TopK", "CumSum", "NonZero", "Unique", "Range", "Clip",
              "CenterCropPad", "Einsum", "Col2Im")
    rank = some(1, 2, 3, 4)
    dims = shape(rank, 2, 5)
    dtype = some(F32, F32, I64, I32, F64)
    x = data(dtype, dims)
    axis = some(*range(-rank, rank))
    at = axis % rank
    if op == "Slice":
        axes = RNG.sample(range(rank), RNG.randint(1, rank))
        ends = [some(-1, 0, 1, 2, 3, 9, 2**31 - 1, -9, -(2**31)) for _ in axes]
        starts = [some(-2, -1, 0, 1, 2, 7, -9) for _ in axes]
        steps = [some(1, 1, 2, -1, -2, 3) for _ in axes]
        axes = [a - rank if RNG.random() < 0.4 else a for a in axes]
        return Node(op, [x, Const(starts, I64), Const(ends, I64), Const(axes, I64), Const(steps, I64)])
    if op == "Split":
        n = dims[at]
        cut = RNG.randint(0, n)
        if RNG.random() < 0.5:
            return Node(op, [x, Const([cut, n - cut], I64)], {"axis": axis}, outputs=2)
        return Node(op, [x], {"axis": axis, "num_outputs": 2}, outputs=2, opset=18)
    if op == "Concat":
        other = list(dims)
        other[at] = RNG.randint(0, 3)
        return Node(op, [x, data(dtype, other)], {"axis": axis})
    if op in ("Gather", "GatherElements"):
        idims = shape(some(0, 1, 2), 1, 3) if op == "Gather" else [RNG.randint(1, n) for n in dims]
        index = NP.integers(-dims[at], dims[at], idims)
        return Node(op, [x, Const(index.astype(some(I64, I32))) if RNG.random() < 0.5 else index.astype(I64)], {"axis": axis})
    if op == "GatherND":
        b = RNG.randint(0, rank - 1)
        q = RNG.randint(1, rank - b)
        lead = dims[:b] + shape(some(0, 1, 2), 1, 3)
        index = np.stack([NP.integers(-dims[b + i], dims[b + i], lead) for i in range(q)], -1).astype(I64)
        return Node(op, [x, Const(index) if RNG.random() < 0.5 else index], {"batch_dims": b})
    if op == "ScatterElements":
        idims = [RNG.randint(1, n) for n in dims]
        index = NP.integers(-dims[at], dims[at], idims).astype(I64)
        reduction = some(MISSING, "none", "add", "mul", "max", "min")
        if reduction in (MISSING, "none"):  # else equal indices leave the answer open
            idims[at] = 1
            index = NP.integers(-dims[at], dims[at], idims).astype(I64)
        return Node(op, [x, index, data(dtype, idims)], {"axis": axis, "reduction": reduction}, opset=18)
    if op == "ScatterND":
        q = RNG.randint(1, rank)
        reduction = some(MISSING, "none", "add", "mul", "max", "min")
        lead = [1] if reduction in (MISSING, "none") else shape(some(1, 2), 1, 3)
        index = np.stack([NP.integers(-dims[i], dims[i], lead) for i in range(q)], -1).astype(I64)
        return Node(op, [x, index, data(dtype, lead + dims[q:])], {"reduction": reduction}, opset=18)
    if op == "Tile":
        return Node(op, [x, Const([RNG.randint(0, 3) if RNG.random() < 0.2 else RNG.randint(1, 3) for _ in dims], I64)])
    if op == "Expand":
        x = data(dtype, [n if RNG.random() < 0.5 else 1 for n in dims])
        return Node(op, [x, Const(some(dims, [2] + dims, dims[at:]), I64)])
    if op == "Squeeze":
        x = data(dtype, [1] + dims + [1])
        return Node(op, [x] + some([], [Const([some(0, -1)], I64)]), opset=13)
    if op == "Unsqueeze":
        return Node(op, [x, Const(some([0], [-1], [0, 2], [2, 0], [-1, 0]), I64)], opset=13)
    if op == "Reshape":
        x = data(dtype, [2, 3, 4])
        return Node(op, [x, Const(some([24], [-1], [4, -1], [0, -1], [0, 0, 2, 2], [2, 3, 4, 1]), I64)], opset=14)
    if op == "Flatten":
        return Node(op, [x], {"axis": some(MISSING, *range(-rank, rank + 1))})
    if op == "Transpose":
        return Node(op, [x], {"perm": some(MISSING, RNG.sample(range(rank), rank))})
    if op == "Trilu":
        return Node(op, [data(dtype, shape(some(2, 3)))] + some([], [Const(RNG.randint(-3, 3), I64)]), {"upper": some(MISSING, 0, 1)})
    if op == "EyeLike":
        return Node(op, [data(F32, shape(2))], {"k": some(MISSING, -1, 1, 5)})
    if op in ("Shape", "Size"):
        return Node(op, [x], {"start": some(MISSING, -1, 1), "end": some(MISSING, -1, 2)} if op == "Shape" else {}, opset=15)
    if op == "Where":
        c, _ = broadcast_pair(BOOL)
        return Node(op, [c, data(dtype, c.shape), data(dtype, some([], [1], c.shape))])
    if op == "Compress":
        return Node(op, [x, NP.random(RNG.randint(1, dims[at])) < 0.5], {"axis": some(MISSING, axis)})
    if op == "ReverseSequence":
        x = data(dtype, [3, 4] + dims[:1])
        batch = some(0, 1)
        return Node(op, [x, NP.integers(1, x.shape[1 - batch] + 1, x.shape[batch]).astype(I64)], {"batch_axis": batch, "time_axis": 1 - batch})
    if op == "DepthToSpace":
        return Node(op, [data(F32, [1, 8, 2, 3])], {"blocksize": 2, "mode": some(MISSING, "DCR", "CRD")})
    if op == "SpaceToDepth":
        return Node(op, [data(F32, [1, 2, 4, 6])], {"blocksize": 2})
    if op == "OneHot":
        return Node(op, [NP.integers(-7, 7, dims).astype(some(I64, I32)), Const(5, I64), Const(some([0, 1], [2, -3]), some(F32, I64))],
                    {"axis": some(MISSING, axis, -1)})
    if op == "TopK":
        x = data(some(F32, I64), dims, -50, 50)
        return Node(op, [x, Const([RNG.randint(1, dims[at])], I64)], {"axis": axis, "largest": some(MISSING, 0, 1)}, outputs=2)
    if op == "CumSum":
        return Node(op, [x, Const(axis, some(I64, I32))], {"exclusive": some(MISSING, 1), "reverse": some(MISSING, 1)})
    if op == "NonZero":
        return Node(op, [np.round(x).astype(dtype)])
    if op == "Unique":
        return Node(op, [np.round(x).astype(some(F32, I64))], {"axis": some(MISSING, axis), "sorted": some(MISSING, 0, 1)}, outputs=4)
    if op == "Range":
        t = some(F32, I64, I32)
        return Node(op, [Const(t(some(0, 5))), Const(t(some(7, -3))), Const(t(some(1, 2, -2)))])
    if op == "Clip":
        bounds = some([Const(dtype(-1))], [None, Const(dtype(1))], [Const(dtype(-1)), Const(dtype(1))], [Const(dtype(1)), Const(dtype(-1))], [])
        return Node(op, [x] + bounds)
    if op == "CenterCropPad":
        return Node(op, [x, Const([RNG.randint(1, 7)], I64)], {"axes": [axis]}, opset=18)
    if op == "Einsum":
        eq, dims = some(("ij,jk->ik", [[2, 3], [3, 4]]), ("bij,bjk->bik", [[2, 2, 3], [2, 3, 4]]), ("ij->ji", [[2, 3]]), ("ii->i", [[3, 3]]),
                        ("bhid,bhjd->bhij", [[1, 2, 3, 4], [1, 2, 5, 4]]), ("i,j->ij", [[3], [4]]), ("ij,ij->", [[2, 3], [2, 3]]),
                        ("...ij,...jk->...ik", [[2, 2, 3], [2, 3, 4]]), ("ij->i", [[2, 3]]), ("ijk,kl", [[2, 3, 4], [4, 2]]))
        return Node(op, [data(F32, d) for d in dims], {"equation": eq})
    if op == "Col2Im":
        return Node(op, [data(F32, [1, 8, 9]), Const([4, 4], I64), Const([2, 2], I64)], {}, opset=18)
    return None


def recurrent():
    op = some("LSTM", "GRU", "RNN")
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    seq, batch, width, hidden = RNG.randint(1, 5), RNG.randint(1, 3), RNG.randint(1, 4), RNG.randint(1, 4)
    direction = some("forward", "reverse", "bidirectional")
    d = 2 if direction == "bidirectional" else 1
    x = data(F32, [seq, batch, width])
    ins = [x, Const(data(F32, [d, gates * hidden, width], -1, 1)), Const(data(F32, [d, gates * hidden, hidden], -1, 1))]
    ins.append(Const(data(F32, [d, 2 * gates * hidden], -1, 1)) if RNG.random() < 0.7 else None)
    ins.append(Const(NP.integers(1, seq + 1, [batch]).astype(I32)) if RNG.random() < 0.3 else None)
    ins.append(data(F32, [d, batch, hidden], -1, 1) if RNG.random() < 0.5 else None)
    if op == "LSTM":
        ins.append(data(F32, [d, batch, hidden], -1, 1) if RNG.random() < 0.5 else None)
        ins.append(Const(data(F32, [d, 3 * hidden], -1, 1)) if RNG.random() < 0.3 else None)
    while ins[-1] is None:
        ins.pop()
    attrs = {"hidden_size": hidden, "direction": direction, "clip": some(MISSING, MISSING, 0.5)}
    if op == "GRU":
        attrs["linear_before_reset"] = some(MISSING, 0, 1)
    if op == "LSTM":
        attrs["input_forget"] = some(MISSING, MISSING, 0, 1)
    if RNG.random() < 0.3:
        f = ["Relu", "Tanh", "Sigmoid", "Softsign", "HardSigmoid", "Elu"]
        attrs["activations"] = [some(*f) for _ in range({"LSTM": 3, "GRU": 2, "RNN": 1}[op])] * d
    return Node(op, ins, attrs, outputs=3 if op == "LSTM" else 2, opset=14)


def detection():
    op = some("GridSample", "RoiAlign", "NonMaxSuppression", "MaxRoiPool", "GridSample")
    if op == "GridSample":
        x = data(F32, [some(1, 2), 2, 4, 5])
        grid = data(F32, [x.shape[0], 3, 4, 2], -1.3, 1.3)
        return Node(op, [x, grid], {"mode": some(MISSING, "linear", "nearest", "cubic"), "padding_mode": some(MISSING, "zeros", "border", "reflection"),
                                    "align_corners": some(MISSING, 0, 1)}, opset=20)
    if op == "RoiAlign":
        x = data(F32, [2, 2, 8, 8])
        boxes = np.sort(data(F32, [3, 2, 2], 0, 8), 1).reshape(3, 4)
        return Node(op, [x, boxes, NP.integers(0, 2, [3]).astype(I64)],
                    {"mode": some(MISSING, "avg", "max"), "output_height": 3, "output_width": 2, "sampling_ratio": some(0, 1, 2),
                     "spatial_scale": some(1.0, 0.5), "coordinate_transformation_mode": some(MISSING, "half_pixel", "output_half_pixel")}, opset=16)
    if op == "NonMaxSuppression":
        boxes = np.sort(data(F32, [1, 8, 2, 2], 0, 10), 2).reshape(1, 8, 4)
        return Node(op, [boxes, data(F32, [1, 2, 8], 0, 1), Const([some(0, 1, 3, 10)], I64), Const([some(0.0, 0.3, 0.7)], F32),
                         Const([some(0.0, 0.5)], F32)], {"center_point_box": some(MISSING, 0, 1)})
    return None


GROUPS = [unary, unary, unary, binary, binary, cast, reduce, reduce, softmax, norm, norm, pool, pool, conv, conv, matmul, quantize, resize, resize,
          pad, slices, slices, slices, slices, slices, recurrent, recurrent, detection]


def build(node):
    inputs, initializers, feed, names = [], [], {}, []
    for i, value in enumerate(node.inputs):
        if value is None:
            names.append("")
            continue
        name = f"i{i}"
        names.append(name)
        if isinstance(value, Const):
            initializers.append(numpy_helper.from_array(value.value, name))
        else:
            value = np.asarray(value)
            feed[name] = value
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    outputs = [f"o{i}" for i in range(node.outputs)]
    made = helper.make_node(node.op, names, outputs, "node", domain=node.domain, **node.attrs)
    infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([made], "sweep", inputs, infos, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)], ir_version=9)
    return model, feed, outputs


def tolerance(op, answers):
    if any(np.asarray(answer).dtype == F16 for answer in answers):
        return 4e-3
    # By the standard's formula the variance is a difference of two near numbers.
    return 5e-3 if op == "MeanVarianceNormalization" else 2e-5


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    lines = []
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    for group in GROUPS:
        for _ in range(EACH):
            node = group()
            if node is None:
                continue
            model, feed, outputs = build(node)
            # Types and shapes of outputs, so that onnxruntime can be asked.
            try:
                model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
                session = onnxruntime.InferenceSession(model.SerializeToString(), options)
                answers = session.run(None, feed)
            except Exception:  # what onnxruntime refuses is no case
                continue
            number = len(lines)
            name = f"{node.op}-{number}"
            folder = OUT / name
            folder.mkdir()
            onnx.save(model, folder / "model.onnx")
            line = {"name": f"{name} {node.attrs} opset {node.opset} "
                            + str([None if v is None else ("const " if isinstance(v, Const) else "")
                                   + str((v.value if isinstance(v, Const) else np.asarray(v)).dtype)
                                   + str(list((v.value if isinstance(v, Const) else np.asarray(v)).shape)) for v in node.inputs]),
                    "model": str(folder / "model.onnx"), "inputs": [], "outputs": [],
                    "tolerance": tolerance(node.op, answers)}
            for key, named in (("inputs", feed.items()), ("outputs", zip(outputs, answers))):
                for tensor, value in named:
                    file = folder / f"{tensor}.npy"
                    np.save(file, np.asarray(value))
                    line[key].append({"name": tensor, "file": str(file)})
            lines.append(json.dumps(line))
    (OUT / "cases.jsonl").write_text("\n".join(lines) + "\n")


main()
