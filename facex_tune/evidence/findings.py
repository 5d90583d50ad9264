"""What the numbers say, and what they do not, in sentences that each point at their evidence in report.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facex_tune.evidence.intervals import MIN_SEEDS
from facex_tune.history import keeps

Finding = dict[str, Any]
COPIES_TOLD = 0.01  # of a set's faces
DASH = "\u2013"


def findings(report: Mapping[str, Any]) -> list[Finding]:
    """Sentences for the summary, results before reservations: [{text, figure, evidence}].

    Args:
        report: report.json without its findings. `figure` names a file in report/figures/ or is None; `evidence` is a
            path into the report.
    """
    from facex_tune.evidence import insights_said as more

    # what copies of training faces are worth stands right behind the scores that contain them
    scores = (_search, _tests, _copies, _adjusted)
    results = (more.retrained, more.comparisons, more.variants, more.factors, _weakest, more.insight)
    parts = (*scores, *results, _selection, _gap, _missing, _seeds, _opened, _synthetic)
    return [finding for part in parts for finding in part(report)]


def number(value: float | None) -> str:
    """Three decimals: at n = 3,589 the third is within the noise already."""
    return DASH if value is None else f"{value:.3f}"


def interval(ends: Any) -> str:
    """[low, high], or nothing where there is no interval."""
    return "" if ends is None else f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def with_interval(metric: Mapping[str, Any]) -> str:
    """A metric's mean over models and its interval over faces."""
    return f"{number(metric['mean'])} {interval(metric['interval'])}".strip()


def knob_text(value: Any) -> str:
    """A knob's value for reading: three significant digits."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def plural(n: int, word: str) -> str:
    """1 seed, 2 seeds, 1,200 faces."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def listed(said: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([*([", ".join(said[:-1])] if said[1:] else []), *said[-1:]])


WORDS = {
    "macro_f1": "macro-F1",
    "macro_f1_adjusted": "adjusted macro-F1",
    "ece": "calibration error (ECE)",
    "log_loss": "log loss",
}


def metric_words(name: str) -> str:
    """A metric's name as it stands in a sentence."""
    return WORDS.get(name, name.replace("_", " "))


def say(text: str, evidence: str, figure: str | None = None) -> Finding:
    """A sentence, where its evidence stands in report.json, and the file in report/figures/ that shows it."""
    return {"text": text, "figure": figure, "evidence": evidence}


def _search(report: Mapping[str, Any]) -> Iterator[Finding]:
    states, best = report["search"]["trials"], report["search"]["best"]
    total = plural(sum(states.values()), "trial")
    if best is None:
        yield say(f"No trial has a usable value yet ({total} so far).", "search.trials")
        return
    name, epochs = metric_words(best["objective"]), plural(best["epochs"], "epoch")
    value = number(best["value"]) if best["n"] == 1 else f"{number(best['mean'])} (mean of {best['n']} seeds)"
    text = f"Best of {total} by {name}: t{best['trial']:04d}, {value} on validation after {epochs}."
    yield say(text, "search.best", "search.svg")
    if len(objectives := report["study"]["objective"]) > 1:
        front = [row for row in report["leaderboard"] if row["pareto"]]
        names = " and ".join(metric_words(objective) for objective in objectives)
        count = plural(len(front), "trial")
        said = f"Pareto front of {names}: {count}, listed first; trials were cut short by {name} alone."
        yield say(said, "leaderboard")
    if best["state"] != "finished":
        how = "is still running" if best["state"] == "running" else "was stopped early"
        text = f"No trial has finished all its epochs; the best, t{best['trial']:04d}, {how}."
        yield say(text, "search.trials")
    bounds = {
        name: {end: limit for end, limit in said.items() if limit is not None}
        for name, said in report["study"]["constraints"].items()
    }
    if not keeps(bounds, report["leaderboard"][0]["metrics"]):
        yield say("No trial keeps every constraint of the study; the best breaks them too.", "leaderboard.0.metrics")
    if failed := states.get("failed", 0):
        yield say(f"{failed} of {total} failed; the leaderboard says why.", "search.trials.failed")


def _tests(report: Mapping[str, Any]) -> Iterator[Finding]:
    for name, scored in report["evaluation"].items():
        if scored["n"] == 0:
            yield say(f"{name}: no face qualifies, nothing was scored.", f"evaluation.{name}.n")
            continue
        size = f"{plural(scored['n'], 'face')}, {plural(len(scored['seeds']), 'seed')}"
        said = f"{name} ({size}): {scored['winner']} has {_two(scored['metrics'])}."
        yield say(said, f"evaluation.{name}.metrics", f"confusion-{name}.svg")


def _two(metrics: Mapping[str, Any]) -> str:
    return f"accuracy {with_interval(metrics['accuracy'])} and macro-F1 {with_interval(metrics['macro_f1'])}"


def _adjusted(report: Mapping[str, Any]) -> Iterator[Finding]:
    """What post-hoc logit adjustment makes of the first set, for better or worse."""
    for name, scored in list(report["evaluation"].items())[:1]:
        adjusted = scored.get("adjusted")
        if adjusted is None:
            continue
        taus = ", ".join(f"{tau:g}" for tau in adjusted["tau"])
        if not any(adjusted["tau"]):
            said = f"{name}: post-hoc logit adjustment leaves every answer as it is; validation chose tau 0."
        else:
            said = f"{name}, answers adjusted post hoc (tau {taus}, chosen on validation): {_two(adjusted['metrics'])}."
        yield say(said, f"evaluation.{name}.adjusted")


def _weakest(report: Mapping[str, Any]) -> Iterator[Finding]:
    for name, scored in list(report["evaluation"].items())[:1]:
        if scored["per_emotion"]:
            emotion, row = min(scored["per_emotion"].items(), key=lambda item: item[1]["recall"])
            recall = f"{number(row['recall'])} {interval(row['recall_interval'])}".strip()
            said = f"Least recognised on {name}: {emotion}, recall {recall} on {plural(row['support'], 'face')}."
            yield say(said, f"evaluation.{name}.per_emotion.{emotion}", f"confusion-{name}.svg")


def _selection(report: Mapping[str, Any]) -> Iterator[Finding]:
    bias = report["search"]["selection_bias"]
    if bias is None:
        return
    trial, objective, again = f"t{bias['trial']:04d}", metric_words(bias["objective"]), bias["retrained"]
    told = (
        f"{trial} had {objective} {number(bias['at_search'])} when it was chosen among "
        f"{plural(bias['trials_compared'], 'trial')}, and {number(again['mean'])} on the same validation faces as the "
        f"mean of {plural(len(again['seeds']), 'new seed')}"
    )
    if bias["epochs_at_search"] == bias["epochs_retrained"]:
        said = f"Selection bias: {told}: {bias['bias']:+.3f}."
    else:
        said = (
            f"Selection bias cannot be told from longer training: {told}, but after "
            f"{plural(bias['epochs_retrained'], 'epoch')} in place of {bias['epochs_at_search']}."
        )
    yield say(said, "search.selection_bias")


def _gap(report: Mapping[str, Any]) -> Iterator[Finding]:
    for place, row in enumerate(report["insight"]["gaps"]):
        if row["same_data"]:
            left_out = "neither with faces that have" if row["without_copies"] else "maybe with faces that have"
            copies = f" ({left_out} a copy in training)"
            said = (
                f"Generalization gap on {row['protocol']}: {metric_words(row['metric'])} {number(row['validation'])} "
                f"on validation (n = {row['n_validation']:,}), {number(row['test'])} on test (n = {row['n']:,})"
                f"{copies}: {row['gap']:+.3f} {interval(row['interval'])}".rstrip()
            )
            yield say(f"{said}, mean of {plural(row['seeds'], 'seed')}.", f"insight.gaps.{place}")


def _missing(report: Mapping[str, Any]) -> Iterator[Finding]:
    run, models = report["run"], report["models"]
    if failed := report["search"]["failed_models"]:
        names = listed([f"t{each['candidate']:04d} seed {each['seed']} ({each['reason']})" for each in failed])
        said = f"Not among the final models, as they could not be trained: {names}."
        yield say(said, "search.failed_models")
    if not models:
        said = f"No model was retrained yet, so nothing here is a test result: run `facex-tune retrain {run}`."
        yield say(said, "models")
    elif not report["evaluation"]:
        yield say(f"No sealed set was opened yet: run `facex-tune evaluate {run}`.", "evaluation")
    for name, scored in report["evaluation"].items():
        covered = sum(len(each["seeds"]) for each in scored["candidates"].values())
        if covered < len(models):
            said = f"{name} covers {covered} of {plural(len(models), 'model')}: run `facex-tune evaluate {run}` again."
            yield say(said, f"evaluation.{name}.candidates")


def _seeds(report: Mapping[str, Any]) -> Iterator[Finding]:
    for name, scored in list(report["evaluation"].items())[:1]:
        if len(scored["seeds"]) < MIN_SEEDS:
            seeds = plural(len(scored["seeds"]), "seed")
            said = (
                f"With {seeds} there is no interval over seeds; the values themselves are "
                "given. The intervals are over faces, and say nothing of how much another training run would differ."
            )
            yield say(said, f"evaluation.{name}.seeds")


def _copies(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Once a set, by its first protocol, where they are more than one face in a hundred; tables tell the others."""
    told: set[str] = set()
    for name, scored in report["evaluation"].items():
        clean = scored["clean"]
        if clean["n"] and clean["excluded"] > COPIES_TOLD * scored["n"] and scored["data"] not in told:
            told.add(scored["data"])
            share = f"{clean['excluded']:,} of the {plural(scored['n'], 'face')} of {name}"
            said = (
                f"Training holds an exact, mirrored or near copy of {share}; without such faces: "
                f"{_two(clean['metrics'])} (n = {clean['n']:,})."
            )
            yield say(said, f"evaluation.{name}.clean")


def _opened(report: Mapping[str, Any]) -> Iterator[Finding]:
    often = {name: scored["opened"] for name, scored in report["evaluation"].items() if scored["opened"] > 1}
    if often:
        said = ", ".join(f"{name} {n} times" for name, n in often.items())
        yield say(f"Opened more than once in this run: {said}. A test set that guides changes is none.", "evaluation")


def _synthetic(report: Mapping[str, Any]) -> Iterator[Finding]:
    if report["study"]["data"] == "synthetic":
        said = "The faces are synthetic: these numbers show that the search works, and nothing about real faces."
        yield say(said, "study.data")
