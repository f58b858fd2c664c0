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
    """A small CNN: convolution, pooling over everything, softmax."""
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
        helper.make_node("Softmax", ["g"], ["y"], axis=1),
    ]
    shapes = {"x": lambda rows: (rows, 2, 6, 5)}
    return model(nodes, [("x", ["N", 2, 6, 5])], [("y", ["N", 3])], weights), shapes


def recurrent(random):
    """An LSTM whose states have the batch as their second axis."""
    weights = {
        "w": random.normal(size=(1, 16, 3)).astype(np.float32) * 0.5,
        "r": random.normal(size=(1, 16, 4)).astype(np.float32) * 0.5,
        "b": random.normal(size=(1, 32)).astype(np.float32) * 0.5,
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r", "b", "", "h", "c"], ["all", "h_out", "c_out"], hidden_size=4),
    ]
    state = [1, "batch", 4]
    inputs = [("x", ["batch", 5, 3]), ("h", state), ("c", state)]
    shapes = {"x": lambda rows: (rows, 5, 3), "h": lambda rows: (1, rows, 4), "c": lambda rows: (1, rows, 4)}
    return model(nodes, inputs, [("h_out", state), ("c_out", state)], weights), shapes


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
