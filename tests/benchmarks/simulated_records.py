"""What `simulated_search.py` keeps: a line of JSON a search, with its cost, and its course or what error ended it."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from facex_tune.simulation.clock import Outcome

Key = tuple[str, int, int]  # arm, workers, seed


@dataclass(frozen=True)
class Cost:
    """What a search took of the processor.

    Attributes:
        process_s: all of it, simulation and opponent's process with its start included.
        ask_s: of this, to be told what to train next.
        asked: how often that was.
    """

    process_s: float
    ask_s: float = 0.0
    asked: int = 0


@dataclass
class Records:
    """The searches of one task.

    Attributes:
        costs: of every search since they are measured, whether it came to its end or not.
        errors: what ended those that did not.
        versions: of the packages behind an arm that has an environment of its own.
    """

    path: Path
    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    costs: dict[Key, Cost] = field(default_factory=dict)
    errors: dict[Key, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def __contains__(self, key: Key) -> bool:
        """Whether a search was made, to whatever end."""
        return key in self.outcomes or key in self.errors

    def add(self, key: Key, said: Outcome | str, cost: Cost, versions: Mapping[str, str]) -> None:
        """Keeps a search: how it went, or the error that ended it."""
        line: dict[str, Any] = dict(zip(("arm", "workers", "seed"), key, strict=True))
        line |= {"cost": asdict(cost), "versions": dict(versions)}
        line |= {"error": said} if isinstance(said, str) else {"outcome": asdict(said)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._take(json.loads(json.dumps(line)))

    def _take(self, line: dict[str, Any]) -> None:
        key = line["arm"], line["workers"], line["seed"]
        if "error" in line:
            self.errors[key] = line["error"]
        else:
            steps = tuple((at, value) for at, value in line["outcome"].pop("steps"))
            self.outcomes[key] = Outcome(steps=steps, **line["outcome"])
        if "cost" in line:
            self.costs[key] = Cost(**line["cost"])
        if line.get("versions"):
            self.versions[line["arm"]] = line["versions"]

    def process_s(self, arm: str) -> float:
        """What all searches of an arm took of the processor."""
        return sum(cost.process_s for key, cost in self.costs.items() if key[0] == arm)


def read(path: Path) -> Records:
    """The searches that a file tells of; none where there is none."""
    found = Records(path)
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        found._take(json.loads(line))
    return found


def processor_s() -> float:
    """Seconds of processor so far, of this process and of those that it has started and that have ended."""
    took = os.times()
    return took.user + took.system + took.children_user + took.children_system


def told(records: Iterable[Records], keys: Iterable[Key], notes: Mapping[str, str]) -> list[str]:
    """A table of what the arms cost, and of the searches that are missing.

    Args:
        keys: the searches that were asked for, of each task.
        notes: what is to be said of an arm.
    """
    records, keys = list(records), list(keys)
    lines = [
        "| arm | searches | of | ended by an error | processor, s a suggestion | s a search | what it is |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in dict.fromkeys(key[0] for key in keys):
        own = [key for key in keys if key[0] == arm]
        made = sum(key in one.outcomes for one in records for key in own)
        broken = sum(key in one.errors for one in records for key in own)
        costs = [one.costs[key] for one in records for key in own if key in one.costs and key in one.outcomes]
        asked = sum(cost.asked for cost in costs)
        each = f"{sum(cost.ask_s for cost in costs) / asked:.2g}" if asked else ""
        search = f"{statistics.fmean(cost.process_s for cost in costs):.3g}" if costs else ""
        named = next((one.versions[arm] for one in records if arm in one.versions), {})
        what = "; ".join(filter(None, [notes.get(arm, ""), ", ".join(f"{name} {v}" for name, v in named.items())]))
        lines.append(f"| {arm} | {made} | {len(own) * len(records)} | {broken} | {each} | {search} | {what} |")
    lines += [""] if any(one.errors for one in records) else []
    for one in records:
        for (arm, workers, seed), error in one.errors.items():
            if (arm, workers, seed) in keys:
                lines.append(f"- {one.path.stem}, {arm}, {workers} workers, seed {seed}: {error}")
    return lines
