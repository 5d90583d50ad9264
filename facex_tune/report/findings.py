"""What the numbers say, and what they do not, in sentences that each point at their evidence in report.json."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from facex_tune.data.faces import as_read, left_out, notes_on_majority
from facex_tune.evaluation.intervals import LEVEL, MIN_SEEDS
from facex_tune.report import comparison_findings as more
from facex_tune.report.generalization import below_own
from facex_tune.report.wording import (
    Finding,
    between,
    counted,
    interval,
    listed,
    mean_of,
    metric_words,
    number,
    say,
    share,
    share_with_interval,
    times,
    with_interval,
)
from facex_tune.runs.history import Raise, Settled, keeps
from facex_tune.runs.names import model_name, trial_label
from facex_tune.runs.overview import no_better_than_constant
from facex_tune.study import ARRIVAL, sets_of
from facex_tune.study.words import plural

NORMAL_975 = 1.959964
COPIES_TOLD = 0.01  # of a set's faces


def findings(report: Mapping[str, Any], run: str = "") -> list[Finding]:
    """Sentences for the summary, results before reservations: [{text, figure, evidence}].

    Args:
        report: report.json without its findings. `figure` names a file in report/figures/ or is None; `evidence` is a
            path into the report.
        run: what names the run on a command line (`Run.words`); default: its name.
    """
    # what copies of training faces are worth stands right behind the scores that contain them
    scores = (_search, _tests, _constant, _copies, _adjusted)
    results = (more.retrained, more.comparisons, more.variants, more.factors, _weakest, _carries_over, more.insight)
    reservations = (_selection, _gap, _short, _missing, _seeds, _opened, _raised, _order, _left_out, _synthetic)
    parts = (*scores, *results, *reservations)
    report = {**report, "words": run or report.get("run", "")}
    return [finding for part in parts for finding in part(report)]


def _search(report: Mapping[str, Any]) -> Iterator[Finding]:
    states, best = report["search"]["trials"], report["search"]["best"]
    total = counted(sum(states.values()), "trial")
    if best is None:
        yield say(f"No trial has a usable value yet ({total} so far).", "search.trials")
        return
    name, epochs = metric_words(best["objective"]), counted(best["epochs"], "epoch")
    value = number(best["value"]) if best["n"] == 1 else f"{number(best['mean'])} ({mean_of(best['n'], 'seed')})"
    text = f"Best of {total} by {name}: {trial_label(best['trial'])}, {value} on validation after {epochs}."
    yield say(text, "search.best", "search.svg")
    if len(objectives := report["study"]["objective"]) > 1:
        front = [row for row in report["leaderboard"] if row["pareto"]]
        names = " and ".join(metric_words(objective) for objective in objectives)
        count = plural(len(front), "trial")
        said = f"Pareto front of {names}: {count}, listed first; {_cut_short(report, name)}."
        yield say(said, "leaderboard")
    if best["state"] != "finished":
        how = "is still running" if best["state"] == "running" else "was stopped early"
        text = f"No trial has finished all its epochs; the best, {trial_label(best['trial'])}, {how}."
        if finished := states.get("finished", 0):
            broken = f"{plural(finished, 'trial')} that finished broke a constraint"
            text = f"The best, {trial_label(best['trial'])}, {how}; {broken}."
        yield say(text, "search.trials")
    yield from _constraints(report)
    if failed := states.get("failed", 0):
        yield say(f"{failed} of {total} failed; the leaderboard says why.", "search.trials.failed")


def _cut_short(report: Mapping[str, Any], name: str) -> str:
    """By what trials of several objectives were cut short, where any were."""
    if not report["search"]["trials"].get("stopped", 0):
        return "no trial was cut short"
    asha = report["study"]["search"]["scheduler"].startswith("asha")
    return f"trials were cut short {'at rungs by how many others dominate them' if asha else f'by {name} alone'}"


def _constraints(report: Mapping[str, Any]) -> Iterator[Finding]:
    """How many trials keep them, of all that there are, whether they finished or not."""
    bounds = {
        name: {end: limit for end, limit in said.items() if limit is not None}
        for name, said in report["study"]["constraints"].items()
    }
    if not bounds:
        return
    board = report["leaderboard"]
    kept = sum(row["keeps"] if "keeps" in row else keeps(bounds, row["metrics"]) for row in board)
    if kept:
        said = f"{kept:,} of {plural(len(board), 'trial')} keep every constraint of the study; the best is one of them."
        yield say(said, "leaderboard.0.metrics")
    else:
        yield say("No trial keeps every constraint of the study; the best breaks them too.", "leaderboard.0.metrics")


def _tests(report: Mapping[str, Any]) -> Iterator[Finding]:
    for name, scored in report["evaluation"].items():
        if scored["n"] == 0:
            yield say(f"{name}: no face qualifies, nothing was scored.", f"evaluation.{name}.n")
            continue
        seeds = counted(len(scored["seeds"]), "seed")
        said = f"{name} ({seeds}): {scored['winner']} has {_two(scored['metrics'], scored['n'])}."
        yield say(said, f"evaluation.{name}.metrics", f"confusion-{name}.svg")


def _two(metrics: Mapping[str, Any], n: int) -> str:
    return f"accuracy {share_with_interval(metrics['accuracy'], n)} and macro-F1 {with_interval(metrics['macro_f1'])}"


def _constant(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Where one answer for every face would do as well."""
    for name, scored in report["evaluation"].items():
        if said := no_better_than_constant(scored):
            text = f"{name}: {scored['winner']} is {said}."
            yield say(text, f"evaluation.{name}.per_emotion", f"confusion-{name}.svg")


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
            after = _two(adjusted["metrics"], scored["n"])
            said = f"{name}, answers adjusted post hoc (tau {taus}, chosen on validation): {after}."
        yield say(said, f"evaluation.{name}.adjusted")


def _weakest(report: Mapping[str, Any]) -> Iterator[Finding]:
    for name, scored in list(report["evaluation"].items())[:1]:
        if scored["per_emotion"]:
            least = least_recognised(scored["per_emotion"])
            first, place = least[0], f"evaluation.{name}.per_emotion"
            recalls = [f"{each} {_recall(scored['per_emotion'][each], alone=len(least) == 1)}" for each in least]
            said = f"Least recognised on {name}: {listed(recalls)}"
            if len(least) > 1:
                said += "; these cannot be told apart"
            yield say(f"{said}.", f"{place}.{first}", f"confusion-{name}.svg")


def _recall(row: Mapping[str, Any], *, alone: bool) -> str:
    """Without its interval where it may be the lowest by chance: of several that are close, the lowest is too low."""
    ends = between(row["recall_interval"]) if alone else ""
    return f"({share(row['recall'], row['support'])}{f', 95 % interval {ends}' if ends else ''})"


def least_recognised(per_emotion: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The emotion of the lowest recall and those that cannot be told from it, the lowest first: with 95 % confidence
    the truly least recognised is among them (a subset selection after Gupta, Technometrics 7, 1965, by Bonferroni).
    """
    from scipy import special

    order = sorted(per_emotion, key=lambda emotion: per_emotion[emotion]["recall"])
    lowest, *others = [(per_emotion[emotion]["recall"], _standard_error(per_emotion[emotion])) for emotion in order]
    reach = float(special.ndtri(1 - (1 - LEVEL) / max(len(others), 1)))
    near = [
        emotion
        for emotion, (recall, error) in zip(order[1:], others, strict=True)
        if recall - lowest[0] <= reach * math.hypot(error, lowest[1])
    ]
    return [order[0], *near]


def _standard_error(row: Mapping[str, Any]) -> float:
    """Of a recall: from its interval, which knows clusters; without one as of independent faces, two more of them right
    and two wrong (Agresti and Coull, The American Statistician 52, 1998).
    """
    if row["recall_interval"] is not None:
        return float(row["recall_interval"][1] - row["recall_interval"][0]) / (2 * NORMAL_975)
    n = row["support"] + 4
    share = (row["recall"] * row["support"] + 2) / n
    return float((share * (1 - share) / n) ** 0.5)


def _selection(report: Mapping[str, Any]) -> Iterator[Finding]:
    bias = report["search"]["selection_bias"]
    if bias is None:
        return
    trial, objective, again = trial_label(bias["trial"]), metric_words(bias["objective"]), bias["retrained"]
    told = (
        f"{trial} had {objective} {number(bias['at_search'])} when it was {_chosen(bias['trials_compared'])}, and "
        f"{number(again['mean'])} on the same validation faces "
        f"({mean_of(len(again['seeds']), 'new seed')})"
    )
    ends = bias["retrained_interval"]
    if bias["epochs_at_search"] == bias["epochs_retrained"]:
        if ends is None:  # one number against another, and training runs differ by as much
            return
        low, high = (bias["at_search"] - end for end in (ends[1], ends[0]))
        said = f"Selection bias: {told}: {bias['bias']:+.3f} {_signed(low, high)}."
    else:
        longer = bias["epochs_retrained"] > bias["epochs_at_search"]
        said = (
            f"Selection bias cannot be told from {'longer' if longer else 'shorter'} training: {told}, but after "
            f"{counted(bias['epochs_retrained'], 'epoch')} in place of {bias['epochs_at_search']}."
        )
    yield say(said, "search.selection_bias")


def _chosen(trials: int) -> str:
    return "the only trial" if trials == 1 else f"chosen among {plural(trials, 'trial')}"


def _signed(low: float, high: float) -> str:
    return f"[{low:+.3f}, {high:+.3f}]"


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
            yield say(f"{said}, {mean_of(row['seeds'], 'seed')}.", f"insight.gaps.{place}")


def _carries_over(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Emotions that are recognised less often elsewhere than on the study's own set."""
    found = report["insight"].get("generalization")
    fallen = below_own(found) if found else {}
    if fallen:
        said = "; ".join(f"on {name} {listed(emotions)}" for name, emotions in fallen.items())
        own = found["rows"][0]["protocol"]
        text = f"Recognised less often than on {own}, interval below interval: {said}."
        yield say(text, "insight.generalization", "generalization.svg")


def _short(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Final models that were trained less than the trials that they were chosen by."""
    own, longest = report["study"]["retrain"]["epochs"], report["study"]["fidelity"]["max_epochs"]
    if report["models"] and own is not None and own < longest:
        said = (
            f"Final models were trained for {counted(own, 'epoch')}, the search's longest trials for {longest}: what "
            "they were chosen for was reached with more training than they had."
        )
        yield say(said, "study.retrain.epochs")


def _missing(report: Mapping[str, Any]) -> Iterator[Finding]:
    run, models = report["words"], report["models"]
    if failed := report["search"]["failed_models"]:
        named = {model_name(each["candidate"], each["seed"], each.get("on")): each["reason"] for each in failed}
        names = listed([f"{name} ({reason})" for name, reason in named.items()])
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
            said = f"{name} covers {covered} of {counted(len(models), 'model')}: run `facex-tune evaluate {run}` again."
            yield say(said, f"evaluation.{name}.candidates")


def _seeds(report: Mapping[str, Any]) -> Iterator[Finding]:
    for name, scored in list(report["evaluation"].items())[:1]:
        if len(scored["seeds"]) < MIN_SEEDS:
            seeds = counted(len(scored["seeds"]), "seed")
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
            trained = clean.get("in_training", clean["excluded"])
            known = f"{trained:,} of the {plural(scored['n'], 'face')} of {name}"
            if further := clean["excluded"] - trained:
                known += f", validation alone of {further:,}"
            said = (
                f"Training holds an exact, mirrored or near copy of {known}; without such faces: "
                f"{_two(clean['metrics'], clean['n'])}."
            )
            yield say(said, f"evaluation.{name}.clean")


def _opened(report: Mapping[str, Any]) -> Iterator[Finding]:
    often = {name: scored["opened"] for name, scored in report["evaluation"].items() if scored["opened"] > 1}
    if often:
        said = ", ".join(f"{name} {times(n)}" for name, n in often.items())
        yield say(f"Opened more than once in this run: {said}. A test set that guides changes is none.", "evaluation")


def _raised(report: Mapping[str, Any]) -> Iterator[Finding]:
    """A choice after a sealed set was opened is one that its scores may have led to."""
    for at, each in enumerate(report["search"].get("raised_budgets", [])):
        if each["opened"]:
            seen = ", ".join(f"{name} ({times(n)})" for name, n in each["opened"].items())
            said = (
                f"The budget was raised ({Raise(each['was'], each['now'], each['opened'])}) after sealed sets had been "
                f"opened: {seen}. The candidates were chosen anew after that, so that scores on these sets may have "
                "had a part in the choice."
            )
            yield say(said, f"search.raised_budgets.{at}")


def _order(report: Mapping[str, Any]) -> Iterator[Finding]:
    """What besides the study had a part in which trials there are."""
    order = report["search"].get("order", {})
    if settled := report["search"].get("settled"):
        said = Settled(**settled).told(report["study"]["objective"][0])
        said = f"{said[0].upper()}{said[1:]}. What is left was not looked for (`stop_when_settled`)."
        yield say(said, "search.settled")
    if order.get("taken_in") == ARRIVAL and order["at_once"] > 1:
        said = (
            f"Up to {order['at_once']} trials ran at once and results were taken in as they arrived, so that which "
            "worker was quicker had a part in what was tried and what was cut: another run of this study, with the "
            "same seed, may choose another configuration. `search: {order: fixed}` repeats itself."
        )
        yield say(said, "search.order")
    elif order.get("ended_by") in ("time", "gpu_hours"):
        said = (
            f"The clock ended the search ({order['ended_by'].replace('_', ' ')}): a faster machine would have tried "
            "more. `budget: {trials: ...}` alone ends each run of a study after the same trials."
        )
        yield say(said, "search.order")


def _left_out(report: Mapping[str, Any]) -> Iterator[Finding]:
    """What of the study's own set, and of the sets scored, is not trained on or not scored, or falls short."""
    own = sets_of(report["study"]["data"])
    for name in dict.fromkeys([*own, *(scored["data"] for scored in report["evaluation"].values())]):
        manifest = report["data"].get(name)
        if manifest is None:
            continue
        said = [*([f"incomplete: {manifest['incomplete']}"] if manifest.get("incomplete") else [])]
        read_as = as_read(report["study"], name)
        said += notes_on_majority(manifest, read_as["classes"]) if read_as["by_votes"] else []
        said += left_out(manifest["counts"], trained=name in own, **read_as)
        if said:
            yield say(f"Of {name}: {'; '.join(said)}.", f"data.{name}.told")


def _synthetic(report: Mapping[str, Any]) -> Iterator[Finding]:
    sets = sets_of(report["study"]["data"])
    if sets == ("synthetic",):
        said = "The faces are synthetic: these numbers show that the search works, and nothing about real faces."
        yield say(said, "study.data")
    elif "synthetic" in sets:
        yield say("Drawn faces (synthetic) were trained on beside those of the other sets.", "study.data")
