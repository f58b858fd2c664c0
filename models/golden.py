"""Golden cases: inputs with ONNX Runtime's outputs, by which `lineside compile` and the daemon check the engine.

    pip install numpy onnx onnxruntime
    python models/golden.py model.onnx               write golden/ beside an ONNX file: random cases
    python models/golden.py model.onnx --case ok IN.npy…     a case of your own; inputs in the graph's order
    python models/golden.py model.onnx --nodes       with every tensor between, so that a difference is found by node
    python models/golden.py                          check every shipped model folder: hash, shapes, outputs
    python models/golden.py models/NAME [--write] [--case NAME IN.npy…]    one folder; --write computes its outputs anew

A case is a folder `golden/CASE/` with `input-0.npy …` and `output-0.npy …`, numbered as the graph lists its inputs and
outputs, states among them. `golden/model.sha256` names the graph that they belong to: another one is refused.
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
TYPES = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "i64": np.int64, "i32": np.int32, "i16": np.int16,
    "i8": np.int8, "u64": np.uint64, "u32": np.uint32, "u16": np.uint16, "u8": np.uint8, "bool": np.bool_,
}
ORT_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
             "tensor(bool)": np.bool_, "tensor(string)": np.str_}


def session(graph):
    """ONNX Runtime, one thread; graph is a path or bytes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    graph = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def hash_of(graph):
    return hashlib.sha256(Path(graph).read_bytes()).hexdigest()


def name_the_graph(golden, graph, digest=None):
    """Cases of another model are refused by this file."""
    (golden / "model.sha256").write_text(f"{digest or hash_of(graph)}  {Path(graph).name}\n")


def plain(value):
    """An output as an array: class scores of a ZipMap become a matrix, classes in their own order."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([[row[key] for key in row] for row in value], dtype=np.float32)
    return np.asarray(value)


class Folder:
    """A model folder, as its card describes it."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        self.card = tomllib.loads((self.path / "model.toml").read_text())
        self.graph = self.path / self.card["graph"]["file"]
        if self.graph.suffix != ".onnx":
            raise SystemExit(f"{self.path}: its graph is {self.graph.name}; give the ONNX file that it was compiled from")
        self.session = session(self.graph)

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
        name_the_graph(self.path / "golden", self.graph)
        file = self.path / "model.toml"
        text, found = re.subn(r'(?m)^sha256( *)= ".*"$', rf'sha256\1= "{hash_of(self.graph)}"', file.read_text())
        if found != 1:
            raise ValueError(f"{file}: expected one line `sha256 = \"…\"` in [graph], found {found}")
        file.write_text(text)

    def check(self):
        """Complaints, none of which may be there in a shipped folder."""
        name = self.path.name
        if self.card["name"] != name:
            yield f"{name}: the card is called {self.card['name']!r}; it must have its folder's name"
        if self.card["graph"]["sha256"] != hash_of(self.graph):
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


class File:
    """A bare ONNX file; its cases lie beside it, or where --golden says."""

    def __init__(self, graph, golden=None, shapes=()):
        self.graph = Path(graph)
        self.golden = Path(golden) if golden else self.graph.parent / "golden"
        self.shapes = dict(shapes)
        self.session = session(self.graph)

    def random(self, seed):
        """Inputs as the graph declares them; an open first axis is one, others are given by --input."""
        rng = np.random.default_rng(seed)
        arrays = []
        for port in self.session.get_inputs():
            shape = self.shapes.get(port.name, port.shape)
            lengths = [1 if k == 0 and not isinstance(length, int) else length for k, length in enumerate(shape)]
            if not all(isinstance(length, int) for length in lengths):
                raise SystemExit(f"input {port.name} is {port.shape}; give its shape: --input {port.name}=1,…")
            kind = port.type.removeprefix("tensor(").removesuffix(")")
            if kind.startswith(("int", "uint")):
                high = 256 if kind == "uint8" else 2
                arrays.append(rng.integers(0, high, lengths).astype(kind))
            elif kind == "bool":
                arrays.append(rng.random(lengths) < 0.5)
            elif kind == "string":
                raise SystemExit(f"input {port.name} is text; give a case of your own: --case NAME IN.npy…")
            else:
                arrays.append(rng.standard_normal(lengths).astype(ORT_TYPES[port.type]))
        return arrays

    def write(self, case, inputs, nodes):
        feed = {port.name: array for port, array in zip(self.session.get_inputs(), inputs, strict=True)}
        place = self.golden / case
        place.mkdir(parents=True, exist_ok=True)
        for k, array in enumerate(inputs):
            np.save(place / f"input-{k}.npy", np.ascontiguousarray(array))
        for k, value in enumerate(self.session.run(None, feed)):
            np.save(place / f"output-{k}.npy", plain(value))
        name_the_graph(self.golden, self.graph)
        if nodes:
            self.write_nodes(place / "nodes", feed)

    def write_nodes(self, place, feed):
        """Every tensor that a node makes, in the file's order: N.npy, named by line N of names.txt."""
        model = onnx.load(str(self.graph))
        known = {output.name for output in model.graph.output}
        names = [name for node in model.graph.node for name in node.output if name]
        for name in names:
            if name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        # Without optimisation: each node is to be seen as the file has it.
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        every = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        place.mkdir(exist_ok=True)
        kept = []
        for name, value in zip(names, every.run(names, feed)):
            if isinstance(value, np.ndarray) and "\n" not in name:
                np.save(place / f"{len(kept)}.npy", value)
                kept.append(name)
        (place / "names.txt").write_text("".join(f"{name}\n" for name in kept))


def add(folder, case, inputs):
    """Writes a case's inputs; `--write` or Folder.write() adds the outputs."""
    place = Path(folder) / "golden" / case
    place.mkdir(parents=True, exist_ok=True)
    for k, array in enumerate(inputs):
        np.save(place / f"input-{k}.npy", np.ascontiguousarray(array))


def shape(argument):
    name, _, lengths = argument.rpartition("=")
    return name, [int(length) for length in lengths.split(",") if length]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="an .onnx file or a model folder")
    parser.add_argument("inputs", nargs="*", type=Path, help="with --case: .npy files in the graph's order")
    parser.add_argument("--case", help="name of a case to add")
    parser.add_argument("--write", action="store_true", help="of a model folder: compute outputs and hash anew")
    parser.add_argument("--golden", type=Path, help="of a file: where to write, instead of golden/ beside it")
    parser.add_argument("--nodes", action="store_true", help="of a file: every tensor between as well")
    parser.add_argument("--input", type=shape, action="append", default=[], metavar="NAME=SHAPE", help="of a file: open lengths")
    parser.add_argument("--count", type=int, default=3, help="of a file: how many random cases")
    args = parser.parse_args()
    if args.model and args.model.is_file():
        file = File(args.model, args.golden, args.input)
        if args.case:
            file.write(args.case, [np.load(path) for path in args.inputs], args.nodes)
        else:
            for seed in range(args.count):
                file.write(f"random-{seed}", file.random(seed), args.nodes)
        print(f"{file.golden}: cases of {args.model.name} written")
        return
    if args.case:
        add(args.model, args.case, [np.load(path) for path in args.inputs])
    paths = [args.model] if args.model else sorted(path.parent for path in HERE.glob("*/model.toml"))
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
