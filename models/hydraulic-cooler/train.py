"""Condition of a hydraulic rig's cooler, from one 60 s cycle of eight sensors at 1 Hz.

    pip install jax onnx onnxruntime numpy
    python models/hydraulic-cooler/train.py DATA            train, export, measure (1 minute)
    python models/hydraulic-cooler/train.py DATA --measure  measure the model that is shipped
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import hydraulic  # noqa: E402

if __name__ == "__main__":
    # profile.txt, first column: cooler condition in per cent.
    labels = ("close_to_failure", "reduced_efficiency", "full_efficiency")
    hydraulic.main(FOLDER, __doc__, column=0, values=[3, 20, 100], labels=labels)
