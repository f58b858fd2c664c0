"""The binary of a board, run as it will be run there, against peers that are not ours (peers.py).

Usage: smoke.py [--emulator "qemu-aarch64-static -cpu cortex-a53 …"] [--lesser "…"] BINARY, called by cross/smoke. Prints a line
a check; ends with 1 at the first that does not hold.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from peers import (
    MODELS,
    check,
    cobs,
    kind_of,
    little_held_at_rest,
    readings,
    readings_and_pictures,
    right,
    shipped,
    surroundings,
    wait_for,
)


class Device:
    """The binary on its processor."""

    def __init__(self, emulator, binary, folder):
        self.emulated = bool(emulator)
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
        # As the unit sets it: no huge pages, and what loading models took is given back at once.
        environment = {**os.environ, "MIMALLOC_PURGE_DELAY": "0", "MIMALLOC_ALLOW_THP": "0"}
        command = [*self.command, "run", "-c", str(config)]
        self.running = subprocess.Popen(command, stderr=open(self.log_path, "w"), env=environment)

    def resident_bytes(self):
        pages = Path(f"/proc/{self.running.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

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


def lesser_processor(emulator, binary):
    """A processor without what the binary is compiled for."""
    done = subprocess.run([*shlex.split(emulator), str(binary), "--version"], capture_output=True, text=True, timeout=60)
    check(
        done.returncode == 78 and "this processor" in done.stderr and not done.stdout,
        f"on a processor that lacks something it says so: {done.stderr.strip()}",
    )


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
    check("prepared graph is not used" not in said, "each is loaded from its prepared graph")
    models = device.folder / "models"
    shutil.copytree(MODELS / "machine-failure", models / "machine-failure")
    answer = models / "machine-failure/golden/ok/output-0.npy"
    raw = bytearray(answer.read_bytes())
    raw[-6] ^= 0x40
    answer.write_bytes(raw)
    config = device.config("changed", "mqtt://127.0.0.1:1", models=models, pipelines=("failure",))
    said = device.run("check", "-c", config, ends_with=78)
    check("golden" in said, "a golden case that differs is found, exit 78")


def fifty_frames(device, broker, listener):
    device.start(device.config("plain", f"mqtt://127.0.0.1:{broker.port}"))
    wait_for("the daemon to be online", lambda: listener.availability() == "online")
    if not device.emulated:
        # An emulator's own memory would count as well: cross/system has those processors.
        little_held_at_rest(device.resident_bytes())
    readings_and_pictures(broker, listener)
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
    if device.emulated and "is no serial port" in device.log():
        # qemu-user 7.2 has not the call that asks for a port's rate.
        print("smoke: not looked at: a serial line, which this emulator does not know; cross/system has one", flush=True)
        device.stop()
        return
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
    listener.forget_availability()
    device.start(config)
    wait_for("the daemon to be online again", lambda: listener.availability() == "online")
    everything = lambda: {a["source"]["frame_id"] for a in listener.predictions("failure")} == set(map(str, range(frames)))
    wait_for("the rest to be answered after a restart", everything)
    check(True, f"{answered} of {frames} frames answered before the stop, the others after the next start")
    device.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--emulator", default="")
    parser.add_argument("--lesser", action="append", default=[])
    parser.add_argument("binary", type=Path)
    arguments = parser.parse_args()
    for emulator in arguments.lesser:
        lesser_processor(emulator, arguments.binary)
    with surroundings() as (folder, broker, listener, at_the_end):
        device = Device(arguments.emulator, arguments.binary, folder)
        at_the_end.callback(device.kill)
        version = device.run("--version").strip()
        check(version.startswith("lineside "), version)
        for verb in ("compile", "demo"):
            device.run(verb, "model.onnx", "--golden", "golden", ends_with=64)
        check(True, "`compile` and `demo` stay on the workstation, exit 64")
        golden(device)
        fifty_frames(device, broker, listener)
        tls_round_trip(device, broker, listener)
        serial_frames(device, broker, listener)
        drain(device, broker, listener)


main()
