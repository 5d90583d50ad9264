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


def _plural(n: int, noun: str) -> str:
    from facex_tune.study.words import plural  # here, as in `number`

    return plural(n, noun)


def per_cent(value: float) -> str:
    """A share as a whole percentage, with a digit more near the ends: ``44 %``, ``0.4 %``."""
    return f"{100 * value:.1f} %" if 0 < value < 0.01 or 0.99 < value < 1 else f"{100 * value:.0f} %"


def share(value: float, n: int, noun: str = "face") -> str:
    """A share and what it is of: ``44 % of 800 faces``. For accuracy and recalls; macro-F1 is no share."""
    return f"{per_cent(value)} of {_plural(n, noun)}"


def between(ends: Sequence[float] | None) -> str:
    """A share's interval, ``41 to 47 %``, with a digit more where its ends would be the same; "" where it is None."""
    if ends is None:
        return ""
    low, high = (f"{100 * end:.0f}" for end in ends)
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %" if low == high else f"{low} to {high} %"


def share_with_interval(metric: Mapping[str, Any], n: int, noun: str = "face") -> str:
    """``44 % of 800 faces (95 % interval 41 to 47 %)``, of a metric's mean over models."""
    ends = between(metric["interval"])
    return share(metric["mean"], n, noun) + (f" (95 % interval {ends})" if ends else "")


def counted(n: int, noun: str) -> str:
    """A count in a sentence, in words where it is one: ``one seed``, ``3 seeds``."""
    return f"one {noun}" if n == 1 else _plural(n, noun)


def mean_of(n: int, noun: str) -> str:
    """What a number is of: ``the mean of 3 seeds``, and of one, which has no mean, ``one seed``."""
    return counted(n, noun) if n == 1 else f"the mean of {_plural(n, noun)}"


def times(n: int) -> str:
    """How often: ``once``, ``3 times``."""
    return "once" if n == 1 else _plural(n, "time")


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
