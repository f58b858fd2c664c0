"""Models that bring functions along, with onnxruntime's answers.

    functions.py OUT

Writes OUT/NAME.onnx, OUT/NAME/{input,output}-N.npy, and OUT/cases.jsonl.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

HEAD = '<ir_version: 10, opset_import: ["": 18, "my": 1, "your": 1]>\n'
OF = '<domain: "{}", opset_import: ["": 18, "my": 1, "your": 1]>\n'
MINE, YOURS = OF.format("my"), OF.format("your")

MODELS = {
    "an_attribute_of_the_call_and_its_default": HEAD + """
        g (float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] w) {
            y = my.leaky <slope: float = 0.5> (x)
            z = my.leaky (x)
            w = my.bare (x)
        }
        """ + MINE + """ leaky <slope: float = 0.25> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }
        """ + MINE + """ bare <slope> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }""",
    "an_attribute_goes_through_two_functions": HEAD + """
        g (float[2,3] x) => (float[2] y) { y = my.outer <over: ints = [1], off: tensor = float {7.5}> (x) }
        """ + MINE + """ outer <over, off> (a) => (b) {
            c = Constant <value: tensor = @off> ()
            d = Add (a, c)
            b = your.inner <axes: ints = @over> (d)
        }
        """ + YOURS + """ inner <axes, keep: int = 0> (a) => (b) {
            c = Constant <value_ints: ints = @axes> ()
            b = ReduceSum <keepdims: int = @keep> (a, c)
        }""",
    "inputs_and_outputs_are_left_out": HEAD + """
        g (float[2,3] x, float hi) => (float[2,3] y, float[2,3] z, float[2,3] u) {
            y = my.bounded (x, , hi)
            z = my.bounded (x)
            , u = my.pair (x)
            v, w = my.pair (u)
        }
        """ + MINE + """ bounded (a, low, high) => (b) { b = Clip (a, low, high) }
        """ + MINE + """ pair (a) => (b, c) { b = Relu (a)  c = Neg (b) }""",
    "names_inside_are_those_of_nobody_else": HEAD + """
        g (float[2,3] x, float[2,3] t) => (float[2,3] y) {
            b = my.twice (x)
            a = my.twice (t)
            c = your.twice (b)
            y = Sub (a, c)
        }
        """ + MINE + """ twice (a) => (b) { t = Abs (a)  x = your.twice (t)  b = Sqrt (x) }
        """ + YOURS + """ twice (b) => (a) { t = Add (b, b)  a = Mul (t, t) }""",
    "a_branch_inside_a_function_reads_its_names": HEAD + """
        g (float[2,3] x, bool c) => (float[2,3] y, float[2,3] z) {
            y = my.either (c, x)
            n = Not (c)
            z = my.either (n, y)
        }
        """ + MINE + """ either (c, a) => (b) {
            t = Exp (a)
            b = If (c) <
                then_branch = yes () => (float[2,3] r) { r = your.less (t, a) },
                else_branch = no () => (float[2,3] r) { t2 = Neg (a)  r = your.less (t2, t) }
            >
        }
        """ + YOURS + """ less (a, t) => (r) { r = Sub (t, a) }""",
    "a_call_inside_a_branch_reads_what_stands_around_it": HEAD + """
        g (float[2,3] x, bool c) => (float[2,3] y) {
            t = Exp (x)
            y = If (c) <
                then_branch = yes () => (float[2,3] r) { r = my.less (t, x) },
                else_branch = no () => (float[2,3] r) { r = my.less (x, t) }
            >
        }
        """ + MINE + """ less (a, b) => (t) { x = Neg (b)  t = Add (a, x) }""",
    "a_function_of_another_operator_set": HEAD + """
        g (float[2,3] x) => (float[2,3] y) { y = my.f (x) }
        <domain: "my", opset_import: ["": 15]> f (a) => (b) { c = Relu (a)  b = Softmax (c) }""",
    "only_functions_name_an_operator_set": """<ir_version: 10, opset_import: ["my": 1]>
        g (float[2,3] x) => (float[2,3] y) { y = my.f (x) }
        <domain: "my", opset_import: ["": 18]> f (a) => (b) { b = Softmax (a) }""",
    "overloads_are_told_apart": HEAD + """
        g (float[2,3] x) => (float[2,3] y, float[2,3] z) { y = my.f:one (x)  z = my.f:two (x) }
        <domain: "my", overload: "one", opset_import: ["": 18]> f (a) => (b) { b = Relu (a) }
        <domain: "my", overload: "two", opset_import: ["": 18]> f (a) => (b) { b = Abs (a) }""",
    "an_operator_wins_over_a_function_of_its_name": """
        <ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>
        g (float[2,3] x) => (float[2,3] y, float[2,3] z) { y = com.microsoft.FastGelu (x)  z = Relu (x) }
        <domain: "com.microsoft", opset_import: ["": 18]> FastGelu (a) => (b) { b = Abs (a) }
        <domain: "", opset_import: ["": 18]> Relu (a) => (b) { b = Abs (a) }""",
    "a_function_is_not_an_operator_of_its_name_elsewhere": HEAD + """
        g (float[2,3] x) => (float[2,3] y) { y = my.Relu (x) }
        """ + MINE + """ Relu (a) => (b) { c = Relu (a)  b = Add (c, a) }""",
    "branches_that_are_constants_are_not_taken_for_known": HEAD + """
        g (float[2,3] x, bool c) => (float[2,3] y, float[2,3] z) {
            n = Not (c)
            y = my.shifted (c, x)
            z = my.shifted (n, x)
        }
        """ + MINE + """ shifted (c, a) => (b) {
            one = Constant <value: tensor = float[1] {1.0}> ()
            k = If (c) <
                then_branch = yes () => (float[1] r) { r = Identity (one) },
                else_branch = no () => (float[1] r) { r = Constant <value: tensor = float[1] {5.0}> () }
            >
            b = Add (a, k)
        }""",
    "branches_hand_on_a_nan": HEAD + """
        g (float[2,3] x, bool c) => (float[2,3] y) {
            y = If (c) <
                then_branch = yes () => (float[2,3] r) { a = Sigmoid (x)  b = Relu (x)  r = Add (a, b) },
                else_branch = no () => (float[2,3] r) { a = Tanh (x)  b = Relu (x)  r = Add (a, b) }
            >
        }
        """ + MINE + """ unused (a) => (b) { b = Abs (a) }""",
    "a_recurrent_layer_inside_a_function": HEAD + """
        g (float[5,1,3] x, float[1,16,3] w, float[1,16,4] r) => (float[5,1,1,4] y) { y = my.layer (x, w, r) }
        """ + MINE + """ layer (x, w, r, b) => (y) { y, , c = LSTM <hidden_size: int = 4> (x, w, r, b) }""",
}

TYPES = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.BOOL: np.bool_}


def main(out):
    random = np.random.default_rng(11)
    with open(out / "cases.jsonl", "w") as listed:
        for name, text in MODELS.items():
            model = onnx.parser.parse_model(text)
            file, place = out / f"{name}.onnx", out / name
            onnx.save(model, file)
            place.mkdir()
            session = onnxruntime.InferenceSession(str(file))
            feed = {}
            for port in model.graph.input:
                tensor = port.type.tensor_type
                drawn = random.normal(size=[dim.dim_value for dim in tensor.shape.dim])
                if tensor.elem_type == onnx.TensorProto.FLOAT:
                    drawn.flat[0] = np.nan if name.endswith("_nan") else drawn.flat[0]
                feed[port.name] = np.asarray(drawn).astype(TYPES[tensor.elem_type])
            names = [port.name for port in session.get_outputs()]
            line = {"name": name, "model": str(file), "tolerance": 1e-5}
            for kind, tensors in {"input": feed, "output": dict(zip(names, session.run(names, feed)))}.items():
                line[f"{kind}s"] = []
                for at, (port, tensor) in enumerate(tensors.items()):
                    np.save(place / f"{kind}-{at}.npy", tensor)
                    line[f"{kind}s"].append({"name": port, "file": str(place / f"{kind}-{at}.npy")})
            listed.write(json.dumps(line) + "\n")


main(pathlib.Path(sys.argv[1]))
