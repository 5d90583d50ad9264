"""A model card for each final model (Mitchell et al., FAT* 2019), from what the run measured, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from facex_tune.emotions import EMOTIONS, FaceShape
from facex_tune.metrics import SIX
from facex_tune.report.wording import DASH, interval, metric_words, number
from facex_tune.runs.names import model_label, trial_label
from facex_tune.study import sets_of
from facex_tune.study.words import plural, value_text


def card(document: Mapping[str, Any], model: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """The card of one of report.json's models.

    Args:
        info: the model's config.json.
    """
    return "\n".join(_lines(document, model, info)) + "\n"


def name_of(model: Mapping[str, Any]) -> str:
    """t0007-s0, or t0007-all of one that was trained on validation faces too."""
    return str(model.get("name") or model_label(model["candidate"], model["seed"]))


def _lines(document: Mapping[str, Any], model: Mapping[str, Any], info: Mapping[str, Any]) -> Iterator[str]:
    name, study = name_of(model), document["study"]
    yield f"# {document['run']}/{name}"
    yield ""
    emotions = EMOTIONS[: info["n_classes"]]
    yield f"A classifier of facial expressions into {len(emotions)} emotions ({', '.join(emotions)}),"
    yield f"trained by study `{study['name']}`"
    trained_on = " and ".join(f"`{name}`" for name in sets_of(study["data"]))
    yield f"on {trained_on} ({study['labels']} labels), seed {model['seed']}, {info.get('epochs', '?')} epochs."
    yield ""
    yield "## Input and output"
    yield ""
    face = FaceShape.of(info)
    shape = f"{face} pixels" + " (red, green and blue)" * face.is_colour
    yield f"One cropped, upright face as {shape}; it finds no faces by itself."
    yield "Out: a probability for each emotion."
    yield ""
    yield "## Configuration"
    yield ""
    yield from (f"- `{knob}`: {value_text(value)}" for knob, value in info["config"].items())
    if info.get("params"):
        yield f"- weights: {info['params']:,}"
    yield ""
    yield "## Scores on sealed test sets"
    yield ""
    yield from _scores(document, model)
    yield ""
    yield "## Limits"
    yield ""
    yield "What it calls an emotion is an annotator's word for a still face, not what anybody feels. Do not decide"
    yield "about people with it. It was measured on the sets above and nowhere else; faces of other ages, origins or"
    yield "cameras may be read worse, and nothing here says by how much."
    if all(name.startswith("synthetic") for name in sets_of(study["data"])):
        yield "It was trained on drawn faces: it says nothing about real ones."


def _scores(document: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    candidate, name = trial_label(model["candidate"]), name_of(model)
    if "chosen_by" in model:
        yield "None of its own: it was trained on the validation faces too, when everything had been chosen, and scored"
        yield f"nowhere. The cards of {', '.join(model['chosen_by'])}, the same configuration, say what to expect."
        return
    seen = False
    for protocol, scored in document["evaluation"].items():
        said = scored.get("candidates", {}).get(candidate)
        if not said or name not in said["models"] or not said["n"]:
            continue
        seen, place = True, said["models"].index(name)
        runs = plural(len(said["models"]), "seed")
        yield f"`{protocol}` (n = {said['n']:,}): this model, and the mean of its {runs} with 95 %"
        yield f"over {scored['clusters']}; test-time augmentation: {scored['tta']}."
        if scored.get("converted"):
            yield f"Its faces were {scored['converted']}."
        yield ""
        yield "| metric | this model | mean | 95 % |"
        yield "|---|---|---|---|"
        for metric in SIX:
            value = said["metrics"][metric]
            own, mean = number(value["per_model"][place]), number(value["mean"])
            yield f"| {metric_words(metric)} | {own} | {mean} | {interval(value['interval']) or DASH} |"
        recalls = ", ".join(f"{emotion} {row['recall']:.2f}" for emotion, row in said["per_emotion"].items())
        yield ""
        yield f"Recall by emotion, mean over seeds: {recalls}."
        yield ""
    if not seen:
        yield "None yet: run `facex-tune evaluate`."
