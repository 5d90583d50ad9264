"""The report's words: numbers, intervals, names of metrics, and a sentence that points at its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Finding = dict[str, Any]
DASH = "\u2013"


def number(value: float | None) -> str:
    """Three decimals, costs short."""
    from facex_tune.study.words import measured_text  # the process that draws needs no study

    return DASH if value is None else measured_text(value)


def interval(ends: Any) -> str:
    """[low, high], or nothing where there is no interval."""
    return "" if ends is None else f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def with_interval(metric: Mapping[str, Any]) -> str:
    """A metric's mean over models and its interval over faces."""
    return f"{number(metric['mean'])} {interval(metric['interval'])}".strip()


def listed(said: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([*([", ".join(said[:-1])] if said[1:] else []), *said[-1:]])


WORDS = {
    "macro_f1": "macro-F1",
    "macro_f1_adjusted": "adjusted macro-F1",
    "ece": "calibration error (ECE)",
    "log_loss": "log loss",
    "macs": "multiply-accumulates",
    "images_per_second": "images a second of one face",
}


def metric_words(name: str) -> str:
    """A metric's name as it stands in a sentence."""
    return WORDS.get(name, name.replace("_", " "))


def say(text: str, evidence: str, figure: str | None = None) -> Finding:
    """A sentence, where its evidence stands in report.json, and the file in report/figures/ that shows it."""
    return {"text": text, "figure": figure, "evidence": evidence}
