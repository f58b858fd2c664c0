"""Small convolutional networks in plain JAX, on one or two CPU cores; ONNX out, batch norm folded.

Used by the train.py of part-inspection, surface-pitting and the two hydraulic models.
    pip install jax onnx onnxruntime numpy
Arrays are channels-last here (faster on a CPU); the graphs are channels-first, as ONNX wants it.
"""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Net:
    """Convolutions with ReLU, one pooling over all places, one linear layer, softmax."""

    channels_in: int
    size: tuple  # (length,) or (height, width)
    layers: tuple  # (channels, kernel, stride) each; padding is kernel // 2
    labels: tuple
    pool: str = "mean"  # mean, max, or both side by side

    @property
    def rank(self):
        return len(self.size)

    @property
    def places(self):
        """Axes that hold places, in a channels-last array."""
        return tuple(range(1, 1 + self.rank))

    def multiplications(self):
        """Multiply-accumulates of one inference."""
        total, channels, size = 0, self.channels_in, self.size
        for out, kernel, stride in self.layers:
            size = tuple((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in size)
            total += int(np.prod(size)) * channels * out * kernel**self.rank
            channels = out
        return total + channels * len(self.labels) * (2 if self.pool == "both" else 1)


def initial(net, seed):
    """Weights (trained) and running statistics (collected), one dict a layer."""
    key = jax.random.PRNGKey(seed)
    weights, statistics, channels = [], [], net.channels_in
    for out, kernel, _ in net.layers:
        key, use = jax.random.split(key)
        shape = (kernel,) * net.rank + (channels, out)
        he = np.sqrt(2 / (channels * kernel**net.rank))
        weights.append(
            {"w": jax.random.normal(use, shape) * he, "gain": jnp.ones(out), "bias": jnp.zeros(out)}
        )
        statistics.append({"mean": jnp.zeros(out), "var": jnp.ones(out)})
        channels = out
    pooled = channels * (2 if net.pool == "both" else 1)
    key, use = jax.random.split(key)
    last = jax.random.normal(use, (pooled, len(net.labels))) / np.sqrt(pooled)
    weights.append({"w": last, "bias": jnp.zeros(len(net.labels))})
    return weights, statistics


def logits(net, weights, statistics, x, training):
    """Scores before the softmax, and the running statistics after this batch."""
    axes = ("NWC", "WIO", "NWC") if net.rank == 1 else ("NHWC", "HWIO", "NHWC")
    collected = []
    for layer, seen, (_, kernel, stride) in zip(weights, statistics, net.layers):
        pad = [(kernel // 2, kernel // 2)] * net.rank
        x = jax.lax.conv_general_dilated(x, layer["w"], (stride,) * net.rank, pad, dimension_numbers=axes)
        if training:
            mean, var = x.mean((0, *net.places)), x.var((0, *net.places))
            collected.append(
                {"mean": 0.9 * seen["mean"] + 0.1 * mean, "var": 0.9 * seen["var"] + 0.1 * var}
            )
        else:
            mean, var = seen["mean"], seen["var"]
        scale = layer["gain"] / jnp.sqrt(var + 1e-5)
        x = jax.nn.relu(x * scale + (layer["bias"] - mean * scale))
    pools = {"mean": [x.mean], "max": [x.max], "both": [x.mean, x.max]}[net.pool]
    x = jnp.concatenate([pool(net.places) for pool in pools], 1)
    return x @ weights[-1]["w"] + weights[-1]["bias"], collected


def train(
    net, x, y, *, epochs, seed, batch=64, rate=3e-3, decay=1e-2, smoothing=0.05,
    class_weights=None, augment=None, prepare=lambda x: x, validate=None,
):  # fmt: skip
    """AdamW with a warm-up and a cosine. `augment(x, rng)` sees a float batch, `prepare` whatever
    goes into the network; `validate(weights, statistics)` returns a line to print."""
    rng = np.random.default_rng(seed)
    weights, statistics = initial(net, seed)
    first = jax.tree.map(jnp.zeros_like, weights)
    second = first
    steps = epochs * (len(x) // batch)
    per_class = jnp.ones(len(net.labels)) if class_weights is None else jnp.asarray(class_weights)

    def loss(weights, statistics, x, y):
        scores, collected = logits(net, weights, statistics, x, True)
        wanted = jax.nn.one_hot(y, len(net.labels)) * (1 - smoothing) + smoothing / len(net.labels)
        losses = -(wanted * jax.nn.log_softmax(scores)).sum(1)
        return (losses * per_class[y]).mean(), collected

    @jax.jit
    def step(weights, statistics, first, second, x, y, i):
        (value, collected), slope = jax.value_and_grad(loss, has_aux=True)(weights, statistics, x, y)
        now = rate * jnp.minimum(1.0, i / 100) * 0.5 * (1 + jnp.cos(jnp.pi * i / steps))
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)
        one, two = 1 - 0.9**i, 1 - 0.999**i
        weights = jax.tree.map(
            lambda w, m, v: w * (1 - now * decay) - now * (m / one) / (jnp.sqrt(v / two) + 1e-8),
            weights, first, second,
        )  # fmt: skip
        return weights, collected, first, second, value

    begun, i = time.time(), 0
    for epoch in range(epochs):
        order, losses = rng.permutation(len(x)), []
        for at in range(0, len(x) - batch + 1, batch):
            i += 1
            chosen = np.sort(order[at : at + batch])
            part = x[chosen].astype(np.float32)
            part = prepare(augment(part, rng) if augment else part)
            weights, statistics, first, second, value = step(
                weights, statistics, first, second, jnp.asarray(part), jnp.asarray(y[chosen]), float(i)
            )
            losses.append(value)
        line = f"epoch {epoch + 1:3d}  loss {float(jnp.mean(jnp.asarray(losses))):.4f}"
        if validate and (epoch % 2 == 1 or epoch + 1 == epochs):
            line += f"  {validate(weights, statistics)}"
        print(f"{line}  {time.time() - begun:.0f} s", flush=True)
    return weights, statistics


def export(net, weights, statistics, path, *, doc, centre=None, spread=None, properties=None):
    """Writes the graph: input `input`, batch `N`, output `probabilities`. With `centre` and `spread`
    (arrays that broadcast against the input) the graph normalises by itself."""
    tensors, nodes, at = [], [], "input"

    def tensor(name, values):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
        return name

    if centre is not None:
        nodes.append(helper.make_node("Sub", [at, tensor("centre", centre)], ["centred"]))
        nodes.append(helper.make_node("Mul", ["centred", tensor("inverse", 1 / np.asarray(spread))], ["normed"]))
        at = "normed"
    for k, (layer, seen, (_, kernel, stride)) in enumerate(zip(weights, statistics, net.layers)):
        scale = np.asarray(layer["gain"]) / np.sqrt(np.asarray(seen["var"]) + 1e-5)
        w = np.moveaxis(np.asarray(layer["w"]) * scale, (-1, -2), (0, 1))
        bias = np.asarray(layer["bias"]) - np.asarray(seen["mean"]) * scale
        nodes.append(
            helper.make_node(
                "Conv", [at, tensor(f"w{k}", w), tensor(f"b{k}", bias)], [f"conv{k}"],
                kernel_shape=[kernel] * net.rank, strides=[stride] * net.rank, pads=[kernel // 2] * 2 * net.rank,
            )
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"conv{k}"], [f"relu{k}"]))
        at = f"relu{k}"
    pools = {"mean": ["Average"], "max": ["Max"], "both": ["Average", "Max"]}[net.pool]
    for pool in pools:
        nodes.append(helper.make_node(f"Global{pool}Pool", [at], [f"pool_{pool}"]))
    pooled = [f"pool_{pool}" for pool in pools]
    if len(pooled) > 1:
        nodes.append(helper.make_node("Concat", pooled, ["pooled"], axis=1))
        pooled = ["pooled"]
    nodes.append(helper.make_node("Flatten", pooled, ["flat"]))
    last = [tensor("w_last", weights[-1]["w"]), tensor("b_last", weights[-1]["bias"])]
    nodes.append(helper.make_node("Gemm", ["flat", *last], ["logits"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", net.channels_in, *net.size])
    wanted = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(net.labels)])
    graph = helper.make_graph(nodes, "net", [given], [wanted], tensors, doc)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="lineside-train"
    )
    helper.set_model_props(model, {"labels": ",".join(net.labels), **(properties or {})})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def predict(path, x, batch=64):
    """What ONNX Runtime says for float32 inputs as the graph wants them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: x[at : at + batch]})[0] for at in range(0, len(x), batch)]
    return np.concatenate(parts)


def confusion(labels, truth, found):
    """Rows: truth, columns: found; as lines of text."""
    table = np.zeros((len(labels), len(labels)), int)
    np.add.at(table, (truth, found), 1)
    wide = max(len(label) for label in labels)
    head = " " * wide + "".join(f" {label:>{wide}}" for label in labels)
    rows = (f"{label:>{wide}}" + "".join(f" {n:{wide}d}" for n in row) for label, row in zip(labels, table))
    return "\n".join([head, *rows])
