"""Bodies to frames with packages that nobody here wrote: `cobs`, `sliplib`, `crccheck`.

A framing is a JSON object with the keys of `[pipeline.source]`: framing, crc, and for `length` and `fixed`
sync, crc_from, length_bytes, length_order, length_counts. Run as a program it is the second opinion on
the daemon's codec:

    framings.py NAME…

writes lines `{"framing": {…}, "body", "wire"}` for every kind of framing with every checksum NAME that
crccheck knows, bytes in hexadecimal; then `{"unknown": […]}` with the names that it does not know.
"""

import json
import random
import sys

import crccheck.crc
import sliplib
from cobs import cobs

KNOWN = {name: algorithm for algorithm in crccheck.crc.ALLCRCCLASSES for name in algorithm._names}


def checksum(name, covered):
    """As on the wire: in the order of the algorithm's own bits, in whole bytes."""
    if name == "none":
        return b""
    algorithm = KNOWN[name]
    order = "little" if algorithm.reflect_output() else "big"
    return algorithm.calc(covered).to_bytes((algorithm.width() + 7) // 8, order)


def frame(framing, body):
    kind, crc = framing["framing"], framing.get("crc", "none")
    if kind == "cobs":
        return cobs.encode(body + checksum(crc, body)) + b"\0"
    if kind == "slip":
        # What the package leaves to whoever sends: delimiters at both ends, as RFC 1055 advises.
        return b"\xc0" + sliplib.encode(body + checksum(crc, body)) + b"\xc0"
    if kind == "line":
        # The checksum of a line is text, high digits first whatever the algorithm.
        if crc == "none":
            return body + b"\r\n"
        digits = (KNOWN[crc].width() + 7) // 8 * 2
        return body + b"*%0*X\r\n" % (digits, KNOWN[crc].calc(body))
    sync, length = bytes.fromhex(framing["sync"]), b""
    if kind == "length":
        size = framing["length_bytes"]
        sum_bytes = len(checksum(crc, b""))
        beside = {"body": 0, "body_and_crc": sum_bytes, "whole": len(sync) + size + sum_bytes}
        length = (len(body) + beside[framing["length_counts"]]).to_bytes(size, framing["length_order"])
    covered = {"body": body, "length": length + body, "sync": sync + length + body}[framing["crc_from"]]
    return sync + length + body + checksum(crc, covered)


def framings(index):
    """Each kind; the layouts of the last two in turn."""
    yield from ({"framing": kind} for kind in ["cobs", "slip", "line"])
    yield {"framing": "length", "sync": "aa55", "length_bytes": 2 + index % 3,
           "length_order": ["little", "big"][index // 3 % 2],
           "length_counts": ["body", "body_and_crc", "whole"][index // 6 % 3],
           "crc_from": ["body", "length", "sync"][index // 18 % 3]}
    yield {"framing": "fixed", "sync": "eb90", "crc_from": ["body", "sync"][index % 2]}


def bodies(dice, framing):
    # 254 bytes and more without a zero are where COBS becomes interesting; so are its own delimiters.
    sizes = [1, 2, 26, 200] + ([253, 254, 255, 600] if framing["framing"] in ("cobs", "slip", "line") else [])
    for size in sizes:
        if framing["framing"] == "line":
            yield bytes(dice.choices(b" !#$%&()*+,-.:;<=>?@AZaz09[]^_{}~\t\r", k=size)) + b"."
        else:
            yield bytes(dice.choices(range(256), k=size))
            yield bytes(dice.choices([0, 1, 0xC0, 0xDB, 0xDC, 0xDD, 0xAA, 0x55, 0xFF], k=size))
            yield b"\x01" * size


def main(names):
    dice = random.Random(6)
    for index, crc in enumerate(["none", *(name for name in names if name in KNOWN)]):
        for framing in framings(index):
            framing = framing | {"crc": crc}
            for body in bodies(dice, framing):
                wire = frame(framing, body).hex()
                print(json.dumps({"framing": framing, "body": body.hex(), "wire": wire}))
    print(json.dumps({"unknown": [name for name in names if name not in KNOWN]}))


if __name__ == "__main__":
    main(sys.argv[1:])
