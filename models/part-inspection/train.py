"""Trains the part-inspection network on rendered pictures and measures it on lines that it has not seen.

    cargo build --release --example render-parts
    target/release/examples/render-parts OUT/train   500 700 $(seq 9000000000 9000000059)
    target/release/examples/render-parts OUT/heldout 1000 400 $(seq 9000000900 9000000904)
    pip install jax onnx onnxruntime numpy pillow
    python models/part-inspection/train.py OUT             train, export, measure
    python models/part-inspection/train.py OUT --measure   measure the model that is shipped

All chance is seeded. About 15 minutes on two cores. The pictures are JPEG and are made small by Pillow's bilinear
filter, as the card says; the daemon does the same.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import golden  # noqa: E402
import nets  # noqa: E402

WIDTH, HEIGHT = 160, 120
NET = nets.Net(
    channels_in=3,
    size=(HEIGHT, WIDTH),
    layers=((12, 3, 2), (16, 3, 2), (16, 3, 1), (32, 3, 2), (48, 3, 2), (48, 3, 1)),
    labels=("ok", "scratch", "pit", "missing_hole", "stain"),
    pool="both",
)
SEED, EPOCHS, BATCH, RATE = 11, 15, 64, 3e-3
NOISE = np.random.default_rng(SEED).standard_normal(6_000_000, np.float32)


def load(folder):
    """Pictures `(N, HEIGHT, WIDTH, 3)` as bytes, and classes."""
    with open(folder / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.empty((len(rows), HEIGHT, WIDTH, 3), np.uint8)
    for i, row in enumerate(rows):
        picture = Image.open(folder / row["file"]).convert("RGB")
        x[i] = np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    return x, np.array([NET.labels.index(row["label"]) for row in rows])


def augment(x, rng):
    """Exposure, white balance, noise, a place more or less: what another camera or another JPEG
    library would change."""
    n = len(x)
    gain = rng.uniform(0.88, 1.12, (n, 1, 1, 1)) * rng.uniform(0.96, 1.04, (n, 1, 1, 3))
    x = x * gain.astype(np.float32)
    # From a pool: drawing millions of normals a batch would take longer than the network.
    start = rng.integers(0, len(NOISE) - x.size)
    x += NOISE[start : start + x.size].reshape(x.shape) * rng.uniform(0, 2, (n, 1, 1, 1)).astype(np.float32)
    return np.clip(np.roll(x, tuple(rng.integers(-3, 4, 2)), (1, 2)), 0, 255)


def prepare(x):
    """0–255 → what the card makes of it: scale 1/255, mean 0.45, std 0.25."""
    return ((x / 255 - 0.45) / 0.25).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder with train/ and heldout/")
    parser.add_argument("--model", type=Path, default=FOLDER / "model.onnx")
    parser.add_argument("--measure", action="store_true", help="measure the model that is there, do not train")
    parser.add_argument("--cases", action="store_true", help="write golden cases of held-out pictures into the folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    print(f"{NET.multiplications() / 1e6:.2f} M multiply-accumulates")
    if not args.measure:
        x, y = load(args.pictures / "train")
        print(f"{len(x)} pictures to train on: {np.bincount(y)}", flush=True)
        check_x, check_y = prepare(x[-2000:]), y[-2000:]

        import jax

        forward = jax.jit(lambda w, s, x: nets.logits(NET, w, s, x, False)[0])

        def validate(weights, statistics):
            parts = [forward(weights, statistics, check_x[at : at + 250]) for at in range(0, 2000, 250)]
            return f"accuracy of 2,000 kept back {np.mean(np.concatenate(parts).argmax(1) == check_y):.4f}"

        weights, statistics = nets.train(
            NET, x[:-2000], y[:-2000], epochs=args.epochs, seed=SEED, batch=BATCH, rate=RATE,
            smoothing=0.02, augment=augment, prepare=prepare, validate=validate,
        )  # fmt: skip
        nets.export(NET, weights, statistics, args.model, doc="Five classes of a rendered machined plate")
    x, y = load(args.pictures / "heldout")
    begun = time.time()
    scores = np.concatenate(
        [nets.predict(args.model, prepare(x[at : at + 500]).transpose(0, 3, 1, 2)) for at in range(0, len(x), 500)]
    )
    found = scores.argmax(1)
    print(f"{len(x)} held-out pictures, {1e3 * (time.time() - begun) / len(x):.2f} ms each in ONNX Runtime")
    print(f"accuracy {np.mean(found == y):.4f}")
    print(f"good or bad, right {np.mean((found == 0) == (y == 0)):.4f}")
    print(nets.confusion(NET.labels, y, found))
    if args.cases:
        for label in ("ok", "scratch", "missing_hole"):
            first = np.flatnonzero(y == NET.labels.index(label))[0]
            planes = prepare(x[first : first + 1]).transpose(0, 3, 1, 2)
            golden.add(FOLDER, label.replace("_", "-"), [planes])
        golden.Folder(FOLDER).write()


if __name__ == "__main__":
    main()
