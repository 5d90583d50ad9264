#!/usr/bin/env bash
# Python's csv (3.11 and 3.12; needs no package): a writer with lineterminator="\n" does not quote a cell with a carriage
# return in it, although csv.reader of the same text ends the row there. One row goes out, two come back.
# Seen on 3.11: "written ['a\rb', 'c'] as 'a\rb,c\n', read [['a'], ['b', 'c']]". A cell with a newline is quoted and
# comes back whole.
set -euo pipefail
python=$(command -v python3.11 || command -v python3.12 || true)
test -n "$python" || { echo "needs Python 3.11 or 3.12"; exit 1; }
"$python" - <<'PYTHON'
import csv
import io


def back(row):
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(row)
    text = sink.getvalue()
    found = list(csv.reader(io.StringIO(text, newline="")))
    print(f"written {row!r} as {text!r}, read {found!r}")
    return found


assert back(["a\rb", "c"]) == [["a"], ["b", "c"]]
assert back(["a\nb", "c"]) == [["a\nb", "c"]]
PYTHON
