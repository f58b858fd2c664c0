#!/usr/bin/env python3
"""Breaks one promise at a time in the source and lets loose the storm that must turn red.

    tests/storms/mutants.py [WORDS]     only mutants whose names hold one of the words

Works in this checkout, which must have no changes under src/; each file is put back. A mutant that a storm
does not notice ends the run with 1, and so does one whose place is not in the source any more.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Name, file, what stands there (once), what takes its place, the storm.
MUTANTS = [
    ("acknowledge before the answer is settled", "src/mqtt/acks.rs",
     "Taken { pkid, open: answers }", "Taken { pkid, open: answers.min(0) }", "kills"),
    ("settle when sent, not when acknowledged", "src/stage/publish/mod.rs",
     "Ok(()) if under_way.is_none() => self.settle(now, token),", "Ok(()) => self.settle(now, token),", "kills"),
    ("forget what was under way when a connection ends", "src/stage/publish/mod.rs",
     "self.publisher.outbox.connection_lost();", "", "faults"),
    ("do not subscribe again", "src/stage/acquire/mqtt.rs",
     "        self.subscribe(now, out);\n    }\n\n    fn received",
     "        if self.link.connects.get() == 0 {\n            self.subscribe(now, out);\n        }\n    }\n\n    fn received",
     "restarts"),
    ("no watchdog for silent links", "src/mqtt/link.rs",
     "Some(since) if now.since(since) >= answer_within =>", "Some(since) if now.since(since) >= answer_within * 1000 =>",
     "faults"),
    ("a frame that comes again is a new frame", "src/stage/acquire/identity.rs",
     "if dup", "if false && dup", "faults"),
    ("all frames without an id are one frame", "src/stage/acquire/identity.rs",
     "self.next.wrapping_add(1)", "self.next.wrapping_add(0)", "kills"),
]


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def try_mutant(name, file, old, new, storm):
    """True when the storm turned red."""
    path = ROOT / file
    source = path.read_text(encoding="utf-8")
    if source.count(old) != 1:
        print(f"MISPLACED {name}: {old!r} stands {source.count(old)} times in {file}")
        return False
    try:
        path.write_text(source.replace(old, new), encoding="utf-8")
        built = run("cargo", "build", "--release", "--bin", "lineside", "--test", "storms")
        if built.returncode != 0:
            print(f"BROKEN    {name}: does not compile\n{built.stderr}")
            return False
        stormed = run("cargo", "test", "--release", "--test", "storms", "--", storm)
        lines = [line for line in stormed.stdout.splitlines() if line.startswith("storm ")]
        killed = stormed.returncode != 0 and any("RED" in line for line in lines)
        print(f"{'killed   ' if killed else 'SURVIVED '} {name}: {'; '.join(lines)[:160]}", flush=True)
        return killed
    finally:
        path.write_text(source, encoding="utf-8")


def main():
    words = sys.argv[1:]
    if run("git", "status", "--porcelain", "src").stdout:
        sys.exit("mutants.py: there are changes under src/; commit them first")
    wanted = [mutant for mutant in MUTANTS if not words or any(word in mutant[0] for word in words)]
    alive = [mutant[0] for mutant in wanted if not try_mutant(*mutant)]
    print(f"{len(wanted) - len(alive)} of {len(wanted)} mutants killed")
    sys.exit(1 if alive else 0)


if __name__ == "__main__":
    main()
