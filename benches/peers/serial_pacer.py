"""Sensors that send as fast as their wires carry, on ptys, which know no speed of their own.

    serial_pacer.py PORTS BAUD STREAM

Says the names of the ports on one line. From a line on stdin on, every port gets the bytes of the file
STREAM, again and again, ten bits each at BAUD, in portions of a millisecond as a USB adapter hands them
over; until the next line. Then says how many bytes each was due, for how many of all of them there was no
room, and the seconds that it took.
"""

import os
import selectors
import sys
import time
import tty

ports, baud = int(sys.argv[1]), int(sys.argv[2])
with open(sys.argv[3], "rb") as file:
    stream = file.read()
masters, kept = [], []
for _ in range(ports):
    master, end = os.openpty()
    tty.setraw(end)
    os.set_blocking(master, False)
    masters.append(master)
    kept.append(end)
print(*(os.ttyname(end) for end in kept), flush=True)
sys.stdin.readline()

ended = selectors.DefaultSelector()
ended.register(sys.stdin, selectors.EVENT_READ)
begun, sent, full = time.monotonic(), 0, 0
twice = stream + stream
while not ended.select(0):
    due = int((time.monotonic() - begun) * baud / 10)
    while sent < due:
        at = sent % len(stream)
        portion = twice[at : at + min(due - sent, 4096)]
        for master in masters:
            try:
                full += len(portion) - os.write(master, portion)
            except BlockingIOError:
                full += len(portion)
        sent += len(portion)
    time.sleep(0.001)
print(sent, full, time.monotonic() - begun, flush=True)
