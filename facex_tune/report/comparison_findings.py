"""Findings from comparisons, choices, the factor study and insight: each with its figure, none where the interval does
not support it; a confusion, which has none, where enough clusters show it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from facex_tune.evaluation.compare import corrected
from facex_tune.evaluation.intervals import MIN_CLUSTERS
from facex_tune.metrics import MAXIMIZE
from facex_tune.report.wording import Finding, counted, interval, listed, metric_words, per_cent, say, share
from facex_tune.study.words import plural, value_text

SHOWN = 3  # effects of a kind, the largest; the report's table has them all
_VARIANTS = {
    "temperature": "A temperature chosen on validation",
    "ensemble_seeds": "The mean of the winner's models",
    "ensemble_greedy": "An ensemble selected on validation",
}
_COMPARED = ("macro_f1", "accuracy", "log_loss")
_SAID = {
    "temperature": ("log_loss",),
    "ensemble_seeds": ("macro_f1", "accuracy"),
    "ensemble_greedy": ("macro_f1", "accuracy"),
}


def retrained(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Candidates that are better than the winner on validation, once all are retrained."""
    objective = report["study"]["objective"][0]
    every = (report["choices"] or {}).get("retrained", [])
    for place, (compared, sides) in enumerate(zip(every, corrected(every, [objective]), strict=True)):
        gap = compared["metrics"].get(objective)
        if gap is None or sides[objective] >= 0:
            continue
        said = f"{gap['mean']:+.3f} {interval(gap['interval'])}"
        text = (
            f"Retrained, {compared['second']} is better on validation (n = {compared['n']:,}) than the winner "
            f"{compared['first']}, which the search ranked first: {metric_words(objective)} of the winner less its own "
            f"{said}.{_few_runs(compared, objective)} Preferring it for that peeks at no sealed set."
        )
        yield say(text, f"choices.retrained.{place}.metrics.{objective}")


def comparisons(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Winner against runner-up and baseline: everything that is better or worse beyond its intervals, and beyond what
    so many comparisons on all protocols show by chance (`compare.corrected`).
    """
    told = list(dict.fromkeys([report["study"]["objective"][0], *_COMPARED]))
    every = [
        (name, place, compared)
        for name, scored in report["evaluation"].items()
        for place, compared in enumerate(scored.get("comparisons", []))
    ]
    judged = corrected([compared for _, _, compared in every], told)
    for (name, place, compared), sides in zip(every, judged, strict=True):
        verdict, metrics = _verdict_of(compared, sides, ("better in", "worse in"))
        if verdict:
            text = (
                f"On {name} (n = {compared['n']:,}) the winner {compared['first']} is {verdict} than the "
                f"{compared['role']} {compared['second']}, on the same faces.{_few_runs(compared, metrics[0])}"
            )
            yield say(text, f"evaluation.{name}.comparisons.{place}.metrics")


def _verdict_of(
    compared: Mapping[str, Any], sides: Mapping[str, int], words: tuple[str, str]
) -> tuple[str, list[str]]:
    """``better in macro-F1 (+0.020 [0.005, 0.035]) but worse in accuracy (...)``, and the metrics named."""
    parts = []
    for side, word in zip((1, -1), words, strict=True):
        found = [_with_difference(compared, metric) for metric, its in sides.items() if its == side]
        if found:
            parts.append(f"{word} {listed(found)}")
    return " but ".join(parts), [metric for metric, its in sides.items() if its]


def _with_difference(compared: Mapping[str, Any], metric: str) -> str:
    gap = compared["metrics"][metric]
    return f"{metric_words(metric)} ({gap['mean']:+.3f} {interval(gap['interval'])})"


def _few_runs(compared: Mapping[str, Any], metric: str) -> str:
    """What a difference does not say where there are too few training runs for an interval over seeds."""
    if compared["metrics"][metric]["seeds_interval"] is not None:
        return ""
    counts = compared.get("models", [1, 1])
    runs = "one training run of each" if max(counts) == 1 else f"{counts[0]} and {counts[1]} training runs"
    return f" With {runs} this tells these models apart, not their configurations."


def variants(report: Mapping[str, Any]) -> Iterator[Finding]:
    """What temperature and ensembles bring on the first protocol."""
    for name, scored in list(report["evaluation"].items())[:1]:
        for kind, variant in scored.get("variants", {}).items():
            (sides,) = corrected([variant["difference"]], _SAID[kind])
            verdict, _ = _verdict_of(variant["difference"], sides, ("improves", "worsens"))
            if verdict:
                text = f"{_VARIANTS[kind]} {verdict} on {name} against {_rival(kind, scored)}, n = {scored['n']:,}."
                figure = f"reliability-{name}.svg" if kind == "temperature" else None
                yield say(text, f"evaluation.{name}.variants.{kind}.difference.metrics", figure)


def _rival(kind: str, scored: Mapping[str, Any]) -> str:
    """What a variant is compared with."""
    if kind == "temperature":
        return "the same models without it"
    models = len(scored["seeds"])
    return "the winner alone" if models == 1 else f"the winner's {models} models one by one (their mean)"


def factors(report: Mapping[str, Any]) -> Iterator[Finding]:
    """What came of all changes together; the largest supported gains in the objective and each family's largest loss,
    then effects on single emotions alone, then interactions.
    """
    study = report["factors"]
    if not study:
        return
    objective = report["study"]["objective"][0]
    measured = [
        (place, effect, effect["metrics"][objective])
        for place, effect in enumerate(study["effects"])
        if objective in effect["metrics"] and effect["metrics"][objective]["interval"]
    ]
    if not measured:
        return
    basis = f"{counted(study['seeds'], 'paired seed')} of {counted(study['epochs'], 'epoch')}, on validation"
    yield _verdict(study, objective, [said for _, _, said in measured], basis)
    better, worse = ([each for each in measured if _side(each[2], objective) == side] for side in (1, -1))
    for nth, (place, effect, said) in enumerate([*_largest(better), *_largest(_worst_of_each_family(worse))]):
        text = (
            f"With {change_words(effect)}, {metric_words(objective)} changes by {said['effect']:+.3f} "
            f"{interval(said['interval'])} ({basis})."
        )
        if better and nth == 0:
            text += (
                f" As the best of {len(measured)} it is probably somewhat too good: a search that tries it "
                "(search.start_with) and retrains says by how much."
            )
        yield say(text, f"factors.effects.{place}.metrics.{objective}", "factors.svg")
    yield from _single_emotions(study, objective, basis)
    yield from _interactions(study, objective)


def _side(said: Mapping[str, Any], metric: str) -> int:
    """1 where a supported effect improves the metric, -1 where it worsens it, 0 where none is supported."""
    if not said["supported"]:
        return 0
    return 1 if (said["effect"] > 0) == MAXIMIZE[metric] else -1


def _worst_of_each_family(found: list[Any]) -> list[Any]:
    """One loss for models, augmentations, balancing and training each: that every other network is worse is one thing
    to know, not three.
    """
    worst: dict[str, Any] = {}
    for each in sorted(found, key=lambda each: -abs(each[-1]["effect"])):
        worst.setdefault(next(iter(each[1]["changed"])).partition(".")[0], each)
    return list(worst.values())


def _largest(found: list[Any]) -> list[Any]:
    return sorted(found, key=lambda each: -abs(each[-1]["effect"]))[:SHOWN]


def _verdict(study: Mapping[str, Any], objective: str, effects: list[Mapping[str, Any]], basis: str) -> Finding:
    """How many changes do what, and how small a change the study could not have seen."""
    sides = [_side(said, objective) for said in effects]
    better, worse, rest = (sides.count(side) for side in (1, -1, 0))
    text = (
        f"Factor study around {study['reference']} ({basis}): of {plural(len(effects), 'change')} measured"
        f"{' so far' if study['runs_left'] else ''}, {better or 'none'} improve{'s' * (better < 2)} "
        f"{metric_words(objective)} and {worse or 'none'} worsen{'s' * (worse < 2)} it beyond the noise"
    )
    if rest:
        reach = statistics.median((said["interval"][1] - said["interval"][0]) / 2 for said in effects)
        text += f"; {rest} cannot be told from it, as intervals reach {reach:.3f} to either side (median)"
    if times := study["noise"].get(objective, {}).get("reference_times"):
        text += f". The reference's own runs spread {times:.1f} times as wide as the others', which widens them all"
    return say(f"{text}.", "factors.effects", "factors.svg")


def _single_emotions(study: Mapping[str, Any], objective: str, basis: str) -> Iterator[Finding]:
    """The largest supported effects on an emotion's F1 by changes without one on the whole."""
    found = [
        (place, effect, name, said)
        for place, effect in enumerate(study["effects"])
        for name, said in effect["metrics"].items()
        if name.startswith("f1.") and said["supported"] and not effect["metrics"][objective]["supported"]
    ]
    for place, effect, name, said in _largest(found):
        text = (
            f"With {change_words(effect)}, the F1 of {name.removeprefix('f1.')} changes by {said['effect']:+.3f} "
            f"{interval(said['interval'])} ({basis}), with no effect on the whole that stands out from the noise."
        )
        yield say(text, f"factors.effects.{place}.metrics.{name}", "factor-emotions.svg")


def _interactions(study: Mapping[str, Any], objective: str) -> Iterator[Finding]:
    for place, term in enumerate((study["factorial"] or {"terms": []})["terms"]):
        if len(term["families"]) > 1 and term["supported"]:
            beyond = "the sum of each alone" if len(term["families"]) == 2 else "what each alone and each pair bring"
            text = (
                f"{term['term'].capitalize()} depend on each other: changing them together brings "
                f"{term['effect']:+.3f} {interval(term['interval'])} {metric_words(objective)} beyond {beyond}."
            )
            yield say(text, f"factors.factorial.terms.{place}", "factorial.svg")


def change_words(effect: Mapping[str, Any]) -> str:
    """``augment = none in place of facex``."""
    replaced = effect["replaced"]
    return " and ".join(
        f"{knob} = {value_text(value)} in place of {value_text(replaced[knob])}"
        for knob, value in effect["changed"].items()
    )


def insight(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Confusions, annotators' disagreement, versatility, suspected labels."""
    found = report["insight"]
    for name, pairs in list(found["confused"].items())[:1]:
        for place, pair in enumerate(pairs[:2]):
            if pair["clusters"] >= MIN_CLUSTERS:
                largest = "" if place else ": the largest of many such shares, and so probably somewhat too large"
                text = (
                    f"{pair['true'].capitalize()} is taken for {pair['answered']} on "
                    f"{share(pair['share'], pair['n'])} of {name}{largest}."
                )
                yield say(text, f"insight.confused.{name}.{place}", f"confusion-{name}.svg")
    for name, said in list(found["disagreement"].items())[:1]:
        if said["interval"] and (said["interval"][0] > 0 or said["interval"][1] < 0):
            first, last = said["bands"][0], said["bands"][-1]
            text = (
                f"Where annotators agree the model errs less: accuracy {share(last['accuracy'], last['n'])} where at "
                f"least {per_cent(last['from'])} gave one answer, {share(first['accuracy'], first['n'])} below "
                f"{per_cent(first['to'])}; difference {said['difference']:+.3f} {interval(said['interval'])} on {name}."
            )
            if said["difference"] > 0:
                yield say(text, f"insight.disagreement.{name}", "disagreement.svg")
    versatile = found["versatility"]
    if versatile and versatile["interval"] and (versatile["interval"][0] > 0 or versatile["interval"][1] < 0):
        how = "accuracy and worst-class recall go together"
        if versatile["rho"] < 0:
            how = "a higher accuracy goes with a lower worst-class recall"
        text = (
            f"Over {compared_trials(versatile)} {how}: rank correlation {versatile['rho']:.2f} "
            f"{interval(versatile['interval'])} (observational)."
        )
        yield say(text, "insight.versatility", "versatility.svg")


def compared_trials(said: Mapping[str, Any]) -> str:
    """40 finished trials; or 120 trials as they were after epoch 2, where rungs chose among them then."""
    n, at_epoch = said.get("n", said.get("trials", 0)), said.get("at_epoch")
    if at_epoch is None:
        return counted(n, "finished trial")
    return f"{counted(n, 'trial')} as {'it was' if n == 1 else 'they were'} after epoch {at_epoch}"
