"""Golden cases: inputs with ONNX Runtime's outputs, by which the daemon checks its own engine before the first frame.

    pip install numpy onnx onnxruntime
    python models/golden.py                      check every model folder: hash, shapes, outputs
    python models/golden.py models/NAME          one folder
    python models/golden.py models/NAME --write  compute the outputs of all its cases anew and put the hash into its card
    python models/golden.py models/NAME --write --case NAME IN.npy…   add a case first; inputs in the graph's order

A case is a folder `golden/CASE/` with `input-0.npy …` and `output-0.npy …`, numbered as the graph lists its inputs and
outputs, states among them, at the concrete shapes of the card.
"""

import argparse
import hashlib
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

HERE = Path(__file__).resolve().parent
TYPES = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "i32": np.int32, "u8": np.uint8, "bool": np.bool_}


class Folder:
    """A model folder, as its card describes it."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        self.card = tomllib.loads((self.path / "model.toml").read_text())
        self.graph = self.path / self.card["graph"]["file"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.session = onnxruntime.InferenceSession(str(self.graph), options, providers=["CPUExecutionProvider"])

    def cases(self):
        return sorted(path for path in (self.path / "golden").glob("*") if path.is_dir())

    def inputs(self, case):
        """The case's inputs, which must be what the card says."""
        wanted = {port["name"]: port for port in self.card["graph"]["input"]}
        arrays = []
        for k, port in enumerate(self.session.get_inputs()):
            array = np.load(case / f"input-{k}.npy")
            spec = wanted.get(port.name)
            if spec is None:
                raise ValueError(f"{self.path.name}: the card does not name the graph's input {port.name}")
            if list(array.shape) != spec["shape"] or array.dtype != TYPES[spec["type"]]:
                raise ValueError(
                    f"{case}: input-{k}.npy is {array.dtype} {list(array.shape)}, "
                    f"the card says {spec['type']} {spec['shape']}"
                )
            arrays.append(array)
        return arrays

    def outputs(self, inputs):
        """What ONNX Runtime answers, in the graph's order."""
        return self.session.run(None, {port.name: array for port, array in zip(self.session.get_inputs(), inputs)})

    def write(self):
        """Outputs of every case, and the graph's hash in the card."""
        for case in self.cases():
            for k, array in enumerate(self.outputs(self.inputs(case))):
                np.save(case / f"output-{k}.npy", array)
        file = self.path / "model.toml"
        text, found = re.subn(r'(?m)^sha256( *)= ".*"$', rf'sha256\1= "{self.hash()}"', file.read_text())
        if found != 1:
            raise ValueError(f"{file}: expected one line `sha256 = \"…\"` in [graph], found {found}")
        file.write_text(text)

    def hash(self):
        return hashlib.sha256(self.graph.read_bytes()).hexdigest()

    def check(self):
        """Complaints, none of which may be there in a shipped folder."""
        name = self.path.name
        if self.card["name"] != name:
            yield f"{name}: the card is called {self.card['name']!r}; it must have its folder's name"
        if self.card["graph"]["sha256"] != self.hash():
            yield f"{name}: the card's sha256 is not that of {self.graph.name}; `--write` puts it right"
        onnx.checker.check_model(str(self.graph), full_check=True)
        if not self.cases():
            yield f"{name}: no golden case"
        tolerance = self.card["golden"]["tolerance"]
        for case in self.cases():
            for k, array in enumerate(self.outputs(self.inputs(case))):
                kept = np.load(case / f"output-{k}.npy")
                if kept.shape != array.shape or kept.dtype != array.dtype:
                    yield f"{case}: output-{k}.npy is {kept.dtype} {kept.shape}, the graph gives {array.dtype} {array.shape}"
                    continue
                # The same measure as the daemon's: the largest difference against the tensor's largest value.
                off = np.abs(kept.astype(float) - array).max() / max(np.abs(array).max(), 1e-30)
                if not off <= tolerance:
                    yield f"{case}: output-{k}.npy is off by {off:.1e} of its largest value, more than {tolerance:.1e}"


def add(folder, case, inputs):
    """Writes a case's inputs; `--write` or Folder.write() adds the outputs."""
    place = Path(folder) / "golden" / case
    place.mkdir(parents=True, exist_ok=True)
    for k, array in enumerate(inputs):
        np.save(place / f"input-{k}.npy", np.ascontiguousarray(array))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("inputs", nargs="*", type=Path, help="with --case: .npy files in the graph's order")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--case", help="name of a case to add")
    args = parser.parse_args()
    if args.case:
        add(args.folder, args.case, [np.load(path) for path in args.inputs])
    paths = [args.folder] if args.folder else sorted(path.parent for path in HERE.glob("*/model.toml"))
    complaints = []
    for path in paths:
        folder = Folder(path)
        if args.write:
            folder.write()
        wrong = list(folder.check())
        complaints += wrong
        if not wrong:
            print(f"{folder.path.name}: {len(folder.cases())} golden cases hold")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
