"""Operators at the ends of their types, with onnxruntime's answers.

    edges.py OUT

Every operator that goes element by element is given the numbers where arithmetic has its corners: both zeros, both
infinities, NaN, the smallest and the largest numbers, ties of a rounding, and of whole numbers the ends of the
type; every operator of two numbers is given each of them with each. Whatever onnxruntime refuses is no case.
Writes cases as `cases.rs` reads them; their tolerance is a part of each number (of a `function` of 1 where
that is more), and 0 where a number is only moved or rounded once. A case whose name ends in `signed` tells the zeros apart.

Left out is where onnxruntime 1.32 is not the standard's, or does not agree with itself: the largest of rows with NaN in
them (it depends on the place), a Clip without a bound (which it takes for the largest number, so that infinity is
cut), the sign of NaN in f16, Shrink of anything but f32 (it computes in f32), sums, means and products of whole
numbers beyond their type (it stops at the end of the type, in f32), chains in f16 (it does not round between).
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(sys.argv[1])
F16, F32, F64 = np.float16, np.float32, np.float64
FLOATS = (F32, F64, F16)
WHOLES = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.log_severity_level, OPTIONS.intra_op_num_threads = 4, 1
# As written: its own rewrites are equal on paper only, too.
OPTIONS.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
LINES = []
# Of the largest: at 10,000 the numbers themselves are rounded to 5e-4, and so is their mean. onnxruntime is as far off.
TOLERANCE_FAR = {100.0: 1e-5, 1e4: 2e-3}


def corners(dtype):
    if dtype in FLOATS:
        info = np.finfo(dtype)
        some = [0.0, 1.0, 0.5, 1.5, 2.0, 2.5, 3.0, 0.1, 7.0, 49.0, 1e-3, info.max, info.max / 2, info.tiny, info.tiny / 4,
                info.smallest_subnormal, info.eps, 1 / info.eps, 1 / info.eps + 1, np.inf]
        some = np.array(some).astype(dtype)
        return np.concatenate([some, -some, np.array([np.nan], dtype)])
    info = np.iinfo(dtype)
    signed = [-1, -2, -7] if info.min else []
    return np.unique(np.array([0, 1, 2, 3, 7, 49, *signed, info.min, info.min + 1, info.max, info.max - 1], dtype))


def pairs(dtype, other=None):
    a, b = np.meshgrid(corners(dtype), corners(other or dtype))
    return a.reshape(-1), b.reshape(-1)


def typed(array):
    return helper.np_dtype_to_tensor_dtype(np.dtype(array.dtype))


def case(name, nodes, feed, constants=None, tolerance=0.0, opset=17, outputs=("y",), answers=None):
    ports = [helper.make_tensor_value_info(key, typed(value), value.shape) for key, value in feed.items()]
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in (constants or {}).items()]
    made = [onnx.ValueInfoProto(name=output) for output in outputs]
    graph = helper.make_graph(nodes, "edges", ports, made, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    shown = {port.name: port for port in onnx.shape_inference.infer_shapes(model).graph.output}
    for port in graph.output:
        port.CopyFrom(shown[port.name])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), OPTIONS)
        answers = answers or session.run(None, feed)
    except Exception:  # noqa: BLE001
        return
    folder = OUT / str(len(LINES))
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    line = {"name": name, "model": str(folder / "model.onnx"), "inputs": [], "outputs": [], "tolerance": tolerance}
    for key, named in (("inputs", feed.items()), ("outputs", zip(outputs, answers))):
        for tensor, value in named:
            file = folder / f"{key}-{tensor}.npy"
            np.save(file, value)
            line[key].append({"name": tensor, "file": str(file)})
    LINES.append(json.dumps(line))


node = helper.make_node


def said(dtype):
    return np.dtype(dtype).name


def one_number():
    """Of one number; what a library's function of C computes is within a few roundings."""
    exact = ["Abs", "Neg", "Ceil", "Floor", "Round", "Sign", "Sqrt", "Reciprocal", "Relu", "Identity", "IsNaN", "IsInf"]
    functions = ["Exp", "Log", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh",
                 "Erf", "Sigmoid", "Softplus", "Softsign", "Elu", "Selu", "Celu", "LeakyRelu", "ThresholdedRelu",
                 "HardSigmoid", "HardSwish", "Gelu", "Mish", "Shrink"]
    for operator in exact + functions:
        for dtype in FLOATS + WHOLES:
            x = corners(dtype)
            if operator == "Shrink" and dtype != F32:
                continue
            if operator == "Sign" and dtype == F16:
                x = x[~np.isnan(x)]
            signed = " signed" if dtype in FLOATS and operator in exact else ""
            function = "function " if operator in functions else ""
            case(f"{function}{operator} {said(dtype)}{signed}", [node(operator, ["x"], ["y"])], {"x": x}, opset=20,
                 tolerance=0.0 if operator in exact else {F16: 1e-3, F32: 1e-6, F64: 1e-12}.get(dtype, 0.0))


def two_numbers():
    arithmetic = ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Mean", "Sum", "PRelu"]
    compared = ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]
    for operator in arithmetic + compared:
        for dtype in FLOATS + WHOLES:
            a, b = pairs(dtype)
            if dtype in WHOLES and operator in ("Div", "Mod"):
                # By 0, and the least number by -1, onnxruntime ends its process.
                defined = (b != 0) & ~((np.iinfo(dtype).min < 0) & (a == np.iinfo(dtype).min) & (b == np.array(-1).astype(dtype)))
                a, b = a[defined], b[defined]
            signed = " signed" if dtype in FLOATS and operator in ("Add", "Sub", "Mul", "Div") else ""
            attributes = {"fmod": 1} if operator == "Mod" and dtype in FLOATS else {}
            case(f"{operator} {said(dtype)}{signed}", [node(operator, ["a", "b"], ["y"], **attributes)], {"a": a, "b": b}, opset=18)
            # The second is a constant, of one number and of one for each column.
            for second in corners(dtype):
                if dtype in WHOLES and operator in ("Div", "Mod") and second in (0, -1):
                    continue
                # x + 0 may be x.
                sign = "" if operator in ("Add", "Sub") and second == 0 else signed
                case(f"{operator} {said(dtype)} by {second}{sign}", [node(operator, ["a", "b"], ["y"], **attributes)],
                     {"a": corners(dtype)}, {"b": second}, opset=18)
            case(f"{operator} {said(dtype)} by columns{signed}", [node(operator, ["a", "b"], ["y"], **attributes)],
                 {"a": a[:, None] + np.zeros((1, 3), dtype)}, {"b": np.array([3, 7, 49], dtype)}, opset=18)


def powers():
    """IEEE 754's table and around it; the exponent is given at the run, or a constant."""
    for dtype in (F32, F64):
        base = corners(dtype)
        exponents = np.array([0.0, 1, 2, 3, 0.5, 1.5, 1 / 3, 2.5, 1e5 + 1, 2.0**24 - 1, 2.0**30, np.inf, 1e-5], dtype)
        exponents = np.concatenate([exponents, -exponents, np.array([np.nan], dtype)])
        a, b = (array.reshape(-1) for array in np.meshgrid(base, exponents))
        tolerance = 1e-6 if dtype == F32 else 1e-14
        case(f"Pow {said(dtype)} signed", [node("Pow", ["a", "b"], ["y"])], {"a": a, "b": b}, tolerance=tolerance)
        for exponent in exponents:
            for kind in (dtype, *((np.int64, np.int32) if exponent in (0, 1, 2, 3, -1, -2, 2.0**30) else ()), F64):
                power = np.asarray(exponent, kind)
                case(f"Pow {said(dtype)} to {said(kind)} {exponent!r} signed", [node("Pow", ["a", "b"], ["y"])], {"a": base},
                     {"b": power}, tolerance=tolerance)
    for dtype in (np.int32, np.int64):
        whole = np.array([0, 1, -1, 2, -2, 3, 7, -7, 10], dtype)
        for kind in (np.int32, np.int64, F32):
            a, b = (array.reshape(-1) for array in np.meshgrid(whole, np.array([0, 1, 2, 3, 5], kind)))
            case(f"Pow {said(dtype)} to {said(kind)}", [node("Pow", ["a", "b"], ["y"])], {"a": a, "b": b})


def choices():
    """What chooses among numbers or moves them."""
    for dtype in FLOATS + WHOLES:
        x = corners(dtype)
        rows = np.stack([np.roll(x, shift) for shift in range(len(x))])
        kind = said(dtype)
        for low, high in ((1, 3), (0, 0), (3, 1)):
            bounds = {"low": np.asarray(low, dtype), "high": np.asarray(high, dtype)}
            case(f"Clip {kind} {low} {high}", [node("Clip", ["x", "low", "high"], ["y"])], {"x": x}, bounds)
            case(f"Clip {kind} {low} open", [node("Clip", ["x", "low"], ["y"])], {"x": x[x != np.inf] if dtype in FLOATS else x}, bounds)
            case(f"Clip {kind} open {high}", [node("Clip", ["x", "", "high"], ["y"])], {"x": x[x != -np.inf] if dtype in FLOATS else x}, bounds)
        for operator in ("ArgMax", "ArgMin"):
            for last in (0, 1):
                for matrix, name in ((rows, "rows"), (rows.T.copy(), "columns")):
                    case(f"{operator} {kind} {last} {name}", [node(operator, ["x"], ["y"], axis=1, select_last_index=last)], {"x": matrix})
        for operator in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceMean"):
            few = rows[:, :3].copy()
            if operator in ("ReduceMax", "ReduceMin"):
                few = few[~np.isnan(few).any(1)] if dtype in FLOATS else few
            elif dtype in WHOLES:
                continue
            case(f"{operator} {kind}", [node(operator, ["x", "axes"], ["y"], keepdims=0)], {"x": few}, {"axes": np.array([1])}, opset=18)
        case(f"TopK {kind}", [node("TopK", ["x", "k"], ["y", "i"])], {"x": rows[:, :6].copy()}, {"k": np.array([4])}, outputs=("y", "i"))
        case(f"Where {kind}", [node("Where", ["c", "x", "z"], ["y"])], {"c": x > 0, "x": x, "z": x[::-1].copy()})
        case(f"CumSum {kind}", [node("CumSum", ["x", "axis"], ["y"])], {"x": rows[:, :2].copy()}, {"axis": np.array(1)})
        for reduction in ("add", "mul", "max", "min"):
            into = {"x": np.zeros_like(x) + x[3], "i": np.arange(len(x)), "u": x}
            case(f"ScatterElements {reduction} {kind}", [node("ScatterElements", ["x", "i", "u"], ["y"], reduction=reduction)], into, opset=18)
            case(f"ScatterND {reduction} {kind}", [node("ScatterND", ["x", "i", "u"], ["y"], reduction=reduction)], {**into, "i": into["i"][:, None]}, opset=18)
        case(f"Unique {kind}", [node("Unique", ["x"], ["y"], sorted=1)], {"x": np.concatenate([x[:9], x[:4]])})
        case(f"Neg of Neg {kind}", [node("Neg", ["x"], ["n"]), node("Neg", ["n"], ["y"])], {"x": x})
        case(f"Max of three {kind}", [node("Max", ["x", "b", "c"], ["y"])], {"x": x, "b": x[::-1].copy()}, {"c": np.asarray(2, dtype)})
        for to in FLOATS + WHOLES + (np.bool_,):
            if dtype in FLOATS and to in WHOLES:  # beyond the type C has no answer
                whole = np.array([0.0, -0.0, 0.5, 1.5, 2.5, 1.999, 100.0], dtype)
                given = whole if to in (np.uint8, np.uint16, np.uint32, np.uint64) else np.concatenate([whole, -whole])
            else:
                given = x
            case(f"Cast {kind} {said(to)}", [node("Cast", ["x"], ["y"], to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))], {"x": given})


def on_paper():
    """Chains that are equal to shorter ones on paper."""
    for dtype in (F32, F64):
        x, kind = corners(dtype), said(dtype)
        tiny, huge = np.finfo(dtype).tiny, np.finfo(dtype).max
        c = lambda value: np.asarray(value, dtype)  # noqa: E731
        two = lambda first, second: [node(first, ["x", "a"], ["m"]), node(second, ["m", "b"], ["y"])]  # noqa: E731
        for first in ("Mul", "Div", "Add", "Sub"):
            for second in ("Mul", "Div", "Add", "Sub"):
                sign = " signed" if first in ("Mul", "Div") and second in ("Mul", "Div") else ""
                for a, b in ((tiny, tiny), (huge, huge), (tiny, huge), (huge, tiny), (3, 7), (7, 1 / 7), (1, 0), (0, 1)):
                    case(f"{first} {second} {kind} {a:.3g} {b:.3g}{sign}", two(first, second), {"x": x}, {"a": c(a), "b": c(b)})
        case(f"root and square {kind}", [node("Sqrt", ["x"], ["r"]), node("Mul", ["r", "r"], ["y"])], {"x": x})
        case(f"root and power {kind}", [node("Sqrt", ["x"], ["r"]), node("Pow", ["r", "two"], ["y"])], {"x": x}, {"two": c(2)})
        case(f"square and root {kind}", [node("Mul", ["x", "x"], ["s"]), node("Sqrt", ["s"], ["y"])], {"x": x})
        case(f"inverse of root {kind}", [node("Sqrt", ["x"], ["r"]), node("Reciprocal", ["r"], ["y"])], {"x": x}, tolerance=3e-7)
        case(f"inverse of inverse {kind}", [node("Reciprocal", ["x"], ["r"]), node("Reciprocal", ["r"], ["y"])], {"x": x})
        case(f"times nothing {kind}", [node("Mul", ["x", "none"], ["y"])], {"x": x}, {"none": c(0)})
        case(f"less itself {kind}", [node("Sub", ["x", "x"], ["y"])], {"x": x})
        case(f"by itself {kind}", [node("Div", ["x", "x"], ["y"])], {"x": x})
        whole = np.arange(1, 200).astype(dtype)
        for divisor in (3, 7, 49, 100):
            case(f"whole part of a quotient {kind} {divisor}", [node("Div", ["x", "d"], ["q"]), node("Floor", ["q"], ["y"])],
                 {"x": whole}, {"d": c(divisor)})
        case(f"whole part of a quotient {kind} of itself", [node("Div", ["x", "x"], ["q"]), node("Floor", ["q"], ["y"])], {"x": whole})
        nearly = [1 + 1e-9, 1e-50, 2 + 1e-9, 0.5 + 1e-9] if dtype == F64 else []
        for value in nearly:
            for operator in ("Mul", "Add", "Pow", "Div"):
                given = np.array([0.1, 3, 7e-46, 1e30, 7e40])
                case(f"{operator} nearly {value!r}", [node(operator, ["x", "a"], ["y"])], {"x": given}, {"a": c(value)}, tolerance=1e-15)
        # The sum of squares by n, by n - 1 and by its power of two.
        rows = np.random.default_rng(4).normal(size=(2, 4097)).astype(dtype)
        for divisor in (4097, 4096):
            axes = {"axes": np.array([1]), "d": c(divisor)}
            made = [node("Mul", ["x", "x"], ["s"]), node("ReduceSum", ["s", "axes"], ["n"]), node("Div", ["n", "d"], ["y"])]
            near = 2e-6 if dtype == F32 else 1e-14
            case(f"squares by {divisor} {kind}", made, {"x": rows}, axes, near)
            made[2] = node("Mul", ["n", "d"], ["y"])
            case(f"squares times 1 by {divisor} {kind}", made, {"x": rows}, {**axes, "d": c(1 / divisor)}, near)


def feet():
    """Small answers in full: who takes their logarithm sees every digit. onnxruntime's own Sigmoid is 0 from -18 on, so that its
    answers are the standard's formula in f64."""
    for dtype in (F32, F64):
        x = np.concatenate([np.linspace(-85, 30, 400), np.linspace(-17, -6, 100), [-np.inf, np.inf, np.nan]]).astype(dtype)
        near = 3e-4 if dtype == F32 else 1e-8
        with np.errstate(all="ignore"):
            power = np.exp(x.astype(F64))
            sigmoid = np.where(x > 0, 1 / (1 + 1 / power), power / (1 + power))
            made = (("Identity", sigmoid), ("Log", np.log(sigmoid)), ("Reciprocal", 1 / sigmoid))
        for operator in ("Sigmoid", "Softplus", "Exp", "Softsign"):
            for then, answer in made:
                answers = [answer.astype(dtype)] if operator == "Sigmoid" else None
                function, within = ("function ", near / 10) if then == "Log" else ("", near)
                case(f"{function}{then} of {operator} {said(dtype)}", [node(operator, ["x"], ["f"]), node(then, ["f"], ["y"])], {"x": x},
                     tolerance=within, answers=answers)
        rows = np.stack([np.linspace(0, -85, 40), np.linspace(3, -70, 40)]).astype(dtype)
        case(f"logarithm of Softmax {said(dtype)}", [node("Softmax", ["x"], ["f"], axis=-1), node("Log", ["f"], ["y"])], {"x": rows}, tolerance=near)
        case(f"LogSoftmax {said(dtype)}", [node("LogSoftmax", ["x"], ["y"], axis=-1)], {"x": rows}, tolerance=near)


def old_slices():
    """Slices whose bounds stand in the node: below operator set 10."""
    far = 2**31 - 1
    for dtype in (F32, np.int64):
        x = np.arange(60).reshape(3, 4, 5).astype(dtype)
        for start in (0, 1, -2, -5, -9, 4, 9, -far, far):
            for end in (0, 2, -1, -5, -9, 5, 9, far, -far):
                case(f"old Slice {said(dtype)} {start} {end}", [node("Slice", ["x"], ["y"], axes=[2], starts=[start], ends=[end])], {"x": x}, opset=9)
        for axes in ([0, 2], [2, 0], [-1], [-3, 1], None):
            with_axes = {"axes": axes} if axes else {}
            count = len(axes or [0, 1, 2])
            case(f"old Slice {said(dtype)} along {axes}", [node("Slice", ["x"], ["m"], starts=[-7, 1, 0][:count], ends=[2, far, -1][:count], **with_axes),
                                                           node("Neg", ["m"], ["y"])], {"x": x}, opset=9)
            case(f"old Slice {said(dtype)} of all along {axes}", [node("Slice", ["x"], ["y"], starts=[0] * count, ends=[far] * count, **with_axes)], {"x": x}, opset=9)


def half():
    """Long sums in f16, which onnxruntime adds in f32, and channels whose statistics are not constants."""
    rng = np.random.default_rng(5)
    random = lambda *shape: rng.normal(size=shape).astype(F16)  # noqa: E731
    ones = lambda *shape: np.ones(shape, F16)  # noqa: E731
    of = lambda name, nodes, feed, constants=None, opset=17: case(f"far from 0: half {name}", nodes, feed, constants, 2e-3, opset)  # noqa: E731
    of("Conv", [node("Conv", ["x", "w"], ["y"])], {"x": ones(1, 600, 5, 5)}, {"w": ones(4, 600, 3, 3)})
    of("Conv of each channel", [node("Conv", ["x", "w", "b"], ["y"], group=6)], {"x": random(1, 6, 50, 50)}, {"w": random(6, 1, 30, 30), "b": random(6)})
    of("Conv in one dimension", [node("Conv", ["x", "w"], ["y"])], {"x": random(2, 300, 20)}, {"w": random(5, 300, 7)})
    of("Conv of a point", [node("Conv", ["x", "w"], ["y"])], {"x": ones(1, 5000, 2, 2)}, {"w": ones(3, 5000, 1, 1)})
    of("Conv of two inputs", [node("Conv", ["x", "w"], ["y"])], {"x": ones(1, 600, 5, 5), "w": ones(4, 600, 3, 3)})
    of("ConvTranspose", [node("ConvTranspose", ["x", "w"], ["y"])], {"x": ones(1, 3000, 5, 5)}, {"w": ones(3000, 2, 3, 3)})
    for operator, weights in (("MatMul", ones(5000, 3)), ("Gemm", ones(5000, 3))):
        of(operator, [node(operator, ["x", "w"], ["y"])], {"x": ones(2, 5000)}, {"w": weights})
    of("Einsum", [node("Einsum", ["x", "w"], ["y"], equation="ab,bc->ac")], {"x": random(2, 4000), "w": random(4000, 3)})
    of("LRN", [node("LRN", ["x"], ["y"], size=3, alpha=0.1)], {"x": random(1, 5, 3, 3) * F16(300)})
    of("CumSum", [node("CumSum", ["x", "a"], ["y"])], {"x": ones(1, 5000)}, {"a": np.array(1)})
    of("AveragePool", [node("AveragePool", ["x"], ["y"], kernel_shape=[50, 50])], {"x": ones(1, 2, 60, 60) * F16(100)})
    of("Softmax", [node("Softmax", ["x"], ["y"])], {"x": ones(2, 6000)})
    for operator in ("LSTM", "GRU", "RNN"):
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
        of(operator, [node(operator, ["x", "w", "r"], ["y"], hidden_size=4)], {"x": random(30, 1, 5)}, {"w": random(1, gates * 4, 5), "r": random(1, gates * 4, 4)})
    for dtype in (F32, F64):
        for shape in ((4, 3), (4, 3, 5), (4, 3, 5, 2)):
            x = (100 + rng.normal(size=shape)).astype(dtype)
            given = {"x": x, **{name: rng.uniform(0.5, 2, 3).astype(dtype) for name in "sbmv"}}
            nodes = lambda outputs, **attributes: [node("BatchNormalization", ["x", *"sbmv"], outputs, **attributes)]  # noqa: E731
            case(f"far from 0: BatchNormalization of inputs {said(dtype)} {shape}", nodes(["y"], epsilon=0.01), given, None, 1e-5)
            case(f"far from 0: BatchNormalization in training {said(dtype)} {shape}", nodes(["y", "rm", "rv"], training_mode=1, momentum=0.7), {"x": x},
                 {name: given[name] for name in "sbmv"}, 1e-4, outputs=("y", "rm", "rv"))


def far_from_zero():
    """Statistics of numbers that are large and differ little. onnxruntime loses as much in some of them, so that the
    answers are the standard's formulas in f64; what is compared is a part of the largest."""
    rng = np.random.default_rng(9)
    for dtype in (F32, F16):
        for offset in (0.0, 100.0, -100.0, 1e4):
            near = 2e-3 if dtype == F16 else 2e-6 if offset == 0 else TOLERANCE_FAR[abs(offset)]
            x = (offset + rng.normal(size=(2, 6, 7, 9)) * (8 if dtype == F16 and offset == 1e4 else 1)).astype(dtype)
            wide, kind = x.astype(F64), f"{said(dtype)} {offset:g}"
            scale, bias = rng.uniform(0.5, 2, 6).astype(dtype), rng.normal(size=6).astype(dtype)
            last = {"s": rng.uniform(0.5, 2, 9).astype(dtype), "b": rng.normal(size=9).astype(dtype)}
            channels = {"s": scale, "b": bias}
            across = lambda vector: vector.astype(F64).reshape(-1, 1, 1)  # noqa: E731

            def centred(of, axes):
                return (of - of.mean(axes, keepdims=True)), of.var(axes, keepdims=True)

            def told(name, nodes, answer, constants=None, opset=18, tolerance=near, feed=x):
                case(f"far from 0: {name} {kind}", nodes, {"x": feed}, constants, tolerance, opset, answers=[answer.astype(dtype)])

            for axes in ([0, 2, 3], [-1], [1, 2, 3]):
                less, variance = centred(wide, tuple(axes))
                told(f"MeanVarianceNormalization {axes}", [node("MeanVarianceNormalization", ["x"], ["y"], axes=axes)], less / (np.sqrt(variance) + 1e-9))
            less, variance = centred(wide, -1)
            told("LayerNormalization", [node("LayerNormalization", ["x", "s", "b"], ["y"])],
                 less / np.sqrt(variance + 1e-5) * last["s"].astype(F64) + last["b"].astype(F64), last)
            less, variance = centred(wide, (2, 3))
            told("InstanceNormalization", [node("InstanceNormalization", ["x", "s", "b"], ["y"])],
                 less / np.sqrt(variance + 1e-5) * across(scale) + across(bias), channels)
            grouped = wide.reshape(2, 3, 2, 7, 9)
            less, variance = centred(grouped, (2, 3, 4))
            told("GroupNormalization", [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=3)],
                 (less / np.sqrt(variance + 1e-5)).reshape(x.shape) * across(scale) + across(bias), channels, opset=21)
            means = (offset + rng.normal(size=6)).astype(dtype)
            squares = rng.uniform(0.5, 2, 6).astype(dtype)
            told("BatchNormalization", [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])],
                 (wide - across(means)) / np.sqrt(across(squares) + 1e-5) * across(scale) + across(bias),
                 {**channels, "m": means, "v": squares})
            square = (wide**2).mean(-1, keepdims=True)
            told("RMSNormalization", [node("RMSNormalization", ["x", "s"], ["y"])], wide / np.sqrt(square + 1e-5) * last["s"].astype(F64), {"s": last["s"]}, opset=23)
            for p in (1, 2):
                told(f"LpNormalization {p}", [node("LpNormalization", ["x"], ["y"], p=p, axis=-1)], wide / np.linalg.norm(wide, p, -1, keepdims=True))
            for operator, answer in (("ReduceL1", np.abs(wide).sum(-1)), ("ReduceL2", np.sqrt((wide**2).sum(-1))), ("ReduceSumSquare", (wide**2).sum(-1)),
                                     ("ReduceMean", wide.mean(-1)), ("ReduceLogSumExp", np.log(np.exp(wide - wide.max()).sum(-1)) + wide.max()),
                                     ("ReduceSum", wide.sum(-1))):
                if np.abs(answer).max() < np.finfo(dtype).max:
                    told(operator, [node(operator, ["x", "axes"], ["y"], keepdims=0)], answer, {"axes": np.array([-1])})
            powers = np.exp(wide - wide.max(-1, keepdims=True))
            told("Softmax", [node("Softmax", ["x"], ["y"], axis=-1)], powers / powers.sum(-1, keepdims=True), tolerance=max(near, 2e-6))
            told("LogSoftmax", [node("LogSoftmax", ["x"], ["y"], axis=-1)],
                 wide - wide.max(-1, keepdims=True) - np.log(powers.sum(-1, keepdims=True)), tolerance=max(near, 2e-6))
            # As exporters write it.
            written = lambda square, root: [  # noqa: E731
                node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), square,
                node("ReduceMean", ["p"], ["v"], axes=[-1]), node("Add", ["v", "e"], ["w"]), root, node("Div", ["d", "r"], ["y"])]
            constants = {"e": np.asarray(1e-5, dtype), "two": np.asarray(2, dtype), "half": np.asarray(0.5, dtype)}
            less, variance = centred(wide, -1)
            if dtype == F32:
                for square in (node("Pow", ["d", "two"], ["p"]), node("Mul", ["d", "d"], ["p"])):
                    for root in (node("Sqrt", ["w"], ["r"]), node("Pow", ["w", "half"], ["r"])):
                        told(f"variance as {square.op_type} and {root.op_type}", written(square, root), less / np.sqrt(variance + 1e-5), constants, opset=17)
    # Many numbers: onnxruntime is up to 1e-5 off.
    for shape, axis in (((3, 200_000), 1), ((200_000, 3), 0), ((2, 100_000, 2), 1)):
        x = (100 + rng.normal(size=shape)).astype(F32)
        wide = x.astype(F64)
        for operator, answer in (("ReduceMean", wide.mean(axis)), ("ReduceSum", wide.sum(axis)), ("ReduceL2", np.sqrt((wide**2).sum(axis))),
                                 ("ReduceSumSquare", (wide**2).sum(axis))):
            case(f"far from 0: many {operator} {shape}", [node(operator, ["x", "axes"], ["y"], keepdims=0)], {"x": x}, {"axes": np.array([axis])},
                 2e-5, 18, answers=[answer.astype(F32)])
    picture = (100 + rng.normal(size=(1, 2, 400, 500))).astype(F32)
    answer = picture.astype(F64).mean((2, 3), keepdims=True).astype(F32)
    case("far from 0: many GlobalAveragePool", [node("GlobalAveragePool", ["x"], ["y"])], {"x": picture}, tolerance=2e-6, answers=[answer])


def main():
    for cases in (one_number, two_numbers, powers, choices, on_paper, feet, old_slices, half, far_from_zero):
        cases()
    (OUT / "cases.jsonl").write_text("\n".join(LINES) + "\n")


main()
