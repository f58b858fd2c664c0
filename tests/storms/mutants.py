#!/usr/bin/env python3
"""Breaks one promise at a time in the source and runs the test that must turn red.

    tests/storms/mutants.py [WORDS]     only mutants whose names hold one of the words

Every test named here is one that `tests/run` runs too. Works in this checkout, which must have no changes
under src/; each file is put back. A mutant that its test does not notice ends the run with 1, and so does
one whose place is not in the source any more. Prints the table of docs/reliability.md.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def storm(name):
    return ["--test", "storms", "--", name]


def unit(words):
    return ["--lib", "--", words]


# Name, file, what stands there (once), what takes its place, the test.
MUTANTS = [
    ("acknowledge a frame before its answer is settled", "src/mqtt/acks.rs",
     "if !inner.is_settled(front) {", "if false && !inner.is_settled(front) {", storm("kills")),
    ("settle an answer when it is sent, not when it is acknowledged", "src/stage/publish/mod.rs",
     "Ok(()) if under_way.is_none() => self.settle(now, token),", "Ok(()) => self.settle(now, token),", storm("faults")),
    ("forget what was under way when a connection ends", "src/outbox/queue.rs",
     "        for live in self.live.iter_mut().filter(|live| live.sent == Sent::UnderWay) {\n            live.sent = Sent::Unsure;",
     "        for live in self.live.iter_mut().filter(|live| live.sent == Sent::UnderWay) {\n            live.sent = Sent::UnderWay;",
     storm("faults")),
    ("do not subscribe again", "src/stage/acquire/mqtt.rs",
     "        self.subscribe(now, out);\n        let covered", "        if self.link.connects.get() == 0 {\n            self.subscribe(now, out);\n        }\n        let covered",
     storm("restarts")),
    ("no watchdog for silent links", "src/mqtt/link.rs",
     "Some(since) if now.since(since) >= answer_within =>", "Some(since) if now.since(since) >= answer_within * 1000 =>",
     storm("faults")),
    ("a frame that comes again is a new frame", "src/stage/acquire/identity.rs",
     "known: &&Known| dup && ", "known: &&Known| dup && false && ", storm("kills")),
    ("all frames without an id are one frame", "src/stage/acquire/identity.rs",
     "self.next.wrapping_add(1)", "self.next.wrapping_add(0)", storm("kills")),
    ("the next process does not know the frames of this one", "src/stage/acquire/identity.rs",
     "            memory.remember(Remembered { key, delivery });", "            let _ = (memory, key, delivery);",
     storm("kills")),
    ("do not sync what is written", "src/outbox/log.rs",
     "        self.disk.sync()?;\n", "", unit("no_crash_state_of_the_disk")),
    ("do not sync the folder of a new file", "src/outbox/log.rs",
     "            self.disk.sync_folder()?;\n", "", unit("no_crash_state_of_the_disk")),
    ("settle what could not be written", "src/outbox/keeper.rs",
     "let tickets = self.outbox.lock().written(is_safe);", "let tickets = self.outbox.lock().written(true);",
     storm("full-disk")),
    ("drop the oldest without counting it", "src/outbox/mod.rs",
     "            self.count_dropped(Some(entry.pipeline));\n", "", storm("full-disk-drops")),
    ("forget frames that wait for room when a connection ends", "src/stage/acquire/mqtt.rs",
     "        self.ledger.connection_lost();\n    }", "        self.ledger.connection_lost();\n        self.held.clear();\n    }",
     unit("what_waits_for_room_outlives_its_connection")),
    ("write to flash what only waits its turn", "src/outbox/policy.rs",
     "has_waited && now.since(moved) >= spill_after", "has_waited && now >= moved", unit("an_overload_over_a_link")),
]


# Figures of the judge that must be 0.
AGAINST = ["unanswered", "duplicates_with_another_id", "ids_shared_by_two_frames", "errors", "wrong_answers",
           "answers_to_nothing"]

# A test that waits for what the mutant threw away has noticed it too.
ENDS_WITHIN_S = 900


def cargo(*arguments, timeout=None):
    """Runs it; past its time it ends with all that it has started."""
    environment = dict(os.environ, CARGO_TERM_COLOR="never")
    command = ["cargo", "test", "--release", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                          start_new_session=True) as run:
        try:
            out, err = run.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, run.returncode, out, err)


def first_complaint(output):
    """What the test said first: of a storm, what the judge holds against it and the storm's own first complaint."""
    lines = output.splitlines()
    for at, line in enumerate(lines):
        if " RED " in line:
            figures, complaint = json.loads(lines[at + 1]), lines[at + 2].strip()
            against = [f"{name} {figures[name]}" for name in AGAINST if figures.get(name)]
            return "; ".join([line.split(":")[0].strip(), *against, *[complaint] * (not complaint.startswith("again:"))])
        if "panicked at" in line or line.startswith("error: test"):
            return line.strip()
    return "the test run failed"


def try_mutant(name, file, old, new, test):
    """What came of it, and what the test said."""
    path = ROOT / file
    source = path.read_text(encoding="utf-8")
    if source.count(old) != 1:
        return "MISPLACED", f"{old!r} stands {source.count(old)} times in {file}"
    try:
        path.write_text(source.replace(old, new), encoding="utf-8")
        built = cargo("--no-run", *test[: test.index("--")])
        if built.returncode != 0:
            return "BROKEN", built.stderr.strip().splitlines()[-1]
        try:
            tested = cargo(*test, timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            return "killed", f"the test does not end within {ENDS_WITHIN_S} s"
        if tested.returncode == 0:
            return "SURVIVED", ""
        return "killed", first_complaint(tested.stdout + tested.stderr)
    finally:
        path.write_text(source, encoding="utf-8")


def main():
    words = sys.argv[1:]
    if subprocess.run(["git", "diff", "--quiet", "--", "src"], cwd=ROOT).returncode != 0:
        sys.exit("mutants.py: there are changes under src/; commit them first")
    wanted = [mutant for mutant in MUTANTS if not words or any(word in mutant[0] for word in words)]
    alive = 0
    print("| broken on purpose | test | |\n|---|---|---|")
    for mutant in wanted:
        begun = time.monotonic()
        came, said = try_mutant(*mutant)
        alive += came != "killed"
        test = mutant[4]
        kind = "storm" if "storms" in test else "unit test"
        print(f"| {mutant[0]} | {kind} `{test[-1]}` | {came} |", flush=True)
        print(f"  {time.monotonic() - begun:.0f} s: {said[:300]}", file=sys.stderr, flush=True)
    print(f"{len(wanted) - alive} of {len(wanted)} mutants killed")
    sys.exit(1 if alive else 0)


if __name__ == "__main__":
    main()
