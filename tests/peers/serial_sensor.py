"""A sensor on a serial port, by pyserial; its frames are made by `framings.py`.

    serial_sensor.py PORT FRAMING

FRAMING is a JSON object. Says `ready`, then does as it is told, one command a line, and says `done`:

    frame HEX           this body as a frame
    frames FILE         each line of FILE as a frame: its text, or with `hex ` in front its bytes
    raw HEX             bytes as they are
    noise SEED COUNT    so many random bytes
    repeat COUNT HEX    the same bytes again and again
    misheard BAUD HEX   this body as a frame sent at BAUD, as a receiver at the port's own rate reads it
    every MS HEX        this body as a frame for ever, until the port goes; says `gone` then
"""

import json
import random
import sys
import time

import serial

from framings import frame

BAUD = 115200


def misheard(sent, baud):
    """What a UART at BAUD makes of characters sent at another rate: a start bit is a falling edge, and
    eight samples in the middle of what it takes for bits are a character, whatever the line did."""
    levels = []  # of each bit sent: idle, start, data from the lowest bit on, stop
    for byte in sent:
        levels += [0] + [byte >> bit & 1 for bit in range(8)] + [1]
    level = lambda time: levels[int(time)] if 0 <= int(time) < len(levels) else 1
    step, at, heard = baud / BAUD, 0.0, bytearray()
    while at < len(levels):
        if level(at) == 1:
            at += step / 16  # a UART looks sixteen times a bit
            continue
        bits = [level(at + (1.5 + bit) * step) for bit in range(8)]
        heard.append(sum(bit << place for place, bit in enumerate(bits)))
        at += 9.5 * step
    return bytes(heard)


def main(port, framing):
    wire = serial.Serial(port, BAUD)
    print("ready", flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "frame":
            wire.write(frame(framing, bytes.fromhex(words[0])))
        elif command == "frames":
            with open(words[0], "rb") as file:
                for body in file.read().splitlines():
                    body = bytes.fromhex(body[4:].decode()) if body.startswith(b"hex ") else body
                    wire.write(frame(framing, body))
        elif command == "raw":
            wire.write(bytes.fromhex(words[0]))
        elif command == "noise":
            wire.write(random.Random(int(words[0])).randbytes(int(words[1])))
        elif command == "repeat":
            wire.write(bytes.fromhex(words[1]) * int(words[0]))
        elif command == "misheard":
            wire.write(misheard(frame(framing, bytes.fromhex(words[1])), int(words[0])))
        elif command == "every":
            try:
                while True:
                    wire.write(frame(framing, bytes.fromhex(words[1])))
                    time.sleep(float(words[0]) / 1000)
            except (serial.SerialException, OSError):
                print("gone", flush=True)
                return
        wire.flush()
        print("done", flush=True)


main(sys.argv[1], json.loads(sys.argv[2]))
