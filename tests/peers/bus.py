"""A two-wire bus of ptys: what one end sends, all others hear.

    bus.py ENDS

Says the ends' names on one line, and carries until its stdin is closed.
"""

import os
import selectors
import sys
import tty

masters, names, kept = [], [], []
for _ in range(int(sys.argv[1])):
    master, end = os.openpty()
    tty.setraw(end)
    os.set_blocking(master, False)
    masters.append(master)
    names.append(os.ttyname(end))
    kept.append(end)  # an end without a holder would be hung up when its user goes
print(*names, flush=True)

selector = selectors.DefaultSelector()
for source in [*masters, sys.stdin.fileno()]:
    selector.register(source, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        portion = os.read(key.fd, 4096)
        if key.fd == sys.stdin.fileno():
            if not portion:
                sys.exit(0)
            continue
        for other in masters:
            if other != key.fd:
                try:
                    os.write(other, portion)
                except BlockingIOError:
                    pass  # nobody reads there
