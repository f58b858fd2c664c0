"""What a user would run instead: paho-mqtt, json, onnxruntime, in one callback.

    paho_onnxruntime.py PORT MODEL_FOLDER TOPIC_IN TOPIC_OUT QOS

Written the way such scripts are written. One thread for onnxruntime, because that is faster with so
small a model; TCP_NODELAY and more messages under way than paho's 20 were tried and gave nothing.
Prints `ready` when it has subscribed.
"""
import json
import pathlib
import sys
import tomllib

import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt

port, folder, topic_in, topic_out = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
qos = int(sys.argv[5])
card = tomllib.loads((folder / "model.toml").read_text())
features, output = card["features"], card["output"]
columns, derived = features["column"], features.get("derived", [])
mean = np.array([c.get("mean", 0.0) for c in columns + derived])
std = np.array([c.get("std", 1.0) for c in columns + derived])
shape = next(p["shape"] for p in card["graph"]["input"] if p["name"] == features["input"])
threshold = output.get("threshold", 0.5)

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(folder / card["graph"]["file"]), options)


def on_message(client, userdata, message):
    frame = json.loads(message.payload)
    values = {c["name"]: frame[c["name"]] for c in columns}
    for d in derived:
        a, b = values[d["of"][0]], values[d["of"][1]]
        values[d["name"]] = {"ratio": lambda: a / b, "difference": lambda: a - b, "product": lambda: a * b}[d["op"]]()
    x = ((np.array(list(values.values())) - mean) / std).astype(np.float32).reshape(shape)
    (scores,) = session.run([output["tensor"]], {features["input"]: x})
    scores = scores.reshape(-1)
    best = int(scores.argmax())
    failing = float(sum(s for label, s in zip(output["labels"], scores) if label not in output["pass"]))
    answer = {
        "id": frame.get("id"),
        "label": output["labels"][best],
        "score": float(scores[best]),
        "verdict": "fail" if failing >= threshold else "pass",
    }
    client.publish(topic_out, json.dumps(answer), qos=qos)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe(topic_in, qos=qos)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="peer")
client.on_connect = on_connect
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_forever()
