"""Findings from comparisons, choices, the factor study and insight: each with its figure, none where the interval does
not support it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from facex_tune.evidence.compare import supported
from facex_tune.evidence.findings import Finding, interval, metric_words, number, plural, say

_VARIANTS = {
    "temperature": "A temperature chosen on validation",
    "ensemble_seeds": "The mean of the winner's seeds",
    "ensemble_greedy": "An ensemble selected on validation",
}
_SAID = {"temperature": ("log_loss",), "ensemble_seeds": ("macro_f1", "accuracy"), "ensemble_greedy": ("macro_f1",)}


def retrained(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Candidates that are better than the winner on validation, once all are retrained."""
    objective = report["study"]["objective"][0]
    for place, compared in enumerate((report["choices"] or {}).get("retrained", [])):
        gap = compared["metrics"].get(objective)
        if gap is None or supported(compared, objective) >= 0:
            continue
        said = f"{gap['mean']:+.3f} {interval(gap['interval'])}"
        text = (
            f"Retrained, {compared['second']} is better on validation (n = {compared['n']:,}) than the winner "
            f"{compared['first']}, which the search ranked first: {metric_words(objective)} of the winner less its own "
            f"{said}. Preferring it for that peeks at no sealed set."
        )
        yield say(text, f"choices.retrained.{place}.metrics.{objective}")


def comparisons(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Winner against runner-up and baseline, by accuracy and macro-F1."""
    for name, scored in report["evaluation"].items():
        for place, compared in enumerate(scored.get("comparisons", [])):
            for metric in ("macro_f1", "accuracy"):
                side = supported(compared, metric)
                if side:
                    gap = compared["metrics"][metric]
                    verdict = "better" if side > 0 else "worse"
                    said = f"{gap['mean']:+.3f} {interval(gap['interval'])}"
                    text = (
                        f"On {name} (n = {compared['n']:,}) the winner {compared['first']} is {verdict} than the "
                        f"{compared['role']} {compared['second']} in {metric_words(metric)}: difference {said}, on the "
                        "same faces."
                    )
                    yield say(text, f"evaluation.{name}.comparisons.{place}.metrics.{metric}")
                    break


def variants(report: Mapping[str, Any]) -> Iterator[Finding]:
    """What temperature and ensembles bring on the first protocol."""
    for name, scored in list(report["evaluation"].items())[:1]:
        for kind, variant in scored.get("variants", {}).items():
            for metric in _SAID[kind]:
                side = supported(variant["difference"], metric)
                if side:
                    gap = variant["difference"]["metrics"][metric]
                    change = "improves" if side > 0 else "worsens"
                    text = (
                        f"{_VARIANTS[kind]} {change} {metric_words(metric)} on {name} by {abs(gap['mean']):.3f}: "
                        f"{gap['mean']:+.3f} {interval(gap['interval'])}, n = {scored['n']:,}."
                    )
                    figure = f"reliability-{name}.svg" if kind == "temperature" else None
                    yield say(text, f"evaluation.{name}.variants.{kind}.difference.metrics.{metric}", figure)
                    break


def factors(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Supported effects on the objective, then those on single emotions alone, then interactions."""
    study = report["factors"]
    if not study:
        return
    objective = report["study"]["objective"][0]
    basis = f"{plural(study['seeds'], 'paired seed')} of {plural(study['epochs'], 'epoch')}, on validation"
    for place, effect in enumerate(study["effects"]):
        where = f"factors.effects.{place}.metrics"
        changed = change_words(effect["changed"])
        main = effect["metrics"].get(objective)
        if main and main["supported"]:
            text = (
                f"{changed} changes {metric_words(objective)} by {main['effect']:+.3f} {interval(main['interval'])} "
                f"({basis})."
            )
            yield say(text, f"{where}.{objective}", "factors.svg")
        else:
            yield from _single_emotions(effect, changed, basis, where)
    yield from _interactions(study, objective)


def _single_emotions(effect: Mapping[str, Any], changed: str, basis: str, where: str) -> Iterator[Finding]:
    for name, measured in effect["metrics"].items():
        if name.startswith("f1.") and measured["supported"]:
            emotion = name.removeprefix("f1.")
            text = (
                f"{changed} changes the F1 of {emotion} by {measured['effect']:+.3f} {interval(measured['interval'])} "
                f"({basis}), with no effect on the whole that stands out from the noise."
            )
            yield say(text, f"{where}.{name}", "factors.svg")


def _interactions(study: Mapping[str, Any], objective: str) -> Iterator[Finding]:
    for place, term in enumerate((study["factorial"] or {"terms": []})["terms"]):
        if len(term["families"]) > 1 and term["supported"]:
            text = (
                f"{term['term'].capitalize()} depend on each other: changing them together brings "
                f"{term['effect']:+.3f} {interval(term['interval'])} {metric_words(objective)} beyond the sum of each "
                "alone."
            )
            yield say(text, f"factors.factorial.terms.{place}")


def change_words(changed: Mapping[str, Any]) -> str:
    """Augment none; Lr 0.1 and so on, as the beginning of a sentence."""
    words = " and ".join(f"{knob.replace('_', ' ')} = {value}" for knob, value in changed.items())
    return words[:1].upper() + words[1:]


def insight(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Confusions, annotators' disagreement, versatility, suspected labels."""
    found = report["insight"]
    for name, pairs in list(found["confused"].items())[:1]:
        for place, pair in enumerate(pairs[:2]):
            if pair["interval"] and pair["interval"][0] > 0:
                text = (
                    f"{pair['true'].capitalize()} is taken for {pair['answered']} on {number(pair['share'])} "
                    f"{interval(pair['interval'])} of its {plural(pair['n'], 'face')} of {name}."
                )
                yield say(text, f"insight.confused.{name}.{place}", f"confusion-{name}.svg")
    for name, said in list(found["disagreement"].items())[:1]:
        if said["interval"] and (said["interval"][0] > 0 or said["interval"][1] < 0):
            first, last = said["bands"][0], said["bands"][-1]
            text = (
                f"Where annotators agree the model errs less: accuracy {number(last['accuracy'])} on faces where at "
                f"least {last['from']:.0%} gave one answer (n = {last['n']:,}), {number(first['accuracy'])} below "
                f"{first['to']:.0%} (n = {first['n']:,}); difference {said['difference']:+.3f} "
                f"{interval(said['interval'])} on {name}."
            )
            if said["difference"] > 0:
                yield say(text, f"insight.disagreement.{name}", "disagreement.svg")
    versatile = found["versatility"]
    if versatile and versatile["interval"] and versatile["interval"][0] > 0:
        text = (
            f"Over {plural(versatile['n'], 'finished trial')} accuracy and worst-class recall go together: rank "
            f"correlation {versatile['rho']:.2f} {interval(versatile['interval'])} (observational)."
        )
        yield say(text, "insight.versatility", "versatility.svg")
    if versatile and versatile["interval"] and versatile["interval"][1] < 0:
        text = (
            f"Over {plural(versatile['n'], 'finished trial')} a higher accuracy goes with a lower worst-class recall: "
            f"rank correlation {versatile['rho']:.2f} {interval(versatile['interval'])} (observational)."
        )
        yield say(text, "insight.versatility", "versatility.svg")
