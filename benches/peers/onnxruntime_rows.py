"""onnxruntime on one thread: the quickest of RUNS runs of MODEL on INPUT.npy, in microseconds.

    python onnxruntime_rows.py MODEL INPUT.npy RUNS
"""

import sys
import time

import numpy as np
import onnxruntime

model, rows, runs = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: rows}
best = float("inf")
for _ in range(runs):
    begun = time.perf_counter()
    session.run(None, feed)
    best = min(best, time.perf_counter() - begun)
print(best * 1e6)
