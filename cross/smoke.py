"""The binary of a board, run as it will be run there, against peers that are not ours.

Usage: smoke.py [--emulator "qemu-aarch64-static -cpu cortex-a53 …"] BINARY, called by cross/smoke.

Broker and clients are mosquitto's. What an answer must be comes from the models' golden cases: the readings
that are sent are those cases with the card's scaling undone. Prints a line a check; ends with 1 at the first
that does not hold.
"""

import argparse
import contextlib
import json
import math
import os
import queue
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
# Generous: an emulated processor is ten to fifty times slower than this one, which may be busy.
PATIENCE_SECS = 120
checks = 0


def check(holds, words):
    """One fact; the first that does not hold ends the run."""
    global checks
    if not holds:
        sys.exit(f"smoke: FAILED: {words}")
    checks += 1
    print(f"smoke: ok: {words}", flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, patience_secs=PATIENCE_SECS):
    deadline = time.monotonic() + patience_secs
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"smoke: FAILED: waited {patience_secs} s for {what}")
        time.sleep(0.05)


def npy(path):
    """The f32 numbers of a .npy file, flat."""
    import array

    raw = path.read_bytes()
    assert raw[:6] == b"\x93NUMPY", path
    length = int.from_bytes(raw[8:10], "little")
    assert "'<f4'" in raw[10 : 10 + length].decode(), path
    numbers = array.array("f")
    numbers.frombytes(raw[10 + length :])
    return list(numbers)


def readings():
    """(case, reading as JSON object, scores) of each golden case of machine-failure."""
    folder = MODELS / "machine-failure"
    card = tomllib.loads((folder / "model.toml").read_text())
    labels = card["output"]["labels"]
    for case in sorted(entry for entry in (folder / "golden").iterdir() if entry.is_dir()):
        scaled = npy(case / "input-0.npy")
        reading = {
            column["name"]: value * column["std"] + column["mean"]
            for column, value in zip(card["features"]["column"], scaled)
        }
        yield case.name, reading, dict(zip(labels, npy(case / "output-0.npy")))


class Broker:
    """A mosquitto with a plain and a mutual-TLS listener."""

    def __init__(self, folder):
        self.port, self.tls_port = free_port(), free_port()
        self.folder = folder
        self.certificates()
        conf = folder / "mosquitto.conf"
        conf.write_text(
            f"persistence false\nper_listener_settings false\nallow_anonymous true\nmax_queued_messages 0\n"
            f"set_tcp_nodelay true\nlistener {self.port} 127.0.0.1\n"
            f"listener {self.tls_port} 127.0.0.1\ncafile {folder}/ca.pem\ncertfile {folder}/broker.pem\n"
            f"keyfile {folder}/broker.key\nrequire_certificate true\nuser root\n"
        )
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        self.log = open(folder / "mosquitto.log", "w")
        self.process = subprocess.Popen([program, "-c", conf], stdout=self.log, stderr=self.log)
        wait_for("mosquitto", self.listens, 20)

    def listens(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def certificates(self):
        def openssl(*words):
            subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=smoke authority")
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        for who in ("broker", "device"):
            openssl("req", "-new", *key[:-2], "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}")
            openssl("x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                    "-days", "2", "-extfile", "names", "-out", f"{who}.pem")  # fmt: skip

    def publish(self, topic, *lines, file=None):
        """Lines as messages, or a file as one, at QoS 1."""
        words = ["mosquitto_pub", "-p", str(self.port), "-q", "1", "-t", topic]
        if file:
            subprocess.run([*words, "-f", file], check=True)
        else:
            subprocess.run([*words, "-l"], input="\n".join(lines) + "\n", text=True, check=True)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Listener:
    """A mosquitto_sub on everything that the daemon says."""

    def __init__(self, broker):
        self.process = subprocess.Popen(
            ["mosquitto_sub", "-p", str(broker.port), "-q", "1", "-t", "lineside/#", "-F", "%t\t%p"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=lambda: [self.lines.put(line) for line in self.process.stdout], daemon=True).start()

    def all(self):
        with contextlib.suppress(queue.Empty):
            while True:
                topic, _, payload = self.lines.get_nowait().rstrip("\n").partition("\t")
                self.seen.append((topic, payload))
        return self.seen

    def predictions(self, pipeline):
        return [json.loads(p) for t, p in self.all() if t.endswith(f"/{pipeline}/result")]

    def errors(self):
        return [p for t, p in self.all() if t.endswith("/error")]

    def availability(self):
        said = [p for t, p in self.all() if t.endswith("/availability")]
        return said[-1] if said else None

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Device:
    """The binary on its processor."""

    def __init__(self, emulator, binary, folder):
        self.command = [*shlex.split(emulator), str(binary)]
        self.folder = folder
        self.running = None

    def run(self, *words, ends_with=0):
        done = subprocess.run([*self.command, *map(str, words)], capture_output=True, text=True, timeout=600)
        if done.returncode != ends_with:
            sys.exit(f"smoke: FAILED: {words} ended with {done.returncode}, not {ends_with}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def config(self, name, url, tls="", models=MODELS, pipelines=("failure", "parts"), more=""):
        known = {
            "failure": ("machine-failure", "machine/{machine}/state", 'format = "json", id_field = "id"'),
            "parts": ("part-inspection", "camera/{camera}/frame", 'format = "image"'),
        }
        text = f'[device]\nid = "smoke-{name}"\n[broker]\nurl = "{url}"\n{tls}\n[outbox]\npath = "{self.folder}/outbox-{name}"\n'
        text += f'[models]\npath = "{models}"\n[runtime]\nstats_secs = 1\nshutdown_secs = 60\nworkers = 2\n'
        for pipeline in pipelines:
            model, topic, decode = known[pipeline]
            text += (
                f'[[pipeline]]\nname = "{pipeline}"\nmodel = "{model}"\n'
                f'source = {{ kind = "mqtt", topic = "{topic}", qos = 1, queue_frames = 64, when_full = "block" }}\n'
                f"decode = {{ {decode} }}\n"
            )
        path = self.folder / f"{name}.toml"
        path.write_text(text + more)
        return path

    def start(self, config):
        self.log_path = config.with_suffix(".log")
        self.running = subprocess.Popen([*self.command, "run", "-c", str(config)], stderr=open(self.log_path, "w"))

    def log(self):
        return self.log_path.read_text()

    def stop(self):
        """SIGTERM; how long the daemon took, in seconds."""
        begun = time.monotonic()
        self.running.send_signal(signal.SIGTERM)
        code = self.running.wait(timeout=90)
        self.running = None
        if code != 0:
            sys.exit(f"smoke: FAILED: the daemon ended with {code}:\n{self.log()}")
        return time.monotonic() - begun

    def kill(self):
        if self.running:
            self.running.kill()
            self.running.wait()


def golden(device):
    """Every shipped model, and that a changed answer would be found."""
    everything = "".join(
        f'[[pipeline]]\nname = "{folder.name}"\nmodel = "{folder.name}"\n'
        f'source = {{ kind = "mqtt", topic = "in/{folder.name}" }}\ndecode = {{ format = "{kind_of(folder)}" }}\n'
        for folder in shipped()
    )
    config = device.config("golden", "mqtt://127.0.0.1:1", pipelines=(), more=everything)
    said = device.run("check", "-c", config)
    check(
        all(f"model     {folder.name} " in said for folder in shipped()),
        f"golden cases of all {len(shipped())} shipped models hold",
    )
    models = device.folder / "models"
    shutil.copytree(MODELS / "machine-failure", models / "machine-failure")
    answer = models / "machine-failure/golden/ok/output-0.npy"
    raw = bytearray(answer.read_bytes())
    raw[-6] ^= 0x40
    answer.write_bytes(raw)
    config = device.config("changed", "mqtt://127.0.0.1:1", models=models, pipelines=("failure",))
    said = device.run("check", "-c", config, ends_with=78)
    check("golden" in said, "a golden case that differs is found, exit 78")


def shipped():
    return sorted(card.parent for card in MODELS.glob("*/model.toml"))


def kind_of(folder):
    kind = tomllib.loads((folder / "model.toml").read_text())["features"]["kind"]
    return "image" if kind == "image" else "json"


def right(prediction, scores):
    """Whether a prediction says what the golden case says; the readings were rounded on their way."""
    return all(math.isclose(prediction["scores"][label], score, abs_tol=2e-3) for label, score in scores.items())


def fifty_frames(device, broker, listener):
    cases = list(readings())
    pictures = sorted((ROOT / "cross/parts").glob("*.jpg"))
    device.start(device.config("plain", f"mqtt://127.0.0.1:{broker.port}"))
    wait_for("the daemon to be online", lambda: listener.availability() == "online")
    lines = [json.dumps({"id": f"{case}-{turn}", **reading}) for turn in range(12) for case, reading, _ in cases]
    broker.publish("machine/m1/state", *lines)
    for picture in pictures:
        broker.publish("camera/left/frame", file=picture)
    wait_for(
        f"{len(lines)} readings and {len(pictures)} pictures to be answered; so far {len(listener.errors())} errors",
        lambda: len(listener.predictions("failure")) >= len(lines) and len(listener.predictions("parts")) >= len(pictures),
    )
    answers = listener.predictions("failure")
    ids = {answer["source"]["frame_id"] for answer in answers}
    check(ids == {json.loads(line)["id"] for line in lines}, f"{len(lines)} readings over MQTT, each answered")
    wanted = {case: scores for case, _, scores in cases}
    wrong = [a for a in answers if not right(a, wanted[a["source"]["frame_id"].rpartition("-")[0]])]
    check(not wrong, "their scores are those of the golden cases")
    found = [answer["label"] for answer in listener.predictions("parts")]
    check(found == [p.stem.partition(".")[0] for p in pictures], f"{len(pictures)} JPEG pictures show: {', '.join(found)}")
    check(not listener.errors(), "no error message")
    device.stop()
    wait_for("the farewell", lambda: listener.availability() == "stopped", 10)
    check("every frame that was taken is settled" in device.log(), "SIGTERM when idle: stopped in order")


def tls_round_trip(device, broker, listener):
    files = {key: broker.folder / name for key, name in
             (("ca_file", "ca.pem"), ("cert_file", "device.pem"), ("key_file", "device.key"))}  # fmt: skip
    tls = "\n".join(f'{key} = "{path}"' for key, path in files.items())
    device.start(device.config("tls", f"mqtts://localhost:{broker.tls_port}", tls, pipelines=("failure",)))
    listener.seen.clear()
    wait_for("the daemon to be online over TLS", lambda: listener.availability() == "online")
    case, reading, scores = next(readings())
    broker.publish("machine/m2/state", json.dumps({"id": case, **reading}))
    wait_for("an answer over TLS", lambda: listener.predictions("failure"))
    check(right(listener.predictions("failure")[0], scores), "mutual TLS: one reading, rightly answered")
    device.stop()


def cobs(body):
    """A body in a frame of FORMAT.md: a sequence number would stand first, a CRC-16/IBM-3740 stands last."""
    crc = 0xFFFF
    for byte in body:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
        crc &= 0xFFFF
    stuffed = bytearray()
    for part in (body + crc.to_bytes(2, "big")).split(b"\0"):
        while len(part) >= 254:
            stuffed += b"\xff" + part[:254]
            part = part[254:]
        stuffed += bytes([len(part) + 1]) + part
    return bytes(stuffed) + b"\0"


def serial_frames(device, broker, listener):
    """A sensor on a wire: a pty, COBS frames with a checksum, one of them damaged."""
    ours, theirs = os.openpty()
    port = os.ttyname(theirs)
    more = (
        f'[[pipeline]]\nname = "wire"\nmodel = "machine-failure"\ndecode = {{ format = "json", id_field = "id" }}\n'
        f'source = {{ kind = "serial", port = "{port}", framing = "cobs", crc = "crc16_ibm_3740" }}\n'
    )
    listener.seen.clear()
    device.start(device.config("serial", f"mqtt://127.0.0.1:{broker.port}", pipelines=(), more=more))
    wait_for("the daemon to be online", lambda: listener.availability() == "online")
    wait_for("the port to be open", lambda: port in device.log(), 30)
    cases = list(readings())
    frames = [cobs(json.dumps({"id": case, **reading}).encode()) for case, reading, _ in cases]
    damaged = bytearray(frames[0])
    damaged[10] ^= 1
    os.write(ours, b"".join([frames[0], damaged, *frames[1:]]))
    wait_for("the frames on the wire to be answered", lambda: len(listener.predictions("wire")) >= len(cases))
    wanted = {case: scores for case, _, scores in cases}
    answers = listener.predictions("wire")
    check(
        len(answers) == len(cases) and all(right(a, wanted[a["source"]["frame_id"]]) for a in answers),
        f"{len(cases)} frames on a serial line, rightly answered; a damaged one between them is not",
    )
    device.stop()
    os.close(ours)
    os.close(theirs)


def drain(device, broker, listener):
    """SIGTERM in the middle of a burst: what was taken is answered, the rest stays with the broker."""
    frames = 3000
    config = device.config("drain", f"mqtt://127.0.0.1:{broker.port}", pipelines=("failure",))
    listener.seen.clear()
    device.start(config)
    wait_for("the daemon to be online", lambda: listener.availability() == "online")
    _, reading, _ = next(readings())
    lines = [json.dumps({"id": str(n), **reading}) for n in range(frames)]
    burst = threading.Thread(target=broker.publish, args=("machine/m3/state", *lines))
    burst.start()
    wait_for("the first answer", lambda: listener.predictions("failure"))
    took = device.stop()
    burst.join()
    answered = len({a["source"]["frame_id"] for a in listener.predictions("failure")})
    check("every frame that was taken is settled" in device.log(), f"SIGTERM under load: stopped in order after {took:.1f} s")
    listener.seen = [(topic, payload) for topic, payload in listener.seen if not topic.endswith("/availability")]
    device.start(config)
    wait_for("the daemon to be online again", lambda: listener.availability() == "online")
    everything = lambda: {a["source"]["frame_id"] for a in listener.predictions("failure")} == set(map(str, range(frames)))
    wait_for("the rest to be answered after a restart", everything)
    check(True, f"{answered} of {frames} frames answered before the stop, the others after the next start")
    device.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--emulator", default="")
    parser.add_argument("binary", type=Path)
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lineside-smoke-") as folder, contextlib.ExitStack() as at_the_end:
        device = Device(arguments.emulator, arguments.binary, Path(folder))
        at_the_end.callback(device.kill)
        version = device.run("--version").strip()
        check(version.startswith("lineside "), version)
        golden(device)
        broker = Broker(Path(folder))
        at_the_end.callback(broker.stop)
        listener = Listener(broker)
        at_the_end.callback(listener.stop)
        fifty_frames(device, broker, listener)
        tls_round_trip(device, broker, listener)
        serial_frames(device, broker, listener)
        drain(device, broker, listener)
    print(f"smoke: {checks} checks hold, {time.monotonic() - begun:.0f} s")


main()
