#!/usr/bin/env python3
"""The judge: knows only what was published and what came back.

    judge.py BOOK       BOOK is a file of JSON lines that a storm's peers wrote; the verdict is one
                        JSON object on stdout, the exit code is 0 (nothing wrong) or 1

Lines of a book, in the order in which things happened:
    {"event": "sent", "frame": N, "named": true}      before the first byte left the sender; `named`: it carries an id of its own
    {"event": "accepted", "frame": N}                 the broker acknowledged it to its sender
    {"event": "handed", "frame": N}                   all of its bytes were written into the daemon's socket
    {"event": "forgetful"}                            from here on the broker may forget what it accepted: frames sent
                                                      later are owed an answer only once they were handed over
    {"event": "answer", "frame": N, "id": "…", "value": Y, "resent": false}
    {"event": "error", "text": "…"}                   the daemon refused a frame; storms send only good ones
    {"event": "dropped", "count": N}                  the daemon counted so many as dropped by a choice in its config:
                                                      of what is owed, as many may stay without an answer
A frame N is answered rightly with the value 2 N + 0.5.
"""

import json
import sys


def judge(lines):
    """The verdict on a book's lines."""
    named, accepted, handed, owed_when_handed = {}, set(), set(), set()
    first_id, frame_of_id = {}, {}
    answers, wrong, other_id, shared, errors, unsent = 0, [], [], [], [], []
    forgetful, dropped = False, 0
    for line in lines:
        entry = json.loads(line)
        event, frame = entry["event"], entry.get("frame")
        if event == "sent":
            named[frame] = entry["named"]
            if forgetful:
                owed_when_handed.add(frame)
        elif event == "accepted":
            accepted.add(frame)
        elif event == "handed":
            handed.add(frame)
        elif event == "forgetful":
            forgetful = True
        elif event == "dropped":
            dropped += entry["count"]
        elif event == "error":
            errors.append(entry["text"])
        elif event == "answer":
            answers += 1
            if frame not in named:
                unsent.append(frame)
                continue
            if abs(entry["value"] - (2 * frame + 0.5)) > 1e-3:
                wrong.append([frame, entry["value"]])
            known = first_id.setdefault(frame, entry["id"])
            if known != entry["id"]:
                other_id.append([frame, known, entry["id"]])
            owner = frame_of_id.setdefault(entry["id"], frame)
            if owner != frame:
                shared.append([owner, frame, entry["id"]])
        else:
            raise ValueError(f"not a line of a book: {line!r}")
    owed = {f for f in accepted if f not in owed_when_handed} | (handed & owed_when_handed)
    unanswered = sorted(owed - first_id.keys())
    red = {
        # Each drop is counted once; of those that were under way before, some have arrived.
        "unanswered": unanswered if len(unanswered) > dropped else [],
        "duplicates_with_another_id": other_id,
        "ids_shared_by_two_frames": shared,
        "wrong_answers": wrong,
        "errors": errors,
        "answers_to_nothing": unsent,
    }
    verdict = {
        "sent": len(named),
        "accepted": len(accepted),
        "owed": len(owed),
        "answers": answers,
        "answered": len(first_id),
        "duplicates": answers - len(first_id),
        "dropped_by_choice": dropped,
        "not_owed_and_unanswered": len((accepted - owed) - first_id.keys()),
    }
    verdict.update({key: len(found) for key, found in red.items()})
    verdict["examples"] = {key: found[:5] for key, found in red.items() if found}
    # A storm in which nothing was asked shows nothing.
    verdict["red"] = any(red.values()) or not owed
    return verdict


def self_test():
    """Each way to break a promise makes the judge red; a clean book does not."""
    good = [
        {"event": "sent", "frame": 1, "named": True},
        {"event": "accepted", "frame": 1},
        {"event": "answer", "frame": 1, "id": "a", "value": 2.5, "resent": False},
        {"event": "sent", "frame": 2, "named": False},
        {"event": "accepted", "frame": 2},
        {"event": "answer", "frame": 2, "id": "b", "value": 4.5, "resent": False},
    ]
    again = {"event": "answer", "frame": 1, "id": "a", "value": 2.5, "resent": True}
    third = [{"event": "sent", "frame": 3, "named": True}, {"event": "accepted", "frame": 3}]
    answer = {"event": "answer", "frame": 3, "id": "c", "value": 6.5, "resent": False}
    forgotten = {"event": "forgetful"}
    cases = [
        ("a clean book", good, False),
        ("a duplicate with its own id", good + [again], False),
        ("a frame never accepted and never answered", good + third[:1], False),
        ("an accepted frame without an answer", good + third, True),
        ("a duplicate with another id", good + [dict(again, id="z")], True),
        ("two frames that share an id", good + third + [dict(answer, id="a")], True),
        ("a wrong value", good + third + [dict(answer, value=7)], True),
        ("an answer to nothing", good + [answer], True),
        ("a refused frame", good + [{"event": "error", "text": "no"}], True),
        ("forgotten before it was handed over", good + [forgotten] + third, False),
        ("forgotten after it was handed over", good + [forgotten] + third + [{"event": "handed", "frame": 3}], True),
        ("answered although forgotten", good + [forgotten] + third + [{"event": "handed", "frame": 3}, answer], False),
        ("sent before the broker forgot", good + third + [forgotten], True),
        ("no name, another id", good + [dict(again, frame=2, id="y", value=4.5)], True),
        ("dropped and counted", good + third + [{"event": "dropped", "count": 1}], False),
        ("dropped and not counted", good + third + [{"event": "dropped", "count": 0}], True),
        ("an empty book", [], True),
    ]
    for name, book, red in cases:
        verdict = judge(json.dumps(entry) for entry in book)
        if verdict["red"] != red:
            sys.exit(f"judge.py: {name}: expected red = {red}: {verdict}")
    print(json.dumps({"self_test": len(cases), "red": False}))


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    if len(sys.argv) != 2:
        sys.exit("usage: judge.py BOOK | --self-test")
    with open(sys.argv[1], encoding="utf-8") as book:
        verdict = judge(line for line in book if line.strip())
    print(json.dumps(verdict))
    sys.exit(1 if verdict["red"] else 0)


if __name__ == "__main__":
    main()
