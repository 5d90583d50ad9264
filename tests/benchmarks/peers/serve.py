"""One opponent in a process of its own: a line of JSON asks, a line of JSON answers.

    python serve.py peer_smac.py

Runs in the opponent's environment, where nothing of this project is installed: this file and the `peer_*.py` beside it
import the standard library and their one opponent. A `peer_*.py` holds a class `Peer`:

    Peer(task)                         task as `simulated_peers.task_of` writes it
    ask() -> (number, until, knobs)    trial `number` is to be trained until epoch `until`; None: nothing now
    tell(number, epoch, cost) -> bool  what an epoch came to, smaller is better; whether the trial goes on
    stop(number, epoch, cost)          somebody else has ended the trial; only of opponents that cut nothing themselves
    fail(number)                       the trial diverged, crashed or collapsed
    best() -> number                   the trial that the opponent would name as the winner now; None: there is none

In `knobs` a choice is the number of its option, and what does not apply may be left out or have any value. A trial that
is asked for again goes on from the epoch to which it was trained before.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any


class Served:
    """One opponent, its answers, and what they cost."""

    def __init__(self, path: Path) -> None:
        self._path, self._peer = path, None
        self._asked, self._ask_s = 0, 0.0

    def answer(self, said: dict[str, Any]) -> dict[str, Any]:
        """What the opponent says to one line.

        Raises:
            Exception: whatever the opponent raises.
        """
        what = said.pop("do")
        if what == "begin":
            return self._begin(said["task"])
        if what == "ask":
            return self._ask()
        if what == "end":
            return {"asked": self._asked, "ask_s": self._ask_s, "process_s": time.process_time()}
        return {"is": getattr(self._peer, what)(**said)}

    def _begin(self, task: dict[str, Any]) -> dict[str, Any]:
        random.seed(task["seed"])
        found = importlib.util.spec_from_file_location("peer", self._path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        self._peer = module.Peer(task)
        return {"versions": {name: importlib.metadata.version(name) for name in module.PACKAGES}}

    def _ask(self) -> dict[str, Any]:
        start_s = time.process_time()
        found = self._peer.ask()  # type: ignore[attr-defined]
        self._asked, self._ask_s = self._asked + 1, self._ask_s + time.process_time() - start_s
        if found is None:
            return {"number": None}
        number, until, knobs = found
        return {"number": number, "until": until, "knobs": knobs}


def main() -> None:
    """Answers line by line, until the other side closes."""
    # what a library prints is no answer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    served = Served(Path(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = served.answer(json.loads(line))
        except Exception as error:
            import traceback

            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
