"""Small models over every element type that Lineside carries, in and out, with onnxruntime's answers.

    elements.py OUT

Writes cases as `cases.rs` reads them.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

OUT = pathlib.Path(sys.argv[1])
RNG = np.random.default_rng(7)
TYPES = {"f32": (T.FLOAT, np.float32), "f64": (T.DOUBLE, np.float64), "f16": (T.FLOAT16, np.float16), "i64": (T.INT64, np.int64),
         "i32": (T.INT32, np.int32), "i16": (T.INT16, np.int16), "i8": (T.INT8, np.int8), "u64": (T.UINT64, np.uint64),
         "u32": (T.UINT32, np.uint32), "u16": (T.UINT16, np.uint16), "u8": (T.UINT8, np.uint8), "bool": (T.BOOL, np.bool_)}


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def node(op, inputs, outputs, domain="", **attributes):
    return helper.make_node(op, inputs, outputs, f"{op}-{outputs[0]}", domain=domain, **attributes)


def numbers(dtype, shape):
    """The whole range of a whole type, ends included; floats around 0."""
    if np.issubdtype(dtype, np.floating):
        return RNG.normal(0, 2, shape).astype(dtype)
    if dtype == np.bool_:
        return RNG.random(shape) < 0.5
    info = np.iinfo(dtype)
    values = RNG.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    values.flat[0], values.flat[1] = info.min, info.max
    return values


def models():
    """Name, nodes, constants, inputs by name, output names with types, tolerance."""
    for name, (onnx_type, dtype) in TYPES.items():
        # Moved, joined and picked: no arithmetic, so not an element may differ.
        x = numbers(dtype, [2, 3])
        nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Concat", ["t", "t"], ["c"], axis=1),
                 node("Gather", ["c", "rows"], ["y"], axis=0), node("Identity", ["x"], ["z"])]
        yield f"{name}-moved", nodes, [constant("rows", np.array([2, 0], np.int64))], {"x": x}, {"y": onnx_type, "z": onnx_type}, 0
        # To every other type that has its numbers.
        small = (np.abs(numbers(np.float32, [2, 3])) * 3).astype(dtype)
        nodes = [node("Cast", ["x"], [f"to-{other}"], to=to) for other, (to, _) in TYPES.items()]
        yield f"{name}-cast", nodes, [], {"x": small}, {f"to-{other}": to for other, (to, _) in TYPES.items()}, 1e-3
    # Whole numbers beyond 32 bits, from every type that has them and through what reads whole numbers.
    wide = np.array([[10_000_000_000, -10_000_000_000, 2**31], [-2**31 - 1, 2**52, 7]], np.int64)
    for name in ("f32", "f64", "i64", "u64", "u32"):
        onnx_type, dtype = TYPES[name]
        x = (np.abs(wide) % np.int64(2**32) if name == "u32" else wide if name != "u64" else np.abs(wide)).astype(dtype)
        yield f"{name}-wide", [node("Cast", ["x"], ["y"], to=T.INT64), node("CastLike", ["x", "like"], ["z"])], [constant("like", np.int64([0]))], {"x": x}, {"y": T.INT64, "z": T.INT64}, 0
    parts = ["sum", "mean", "l1", "least", "most", "both", "chosen", "cell", "row", "shown"]
    yield ("i64-wide-read",
           [node("Cast", ["x"], ["w"], to=T.INT64), node("ReduceSum", ["w", "one"], ["sum"]), node("ReduceMean", ["w"], ["mean"], axes=[1]),
            node("ReduceL1", ["w"], ["l1"], axes=[1]), node("ReduceMin", ["w"], ["least"], axes=[0]), node("ReduceMax", ["w"], ["most"], axes=[0]),
            node("Concat", ["w", "x"], ["both"], axis=0), node("Greater", ["w", "zero"], ["above"]), node("Where", ["above", "w", "x"], ["chosen"]),
            node("Gather", ["w", "one"], ["cell"], axis=1), node("ArrayFeatureExtractor", ["w", "one"], ["row"], "ai.onnx.ml"),
            # Beside a shape, which the engine counts in a type of its own.
            node("Shape", ["x"], ["s"]), node("Concat", ["s", "flat"], ["shown"], axis=0), node("Reshape", ["w", "all"], ["flat"])],
           [constant("one", np.int64([1])), constant("zero", np.int64(0)), constant("all", np.int64([-1]))],
           {"x": wide}, {part: T.INT64 for part in parts}, 0)
    # Means and norms of f16 whose sums are beyond it.
    large = (RNG.random([1, 2, 50, 50]) * 400 + 100).astype(np.float16)
    yield ("f16-sums",
           [node("GlobalAveragePool", ["x"], ["pool"]), node("AveragePool", ["x"], ["part"], kernel_shape=[40, 40]), node("ReduceMean", ["x"], ["mean"], axes=[2, 3]),
            node("ReduceL2", ["x"], ["norm"], axes=[3]), node("LpNormalization", ["x"], ["unit"], axis=3), node("LogSoftmax", ["x"], ["log"], axis=3),
            node("Cast", ["x"], ["single"], to=T.FLOAT), node("Softplus", ["single"], ["plus-f"]), node("Cast", ["plus-f"], ["plus"], to=T.FLOAT16)],
           [], {"x": large}, {part: T.FLOAT16 for part in ("pool", "part", "mean", "norm", "unit", "log", "plus")}, 1e-3)
    far = np.float32([[0, -110, -300, -50], [100, 500, 90, -200]])
    yield "f32-far", [node("LogSoftmax", ["x"], ["log"], axis=1), node("Softplus", ["x"], ["plus"])], [], {"x": far}, {"log": T.FLOAT, "plus": T.FLOAT}, 1e-6
    # An ellipsis stands for any number of axes.
    for rank, shape in enumerate([[3], [4, 3], [2, 4, 3], [2, 5, 4, 3]]):
        yield (f"f32-einsum-{rank}", [node("Einsum", ["x", "w"], ["y"], equation="...a,ab->...b"), node("Einsum", ["x", "w"], ["z"], equation="...a, ab")],
               [constant("w", numbers(np.float32, [3, 2]))], {"x": numbers(np.float32, shape)}, {"y": T.FLOAT, "z": T.FLOAT}, 1e-5)
    yield ("f32-einsum-behind", [node("Einsum", ["x", "w"], ["y"], equation="bn...,bn->b...")],
           [constant("w", numbers(np.float32, [2, 3]))], {"x": numbers(np.float32, [2, 3, 4, 5])}, {"y": T.FLOAT}, 1e-5)
    half = lambda *shape: RNG.normal(0, 1, shape).astype(np.float16)  # noqa: E731
    yield ("f16-network",
           [node("Conv", ["x", "k", "c"], ["a"], pads=[1, 1, 1, 1]), node("Relu", ["a"], ["r"]), node("GlobalAveragePool", ["r"], ["g"]),
            node("Flatten", ["g"], ["f"]), node("MatMul", ["f", "w"], ["m"]), node("Add", ["m", "b"], ["l"]), node("Softmax", ["l"], ["y"], axis=1)],
           [constant("k", half(4, 3, 3, 3)), constant("c", half(4)), constant("w", half(4, 5)), constant("b", half(5))],
           {"x": half(2, 3, 8, 8)}, {"y": T.FLOAT16, "l": T.FLOAT16}, 1e-2)
    for name, dtype, kind in (("f16", np.float16, T.FLOAT16), ("f64", np.float64, T.DOUBLE)):
        some = lambda *shape: RNG.normal(0, 1, shape).astype(dtype)  # noqa: B023,E731
        yield (f"{name}-gemm",
               [node("Gemm", ["x", "w", "b"], ["l"]), node("Gemm", ["l", "v", "c"], ["m"], transB=1, alpha=0.5, beta=2.0), node("Gemm", ["x", "u"], ["y"], transA=1)],
               [constant("w", some(6, 5)), constant("b", some(5)), constant("v", some(4, 5)), constant("c", some(3, 1)), constant("u", some(3, 2))],
               {"x": some(3, 6)}, {"l": kind, "m": kind, "y": kind}, 5e-3 if dtype == np.float16 else 1e-12)
    # A GRU of f16, with and without a state to begin with; each of its sums is a rounding more.
    gates = [constant("w", half(2, 12, 3)), constant("r", half(2, 12, 4)), constant("b", half(2, 24))]
    for name, reset in (("f16-gru", 0), ("f16-gru-linear", 1)):
        more = {"hidden_size": 4, "direction": "bidirectional", "linear_before_reset": reset}
        yield (name, [node("GRU", ["x", "w", "r", "b", "", "h"], ["y", "last"], **more), node("GRU", ["x", "w", "r"], ["z", "least"], **more)],
               gates, {"x": half(5, 2, 3), "h": half(2, 2, 4)}, {"y": T.FLOAT16, "last": T.FLOAT16, "z": T.FLOAT16}, 1e-2)
    yield ("u8-picture",
           [node("Cast", ["x"], ["f"], to=T.FLOAT), node("Mul", ["f", "s"], ["n"]), node("Conv", ["n", "k"], ["a"]),
            node("QuantizeLinear", ["a", "qs", "qz"], ["y"])],
           [constant("s", np.float32(1 / 255)), constant("k", RNG.normal(0, 1, [2, 3, 3, 3]).astype(np.float32)),
            constant("qs", np.float32(0.05)), constant("qz", np.uint8(128))],
           {"x": numbers(np.uint8, [1, 3, 6, 6])}, {"y": T.UINT8, "a": T.FLOAT}, 1e-5)
    yield ("i8-quantised",
           [node("DequantizeLinear", ["x", "qs", "qz"], ["f"]), node("Sigmoid", ["f"], ["s"]), node("QuantizeLinear", ["s", "os", "oz"], ["y"]),
            node("Max", ["x", "least"], ["m"])],
           [constant("qs", np.float32(0.04)), constant("qz", np.int8(-3)), constant("os", np.float32(1 / 255)),
            constant("oz", np.int8(-128)), constant("least", np.int8(-100))],
           {"x": numbers(np.int8, [4, 5])}, {"y": T.INT8, "m": T.INT8}, 0)
    yield ("i64-words",
           [node("Gather", ["table", "x"], ["e"], axis=0), node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
            node("ArgMax", ["m"], ["y"], axis=1, keepdims=0), node("TopK", ["m", "k"], ["best", "which"], axis=1)],
           [constant("table", RNG.normal(0, 1, [9, 4]).astype(np.float32)), constant("k", np.array([2], np.int64))],
           {"x": RNG.integers(0, 9, [3, 6])}, {"y": T.INT64, "which": T.INT64, "best": T.FLOAT}, 1e-5)
    yield ("bool-mask",
           [node("Where", ["mask", "x", "zero"], ["kept"]), node("Greater", ["kept", "zero"], ["above"]),
            node("And", ["above", "mask"], ["y"]), node("Not", ["mask"], ["off"])],
           [constant("zero", np.float32(0))],
           {"x": numbers(np.float32, [3, 4]), "mask": numbers(np.bool_, [3, 4])}, {"y": T.BOOL, "off": T.BOOL, "kept": T.FLOAT}, 0)
    # Layers as quantising exporters write them: a step of their answers is a step, not a rounding. Weights within ±63, where
    # onnxruntime's sums do not saturate on any machine.
    byte = lambda name, tensor, scale, zero: ([node("DequantizeLinear", [tensor, f"{name}-s", f"{name}-z"], [name])],  # noqa: E731
                                              [constant(f"{name}-s", np.float32(scale)), constant(f"{name}-z", zero)])
    (dx, cx), (dw, cw) = byte("xr", "x", 0.021, np.uint8(117)), byte("wr", "w", 0.013, np.int8(0))
    scales = np.float32([0.004, 0.011, 0.027, 0.009])
    channels = [node("DequantizeLinear", ["k", "ks", "kz"], ["kr"], axis=0), node("DequantizeLinear", ["c", "cs", "cz"], ["cr"], axis=0)]
    kernel = [constant("k", RNG.integers(-63, 64, [4, 3, 3, 3]).astype(np.int8)), constant("ks", scales), constant("kz", np.zeros(4, np.int8)),
              constant("c", RNG.integers(-9000, 9000, [4]).astype(np.int32)), constant("cs", np.float32(0.021) * scales), constant("cz", np.zeros(4, np.int32))]
    ends = [constant("ys", np.float32(0.037)), constant("yz", np.uint8(99))]
    x = {"x": numbers(np.uint8, [2, 3, 9, 9])}
    yield ("qdq-conv", [*dx, *channels, node("Conv", ["xr", "kr", "cr"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
                        node("QuantizeLinear", ["a", "ys", "yz"], ["y"])], cx + kernel + ends, x, {"y": T.UINT8}, 0)
    yield ("qdq-conv-relu", [*dx, *channels, node("Conv", ["xr", "kr", "cr"], ["a"]), node("Relu", ["a"], ["r"]),
                             node("QuantizeLinear", ["r", "ys", "rz"], ["y"])], cx + kernel + ends + [constant("rz", np.uint8(0))], x, {"y": T.UINT8}, 0)
    dense = [constant("w", RNG.integers(-63, 64, [40, 7]).astype(np.int8))]
    rows = {"x": numbers(np.uint8, [5, 40])}
    yield ("qdq-matmul", [*dx, *dw, node("MatMul", ["xr", "wr"], ["a"]), node("QuantizeLinear", ["a", "ys", "yz"], ["y"])],
           cx + cw + dense + ends, rows, {"y": T.UINT8}, 0)
    (da, ca), (db, cb) = byte("ar", "a", 0.031, np.uint8(3)), byte("br", "b", 0.017, np.uint8(200))
    pair = {"a": numbers(np.uint8, [3, 50]), "b": numbers(np.uint8, [3, 50])}
    yield ("qdq-add", [*da, *db, node("Add", ["ar", "br"], ["s"]), node("QuantizeLinear", ["s", "ys", "yz"], ["y"])], ca + cb + ends, pair, {"y": T.UINT8}, 0)
    # Scales of which every sum is near a half: the order of operations decides.
    (dp, cp), (dq, cq) = byte("ar", "a", 0.5, np.uint8(128)), byte("br", "b", 0.25, np.uint8(128))
    halves = [constant("ys", np.float32(0.5)), constant("yz", np.uint8(127))]
    yield ("qdq-add-halves", [*dp, *dq, node("Add", ["ar", "br"], ["s"]), node("QuantizeLinear", ["s", "ys", "yz"], ["y"])], cp + cq + halves, pair, {"y": T.UINT8}, 0)
    # onnxruntime's own quantised operators; within one step, which of bytes that reach 255 is 1 in 255.
    us, uz, ss, sz = np.float32(0.0313), np.uint8(117), np.float32(0.0171), np.int8(-9)
    kinds = [("u8", np.uint8, us, uz, np.float32(0.043), np.uint8(101)), ("i8", np.int8, ss, sz, np.float32(0.0257), np.int8(5))]
    ours = lambda op, inputs, outputs, **attributes: node(op, inputs, outputs, "com.microsoft", **attributes)  # noqa: E731
    for kind, dtype, scale, zero, to_scale, to_zero in kinds:
        q = lambda *names: [f"{one}{part}" for one in names for part in ("", "s", "z")]  # noqa: E731
        scales = [constant("as", scale), constant("az", zero), constant("bs", np.float32(scale / 3)), constant("bz", dtype(7)),
                  constant("ys", to_scale), constant("yz", to_zero)]
        float_out = lambda *names: [node("Cast", [one], [f"{one}-f"], to=T.FLOAT) for one in names]  # noqa: E731
        yield (f"{kind}-contributed-joined",
               [ours("QLinearAdd", [*q("a", "b"), "ys", "yz"], ["sum"]), ours("QLinearAdd", [*q("a"), "row", "bs", "bz", "ys", "yz"], ["wide"]),
                ours("QLinearMul", [*q("a", "b"), "ys", "yz"], ["product"]), ours("QLinearConcat", ["ys", "yz", *q("a", "b")], ["joined"], axis=1),
                ours("QLinearLeakyRelu", [*q("a"), "ys", "yz"], ["leaky"], alpha=0.1), ours("QLinearSigmoid", [*q("a"), "ps", "pz"], ["p"]),
                *float_out("sum", "wide", "product", "joined", "leaky", "p")],
               [*scales, constant("row", numbers(dtype, [40])), constant("ps", np.float32(1 / 256)), constant("pz", dtype(np.iinfo(dtype).min))],
               {"a": numbers(dtype, [3, 40]), "b": numbers(dtype, [3, 40])},
               {f"{one}-f": T.FLOAT for one in ("sum", "wide", "product", "joined", "leaky", "p")}, 1.01 / 127 if kind == "i8" else 1.01 / 255)
        yield (f"{kind}-contributed-pool",
               [ours("QLinearGlobalAveragePool", [*q("a"), "ms", "yz"], ["mean"]), *float_out("mean")],
               [*scales, constant("ms", np.float32(scale / 40))], {"a": numbers(dtype, [2, 5, 4, 6])}, {"mean-f": T.FLOAT}, 1.01 / 100)
        windows = dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
        yield (f"{kind}-contributed-windows",
               [ours("QLinearAveragePool", [*q("a"), "ms", "yz"], ["mean"], **windows),
                ours("QLinearAveragePool", [*q("a"), "ms", "yz"], ["padded"], count_include_pad=1, **windows), *float_out("mean", "padded")],
               [*scales, constant("ms", np.float32(scale / 2))], {"a": numbers(dtype, [2, 3, 7, 6])}, {"mean-f": T.FLOAT, "padded-f": T.FLOAT}, 1.01 / 100)
        yield (f"{kind}-contributed-softmax",
               [*(ours("QLinearSoftmax", ["a", "bs", "az", "ps", "pz"], [f"p{version}"], opset=version, axis=1) for version in (12, 13)), *float_out("p12", "p13")],
               [*scales, constant("ps", np.float32(1 / 256)), constant("pz", dtype(np.iinfo(dtype).min))],
               {"a": numbers(dtype, [2, 4, 3])}, {"p12-f": T.FLOAT, "p13-f": T.FLOAT}, 1.01 / 100)
        # A scale for each direction, or for each of its columns; sums of u8 × i8 that no processor cuts.
        rows = lambda width: RNG.integers(-63, 64, [2, width, 20]).astype(np.int8) if kind == "i8" else numbers(np.uint8, [2, width, 20])  # noqa: E731
        each = [2] if kind == "u8" else [2, 20]
        lstm = [constant("w", rows(3)), constant("r", rows(5)), constant("b", RNG.normal(size=[2, 40]).astype(np.float32)),
                constant("ws", RNG.uniform(0.003, 0.01, each).astype(np.float32)), constant("wz", np.full(each, 128 if kind == "u8" else 0, dtype))]
        yield (f"{kind}-contributed-lstm",
               [ours("DynamicQuantizeLSTM", ["x", "w", "r", "b", "", "h", "c", "", "ws", "wz", "ws", "wz"], ["y", "yh", "yc"], hidden_size=5, direction="bidirectional")],
               lstm, {"x": RNG.normal(size=[6, 2, 3]).astype(np.float32), "h": RNG.normal(size=[2, 2, 5]).astype(np.float32) / 2, "c": RNG.normal(size=[2, 2, 5]).astype(np.float32)},
               {"y": T.FLOAT, "yh": T.FLOAT, "yc": T.FLOAT}, 1e-5)
        columns = [constant("w", RNG.integers(-63, 64, [7, 20]).astype(np.int8)), constant("ws", RNG.uniform(0.005, 0.02, 7).astype(np.float32)),
                   constant("wz", np.zeros(7, np.int8)), constant("c", RNG.integers(-900, 900, 7).astype(np.int32)), constant("gs", np.float32(scale * 10))]
        yield (f"{kind}-contributed-gemm",
               [ours("QGemm", [*q("a", "w"), "c", "gs", "yz"], ["l"], transB=1), ours("QGemm", [*q("a", "w"), "c"], ["r"], transB=1, alpha=0.5), *float_out("l")],
               [*scales, *columns], {"a": numbers(dtype, [5, 20])}, {"l-f": T.FLOAT, "r": T.FLOAT}, 1.01 / 100)
    words = np.array([["eisen", "Stahl"], ["", "Blech – verzinkt"], ["Stahl", "ü"]], dtype=object)
    yield ("text-moved", [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Flatten", ["t"], ["y"], axis=0)], [], {"x": words}, {"y": T.STRING}, 0)
    said = np.array([1e10, -np.inf, np.inf, np.nan, 0.1, 1e-5, 123456789, 1, 0, 1e7, 1e8, 1 / 3, 100.5])
    for name, dtype in (("f32", np.float32), ("f64", np.float64), ("f16", np.float16), ("i64", np.int64), ("u64", np.uint64), ("bool", np.bool_)):
        x = said.astype(dtype) if name.startswith("f") else numbers(dtype, [6])
        yield f"{name}-said", [node("Cast", ["x"], ["y"], to=T.STRING)], [], {"x": x}, {"y": T.STRING}, 0
    yield ("text-read", [node("Cast", ["x"], [name], to=TYPES[name][0]) for name in ("f32", "f64", "i64", "u8")],
           [], {"x": np.array(["3.7", " 4", "+5", "100"], dtype=object)}, {name: TYPES[name][0] for name in ("f32", "f64", "i64", "u8")}, 0)
    yield ("text-encoded",
           [node("LabelEncoder", ["x"], ["y"], "ai.onnx.ml", keys_strings=["Stahl", "ü", ""], values_int64s=[1, 2, 3], default_int64=-1),
            node("LabelEncoder", ["y"], ["z"], "ai.onnx.ml", keys_int64s=[1, 2, 3], values_strings=["S", "Ü", "leer"], default_string="?"),
            node("OneHotEncoder", ["x"], ["h"], "ai.onnx.ml", cats_strings=["Stahl", "eisen"], zeros=1)],
           [], {"x": words}, {"y": T.INT64, "z": T.STRING, "h": T.FLOAT}, 0)


def main():
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    lines = []
    for name, nodes, constants, feed, outputs, tolerance in models():
        folder = OUT / name
        folder.mkdir(parents=True)
        typed = lambda value: T.STRING if value.dtype == object else helper.np_dtype_to_tensor_dtype(value.dtype)  # noqa: E731
        inputs = [helper.make_tensor_value_info(key, typed(value), value.shape) for key, value in feed.items()]
        made = [helper.make_tensor_value_info(key, kind, None) for key, kind in outputs.items()]
        graph = helper.make_graph(nodes, name, inputs, made, constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.save(model, folder / "model.onnx")
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        answers = session.run(None, feed)
        line = {"name": name, "model": str(folder / "model.onnx"), "inputs": [], "outputs": [], "tolerance": tolerance}
        for key, named in (("inputs", feed.items()), ("outputs", zip(outputs, answers))):
            for tensor, value in named:
                file = folder / f"{key}-{tensor}.npy"
                np.save(file, value.astype("U") if value.dtype == object else value)
                line[key].append({"name": tensor, "file": str(file)})
        lines.append(json.dumps(line))
    (OUT / "cases.jsonl").write_text("\n".join(lines) + "\n")


main()
