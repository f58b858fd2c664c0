"""Unpacks the shared exports and their answers into the form that `cases.rs` reads.

    python unpack.py OUT MODELS
"""

import json
import pathlib
import sys

import numpy as np
import onnx


def estimators(out, models):
    for archive in sorted((models / "sklearn").glob("*.npz")):
        arrays = np.load(archive)
        model = archive.with_suffix(".onnx")
        graph = onnx.load(model).graph
        yield write(out, archive.stem, model, [(graph.input[0].name, arrays["input"])],
                    [(port.name, arrays[f"out_{port.name}"]) for port in graph.output])


def ai4i(out, models):
    """Raw exports must answer as the lowered ones: what both give, and no more, is compared."""
    for folder in sorted(models.glob("ai4i_*")):
        graph = onnx.load(next(folder.glob("*.onnx"))).graph
        inputs = [np.load(path) for path in sorted(folder.glob("in*.npy"))]
        outputs = [np.load(path) for path in sorted(folder.glob("out*.npy"))]
        yield write(out, folder.name, next(folder.glob("*.onnx")),
                    list(zip((port.name for port in graph.input), inputs, strict=True)),
                    list(zip((port.name for port in graph.output), outputs)))


def write(out, name, model, inputs, outputs):
    case = {"name": name, "model": str(model.resolve()), "tolerance": 1e-5, "inputs": [], "outputs": []}
    for kind, ports in (("inputs", inputs), ("outputs", outputs)):
        for i, (port, array) in enumerate(ports):
            path = out / f"{name}-{kind}-{i}.npy"
            np.save(path, array)
            case[kind].append({"name": port, "file": str(path)})
    return case


def main():
    out, models = map(pathlib.Path, sys.argv[1:])
    with open(out / "cases.jsonl", "w") as cases:
        for case in (*estimators(out, models), *ai4i(out, models)):
            cases.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    main()
