"""Pitting on the raceway of ball screws, decided on 64×64 patches.

    pip install jax onnx onnxruntime numpy pillow
    python models/surface-pitting/train.py BSData             cut patches, train, export, measure (10 minutes)
    python models/surface-pitting/train.py BSData --measure   cut patches, measure the model that is shipped

BSData: a clone of github.com/2Obe/BSData (1,104 pictures, 394 with pitting, CC BY-SA 4.0). Positions of the screw are held
out, not pictures: a position is photographed many times while its pitting grows, so that pictures of one position
in both halves would flatter the result.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import golden  # noqa: E402
import nets  # noqa: E402

SIDE, WIDTH = 64, 1130  # of a patch; of a picture before it is cut
PATCH_SEED, SPLIT_SEED, SEED, EPOCHS = 20240501, 7, 1, 30
NET = nets.Net(
    channels_in=3,
    size=(SIDE, SIDE),
    layers=((16, 3, 2), (24, 3, 1), (32, 3, 2), (48, 3, 2), (48, 3, 1)),
    labels=("ok", "pitting"),
    pool="max",
)


def position(file):
    """Which place of which screw a picture shows."""
    timed = re.match(r"01_\d+_(\d+_\d+)_crop", file)
    return timed.group(1) if timed else re.match(r"(KGT\d+-\w)", file).group(1)


def boxes(folder, annotation, factor):
    """The pittings of a picture, `(left, top, right, bottom)`."""
    shapes = json.loads((folder / "label" / annotation).read_text())["shapes"]
    corners = [np.array(shape["points"]) * factor for shape in shapes]
    return [(*points.min(0), *points.max(0)) for points in corners]


def patches(folder):
    """Patches `(N, 64, 64, 3)`, classes, positions: two a pitting, two or three elsewhere in each picture."""
    rng = np.random.default_rng(PATCH_SEED)
    x, y, group = [], [], []
    for entry in json.loads((folder / "image_data.json").read_text())["images"]:
        picture = Image.open(folder / "data" / entry["filename"]).convert("RGB")
        factor = WIDTH / picture.width
        picture = np.asarray(picture.resize((WIDTH, round(picture.height * factor)), Image.Resampling.BILINEAR))
        height = picture.shape[0]
        damaged = boxes(folder, entry["annotations"], factor) if entry["annotations"] else []

        def cut(left, top, label):
            left, top = int(np.clip(left, 0, WIDTH - SIDE)), int(np.clip(top, 0, height - SIDE))
            x.append(picture[top : top + SIDE, left : left + SIDE])
            y.append(label)
            group.append(position(entry["filename"]))

        for left, top, right, bottom in damaged:
            for _ in range(2):
                off = rng.integers(-14, 15, 2)
                cut((left + right - SIDE) / 2 + off[0], (top + bottom - SIDE) / 2 + off[1], 1)
        wanted = 3 if damaged else 2
        for _ in range(200):
            if wanted == 0:
                break
            # The outer 8 % are mostly not raceway.
            left, top = rng.integers(WIDTH * 0.08, WIDTH * 0.92 - SIDE), rng.integers(0, height - SIDE)
            if any(left < b[2] + 8 and left + SIDE > b[0] - 8 and top < b[3] + 8 and top + SIDE > b[1] - 8 for b in damaged):
                continue
            cut(left, top, 0)
            wanted -= 1
    return np.stack(x), np.array(y), np.array(group)


def held_out(y, group):
    """Positions with about a fifth of the pittings, and every fourth position without any."""
    pittings = {name: int(y[group == name].sum()) for name in sorted(set(group))}
    damaged = [name for name, n in pittings.items() if n > 0]
    np.random.default_rng(SPLIT_SEED).shuffle(damaged)
    test, n = [name for name, n in pittings.items() if n == 0][::4], 0
    for name in damaged:
        if n >= 0.2 * y.sum():
            break
        test.append(name)
        n += pittings[name]
    return np.isin(group, test)


def augment(x, rng):
    """Flips, light, colour, and a place more or less. Bytes in, 0–1 out."""
    x, n = x / 255, len(x)
    if rng.random() < 0.5:
        x = x[:, :, ::-1]
    if rng.random() < 0.5:
        x = x[:, ::-1]
    x = x * rng.uniform(0.75, 1.25, (n, 1, 1, 1)) + rng.uniform(-0.08, 0.08, (n, 1, 1, 1))
    x = np.roll(x * rng.uniform(0.9, 1.1, (n, 1, 1, 3)), tuple(rng.integers(-5, 6, 2)), (1, 2))
    return np.clip(x, 0, 1)


def area_under_curve(y, score):
    """The chance that a patch with pitting scores above one without."""
    order = np.argsort(np.argsort(score))
    bad = y == 1
    return (order[bad].sum() - bad.sum() * (bad.sum() - 1) / 2) / (bad.sum() * (~bad).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="clone of BSData")
    parser.add_argument("--model", type=Path, default=FOLDER / "model.onnx")
    parser.add_argument("--measure", action="store_true", help="measure the model that is there, do not train")
    parser.add_argument("--cases", action="store_true", help="write golden cases of held-out patches into the folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    x, y, group = patches(args.data)
    test = held_out(y, group)
    print(f"{(~test).sum()} patches to train on, {test.sum()} of other positions to test", flush=True)
    if not args.measure:
        weights, statistics = nets.train(
            NET, x[~test], y[~test], epochs=args.epochs, seed=SEED, decay=2e-2, class_weights=[1.0, 1.8],
            augment=augment, prepare=lambda part: ((part - 0.45) / 0.25).astype(np.float32),
        )  # fmt: skip
        nets.export(NET, weights, statistics, args.model, doc="BSData 64x64 patch classifier", centre=0.45, spread=0.25)
    planes = x[test].transpose(0, 3, 1, 2).astype(np.float32) / 255
    scores, truth = nets.predict(args.model, planes), y[test]
    found = scores.argmax(1)
    print(f"accuracy {np.mean(found == truth):.4f}  AUC {area_under_curve(truth, scores[:, 1]):.4f}")
    print(nets.confusion(NET.labels, truth, found))
    if args.cases:
        good, bad = planes[truth == 0], planes[truth == 1]
        # One that it is least sure of: what an engine gets wrong shows there first.
        doubtful = np.argmin(np.abs(scores[:, 1] - 0.5))
        for case, plane in (("ok", good[0]), ("pitting", bad[0]), ("doubtful", planes[doubtful])):
            golden.add(FOLDER, case, [plane[None]])
        golden.Folder(FOLDER).write()


if __name__ == "__main__":
    main()
