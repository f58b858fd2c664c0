"""What the right answers are, in other people's libraries: NumPy, Pillow, onnxruntime.

    oracle.py patches MODEL_FOLDER OUT PATCHES.npz     pictures as PNG and JPEG -> scores
    oracle.py cycles  MODEL_FOLDER OUT CYCLES.npz      one JSON frame a sample -> scores of each cycle
    oracle.py series  MODEL_FOLDER OUT SERIES.csv      one JSON frame a sample -> forecast, anomaly score
    oracle.py golden  MODEL_FOLDER MODEL_FOLDER        are its golden cases onnxruntime's answers?
    oracle.py rows    MODEL_FOLDER OUT AI4I.csv        one JSON or CSV frame a machine -> scores

Reads model.toml, does what it says, and writes OUT/cases.jsonl: {"file"|"text": payload, "answer": {...}}.
Shares no code with the daemon: where the two disagree, one of them misreads the card.
"""
import csv
import json
import math
import pathlib
import sys
import tomllib
from datetime import datetime

import numpy as np
import onnxruntime
from PIL import Image


def load(folder):
    card = tomllib.loads((folder / "model.toml").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return card, onnxruntime.InferenceSession(str(folder / card["graph"]["file"]), options)


def zero_states(card):
    shapes = {port["name"]: port["shape"] for port in card["graph"]["input"]}
    return {state["input"]: np.zeros(shapes[state["input"]], np.float32) for state in card.get("state", [])}


def run(card, session, features, states=None):
    """Scores after the card's activation, and the raw outputs by name."""
    feed = {card["features"]["input"]: features.astype(np.float32), **(states or {})}
    outputs = dict(zip([output.name for output in session.get_outputs()], session.run(None, feed)))
    scores = np.asarray(outputs[card["output"]["tensor"]], np.float64)
    activation = card["output"].get("activation", "none")
    if activation == "softmax":
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
    elif activation == "sigmoid":
        scores = 1 / (1 + np.exp(-scores))
    return scores, outputs


def classified(card, scores):
    output, scores = card["output"], scores.reshape(-1)
    labels = output["labels"]
    named = {label: float(score) for label, score in zip(labels, scores, strict=True)}
    best = labels[int(scores.argmax())]
    failing = sum(score for label, score in named.items() if label not in output.get("pass", []))
    margin = float(np.diff(np.sort(scores)[-2:])[0])
    if not output.get("pass"):
        verdict = "none"
    elif "uncertain" in output and output["uncertain"][0] <= failing <= output["uncertain"][1]:
        verdict = "uncertain"
    elif "threshold" in output:
        verdict = "fail" if failing >= output["threshold"] else "pass"
    else:
        verdict = "pass" if best in output["pass"] else "fail"
    # How far the deciding score is from each line at which the verdict would change.
    lines = list(output.get("uncertain", [])) + ([output["threshold"]] if "threshold" in output else [])
    distance = min([abs(failing - line) for line in lines] or [margin])
    return {"scores": named, "label": best, "margin": margin, "verdict": verdict, "distance": distance}


def tensor_of(picture, card):
    features = card["features"]
    assert picture.size == (features["width"], features["height"]), "the oracle does not resize"
    pixels = np.asarray(picture, np.float32)
    if features["channels"] == "bgr":
        pixels = pixels[:, :, ::-1]
    elif features["channels"] == "grey":
        pixels = np.asarray(picture.convert("L"), np.float32)[:, :, None]
    mean = np.array(features.get("mean", [0]), np.float32)
    std = np.array(features.get("std", [1]), np.float32)
    pixels = (pixels * np.float32(features.get("scale", 1 / 255)) - mean) / std
    return (pixels.transpose(2, 0, 1) if features.get("layout", "nchw") == "nchw" else pixels)[None]


def patches(card, session, out, source):
    archive = np.load(source)
    pixels = archive[next(key for key in ("x", "patches", "images") if key in archive)]
    assert pixels.dtype == np.uint8 and pixels.shape[3] == 3, (pixels.dtype, pixels.shape)
    for index, patch in enumerate(pixels):
        picture = Image.fromarray(patch)
        # 4:4:4, so that decoders differ by rounding only, not by how they stretch colours.
        for suffix, options in (("png", {}), ("jpg", {"quality": 95, "subsampling": 0})):
            name = f"{index:04}.{suffix}"
            picture.save(out / name, **options)
            decoded = Image.open(out / name).convert("RGB")
            scores, _ = run(card, session, tensor_of(decoded, card))
            yield {"file": name, "answer": classified(card, scores) | {"lossless": suffix == "png"}}


def scaled(rows, specs):
    mean = np.array([spec.get("mean", 0.0) for spec in specs])
    std = np.array([spec.get("std", 1.0) for spec in specs])
    return (np.asarray(rows, np.float64) - mean) / std


def number(value):
    """The shortest decimal that gives back a 32-bit float."""
    return float(str(np.float32(value)))


def cycles(card, session, out, source):
    archive = np.load(source)
    features = card["features"]
    names = [channel["name"] for channel in features["channel"]]
    order = [list(archive["sensors"]).index(name) for name in names]
    chosen = np.linspace(0, len(archive["x"]) - 1, 40).astype(int)
    for cycle in chosen:
        samples = archive["x"][cycle][order].T  # time, channel
        assert samples.shape == (features["samples"], len(names)), samples.shape
        window = scaled(samples, features["channel"])
        window = {"nct": window.T[None], "ntc": window[None], "tnc": window[:, None]}[features["layout"]]
        scores, _ = run(card, session, window)
        for second, sample in enumerate(samples):
            frame = {"id": f"{cycle}-{second}"} | {name: number(value) for name, value in zip(names, sample)}
            last = second == len(samples) - 1
            answer = classified(card, scores) | {"id": frame["id"]} if last else None
            yield {"text": json.dumps(frame), "answer": answer}


def series(card, session, out, source):
    features, output = card["features"], card["output"]
    names = [column["name"] for column in features["column"]]
    with open(source, newline="") as file:
        records = list(csv.DictReader(file))[:3000]
    times = [datetime.fromisoformat(record["timestamp"]) for record in records]
    values = {names[0]: [number(record["value"]) for record in records],
              "hour": [number(time.hour + time.minute / 60) for time in times]}
    assert names[0].startswith("temperature") and names[1:] == ["hour"], names
    raw = np.array([values[name] for name in names]).T
    inputs = scaled(raw, features["column"])
    states = zero_states(card)
    shape = next(port["shape"] for port in card["graph"]["input"] if port["name"] == features["input"])
    assert math.prod(shape) == len(names), "one row a frame"
    if isinstance(session.get_inputs()[0].shape[0], str):
        # The whole sequence in one run, as it was trained.
        forecast, _ = run(card, session, inputs.reshape(len(inputs), *shape[1:]), states)
    else:
        forecast = []
        for row in inputs:
            scores, outputs = run(card, session, row.reshape(shape), states)
            states = {state["input"]: outputs[state["output"]] for state in card["state"]}
            forecast.append(scores)
    forecast = np.asarray(forecast).reshape(len(inputs), -1)
    assert output["frames_ahead"] == 1 and output["distance"] in ("mean_absolute", "root_mean_square", "largest")
    seen = raw[:, [names.index(name) for name in output["of"]]]
    smooth, alpha = None, 2 / (output.get("smooth_frames", 1) + 1)
    for index, row in enumerate(raw):
        frame = {"id": str(index)} | {name: value for name, value in zip(names, map(float, row))}
        answer = {"id": str(index), "index": index}
        if index > 0:
            gaps = np.abs(seen[index] - forecast[index - 1])
            distance = {"mean_absolute": gaps.mean(), "root_mean_square": math.sqrt((gaps**2).mean()),
                        "largest": gaps.max()}[output["distance"]] / output.get("scale", 1.0)
            smooth = distance if smooth is None else smooth + alpha * (distance - smooth)
            answer |= {"expected": dict(zip(output["of"], map(float, forecast[index - 1]))),
                       "anomaly_score": float(smooth)}
        yield {"text": json.dumps(frame), "answer": answer}


def rows(card, session, out, source):
    features = card["features"]
    columns = features["column"]
    names = [column["name"] for column in columns]
    of_csv = {"type": "Type", "air_temperature_k": "Air temperature [K]",
              "process_temperature_k": "Process temperature [K]", "rotational_speed_rpm": "Rotational speed [rpm]",
              "torque_nm": "Torque [Nm]", "tool_wear_min": "Tool wear [min]"}
    with open(source, newline="", encoding="utf-8-sig") as file:
        records = list(csv.DictReader(file))
    failing = [record for record in records if record["Machine failure"] == "1"][::3]
    for index, record in enumerate(failing + records[:: len(records) // 200]):
        cells = [record[of_csv[name]].strip() for name in names]
        row = [{"L": 0.0, "M": 1.0, "H": 2.0}[cell] if cell in "LMH" else float(cell) for cell in cells]
        # Every seventh loses one reading that the card can stand in for.
        lost = index % len(names) if index % 7 == 6 else None
        if lost is not None and "impute" not in columns[lost]:
            lost = None
        filled = list(row)
        if lost is not None:
            filled[lost] = columns[lost]["impute"]
        for derived in features.get("derived", []):
            known = dict(zip(names + [d["name"] for d in features["derived"]], filled))
            a, b = (known[name] for name in derived["of"])
            filled.append({"ratio": lambda: a / b, "difference": lambda: a - b, "product": lambda: a * b}[derived["op"]]())
        shape = next(port["shape"] for port in card["graph"]["input"] if port["name"] == features["input"])
        scores, _ = run(card, session, scaled(filled, columns + features.get("derived", [])).reshape(shape))
        frame = {name: None if i == lost else value for i, (name, value) in enumerate(zip(names, row))}
        yield {"text": json.dumps({"id": str(index)} | frame), "answer": classified(card, scores) | {"id": str(index)}}


def golden(card, session, folder):
    cases = sorted(case for case in (folder / "golden").iterdir() if case.is_dir())
    assert cases, f"{folder}: no golden cases"
    for case in cases:
        feed = {port.name: np.load(case / f"input-{i}.npy") for i, port in enumerate(session.get_inputs())}
        for i, ours in enumerate(session.run(None, feed)):
            expected = np.load(case / f"output-{i}.npy")
            assert ours.shape == expected.shape, (str(case), i, ours.shape, expected.shape)
            worst = np.abs(ours - expected).max() / max(np.abs(expected).max(), 1e-30)
            assert worst <= card["golden"]["tolerance"], f"{case}: output {i} is off by {worst}"


def main():
    kind, folder, out = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    card, session = load(folder)
    if kind == "golden":
        return golden(card, session, folder)
    work = {"patches": patches, "cycles": cycles, "series": series, "rows": rows}[kind]
    with open(out / "cases.jsonl", "w") as cases:
        for case in work(card, session, out, sys.argv[4]):
            cases.write(json.dumps(case) + "\n")


main()
