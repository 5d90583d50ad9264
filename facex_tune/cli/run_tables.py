"""Runs as tables for a terminal: what `show` and `runs` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from facex_tune.data.joining import told_of_share
from facex_tune.display.table import plain
from facex_tune.display.text import ago, compact, gpu_time, metric, sparkline
from facex_tune.metrics import COSTS
from facex_tune.runs.history import Settled
from facex_tune.runs.names import model_name
from facex_tune.study.words import clock, value_text, varying
from facex_tune.training import posthoc

WIDE = 130  # columns: from here on a trial's knobs fit beside its scores
WIDE_RUNS = 125
_TITLES = {
    "worst_class_recall": "worst recall",
    posthoc.MACRO_F1: "adjusted",
    "images_per_second": "images/s of one",
    "train_images_per_second": "trained/s",
}
_STYLES = {"finished": "", "failed": "red"}
_RUN_STYLES = {"running": "green", "interrupted": "yellow", "damaged": "red"}


def run(document: Mapping[str, Any], width: int) -> list[RenderableType]:
    """`overview.of_run`: heading, trials, then final models and test scores where there are any.

    Args:
        width: the terminal's, in columns.
    """
    parts: list[RenderableType] = [Text(heading(document), "bold")]
    if document["best"]:
        parts.append(Text(best(document)))
    parts += [Text(f"{name}: {told_of_share(share)}") for name, share in document.get("faces_by_set", {}).items()]
    if document["leaderboard"]:
        parts += leaderboard(document, width)
    if hidden := document["matching"] - len(document["leaderboard"]):
        parts.append(Text(f"and {hidden} more (--top {document['matching']} shows all)", "dim"))
    if document["models"] or document["failed_models"]:
        parts += [Text(), models(document)]
    if settled := document["settled"]:
        parts.append(Text(Settled(**settled).told(document["objective"])))
    parts += [Text(on_all(model["name"])) for model in document["models_on_all"]]
    if document["evaluation"]:
        parts += [Text(), evaluation(document)]
        parts += [
            Text(f"{name}: the winner is {scores['constant']}", "yellow")
            for name, scores in document["evaluation"].items()
            if scores.get("constant")
        ]
    return parts


def heading(document: Mapping[str, Any]) -> str:
    """Tells of a run in one line."""
    states = ", ".join(f"{count} {state}" for state, count in document["trials"].items()) or "no trials yet"
    if document["failures"]:
        states += f" ({', '.join(f'{count} {reason}' for reason, count in document['failures'].items())})"
    parts = [document["run"], f"study {document['study']} on {document['data']}", standing(document), states]
    parts.append(f"searched {clock(document['search_seconds'])}")
    if retrained_s := document["stage_seconds"].get("retrain"):
        at_least = "at least " if "retrain" in document["killed_stages"] else ""
        parts.append(f"retrained {at_least}{clock(retrained_s)}")
    if document["gpu_hours"]:
        parts.append(gpu_time(document["gpu_hours"]))
    return " | ".join([*parts, f"begun {ago(document['age_s'])} ago"])


def standing(document: Mapping[str, Any]) -> str:
    """Tells a run's state, and who writes it, or since when it stands still and how to go on."""
    state, stage = document["state"], document["stage"]
    if state == "running":
        writer = document["writer"]
        return f"running{f': {stage}' if stage else ''}, by process {writer['pid']} on {writer['host']}"
    if state == "interrupted":
        signal = f" by {document['signal']}" if document["signal"] else ""
        since = f"{f' in {stage}' if stage else ''}{signal} {ago(document['idle_s'])} ago"
        return f"interrupted{since} (facex-tune resume {document['words']})"
    return str(state)


def best(document: Mapping[str, Any]) -> str:
    """Tells the best trial, and what its value rests on."""
    row = document["best"]
    value = f"{document['objective']} {metric(row['value'] if row['n'] == 1 else row['mean'])}"
    n = document["validation_faces"]
    on = f" on {n:,} validation faces" if n else ""
    seeds = "one seed" if row["n"] == 1 else f"mean of {row['n']} seeds"
    return f"best {row['trial']}: {value}{on} after {row['epochs']}/{document['max_epochs']} epochs, {seeds}"


def leaderboard(document: Mapping[str, Any], width: int) -> list[RenderableType]:
    """Shows the trials of `overview.of_run`, and the knobs that tell them apart.

    The knobs stand beside the scores in a terminal that is wide enough, else in a table of their own.
    """
    shown = document["leaderboard"]
    knobs = varying([row["config"] for row in shown])
    names = _metrics_shown(document, [row["metrics"] for row in shown])
    several = len(document["objectives"]) > 1
    front = ["front"] if several else []
    mean = [">seeds", ">mean"] if any(row["n"] > 1 for row in shown) else []
    titles = [f">{_TITLES.get(name, name)}" for name in names]
    table = plain(">#", "trial", "state", *front, ">epochs", *mean, *titles)
    cells = [_trial_cells(row, names, several, bool(mean)) for row in shown]
    differs = [compact(row["config"], knobs) for row in shown]
    styles = [_STYLES.get(row["state"], "dim") for row in shown]
    if width >= WIDE:
        table.add_column("differs in")
        cells = [[*row, text] for row, text in zip(cells, differs, strict=True)]
    for row, style in zip(cells, styles, strict=True):
        table.add_row(*row, style=style)
    if width >= WIDE or not any(differs):
        return [table]
    return [table, Text(), _differences([row["trial"] for row in shown], differs)]


def _trial_cells(row: Mapping[str, Any], names: Sequence[str], several: bool, means: bool) -> list[str]:
    """
    Args:
        means: of the objective over the seeds of a configuration that was tried more than once; it is ranked by that,
            and once.
    """
    reason = row["reason"].removeprefix("budget: ")
    told = reason not in ("", "rung")  # a rung is what stops most trials
    state = f"{row['state']}: {reason}" if told else row["state"]
    values = [metric(row["metrics"].get(name)) for name in names]
    front = ["*" if row["pareto"] else ""] if several else []
    mean = ([str(row["n"]), metric(row["mean"])] if row["repeats"] is None else ["", ""]) if means else []
    rank = str(row["rank"]) if row["repeats"] is None else ""
    return [rank, row["trial"], state, *front, str(row["epochs"]), *mean, *values]


def _differences(trials: Sequence[str], texts: Sequence[str]) -> Table:
    table = plain("trial", "~differs in")
    for trial, text in zip(trials, texts, strict=True):
        table.add_row(trial, text)
    return table


def _metrics_shown(document: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> list[str]:
    bounded = [name for name in COSTS if name in document.get("constraints", {})]
    shown = list(dict.fromkeys([*document["objectives"], *bounded, "accuracy", "worst_class_recall"]))
    return [*shown, posthoc.MACRO_F1] if any(posthoc.MACRO_F1 in each for each in measured) else shown


def models(document: Mapping[str, Any]) -> Table:
    """Shows the final models' metrics on the validation faces."""
    names = _metrics_shown(document, [model["validation"] for model in document["models"]])
    table = plain("final model", *(f">{_TITLES.get(name, name)}" for name in names))
    for model in document["models"]:
        values = [metric(model["validation"].get(name)) for name in names]
        table.add_row(model_name(model["candidate"], model["seed"]), *values)
    for model in document["failed_models"]:
        name = model_name(model["candidate"], model["seed"], model.get("on"))
        table.add_row(f"{name} failed: {model['reason']}", style="red")
    return table


def on_all(name: str) -> str:
    """Tells of a model that was trained on validation faces, too."""
    return f"{name}: trained on validation faces too, so that no honest validation figure of it exists"


def evaluation(document: Mapping[str, Any]) -> Table:
    """The winner under each protocol: mean over seeds with the interval over faces; `adjusted` is the macro-F1 of
    answers adjusted post hoc.
    """
    adjusted = any(scores.get("adjusted") for scores in document["evaluation"].values())
    names = ["accuracy", "macro_f1", *(["adjusted"] if adjusted else [])]
    table = plain("~protocol", ">faces", ">seeds", *names, ">opens")
    for name, scores in document["evaluation"].items():
        after = (scores.get("adjusted") or {"metrics": {}})["metrics"]
        found = {**scores["metrics"], "adjusted": after.get("macro_f1")}
        values = [_with_interval(found.get(each)) for each in names]
        table.add_row(name, f"{scores['n']:,}", str(len(scores["models"])), *values, str(scores["opened"]))
    return table


def _with_interval(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "-"
    if not score["interval"]:
        return metric(score["mean"])
    low, high = (metric(end).removeprefix("0") for end in score["interval"])
    return f"{metric(score['mean'])} [{low}, {high}]"


def trial(document: Mapping[str, Any], *, ascii_only: bool = False) -> list[RenderableType]:
    """`overview.of_trial`: how it ended, its configuration, its every epoch."""
    objective = document["objective"]
    ended = f": {document['reason']}" if document["reason"] else ""
    title = f"{document['trial']} | rank {document['rank']} | {document['state']}{ended}"
    epochs = f"{document['epochs']}/{document['max_epochs']} epochs in {clock(document['seconds'])}"
    parts: list[RenderableType] = [Text(f"{title} | {epochs} | from {document['source']}", "bold")]
    if document["detail"]:
        parts.append(Text(document["detail"], "red"))
    knobs = plain("knob", "value")
    for name, value in document["config"].items():
        knobs.add_row(name, value_text(value))
    parts += [Text(), knobs]
    if document["curve"]:
        values = [row.get(objective) for row in document["curve"]]
        found = [value for value in values if value is not None]
        drawn = [float("nan") if value is None else value for value in values]
        line = sparkline(drawn, min(found, default=0.0), max(found, default=1.0), width=60, ascii_only=ascii_only)
        parts += [Text(), Text(f"{objective} {line}"), _curve(document)]
    return parts


def _curve(document: Mapping[str, Any]) -> Table:
    names = [*_metrics_shown(document, [document["metrics"]]), "train_loss", "train_images_per_second"]
    table = plain(">epoch", *(f">{_TITLES.get(name, name)}" for name in names))
    for row in document["curve"]:
        speed = row.get("train_images_per_second")
        values = [metric(row.get(name)) for name in names[:-1]]
        table.add_row(str(row["epoch"]), *values, "-" if speed is None else f"{speed:,.0f}")
    return table


def runs(document: Mapping[str, Any], width: int) -> Table:
    """`overview.of_runs`: one line a run; a terminal that is wide enough shows when and of what study, too.

    Args:
        width: the terminal's, in columns.
    """
    wide = ("study", "begun", "last event") if width >= WIDE_RUNS else ()
    table = plain("run", "~state", ">age", ">trials", ">failed", ">best", ">epochs", ">faces", *wide)
    for each in document["runs"]:
        if "problem" in each:
            table.add_row(each["run"], f"damaged: {each['problem']}", style="red")
            continue
        cells = _run_cells(each)
        if wide:
            cells += [each["study"], *(each[key][:16].replace("T", " ") for key in ("created_utc", "updated_utc"))]
        table.add_row(*cells, style=_RUN_STYLES.get(each["state"], ""))
    return table


def _run_cells(each: Mapping[str, Any]) -> list[str]:
    total, budget, found = sum(each["trials"].values()), each["budget"]["trials"], each["best"]
    stage = f": {each['stage']}" if each["state"] in ("running", "interrupted") and each["stage"] else ""
    n = each["validation_faces"]
    return [
        each["run"],
        f"{each['state']}{stage}",
        ago(each["age_s"]),
        f"{total}/{budget}" if budget else str(total),
        str(each["trials"].get("failed", 0)),
        metric(found["value"]) if found else "-",
        f"{found['epochs']}/{each['max_epochs']}" if found else "-",
        f"{n:,}" if n else "-",
    ]
