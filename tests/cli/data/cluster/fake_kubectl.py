"""A fake kubectl: answers from recordings of a real one, and writes down how it was called.

$FAKE_KUBECTL is a folder with answers.json, a list of {"call", "output", "error"}: the first one counts
whose `call` begins the command line; `output` and `error` are files of this folder, or text.
"""

import json
import os
import sys
from pathlib import Path

RECORDED = Path(__file__).parent


def text(answer, kind):
    name = answer.get(kind, "")
    if name.endswith((".json", ".txt")):
        return (RECORDED / name).read_text()
    return name


def main():
    folder = Path(os.environ["FAKE_KUBECTL"])
    line = " ".join(sys.argv[1:])
    document = json.loads(sys.stdin.read() or "null")
    with (folder / "calls.jsonl").open("a") as file:
        print(json.dumps({"line": line, "document": document}), file=file)
    for answer in json.loads((folder / "answers.json").read_text()):
        if line.startswith(answer["call"]):
            sys.stdout.write(text(answer, "output"))
            sys.stderr.write(text(answer, "error"))
            return 1 if answer.get("error") else 0
    sys.stderr.write(f"fake kubectl: nothing is recorded for: {line}\n")
    return 1


sys.exit(main())
