"""index.html: the report's data, arranged for reading. One file that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune import metrics
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import compare
from facex_tune.report import compiled, findings, galleries, views, wording
from facex_tune.report.comparison_findings import compared_trials
from facex_tune.report.figure_choice import winner_label
from facex_tune.report.verdict import bars, verdict
from facex_tune.report.wording import interval, metric_words, number
from facex_tune.runs.names import trial_label
from facex_tune.runs.store import Run
from facex_tune.space import FAMILIES, knobs_of
from facex_tune.study import data_text
from facex_tune.study.words import clock, not_shared, plural, value_text
from facex_tune.training import posthoc

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
ROWS_SHOWN = 100  # of the leaderboard; trials.csv has all


def html(run: Run, document: Mapping[str, Any], drawn: Mapping[str, str], *, faces: bool = True) -> str:
    """The page.

    Args:
        document: report.json.
        drawn: figure name -> data URI.
        faces: whether to show faces that evaluations kept. A page without them may be passed on: its commands name the
            run alone, and not the folder that it lies in here.
    """
    words, told = (run.words, document["findings"]) if faces else (run.name, findings.findings(document))
    kept = galleries.of_sets(run, first_of_each_set(document)) if faces else {}
    explored = views.of_run(run, document)
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=document,
            drawn=drawn,
            winner=winner_label(document),
            run=words,
            verdict=verdict(document, words),
            bars=bars(document),
            winner_parts=described(document),
            findings=[finding for finding in told if not in_table(finding, document)],
            six=metrics.SIX,
            board=board(run, document),
            details=details(run),
            galleries=kept,
            shown_of=shown_of(document, kept),
            without_faces=not faces,
            commands=commands(run, document),
            validation=validation_faces(run, document),
            study_yaml=study_yaml(run),
            views=explored,
            plotly_script=views.script() if explored else "",
        )
    )


def shown_of(document: Mapping[str, Any], kept: Mapping[str, galleries.Gallery]) -> list[str]:
    """The sets whose faces are on the page."""
    names = [name for name, gallery in kept.items() if gallery.kinds or gallery.pairs]
    return list(dict.fromkeys(document["evaluation"][name]["data"] for name in names))


def of_several(document: Mapping[str, Any]) -> str:
    """The page that compares runs, from what `several_runs.compared` says."""
    configs = [row["best"]["config"] for row in document["runs"] if row["best"]]
    trained = [row["training"] for row in document["runs"]]
    names = dict.fromkeys(name for row in document["runs"] for name in row["evaluation"])
    return (
        _environment()
        .get_template("several.html")
        .render(
            report=document, differing=not_shared(configs), trained_otherwise=not_shared(trained), protocols=list(names)
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    settings: dict[str, Any] = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        bytecode_cache=compiled.cache(TEMPLATES / "__pycache__", settings),
        **settings,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "share": wording.share,
        "per_cent": wording.per_cent,
        "between": wording.between,
        "first_up": lambda text: text[:1].upper() + text[1:],
        "words": metric_words,
        "knob": _knob,
        "clock": clock,
        "place": place,
        "trial": trial_label,
        "day": day,
        "basename": lambda path: Path(str(path)).name,
        "beyond": lambda compared, metric: bool(compare.supported(compared, metric)),
        "is_maximized": lambda name: metrics.MAXIMIZE.get(name.removesuffix("_adjusted"), False),
        "cells": galleries.matrix,
        "has_emotion": lambda effects, emotion: any(f"f1.{emotion}" in effect["metrics"] for effect in effects),
    }
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # knobs in the order of their space
    environment.globals |= {"plural": plural, "emotions": EMOTIONS, "compared_trials": compared_trials}
    said = (wording.counted, wording.mean_of, wording.times, wording.share_with_interval)
    environment.globals |= {each.__name__: each for each in said}
    return environment


def board(run: Run, document: Mapping[str, Any]) -> dict[str, Any]:
    """The leaderboard: metrics, a column for each knob that every trial has, one cell for the parts' own settings."""
    trials = document["leaderboard"]
    knobs = not_shared([trial["config"] for trial in trials])
    shared = [knob for knob in knobs if knob in FAMILIES or knob.startswith("train.")]
    objectives = run.study.objective
    bounded = [name for name in metrics.COSTS if name in run.study.bounds and name not in objectives]
    shown = [*objectives, *bounded, *(name for name in metrics.COUNTED if name not in objectives), posthoc.MACRO_F1]
    return {
        "metrics": [name for name in shown if any(name in trial["metrics"] for trial in trials)],
        "shared": shared,
        "own": [knob for knob in knobs if knob not in shared],
        "pareto": len(objectives) > 1,
        "means": any(trial["n"] > 1 for trial in trials),
        "rows": trials[:ROWS_SHOWN],
        "hidden": max(0, len(trials) - ROWS_SHOWN),
    }


def described(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The winner's configuration for reading: each family's part with its own settings, then the training knobs."""
    label = winner_label(document)
    config: Mapping[str, Any] = next((row["config"] for row in document["leaderboard"] if _label(row) == label), {})
    families = [family for family in (*FAMILIES, "train") if any(knob.partition(".")[0] == family for knob in config)]
    return [
        {"family": family, "part": config.get(family, ""), "settings": knobs_of(family, config)} for family in families
    ]


def _label(row: Mapping[str, Any]) -> str:
    return trial_label(row["trial"])


def in_table(finding: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether the summary's table says the same."""
    return finding["evidence"] in {f"evaluation.{name}.metrics" for name in document["evaluation"]}


def validation_faces(run: Run, document: Mapping[str, Any]) -> str:
    """What the search was judged on, with its n as the run recorded it, or as the prepared set counts it."""
    study = run.study
    validation, manifest = study.validation, document["data"].get(study.validated_on[0], {"counts": {}})
    n = (run.header.get("faces") or {}).get("validation", 0)
    if validation == "public_test":
        which = "public test" + f" of {study.sets[0]}" * (len(study.sets) > 1)
        n = n or sum(manifest["counts"].get("public_test", {}).values())
    else:
        which = f"a holdout of {100 * validation.holdout:g} % of train"
        which += f" of {data_text(study.validated_on)}" * (len(study.sets) > 1)
    if study.validation_copies == "drop" and study.duplicates == "keep":
        which += ", without those that have a copy in training"
    return f"{n:,} validation faces ({which})" if n else f"validation faces ({which})"


def details(run: Run) -> dict[int, dict[str, Any]]:
    """What report.json's leaderboard does not hold of a trial: why it failed, and how long it took."""
    return {
        trial.number: {"reason": trial.reason, "detail": trial.detail, "seconds": trial.seconds}
        for trial in run.history().trials.values()
    }


def first_of_each_set(document: Mapping[str, Any]) -> list[str]:
    """Protocols, without those whose faces an earlier one has shown."""
    first: dict[tuple[str, ...], str] = {}
    for name, scored in document["evaluation"].items():
        first.setdefault((scored["data"], *scored["splits"]), name)
    return list(first.values())


def commands(run: Run, document: Mapping[str, Any]) -> list[str]:
    """How to get these numbers again, report included."""
    made = [name for name in document["data"] if name.startswith("synthetic")]
    read = [name for name in document["data"] if name not in made]
    prepare = [f"facex-tune data prepare {_prepared_by(name, run.header['data'].get(name, {}))}" for name in read]
    again = f"facex-tune run study.yaml --run {run.name}-again --seed {run.header['seed']}"
    return [*prepare, again]


def _prepared_by(name: str, manifest: Mapping[str, Any]) -> str:
    """A folder of one's own is read by `folder`, whatever its set is named; runs of older versions do not tell."""
    source = manifest.get("source", {}).get("name", name)
    return f"{name} SOURCE" if source == name else f"{source} SOURCE --as {name}"


def study_yaml(run: Run) -> str:
    """The study with every range written out, in the form that `facex-tune run` reads."""
    import yaml

    data = _without_none(run.study.to_data())
    space = data.pop("space")
    families = {
        family: [{part: _said(knobs)} if knobs else part for part, knobs in options.items()]
        for family, options in space["parts"].items()
    }
    data["space"] = {**families, "train": _said(space["train"])}
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return text


def _said(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Ranges as a study says them."""
    return {
        name: knob["choices"] if "choices" in knob else {end: knob[end] for end in ("low", "high", "log")}
        for name, knob in knobs.items()
    }


def _without_none(data: Any) -> Any:
    """What a study leaves unsaid is better not written as null."""
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    return data


def _knob(value: Any) -> str:
    """A knob's value, nothing where the configuration has no such knob."""
    return "" if value is None else value_text(value)


def day(utc: str | None) -> str:
    """2026-11-22 16:00 UTC."""
    return f"{utc[:10]} {utc[11:16]} UTC" if utc else "at an unknown time"


def place(name: str) -> str:
    """A name as an HTML id."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)
