"""What the codec takes of a microcontroller: the same program with it and without.

    measure.py WITH.elf WITHOUT.elf

Flash and what the codec keeps between two bytes are read from the files. The stack is what the program
leaves marks in when qemu runs it on memory that was painted before, less the buffers that frames lie in.
Ends with 1 when flash or kept RAM is over its budget.
"""

import json
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time

FLASH_BUDGET_BYTES = 2048
RAM_BUDGET_BYTES = 64
# The frame on its way out (75 bytes of packet, 2 of checksum, 2 of framing) and the one that comes in.
BUFFERS_BYTES = 79 + 64

RAM_AT, RAM_BYTES = 0x2000_0000, 64 * 1024
PAINT = b"\xa5"


def flash_bytes(path):
    """What is burnt: code, constants, and first values of variables."""
    elf = pathlib.Path(path).read_bytes()
    headers_at, = struct.unpack_from("<I", elf, 28)
    size, count = struct.unpack_from("<HH", elf, 42)
    total = 0
    for index in range(count):
        kind, _, _, _, in_file, *_ = struct.unpack_from("<8I", elf, headers_at + index * size)
        total += in_file if kind == 1 else 0
    return total


def section_bytes(path, name):
    """Size of a section, by its name."""
    elf = pathlib.Path(path).read_bytes()
    sections_at, = struct.unpack_from("<I", elf, 32)
    size, count, names = struct.unpack_from("<HHH", elf, 46)
    sections = [struct.unpack_from("<10I", elf, sections_at + index * size) for index in range(count)]
    names_at = sections[names][4]
    for section in sections:
        begin = names_at + section[0]
        if elf[begin : elf.index(b"\0", begin)] == name:
            return section[5]
    raise SystemExit(f"measure.py: no section {name} in {path}")


def ram_bytes(path):
    """Runs the program for two seconds at least, hears everything it says, tells it a verdict, and looks
    when the verdict is on the lamp: without it, half of the codec would not have run."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "paint").write_bytes(PAINT * RAM_BYTES)
        wire, monitor, lamp = folder / "wire", folder / "qmp", folder / "lamp"
        qemu = subprocess.Popen(
            ["qemu-system-arm", "-M", "lm3s6965evb", "-display", "none", "-monitor", "none", "-S"]
            + ["-chardev", f"socket,id=wire,path={wire},server=on,wait=off", "-serial", "chardev:wire"]
            + ["-serial", f"file:{lamp}", "-qmp", f"unix:{monitor},server=on,wait=off"]
            + ["-device", f"loader,file={folder / 'paint'},addr={RAM_AT},force-raw=on", "-kernel", path],
            # It warns of a timer that has no period yet.
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(monitor) as qmp, connect(wire) as line:
                ask = qmp.makefile("rw")
                ask.readline()
                command(ask, "qmp_capabilities")
                command(ask, "cont")
                line.settimeout(0.1)
                begin = time.monotonic()
                is_up = False
                while time.monotonic() < begin + 2 or not lamp.read_bytes():
                    if time.monotonic() > begin + 60:
                        raise SystemExit(f"measure.py: {path} shows no verdict")
                    try:
                        said = line.recv(4096)
                    except TimeoutError:
                        continue
                    if said and not is_up:
                        # Not before: what comes while the chip starts is lost. COBS puts 7 in front and
                        # 0 behind: neither word nor checksum holds a zero.
                        line.sendall(b"\x07fail" + crc16(b"fail").to_bytes(2, "big") + b"\0")
                        is_up = True
                command(ask, "stop")
                command(ask, "pmemsave", val=RAM_AT, size=RAM_BYTES, filename=str(folder / "ram"))
            ram = (folder / "ram").read_bytes()
        finally:
            qemu.kill()
            qemu.wait()
    deepest = len(ram) - len(ram.lstrip(PAINT)) if ram[:1] == PAINT else 0
    return RAM_BYTES - deepest


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    for _ in range(100):
        try:
            peer.connect(str(path))
            return peer
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"measure.py: qemu-system-arm does not open {path}")


def command(ask, name, **arguments):
    ask.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    ask.flush()
    while True:
        said = json.loads(ask.readline())
        if "error" in said:
            raise SystemExit(f"measure.py: qemu says to {name}: {said}")
        if "return" in said:
            return


def crc16(data):
    """CRC-16/GENIBUS."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc ^ 0xFFFF


def main(with_codec, without):
    all_flash = flash_bytes(with_codec)
    flash = all_flash - flash_bytes(without)
    kept = section_bytes(with_codec, b".figures")
    stack = ram_bytes(with_codec) - ram_bytes(without) - kept - BUFFERS_BYTES
    print(f"program: {all_flash} bytes of flash")
    print(f"codec, both directions, CRC-16: {flash} bytes of flash, {kept} bytes of RAM beside its buffers,")
    print(f"  and while it works {stack} bytes of stack")
    over = [
        f"the codec's {what} is {found} bytes, over its budget of {budget}"
        for what, found, budget in [("flash", flash, FLASH_BUDGET_BYTES), ("RAM", kept, RAM_BUDGET_BYTES)]
        if found > budget
    ]
    if over:
        raise SystemExit("\n".join(over))


main(*sys.argv[1:])
