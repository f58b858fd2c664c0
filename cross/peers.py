"""What smoke.py, system.py and installed.py share: a real broker, real clients, and what an answer must be.

Broker and clients are mosquitto's. What an answer must be comes from the models' golden cases: the readings
that are sent are those cases with the card's scaling undone.
"""

import contextlib
import json
import math
import os
import queue
import shutil
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
ME = Path(sys.argv[0]).stem
checks = 0


# Bytes of resident memory beyond the models: docs/performance.md has what was
# measured, this some room for another kernel.
AT_REST_MOST = 10_000_000


def check(holds, words):
    """One fact; the first that does not hold ends the run."""
    global checks
    if not holds:
        sys.exit(f"{ME}: FAILED: {words}")
    checks += 1
    print(f"{ME}: ok: {words}", flush=True)


def little_held_at_rest(held):
    """What a daemon with the two models of these tests holds before its first frame, in bytes."""
    beyond = held - sum((MODELS / model / "model.onnx").stat().st_size for model in ("machine-failure", "part-inspection"))
    check(beyond <= AT_REST_MOST, f"at rest: {held / 1e6:.1f} MB resident, {beyond / 1e6:.1f} MB beyond the models' files")



def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, patience_secs=PATIENCE_SECS):
    deadline = time.monotonic() + patience_secs
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{ME}: FAILED: waited {patience_secs} s for {what}")
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

    def forget_availability(self):
        """What was said of it; the next word is of the next start."""
        self.seen = [(topic, payload) for topic, payload in self.all() if not topic.endswith("/availability")]

    def stop(self):
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def surroundings():
    """(folder, broker, listener, what else ends with them) for one program; says at the end how many checks hold."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"lineside-{ME}-") as name, contextlib.ExitStack() as at_the_end:
        folder = Path(name)
        broker = Broker(folder)
        at_the_end.callback(broker.stop)
        listener = Listener(broker)
        at_the_end.callback(listener.stop)
        yield folder, broker, listener, at_the_end
    print(f"{ME}: {checks} checks hold, {time.monotonic() - begun:.0f} s")


def readings_and_pictures(broker, listener, alive=lambda: True):
    """48 readings and the pictures of cross/parts over MQTT, to the pipelines `failure` and `parts`: each rightly answered."""
    cases = list(readings())
    pictures = sorted((ROOT / "cross/parts").glob("*.jpg"))
    lines = [json.dumps({"id": f"{case}-{turn}", **reading}) for turn in range(12) for case, reading, _ in cases]
    broker.publish("machine/m1/state", *lines)
    for picture in pictures:
        broker.publish(f"camera/{picture.stem}/frame", file=picture)
    wait_for(
        f"{len(lines)} readings and {len(pictures)} pictures to be answered",
        lambda: alive()
        and len(listener.predictions("failure")) >= len(lines)
        and len(listener.predictions("parts")) >= len(pictures),
    )
    answers = listener.predictions("failure")
    ids = {answer["source"]["frame_id"] for answer in answers}
    check(ids == {json.loads(line)["id"] for line in lines}, f"{len(lines)} readings over MQTT, each answered")
    wanted = {case: scores for case, _, scores in cases}
    wrong = [a for a in answers if not right(a, wanted[a["source"]["frame_id"].rpartition("-")[0]])]
    check(not wrong, "their scores are those of the golden cases")
    found = {answer["source"]["levels"]["camera"]: answer["label"] for answer in listener.predictions("parts")}
    check(found == {p.stem: p.stem for p in pictures}, f"{len(pictures)} JPEG pictures show: {', '.join(found.values())}")


def shipped():
    return sorted(card.parent for card in MODELS.glob("*/model.toml"))


def kind_of(folder):
    kind = tomllib.loads((folder / "model.toml").read_text())["features"]["kind"]
    return "image" if kind == "image" else "json"


def right(prediction, scores):
    """Whether a prediction says what the golden case says; the readings were rounded on their way."""
    return all(math.isclose(prediction["scores"][label], score, abs_tol=2e-3) for label, score in scores.items())


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
