"""Writes the JPEGs that the tests of this folder need and the image crate cannot write.

    pip install pillow numpy && python make_testdata.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
y, x = np.mgrid[0:41, 0:54]
scene = np.stack([(x * 7 + y) % 256, (y * 5) % 256, (x * 3 + y * 11) % 256], -1).astype(np.uint8)
picture = Image.fromarray(scene)

picture.save(HERE / "progressive.jpg", quality=80, progressive=True, subsampling="4:2:0")
picture.save(HERE / "restarts.jpg", quality=80, restart_marker_blocks=3, subsampling="4:2:0")
picture.convert("CMYK").save(HERE / "cmyk.jpg", quality=80)
