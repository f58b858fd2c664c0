"""Writes single nodes of ai.onnx.ml in their modes and asks onnxruntime for its answers.

    python nodes_ml.py OUT

Where onnxruntime contradicts the standard's text (see docs/models.md) there is no case here.
"""

import itertools
import json
import pathlib
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

rng = np.random.default_rng(11)
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE,
         np.dtype(np.int64): TensorProto.INT64, np.dtype(np.int32): TensorProto.INT32,
         np.dtype(object): TensorProto.STRING}
X = rng.normal(size=(11, 4)).astype(np.float32)
ODD = X.copy()
ODD[0, 0], ODD[1, 1], ODD[2, 2], ODD[3] = np.nan, np.inf, -np.inf, 0
WHOLE = rng.integers(-3, 4, (11, 4))


class Book:
    def __init__(self, out):
        self.out, self.lines, self.count = out, [], 0

    def node(self, op, inputs, outputs, version=3, **attributes):
        """One case; `outputs` are element types and ranks of the node's outputs."""
        name = f"{self.count:03}-{op}"
        self.count += 1
        inputs = inputs if isinstance(inputs, list) else [inputs]
        node = helper.make_node(op, [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(len(outputs))],
                                domain="ai.onnx.ml", **attributes)
        graph = helper.make_graph(
            [node], "node",
            [helper.make_tensor_value_info(f"x{i}", TYPES[x.dtype], [None] * x.ndim) for i, x in enumerate(inputs)],
            [helper.make_tensor_value_info(f"y{i}", kind, [None] * rank) for i, (kind, rank) in enumerate(outputs)])
        model = helper.make_model(graph, ir_version=9, opset_imports=[
            helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)])
        path = self.out / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        feed = {f"x{i}": x for i, x in enumerate(inputs)}
        case = {"name": name, "model": str(path), "tolerance": 1e-5, "inputs": [], "outputs": []}
        for kind, ports in (("inputs", feed.items()),
                            ("outputs", zip((f"y{i}" for i in range(len(outputs))), session.run(None, feed)))):
            for port, array in ports:
                file = self.out / f"{name}-{port}.npy"
                np.save(file, array.astype(str) if array.dtype == object else array)
                case[kind].append({"name": port, "file": str(file)})
        self.lines.append(json.dumps(case))


def plain(book):
    F, I, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
    inputs = (ODD, X.astype(np.float64), WHOLE, WHOLE.astype(np.int32))
    for x in inputs:
        book.node("Scaler", x, [(F, 2)], offset=[0.5, -1.0, 0.0, 2.0], scale=[2.0, 0.5, 1.0, -3.0])
        book.node("Scaler", x, [(F, 2)], offset=[0.5], scale=[2.0])
        for norm in ("MAX", "L1", "L2"):
            book.node("Normalizer", x, [(F, 2)], norm=norm)
        book.node("FeatureVectorizer", [x, x[:, :2].copy()], [(F, 2)], inputdimensions=[3, 3])
        book.node("ArrayFeatureExtractor", [x, np.array([2, 0, 2])], [(TYPES[x.dtype], 2)])
        book.node("ArrayFeatureExtractor", [x[0].copy(), np.array([[3]])], [(TYPES[x.dtype], 2)])
    book.node("ArrayFeatureExtractor", [np.array(["a", "ß", "c"], object), np.array([1, 1])], [(S, 2)])
    # onnxruntime takes f32 only and refuses NaN here; the standard does not, and nothing is greater than it.
    for x in (np.nan_to_num(ODD, nan=0.25, posinf=np.inf, neginf=-np.inf), X):
        book.node("Binarizer", x, [(TYPES[x.dtype], 2)], threshold=0.25)
    for value, missing in itertools.product(([7.5], [1.0, 2.0, 3.0, 4.0]), (float("nan"), 0.0)):
        book.node("Imputer", ODD, [(F, 2)], imputed_value_floats=value, replaced_value_float=missing)
    book.node("Imputer", WHOLE, [(I, 2)], imputed_value_int64s=[9, 8, 7, 6], replaced_value_int64=1)
    words = np.array([["red", "blue"], ["", "größe"], ["red", "none"]], object)
    book.node("OneHotEncoder", words, [(F, 3)], cats_strings=["blue", "red", "größe"], zeros=1)
    for x in (WHOLE, X, X.astype(np.float64)):
        book.node("OneHotEncoder", x, [(F, 3)], cats_int64s=[-1, 0, 2], zeros=1)
    book.node("CategoryMapper", words, [(I, 2)], version=1, cats_strings=["red", "blue"], cats_int64s=[4, 2], default_int64=-9)
    book.node("CategoryMapper", WHOLE, [(S, 2)], version=1, cats_strings=["red", "blue"], cats_int64s=[1, 2], default_string="?")
    keys = {"keys_strings": (words, ["red", "größe", "red"]), "keys_int64s": (WHOLE, [1, -2, 1]),
            "keys_floats": (np.array([[1.5, np.nan, 0.0], [-0.0, np.inf, 2.0]], np.float32), [1.5, float("nan"), 0.0])}
    values = {"values_strings": (S, ["a", "ö", "c"]), "values_int64s": (I, [5, 6, 7]), "values_floats": (F, [0.5, -1.0, 2.0])}
    defaults = {"values_strings": {"default_string": "no"}, "values_int64s": {"default_int64": 99}, "values_floats": {"default_float": 0.25}}
    for (key, (x, listed)), (value, (kind, given)) in itertools.product(keys.items(), values.items()):
        book.node("LabelEncoder", x, [(kind, 2)], version=4, **{key: listed, value: given}, **defaults[value])
        book.node("LabelEncoder", x, [(kind, 2)], version=4, **{key: listed, value: given})
    tensor = lambda kind, given: helper.make_tensor("t", kind, [len(given)], given)
    D = TensorProto.DOUBLE
    book.node("LabelEncoder", X.astype(np.float64).round(), [(D, 2)], version=4, keys_tensor=tensor(D, [1.0, -1.0]),
              values_tensor=tensor(D, [0.1, 0.2]), default_tensor=tensor(D, [-7.5]))
    book.node("LabelEncoder", words, [(TensorProto.INT16, 2)], version=4, keys_tensor=tensor(S, [b"red", b"blue"]),
              values_tensor=tensor(TensorProto.INT16, [3, 4]), default_tensor=tensor(TensorProto.INT16, [-2]))


POST = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def linear(book):
    F, I, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
    weights = rng.normal(size=(3, 4)).round(2)
    for x, post in itertools.product((X, X.astype(np.float64), WHOLE), POST):
        listed = {"coefficients": weights.ravel().tolist(), "intercepts": [0.1, -0.2, 0.3], "post_transform": post}
        book.node("LinearClassifier", x, [(S, 1), (F, 2)], version=1, classlabels_strings=["a", "b", "c"], **listed)
        book.node("LinearClassifier", x, [(I, 1), (F, 2)], version=1, classlabels_ints=[5, -3, 8], **listed)
        if x.dtype == np.float32:
            book.node("LinearRegressor", x, [(F, 2)], version=1, targets=3, **listed)
        if post != "PROBIT":
            book.node("LinearClassifier", x, [(I, 1), (F, 2)], version=1, classlabels_ints=[3, 8],
                      coefficients=weights[0].tolist(), intercepts=[0.2], post_transform=post)
    book.node("LinearRegressor", ODD, [(F, 2)], version=1, targets=1, coefficients=weights[0].tolist())
    book.node("LinearRegressor", X[0].copy(), [(F, 2)], version=1, targets=1, coefficients=weights[0].tolist())


def svm(book):
    F, I, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
    kernels = [("LINEAR", [0.0, 0.0, 0.0])] + [
        (kind, [0.3, 0.2, degree]) for kind, degree in (("POLY", 2.0), ("POLY", 3.0), ("RBF", 0.0), ("SIGMOID", 0.0))]
    vectors = rng.normal(size=(7, 4)).round(2)
    for kernel, params in kernels:
        shape = {"kernel_type": kernel, "kernel_params": params}
        listed = shape | {"support_vectors": vectors.ravel().tolist()}
        for one_class in (0, 1):
            book.node("SVMRegressor", X, [(F, 2)], version=1, coefficients=rng.normal(size=7).round(2).tolist(),
                      n_supports=7, rho=[0.3], one_class=one_class, **listed)
        for classes, counts in ((2, [4, 3]), (3, [2, 4, 1])):
            pairs = classes * (classes - 1) // 2
            given = listed | {"coefficients": rng.normal(size=(classes - 1) * 7).round(2).tolist(),
                              "rho": rng.normal(size=pairs).round(2).tolist(), "vectors_per_class": counts}
            platt = {"prob_a": [-1.5] * pairs, "prob_b": [0.1] * pairs}
            for post, probabilities in itertools.product(("NONE", "LOGISTIC", "SOFTMAX"), ({}, platt)):
                labels = {"classlabels_strings": ["a", "b", "c"][:classes]} if probabilities else \
                    {"classlabels_ints": [4, 7, 9][:classes]}
                book.node("SVMClassifier", X, [(S if probabilities else I, 1), (F, 2)], version=1,
                          post_transform=post, **given, **probabilities, **labels)
    book.node("SVMRegressor", X, [(F, 2)], version=1, coefficients=[0.5, -1.0, 0.2, 0.1], n_supports=0, rho=[0.3],
              kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0])
    for coefficients in (rng.normal(size=12).round(2), np.abs(rng.normal(size=12)).round(2)):
        book.node("SVMClassifier", X, [(I, 1), (F, 2)], version=1, coefficients=coefficients.tolist(), rho=[0.1],
                  classlabels_ints=[1, 2, 3], kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0])


MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def forest(of, trees, depth, targets, modes, weights, tracks, values):
    """Full trees with random splits, as the older operators list them."""
    nodes = {key: [] for key in ("nodeids", "treeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")}
    missing, leaves = [], {key: [] for key in ("ids", "nodeids", "treeids", "weights")}
    inner = 2 ** depth - 1
    for tree in range(trees):
        for node in range(2 * inner + 1):
            is_leaf = node >= inner
            for key, value in (("nodeids", node), ("treeids", tree), ("featureids", 0 if is_leaf else int(rng.integers(4))),
                               ("modes", "LEAF" if is_leaf else str(rng.choice(modes))),
                               ("values", 0.0 if is_leaf else float(rng.choice(values))),
                               ("truenodeids", 0 if is_leaf else 2 * node + 1), ("falsenodeids", 0 if is_leaf else 2 * node + 2)):
                nodes[key].append(value)
            missing.append(int(rng.integers(2)) if tracks and not is_leaf else 0)
            if is_leaf:
                for target in targets:
                    for key, value in (("ids", target), ("nodeids", node), ("treeids", tree), ("weights", float(weights()))):
                        leaves[key].append(value)
    attributes = {f"nodes_{key}": value for key, value in nodes.items()} | {f"{of}_{key}": value for key, value in leaves.items()}
    return attributes | ({"nodes_missing_value_tracks_true": missing} if tracks else {})


def trees(book):
    F, I, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
    signed, positive = (lambda: rng.normal().__round__(3)), (lambda: abs(rng.normal()).__round__(3) / 5)
    splits = X.ravel()[:20].astype(float)
    for modes, tracks in itertools.product([[mode] for mode in MODES] + [list(MODES)], (False, True)):
        for x in (ODD, X.astype(np.float64), WHOLE, WHOLE.astype(np.int32)):
            whole = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) if x.dtype.kind == "i" else splits
            given = forest("class", 4, 2, [0, 1, 2], modes, signed, tracks, whole)
            book.node("TreeEnsembleClassifier", x, [(I, 1), (F, 2)], classlabels_int64s=[3, 1, 7], **given)
            if x.dtype.kind == "f":
                given = forest("target", 5, 3, [0, 1], modes, signed, tracks, whole)
                book.node("TreeEnsembleRegressor", x, [(F, 2)], n_targets=2, base_values=[0.5, -0.25], **given)
    for aggregate, post, targets in itertools.product(("SUM", "AVERAGE", "MIN", "MAX"), POST, ([0], [0, 1, 2])):
        if len(targets) > 1 or post == "NONE":
            given = forest("target", 9, 3, targets, ["BRANCH_LEQ"], positive, False, splits)
            for base in ({}, {"base_values": [0.05] * len(targets)}):
                book.node("TreeEnsembleRegressor", X, [(F, 2)], n_targets=len(targets), aggregate_function=aggregate,
                          post_transform=post, **base, **given)
    # The binary conventions: which class leaves speak of, the sign of weights, base values.
    for post, weights, (used, base) in itertools.product(POST[:3], (signed, positive), (
            ([0], None), ([0], [0.1]), ([0], [0.1, -0.2]), ([1], None))):
        given = forest("class", 6, 2, used, ["BRANCH_LEQ"], weights, False, splits)
        for kind, labels in ((I, {"classlabels_int64s": [4, -4]}), (S, {"classlabels_strings": ["no", "yes"]})):
            book.node("TreeEnsembleClassifier", X, [(kind, 1), (F, 2)], post_transform=post,
                      **({"base_values": base} if base else {}), **labels, **given)
    for post, base in itertools.product(POST, (None, [0.3, 0.1, -0.2])):
        given = forest("class", 6, 2, [2, 0, 1], ["BRANCH_LT"], positive, True, splits)
        book.node("TreeEnsembleClassifier", ODD, [(S, 1), (F, 2)], post_transform=post, classlabels_strings=["a", "b", "c"],
                  **({"base_values": base} if base else {}), **given)
    numbered(book)


def numbered(book):
    """TreeEnsemble of opset 5, sets included."""
    for kind, x in ((TensorProto.FLOAT, ODD), (TensorProto.DOUBLE, X.astype(np.float64))):
        tensor = lambda given, kind=kind: helper.make_tensor("t", kind, [len(given)], given)
        rounded = np.round(x)
        for aggregate, targets, post in itertools.product(range(4), (1, 3), (0, 3)):
            if targets == 1 and post:
                continue
            book.node("TreeEnsemble", rounded, [(kind, 2)], version=5, n_targets=targets, aggregate_function=aggregate,
                      post_transform=post, tree_roots=[0, 3],
                      nodes_modes=helper.make_tensor("m", TensorProto.UINT8, [5], [0, 6, 4, 6, 2]),
                      nodes_featureids=[0, 1, 2, 3, 1], nodes_splits=tensor([0.0, 0.0, 1.0, 0.0, -1.0]),
                      nodes_truenodeids=[1, 0, 1, 4, 4], nodes_trueleafs=[0, 1, 1, 0, 1],
                      nodes_falsenodeids=[2, 2, 3, 5, 6], nodes_falseleafs=[0, 1, 1, 1, 1],
                      nodes_missing_value_tracks_true=[1, 0, 1, 0, 1],
                      membership_values=tensor([1.0, -1.0, float("nan"), 0.0, 2.0, 1.0, float("nan")]),
                      leaf_targetids=[i % targets for i in range(7)],
                      leaf_weights=tensor([0.5, -0.25, 1.5, 0.125, 2.0, -1.0, 0.75]))


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    book = Book(out)
    for part in (plain, linear, svm, trees):
        part(book)
    (out / "cases.jsonl").write_text("\n".join(book.lines) + "\n")


if __name__ == "__main__":
    main()
