"""Models with an open batch, each with golden cases of 1 and of 8 rows, and 3 rows that nobody compiles for.

    batches.py OUT

Writes OUT/NAME.onnx, OUT/NAME/golden/{one,eight}/, and OUT/cases.jsonl, a line for each model and count of
rows: NAME-1, NAME-8, NAME-3.
"""
import hashlib
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def model(nodes, inputs, outputs, weights, domains=()):
    ports = [[helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in side] for side in (inputs, outputs)]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "batches", *ports, constants)
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 3) for domain in domains)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(made)
    return made


def convolution(random):
    """A small CNN: convolution, pooling over everything, probabilities."""
    weights = {
        "k": random.normal(size=(4, 2, 3, 3)).astype(np.float32),
        "w": random.normal(size=(4, 3)).astype(np.float32),
        "b": random.normal(size=3).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["y"]),
    ]
    shapes = {"x": lambda rows: (rows, 2, 6, 5)}
    return model(nodes, [("x", ["N", 2, 6, 5])], [("y", ["N", 3])], weights), shapes


def recurrent(random):
    """A cell whose state has the batch as its second axis, as those of LSTM and GRU."""
    weights = {
        "w": random.normal(size=(3, 4)).astype(np.float32) * 0.5,
        "r": random.normal(size=(4, 4)).astype(np.float32) * 0.5,
        "first": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Squeeze", ["h", "first"], ["rows"]),
        helper.make_node("MatMul", ["rows", "r"], ["hr"]),
        helper.make_node("Add", ["xw", "hr"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["next"]),
        helper.make_node("Unsqueeze", ["next", "first"], ["h_out"]),
        helper.make_node("Sigmoid", ["next"], ["y"]),
    ]
    state = [1, "batch", 4]
    shapes = {"x": lambda rows: (rows, 3), "h": lambda rows: (1, rows, 4)}
    return model(nodes, [("x", ["batch", 3]), ("h", state)], [("y", ["batch", 4]), ("h_out", state)], weights), shapes


def scaled(random):
    """An operator that NNEF does not carry: one ONNX file for every size."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.5, -1.0, 2.0], scale=[2.0, 0.5, 1.5]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    weights = {"w": random.normal(size=(3, 2)).astype(np.float32)}
    return model(nodes, [("x", [None, 3])], [("y", [None, 2])], weights, ["ai.onnx.ml"]), {"x": lambda rows: (rows, 3)}


def main(out):
    random = np.random.default_rng(5)
    with open(out / "cases.jsonl", "w") as listed:
        for make in (convolution, recurrent, scaled):
            made, shapes = make(random)
            name = make.__name__
            file = out / f"{name}.onnx"
            onnx.save(made, file)
            session = onnxruntime.InferenceSession(str(file))
            for rows, case in ((1, "one"), (8, "eight"), (3, "three")):
                # What is no golden case lies beside their folder.
                place = out / name / ("golden" if case != "three" else "other") / case
                place.mkdir(parents=True)
                feed = {port: random.normal(size=shape(rows)).astype(np.float32) for port, shape in shapes.items()}
                names = [port.name for port in session.get_outputs()]
                answers = session.run(names, feed)
                ports = {"input": feed, "output": dict(zip(names, answers))}
                files = {}
                for kind, tensors in ports.items():
                    files[kind] = []
                    for i, (port, tensor) in enumerate(tensors.items()):
                        np.save(place / f"{kind}-{i}.npy", tensor)
                        files[kind].append({"name": port, "file": str(place / f"{kind}-{i}.npy")})
                line = {"name": f"{name}-{rows}", "model": str(file), "tolerance": 1e-5}
                listed.write(json.dumps(line | {"inputs": files["input"], "outputs": files["output"]}) + "\n")
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            (out / name / "golden/model.sha256").write_text(f"{digest}  {file.name}\n")


main(pathlib.Path(sys.argv[1]))
