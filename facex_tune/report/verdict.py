"""The report's first words: three plain sentences for a reader who reads no more. How good the winner is, which faces
it fails on, and what to do next. Numbers come as shares of faces, their intervals beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facex_tune import metrics
from facex_tune.report.findings import least_recognised
from facex_tune.report.wording import between, counted, listed, metric_words, number, per_cent, share
from facex_tune.runs.overview import near_constant
from facex_tune.study.words import plural

SEEDS_FOR_AN_INTERVAL = 3
WEAK = 0.5  # of the accuracy: an emotion recognised less than half as often as faces in general


def verdict(report: Mapping[str, Any], run: str = "") -> list[str]:
    """Gives the three sentences; fewer where nothing was scored yet.

    Args:
        report: report.json, with or without its findings.
        run: what names the run on a command line (`Run.words`); default: its name.
    """
    scored = {name: found for name, found in report["evaluation"].items() if found["n"] and found["per_emotion"]}
    if not scored:
        return [_unscored(report), _next_unscored(report, run or report["run"])]
    name, found = next(iter(scored.items()))
    return [_how_good(name, found), _fails_on(found), f"Next: {_next(report, found)}."]


def bars(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict's picture: {name, share, interval} of the winner, of the commonest emotion as the answer to every
    face, and of guessing; none where nothing was scored yet.
    """
    scored = {name: found for name, found in report["evaluation"].items() if found["n"] and found["per_emotion"]}
    if not scored:
        return []
    found = next(iter(scored.values()))
    accuracy = found["metrics"]["accuracy"]
    commonest, reached = constant(found["per_emotion"])
    return [
        {"name": "the winner", "share": accuracy["mean"], "interval": accuracy["interval"]},
        {"name": f"always {commonest}", "share": reached, "interval": None},
        {"name": "guessing", "share": 1 / len(found["confusion"]["classes"]), "interval": None},
    ]


def _how_good(name: str, found: Mapping[str, Any]) -> str:
    """Against chance, and against the commonest emotion as the answer to every face."""
    accuracy = found["metrics"]["accuracy"]
    commonest, reached = constant(found["per_emotion"])
    answers = len(found["confusion"]["classes"])  # that a model may give, also of emotions that the set does not have
    said = f"Of {plural(found['n'], 'sealed face')} ({name}) the winner names the emotion of "
    said += f"{per_cent(accuracy['mean'])} right"
    said += f" (95 % interval {between(accuracy['interval'])})" if accuracy["interval"] else ""
    others = f"guessing names {per_cent(1 / answers)}, and always answering {commonest} {per_cent(reached)}"
    return f"{said}; {others}{_near_constant(found)}."


def _near_constant(found: Mapping[str, Any]) -> str:
    """That it is not shown to be better than one answer, and by which score where that is not plain from the shares."""
    near = near_constant(found)
    if not near:
        return ""
    said = "it is not shown to be better than one answer for every face"
    if "accuracy" in near:
        return f": {said}"
    ((metric, reached),) = near.items()
    values = f"{number(found['metrics'][metric]['mean'])}, one answer {number(reached)}"
    return f": by {metric_words(metric)} ({values}) {said}"


def constant(per_emotion: Mapping[str, Mapping[str, Any]]) -> tuple[str, float]:
    """The commonest emotion of a set, and its share of the faces."""
    answer, reached = metrics.constant_answer({emotion: row["support"] for emotion, row in per_emotion.items()})
    return answer, reached["accuracy"]


def _fails_on(found: Mapping[str, Any]) -> str:
    rows = {emotion: row for emotion, row in found["per_emotion"].items() if row["support"]}
    least = least_recognised(rows)
    told = [f"{each} ({share(rows[each]['recall'], rows[each]['support'])})" for each in least]
    said = f"It fails most on {listed(told)}"
    taken = _taken_for(found["confusion"], least[0])
    return f"{said}{', which cannot be told apart' if len(least) > 1 else ''}{taken}."


def _taken_for(confusion: Mapping[str, Any], emotion: str) -> str:
    """What faces of an emotion are most often taken for, where they are taken for something."""
    classes: Sequence[str] = confusion["classes"]
    if emotion not in classes:
        return ""
    row = list(confusion["counts"][classes.index(emotion)])
    row[classes.index(emotion)] = 0
    return f"; {emotion} is most often taken for {classes[row.index(max(row))]}" if any(row) else ""


def _next(report: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    accuracy = found["metrics"]["accuracy"]
    seeds = len({model["seed"] for model in report["models"]})
    weakest = min(row["recall"] for row in found["per_emotion"].values() if row["support"])
    if near_constant(found):
        return "search longer (budget.trials, fidelity.max_epochs), and look at the faces with `facex-tune data audit`"
    if seeds < SEEDS_FOR_AN_INTERVAL:
        return (
            f"train the winner with {SEEDS_FOR_AN_INTERVAL} seeds or more (retrain.seeds), so that it is known how "
            "much training varies"
        )
    if weakest < WEAK * accuracy["mean"]:
        return "look at the faces that it confuses, below, and search over more of balance and augment"
    return "score it on faces of another source, as `facex-tune evaluate RUN --protocol folder.NAME` does"


def _unscored(report: Mapping[str, Any]) -> str:
    trials = sum(report["search"]["trials"].values())
    found = f"{counted(trials, 'trial')} searched, {counted(len(report['models']), 'model')} retrained"
    return f"How good the winner is on new faces is not known yet ({found}): no sealed test set was opened."


def _next_unscored(report: Mapping[str, Any], run: str) -> str:
    command = "evaluate" if report["models"] else "retrain"
    if report["search"]["best"] is None:
        return f"Next: `facex-tune resume {run}`."
    return f"Next: `facex-tune {command} {run}`."
