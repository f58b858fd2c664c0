"""ONNX's own node tests as files: OUT/NAME/{model.onnx,in-I.npy,out-I.npy} and OUT/cases.tsv.

    generate.py OUT

A case comes from `onnx.backend.test.case.node`; left out are `_expanded` ones (the same operator written
as others) and those of training mode. An array that NumPy has no type of its own for (bfloat16, float8,
int4, sequences, optionals) gets no file: whoever reads the case must find the graph refused.
"""
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx

warnings.simplefilter("ignore")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402

STANDARD_KINDS = "biufU"
TRAINING = {"training_mode", "test_training_dropout"}


def as_array(value):
    """The value as NumPy stores it, or None where NumPy has no type for it."""
    if isinstance(value, (list, tuple)) or value is None:
        return None
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    array = np.asarray(value)
    if array.dtype.kind == "O":
        array = array.astype(str)
    if array.dtype.kind not in STANDARD_KINDS or array.dtype.isbuiltin == 2:
        return None
    return array


def main(out):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    lines = []
    for case in collect_testcases(None):
        if "_expanded" in case.name or any(word in case.name for word in TRAINING):
            continue
        folder = out / case.name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        inputs, outputs = case.data_sets[0]
        for kind, values in (("in", inputs), ("out", outputs)):
            for i, value in enumerate(values):
                if (array := as_array(value)) is not None:
                    np.save(folder / f"{kind}-{i}.npy", array)
        node = case.model.graph.node[-1]
        operator = next((n for n in case.model.graph.node if n.op_type.lower() in case.name.replace("_", "")), node)
        domain = f"{operator.domain}:" if operator.domain else ""
        lines.append(f"{case.name}\t{domain}{operator.op_type}\t{len(outputs)}\t{case.rtol}\t{case.atol}")
    (out / "cases.tsv").write_text("\n".join(sorted(lines)) + "\n")


main(pathlib.Path(sys.argv[1]))
