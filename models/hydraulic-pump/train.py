"""Internal leakage of a hydraulic rig's pump, from one 60 s cycle of eight sensors at 1 Hz.

    pip install jax onnx onnxruntime numpy
    python models/hydraulic-pump/train.py DATA            train, export, measure (1 minute)
    python models/hydraulic-pump/train.py DATA --measure  measure the model that is shipped
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import hydraulic  # noqa: E402

if __name__ == "__main__":
    # profile.txt, third column: internal pump leakage.
    labels = ("no_leakage", "weak_leakage", "severe_leakage")
    hydraulic.main(FOLDER, __doc__, column=2, values=[0, 1, 2], labels=labels)
