"""What hydraulic-cooler and hydraulic-pump share: the rig's data, the network, its measurement.

Data: UCI 447, "Condition monitoring of hydraulic systems", CC BY 4.0. Either its folder as downloaded (`TS1.txt` …
`profile.txt`) or the eight 1 Hz channels packed as `hydraulic_1hz.npz` (`x [2205, 8, 60]`, `profile [2205, 5]`).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import golden  # noqa: E402
import nets  # noqa: E402

SENSORS = ["TS1", "TS2", "TS3", "TS4", "VS1", "CE", "CP", "SE"]
LAYERS = ((24, 5, 1), (32, 5, 2), (48, 3, 2))
SEED, SPLIT_SEED, EPOCHS = 2, 5, 40


def load(path):
    """Cycles `(N, 8, 60)`, the five conditions `(N, 5)`."""
    if path.is_dir():
        # The description has Latin-1 characters, the numbers have not; either way it reads.
        x = np.stack([np.loadtxt(path / f"{name}.txt", encoding="latin1") for name in SENSORS], 1)
        return x.astype(np.float32), np.loadtxt(path / "profile.txt").astype(int)
    packed = np.load(path)
    return packed["x"], packed["profile"]


def held_out(profile):
    """A quarter of the 144 combinations of cooler, valve, pump and accumulator: no combination that is tested
    was trained on, which is harder and more honest than a quarter of the cycles."""
    combination = np.array([hash(tuple(int(v) for v in row[:4])) for row in profile])
    number = np.unique(combination, return_inverse=True)[1]
    order = np.random.default_rng(SPLIT_SEED).permutation(number.max() + 1)
    return np.isin(number, order[: len(order) // 4])


def main(folder, doc, column, values, labels):
    """`values[k]` in `profile[:, column]` is class `labels[k]`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="UCI 447's folder, or hydraulic_1hz.npz")
    parser.add_argument("--model", type=Path, default=folder / "model.onnx")
    parser.add_argument("--measure", action="store_true", help="measure the model that is there, do not train")
    parser.add_argument("--cases", action="store_true", help="write golden cases of held-out cycles into the folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    x, profile = load(args.data)
    y = np.array([values.index(value) for value in profile[:, column]])
    test = held_out(profile)
    print(f"{(~test).sum()} cycles to train on, {test.sum()} of other combinations to test")
    if not args.measure:
        net = nets.Net(channels_in=len(SENSORS), size=(60,), layers=LAYERS, labels=labels)
        long = x.transpose(0, 2, 1)
        centre, spread = long[~test].mean((0, 1)), long[~test].std((0, 1))

        def augment(part, rng):
            return part + (rng.normal(0, 0.02, part.shape) * spread).astype(np.float32)

        weights, statistics = nets.train(
            net, long[~test], y[~test], epochs=args.epochs, seed=SEED, augment=augment,
            prepare=lambda part: (part - centre) / spread,
        )  # fmt: skip
        about = {"sensors": ",".join(SENSORS), "window": "60 s at 1 Hz"}
        nets.export(
            net, weights, statistics, args.model, doc=doc.splitlines()[0],
            centre=centre.reshape(1, -1, 1), spread=spread.reshape(1, -1, 1), properties=about,
        )  # fmt: skip
    found = nets.predict(args.model, x[test]).argmax(1)
    recall = [np.mean(found[y[test] == k] == k) for k in range(len(labels))]
    print(f"accuracy {np.mean(found == y[test]):.4f}  mean recall {np.mean(recall):.4f}")
    print(nets.confusion(labels, y[test], found))
    if args.cases:
        for k, label in enumerate(labels):
            golden.add(folder, label.replace("_", "-"), [x[test & (y == k)][:1]])
        golden.Folder(folder).write()
