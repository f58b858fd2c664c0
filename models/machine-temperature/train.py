"""Forecast of a machine's temperature, one sample ahead; what it did not expect is an anomaly.

    pip install jax onnx onnxruntime numpy pandas
    python models/machine-temperature/train.py NAB             train, export, measure (half a minute)
    python models/machine-temperature/train.py NAB --measure   measure the model that is shipped

NAB: the Numenta Anomaly Benchmark (MIT), or a folder with `machine_temperature_system_failure.csv` and
`combined_windows.json`. Trained on the first 2,100 rows only (7.3 days), which end before the first labelled window
begins; everything after them is unseen. The graph takes raw values: it scales and makes the clock's sine and cosine
itself, so that a device sends what its sensor says.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import golden  # noqa: E402

SERIES = "machine_temperature_system_failure.csv"
TRAINED_ROWS, SETTLED_ROWS = 2100, 300
HIDDEN, STEPS, SEED, RATE = 24, 700, 0, 5e-3
# The card's numbers come from these and the training rows, see `settings`.
SMOOTH_FRAMES, QUANTILE, MARGIN = 12, 0.9999, 1.5


def load(folder):
    """Values, hour of the day, whether a row lies in a labelled window, the windows."""
    found = {path.name: path for path in folder.rglob("*") if path.name in (SERIES, "combined_windows.json")}
    table = pd.read_csv(found[SERIES], parse_dates=["timestamp"])
    hour = (table.timestamp.dt.hour + table.timestamp.dt.minute / 60).to_numpy(np.float32)
    spans = json.loads(found["combined_windows.json"].read_text())[f"realKnownCause/{SERIES}"]
    windows = [((table.timestamp >= a) & (table.timestamp <= b)).to_numpy() for a, b in spans]
    return table.value.to_numpy(np.float32), hour, np.any(windows, 0), windows


def train(value, hour):
    """Weights of a residual LSTM forecaster in ONNX's gate order i, o, f, c; mean and spread of the values."""
    import jax
    import jax.numpy as jnp

    mean, std = value[:TRAINED_ROWS].mean(), value[:TRAINED_ROWS].std()
    turn = 2 * np.pi * hour / 24
    rows = np.stack([(value - mean) / std, np.sin(turn), np.cos(turn)], 1).astype(np.float32)
    keys = jax.random.split(jax.random.PRNGKey(SEED), 3)
    weights = {
        "w": jax.random.normal(keys[0], (4 * HIDDEN, 3)) * 0.3,
        "r": jax.random.normal(keys[1], (4 * HIDDEN, HIDDEN)) * 0.2,
        # A forget gate that is open at first keeps what it learns.
        "b": jnp.zeros(4 * HIDDEN).at[2 * HIDDEN : 3 * HIDDEN].set(1.0),
        "out": jax.random.normal(keys[2], (HIDDEN, 1)) * 0.2,
        "out_b": jnp.zeros(1),
    }

    def cell(weights, state, x):
        h, c = state
        i, o, f, g = jnp.split(x @ weights["w"].T + h @ weights["r"].T + weights["b"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), x[..., :1] + h @ weights["out"] + weights["out_b"]

    def loss(weights, x):
        zero = jnp.zeros((x.shape[1], HIDDEN))
        forecast = jax.lax.scan(lambda state, x: cell(weights, state, x), (zero, zero), x)[1]
        # The first 24 rows only fill the state.
        return jnp.abs(forecast[24:-1, :, 0] - x[25:, :, 0]).mean()

    @jax.jit
    def step(weights, first, second, x, i):
        value, slope = jax.value_and_grad(loss)(weights, x)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)
        now = RATE * jnp.minimum(1, i / 30) * 0.5 * (1 + jnp.cos(jnp.pi * i / STEPS))
        weights = jax.tree.map(
            lambda w, m, v: w - now * (m / (1 - 0.9**i)) / (jnp.sqrt(v / (1 - 0.999**i)) + 1e-8),
            weights, first, second,
        )  # fmt: skip
        return weights, first, second, value

    first = jax.tree.map(jnp.zeros_like, weights)
    second, rng, begun = first, np.random.default_rng(SEED), time.time()
    for i in range(1, STEPS + 1):
        starts = rng.integers(0, TRAINED_ROWS - 200, 32)
        batch = jnp.asarray(np.stack([rows[start : start + 200] for start in starts], 1))
        weights, first, second, now = step(weights, first, second, batch, float(i))
        if i % 175 == 0:
            print(f"step {i}  loss {float(now):.4f}  {time.time() - begun:.0f} s", flush=True)
    return {name: np.asarray(value) for name, value in weights.items()}, mean, std


def export(weights, mean, std, path):
    """`sample [T, 1, 2]`, `h_in`, `c_in` → `forecast [T, 1, 1]` in the value's unit, `h_out`, `c_out`."""
    tensors = []

    def tensor(name, values, kind=np.float32):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=kind), name))
        return name

    axis = tensor("axis", [2], np.int64)
    zero, one, two = (tensor(f"i{k}", [k], np.int64) for k in range(3))
    bias = np.concatenate([weights["b"], np.zeros(4 * HIDDEN)])[None]
    lstm = [tensor("w", weights["w"][None]), tensor("r", weights["r"][None]), tensor("b", bias)]
    node = helper.make_node
    nodes = [
        node("Slice", ["sample", zero, one, axis], ["raw"]),
        node("Slice", ["sample", one, two, axis], ["hour"]),
        node("Sub", ["raw", tensor("mean", mean)], ["centred"]),
        node("Mul", ["centred", tensor("inverse", 1 / std)], ["z"]),
        node("Mul", ["hour", tensor("per_hour", 2 * np.pi / 24)], ["angle"]),
        node("Sin", ["angle"], ["sine"]),
        node("Cos", ["angle"], ["cosine"]),
        node("Concat", ["z", "sine", "cosine"], ["x"], axis=2),
        node("LSTM", ["x", *lstm, "", "h_in", "c_in"], ["y", "h_out", "c_out"], hidden_size=HIDDEN),
        node("Squeeze", ["y", tensor("direction", [1], np.int64)], ["hidden"]),
        node("MatMul", ["hidden", tensor("out", weights["out"])], ["projected"]),
        node("Add", ["projected", tensor("out_b", weights["out_b"])], ["change"]),
        node("Add", ["change", "z"], ["next_z"]),
        node("Mul", ["next_z", tensor("std", std)], ["next_centred"]),
        node("Add", ["next_centred", "mean"], ["forecast"]),
    ]
    port = helper.make_tensor_value_info
    state = [1, 1, HIDDEN]
    graph = helper.make_graph(
        nodes, "machine_temperature",
        [port("sample", TensorProto.FLOAT, ["T", 1, 2])] + [port(s, TensorProto.FLOAT, state) for s in ("h_in", "c_in")],
        [port("forecast", TensorProto.FLOAT, ["T", 1, 1])] + [port(s, TensorProto.FLOAT, state) for s in ("h_out", "c_out")],
        tensors,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="lineside-train"
    )
    helper.set_model_props(model, {"period_s": "300", "inputs": "temperature, hour of day"})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def stream(path, value, hour):
    """Row after row with carried state, as the daemon runs it: forecasts, and the state before each row."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    h = c = np.zeros((1, 1, HIDDEN), np.float32)
    forecasts, states = np.empty(len(value)), []
    for i in range(len(value)):
        states.append((h, c))
        sample = np.array([[[value[i], hour[i]]]], np.float32)
        forecast, h, c = session.run(None, {"sample": sample, "h_in": h, "c_in": c})
        forecasts[i] = forecast[0, 0, 0]
    return forecasts, states


def smoothed(errors):
    """Exponential mean, α = 2 ÷ (frames + 1), from the first error on: as the daemon does."""
    alpha, level, out = 2 / (SMOOTH_FRAMES + 1), errors[0], np.empty(len(errors))
    for i, error in enumerate(errors):
        level = level + alpha * (error - level)
        out[i] = level
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("nab", type=Path)
    parser.add_argument("--model", type=Path, default=FOLDER / "model.onnx")
    parser.add_argument("--measure", action="store_true", help="measure the model that is there, do not train")
    parser.add_argument("--cases", action="store_true", help="write the golden cases into the folder")
    args = parser.parse_args()
    value, hour, labelled, windows = load(args.nab)
    if not args.measure:
        export(*train(value, hour), args.model)
    forecasts, states = stream(args.model, value, hour)
    # A forecast is held against the next row; row 0 has none.
    errors = np.abs(forecasts[:-1] - value[1:])
    scale = float(f"{errors[50:TRAINED_ROWS].mean():.4g}")
    score = np.concatenate([[0], smoothed(errors / scale)])
    settled = score[SETTLED_ROWS:TRAINED_ROWS]
    threshold = float(f"{MARGIN * np.quantile(settled, QUANTILE):.3g}")
    print(f"for the card: scale = {scale}, smooth_frames = {SMOOTH_FRAMES}, threshold = {threshold}")
    naive = np.abs(np.diff(value))
    unseen = np.arange(len(value)) >= TRAINED_ROWS
    quiet, loud = (unseen & ~labelled)[1:], labelled[1:]
    print(f"mean error of the training rows {scale}, by the last value instead {naive[50:TRAINED_ROWS].mean():.4f}")
    print(f"of unseen rows outside the windows {errors[quiet].mean():.4f}, in them {errors[loud].mean():.4f}")
    alarm = unseen & (score >= threshold)
    hit = [bool(alarm[window].any()) for window in windows]
    outside = alarm & ~labelled
    starts = int((outside[1:] & ~outside[:-1]).sum())
    print(f"windows with an alarm: {sum(hit)} of {len(hit)} {hit}")
    print(f"alarm rows outside: {outside.sum()} of {quiet.sum()} = {100 * outside.sum() / quiet.sum():.2f} %, in {starts} runs")
    if args.cases:
        fault = int(np.argmax(np.where(labelled, score, 0)))
        for case, row in (("first-sample", 0), ("settled", 1000), ("fault", fault)):
            golden.add(FOLDER, case, [np.array([[[value[row], hour[row]]]], np.float32), *states[row]])
        golden.Folder(FOLDER).write()


if __name__ == "__main__":
    main()
