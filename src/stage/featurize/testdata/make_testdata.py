"""Writes resize.json: small pictures and what Pillow and OpenCV make of them.

    pip install pillow numpy opencv-python-headless && python make_testdata.py

Noise reaches both ends of the scale, so filters that overshoot are clipped as often as possible.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
OPENCV = {"bilinear_fast": cv2.INTER_LINEAR, "bicubic_fast": cv2.INTER_CUBIC}
SIZES = [((37, 23), (16, 16)), ((37, 23), (37, 11)), ((8, 8), (21, 13)), ((61, 40), (7, 31))]

rng = np.random.default_rng(7)
cases = []
for channels in (1, 3):
    for from_, to in SIZES:
        source = rng.choice([0, 255, 128, 17, 240], (from_[1], from_[0], channels)).astype(np.uint8)
        picture = source[:, :, 0] if channels == 1 else source
        expected = {name: np.asarray(Image.fromarray(picture).resize(to, how)) for name, how in PILLOW.items()}
        expected |= {name: cv2.resize(picture, to, interpolation=how) for name, how in OPENCV.items()}
        cases.append({
            "channels": channels, "from": from_, "to": to, "source": source.tobytes().hex(),
            "expected": {name: pixels.tobytes().hex() for name, pixels in expected.items()},
        })

lines = ",\n".join(json.dumps(case) for case in cases)
Path(__file__).with_name("resize.json").write_text(f"[\n{lines}\n]\n")
