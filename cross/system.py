"""A whole emulated board: kernel, network card, UART, and the binary that the kernel starts.

Usage: system.py --machine "qemu-system-… -M … -cpu …" --ground FOLDER BINARY, called by cross/system, which fills
the folder with `vmlinuz` and `root/` (busybox and kernel modules). Prints a line a check; ends with 1 at the first
that does not hold.
"""

import argparse
import json
import threading
import time
from pathlib import Path

from board import HOST, Board, initramfs
from peers import MODELS, check, cobs, little_held_at_rest, readings, readings_and_pictures, right, surroundings, wait_for

INIT = """mkdir -p /var/lib/lineside
/lineside check -c /lineside.toml || poweroff -f
/lineside run -c /lineside.toml &
read word
kill -TERM $!
wait $!
echo "board: lineside ended with $?"
poweroff -f
"""


def config(port):
    def pipeline(name, model, source, decode):
        return (
            f'[[pipeline]]\nname = "{name}"\nmodel = "{model}"\nsource = {{ {source} }}\ndecode = {{ {decode} }}\n'
        )

    mqtt = 'kind = "mqtt", qos = 1, queue_frames = 64, when_full = "block", topic = '
    return (
        f'[device]\nid = "board"\n[broker]\nurl = "mqtt://{HOST}:{port}"\n[models]\npath = "/models"\n'
        '[outbox]\npath = "/var/lib/lineside/outbox"\n[runtime]\nstats_secs = 1\n'
        + pipeline("failure", "machine-failure", mqtt + '"machine/{machine}/state"', 'format = "json", id_field = "id"')
        + pipeline("parts", "part-inspection", mqtt + '"camera/{camera}/frame"', 'format = "image"')
        + pipeline(
            "wire",
            "machine-failure",
            'kind = "serial", port = "/dev/ttyS0", framing = "cobs", crc = "crc16_ibm_3740"',
            'format = "json", id_field = "id"',
        )
    )


def at_rest(board, listener):
    """What it holds before the first frame, the golden cases behind it."""
    stats = lambda: [json.loads(payload) for topic, payload in listener.all() if topic.endswith("/stats")]
    wait_for("stats", lambda: board.alive() and stats(), 60)
    little_held_at_rest(stats()[-1]["memory"]["resident_bytes"])


def frames_of_every_kind(board, broker, listener):
    readings_and_pictures(broker, listener, board.alive)
    cases = list(readings())
    wanted = {case: scores for case, _, scores in cases}
    with board.uart() as wire:
        for case, reading, _ in cases:
            wire.sendall(cobs(json.dumps({"id": case, **reading}).encode()))
        wait_for("the frames on the UART to be answered", lambda: len(listener.predictions("wire")) >= len(cases))
    check(
        all(right(a, wanted[a["source"]["frame_id"]]) for a in listener.predictions("wire")),
        f"{len(cases)} frames over the UART, rightly answered",
    )
    check(not listener.errors(), "no error message")


def power_cut(board, broker, listener):
    """In the middle of a burst: what was not answered comes again after the next start."""
    frames = 2000
    _, reading, _ = next(readings())
    lines = [json.dumps({"id": f"cut-{n}", **reading}) for n in range(frames)]
    answered = lambda: {
        a["source"]["frame_id"] for a in listener.predictions("failure") if a["source"]["frame_id"].startswith("cut-")
    }
    burst = threading.Thread(target=broker.publish, args=("machine/m1/state", *lines))
    burst.start()
    wait_for("the first answers of the burst", lambda: len(answered()) > 20)
    board.cut_power()
    burst.join()
    before = len(answered())
    listener.forget_availability()
    board.power_on()
    wait_for("the rest to be answered after the power came back", lambda: board.alive() and len(answered()) == frames, 600)
    check(before < frames, f"power cut after {before} of {frames} frames; after the next boot the others are answered")
    ids = {}
    for answer in listener.predictions("failure"):
        ids.setdefault(answer["source"]["frame_id"], set()).add(answer["id"])
    check(all(len(of_one) == 1 for of_one in ids.values()), "no frame has two ids")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--machine", required=True)
    parser.add_argument("--ground", type=Path, required=True)
    parser.add_argument("binary", type=Path)
    arguments = parser.parse_args()
    with surroundings() as (folder, broker, listener, at_the_end):
        (folder / "lineside.toml").write_text(config(broker.port))
        files = [(arguments.binary, "lineside"), (MODELS, "models"), (folder / "lineside.toml", "lineside.toml")]
        archive = initramfs(arguments.ground, INIT, folder, files=files)
        board = Board(arguments.machine, arguments.ground, archive, folder)
        at_the_end.callback(board.cut_power)
        begun = time.monotonic()
        board.power_on()
        wait_for("the daemon to be online", lambda: board.alive() and listener.availability() == "online", 400)
        booted = time.monotonic() - begun
        up = next((line for line in board.console().splitlines() if line.startswith("board: ")), "")
        check(up, f"{up.strip()}; online {booted:.0f} s after power on")
        at_rest(board, listener)
        frames_of_every_kind(board, broker, listener)
        power_cut(board, broker, listener)
        board.say_stop()
        board.process.wait(timeout=60)
        check("board: lineside ended with 0" in board.console(), "told to stop: ended in order, and the board goes off")
        wait_for("the farewell", lambda: listener.availability() == "stopped", 10)


main()
