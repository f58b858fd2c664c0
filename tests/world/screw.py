"""The notebook's part of docs/models.md: a network of pictures, its labels, and a picture with its right answer.

    screw.py OUT     screw.onnx, labels.txt, frame.png, answer.json
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

OUT = pathlib.Path(sys.argv[1])
RNG = np.random.default_rng(3)


def weights(name, *shape):
    return numpy_helper.from_array(RNG.normal(0, 0.3, shape).astype(np.float32), name)


def main():
    node = helper.make_node
    nodes = [node("Conv", ["input", "k", "c"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]), node("Relu", ["a"], ["r"]),
             node("GlobalAveragePool", ["r"], ["g"]), node("Flatten", ["g"], ["f"]), node("Gemm", ["f", "w", "b"], ["logits"])]
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    constants = [weights("k", 8, 3, 3, 3), weights("c", 8), weights("w", 8, 2), weights("b", 2)]
    graph = helper.make_graph(nodes, "screw", [picture], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, OUT / "screw.onnx")
    (OUT / "labels.txt").write_text("ok\npitted\n")
    pixels = RNG.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(OUT / "frame.png")
    x = (pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    scores = onnxruntime.InferenceSession(str(OUT / "screw.onnx")).run(None, {"input": x})[0][0]
    scores = np.exp(scores - scores.max())
    scores /= scores.sum()
    (OUT / "answer.json").write_text(json.dumps({"ok": float(scores[0]), "pitted": float(scores[1])}))


main()
