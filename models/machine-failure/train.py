"""Trains the machine-failure network on AI4I 2020 and measures it beside scikit-learn's usual answers.

    pip install numpy pandas scikit-learn onnx onnxruntime
    python models/machine-failure/train.py ai4i2020.csv            cross-validate, train, export, measure
    python models/machine-failure/train.py ai4i2020.csv --measure --threshold 0.62   measure what is shipped

What stands before the network is not in the graph but in the card, and is done by the daemon: the median for a
missing reading, three derived columns, (value - mean) / std in double precision, then single precision. This
script prints those numbers as they stand in the card. About a minute on two cores; all chance is seeded.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import golden  # noqa: E402

COLUMNS = {
    "type": "Type",
    "air_temperature_k": "Air temperature [K]",
    "process_temperature_k": "Process temperature [K]",
    "rotational_speed_rpm": "Rotational speed [rpm]",
    "torque_nm": "Torque [Nm]",
    "tool_wear_min": "Tool wear [min]",
}
NAMES = list(COLUMNS)
# Name, operation, the two columns: as `[[features.derived]]` in the card.
DERIVED = [
    ("power_nm_rpm", "product", "torque_nm", "rotational_speed_rpm"),
    ("temperature_difference_k", "difference", "process_temperature_k", "air_temperature_k"),
    ("strain_min_nm", "product", "tool_wear_min", "torque_nm"),
]
HIDDEN = (24, 16)
MEMBERS = 5  # networks that are averaged; together they are one graph
SEED, SPLIT_SEED, DROPPED = 3, 0, 0.05


def read(path):
    """Rows with 5 % of the sensor readings taken away, as a bus that drops packets does; and failures."""
    table = pd.read_csv(path, encoding="utf-8-sig")
    kind = table["Type"].map({"L": 0, "M": 1, "H": 2})
    x = np.column_stack([kind] + [table[column] for column in list(COLUMNS.values())[1:]]).astype(float)
    lost = np.random.default_rng(SPLIT_SEED).random((len(x), 5)) < DROPPED
    x[:, 1:][lost] = np.nan
    return x, table["Machine failure"].to_numpy()


class Card:
    """The card's half of the model: impute, derive, scale. Learned from training rows only."""

    def __init__(self, x):
        self.impute = np.nanmedian(x, 0)
        wide = self.derive(x)
        # Rounded as they are written down, so that the card and the training say the same number.
        self.mean = [float(f"{value:.6g}") for value in wide.mean(0)]
        self.std = [float(f"{value:.6g}") for value in wide.std(0)]

    def derive(self, x):
        x = np.where(np.isnan(x), self.impute, x)
        column = dict(zip(NAMES, x.T))
        combine = {"product": np.multiply, "difference": np.subtract}
        return np.column_stack([x] + [combine[op](column[a], column[b]) for _, op, a, b in DERIVED])

    def features(self, x):
        return ((self.derive(x) - np.array(self.mean)) / np.array(self.std)).astype(np.float32)

    def toml(self):
        """The card's `[[features.column]]` and `[[features.derived]]`, but for the units."""
        for name, impute, mean, std in zip(NAMES, self.impute, self.mean, self.std):
            # The machine's type is never missing in the data: a row without it is refused.
            stand_in = "" if name == "type" else f"impute = {impute:.6g}\n"
            print(f'[[features.column]]\nname = "{name}"\n{stand_in}mean = {mean}\nstd = {std}\n')
        for (name, op, a, b), mean, std in zip(DERIVED, self.mean[len(NAMES) :], self.std[len(NAMES) :]):
            print(f'[[features.derived]]\nname = "{name}"\nop = "{op}"\nof = ["{a}", "{b}"]')
            print(f"mean = {mean}\nstd = {std}\n")


def fit(x, y, seed):
    """Networks that differ in their seed only; good rows are thinned by weight, not thrown away."""
    weight = np.where(y == 1, 3.0, 1.0)
    return [
        MLPClassifier(HIDDEN, alpha=1e-3, batch_size=128, learning_rate_init=2e-3, max_iter=60, random_state=seed + k)
        .fit(x, y, sample_weight=weight)
        for k in range(MEMBERS)
    ]  # fmt: skip


def score(networks, x):
    """The failure's probability: the mean of the members' logits through the logistic function."""
    total = 0
    for network in networks:
        at = x.astype(float)
        for w, b in zip(network.coefs_[:-1], network.intercepts_[:-1]):
            at = np.maximum(at @ w + b, 0)
        total = total + (at @ network.coefs_[-1] + network.intercepts_[-1])[:, 0]
    return 1 / (1 + np.exp(-total / len(networks)))


def export(networks, path):
    """One graph: the members side by side in block-diagonal matrices, so it is three Gemm and a softmax."""
    tensors, nodes, at = [], [], "features"

    def tensor(name, values):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
        return name

    depth = len(networks[0].coefs_)
    for layer in range(depth):
        parts = [network.coefs_[layer] for network in networks]
        bias = np.concatenate([network.intercepts_[layer] for network in networks])
        if layer == 0:
            w = np.concatenate(parts, 1)
        else:
            w = np.zeros((sum(p.shape[0] for p in parts), sum(p.shape[1] for p in parts)))
            row = column = 0
            for part in parts:
                w[row : row + part.shape[0], column : column + part.shape[1]] = part
                row, column = row + part.shape[0], column + part.shape[1]
        last = layer == depth - 1
        if last:
            # Class `ok` has logit 0, so the softmax of the two is the logistic function of the mean.
            w = np.concatenate([np.zeros((len(w), 1)), w.mean(1, keepdims=True)], 1)
            bias = np.array([0, bias.mean()])
        out = "logits" if last else f"gemm{layer}"
        nodes.append(helper.make_node("Gemm", [at, tensor(f"w{layer}", w), tensor(f"b{layer}", bias)], [out]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"relu{layer}"]))
            at = f"relu{layer}"
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(NAMES) + len(DERIVED)])
    wanted = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "machine_failure", [given], [wanted], tensors, "Failure of a milling machine")
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="lineside-train"
    )
    helper.set_model_props(model, {"labels": "ok,failure"})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def best_threshold(y, p):
    """Where F1 is best; rounded, since the third digit is chance."""
    grid = np.arange(0.05, 0.96, 0.01)
    return round(float(grid[np.argmax([f1_score(y, p >= t) for t in grid])]), 2)


def report(name, y, p, threshold):
    table = confusion_matrix(y, p >= threshold).tolist()
    print(
        f"{name:>10}  AUC {roc_auc_score(y, p):.4f}  average precision {average_precision_score(y, p):.4f}  "
        f"F1 {f1_score(y, p >= threshold):.4f} at {threshold}  [[ok, alarm], [missed, found]] {table}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("csv", type=Path, help="ai4i2020.csv of UCI data set 601")
    parser.add_argument("--model", type=Path, default=FOLDER / "model.onnx")
    parser.add_argument("--measure", action="store_true", help="measure the model that is there, do not train")
    parser.add_argument("--cases", action="store_true", help="write golden cases of test rows into the folder")
    parser.add_argument("--threshold", type=float, help="the card's; found by cross-validation when it is left out")
    args = parser.parse_args()
    x, y = read(args.csv)
    train, test = train_test_split(np.arange(len(x)), test_size=0.25, stratify=y, random_state=SPLIT_SEED)
    card = Card(x[train])
    features = card.features(x)

    threshold = args.threshold
    if threshold is None:
        apart = np.zeros(len(train))
        for kept, left in StratifiedKFold(5, shuffle=True, random_state=SEED).split(train, y[train]):
            apart[left] = score(fit(features[train[kept]], y[train[kept]], SEED), features[train[left]])
        threshold = best_threshold(y[train], apart)
        report("5-fold", y[train], apart, threshold)
    if not args.measure:
        networks = fit(features[train], y[train], SEED)
        export(networks, args.model)
        card.toml()
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    found = session.run(None, {"features": features[test]})[0][:, 1]
    if not args.measure:
        print(f"graph against training: {np.abs(found - score(networks, features[test])).max():.1e}")
    report("this", y[test], found, threshold)
    if args.cases:
        bad = y[test] == 1
        missing = np.isnan(x[test]).any(1)
        rows = {
            "ok": np.flatnonzero(~bad & ~missing)[0],
            "failure": np.argmax(np.where(bad & ~missing, found, 0)),
            "missing-reading": np.flatnonzero(missing)[0],
            "doubtful": np.argmin(np.abs(found - threshold)),
        }
        for case, row in rows.items():
            golden.add(FOLDER, case, [features[test][row : row + 1]])
            print(f"case {case}: {dict(zip(NAMES, x[test][row].tolist()))} gives {found[row]:.6f}")
        golden.Folder(FOLDER).write()
    # Beside it, on the same rows: the card's imputation, no derived columns (those are ours).
    plain = features[:, : len(NAMES)]
    for name, other in [
        ("logistic", LogisticRegression(class_weight="balanced", max_iter=500)),
        ("forest", RandomForestClassifier(40, max_depth=9, min_samples_leaf=3, class_weight="balanced_subsample",
                                          random_state=0)),
    ]:  # fmt: skip
        p = other.fit(plain[train], y[train]).predict_proba(plain[test])[:, 1]
        report(name, y[test], p, best_threshold(y[test], p))
    print("(the others' thresholds are the best for the test rows, which flatters them)")


if __name__ == "__main__":
    main()
