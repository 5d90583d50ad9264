"""The page's interactive views: figures of plotly.js as plain data, and what a click on a trial opens.

A colour is the name of one of the page's own (`--link`), which the page's script looks up, so that a figure follows
light and dark. `customdata` is the number of the trial that a point belongs to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.metrics import COSTS, MAXIMIZE
from facex_tune.report.figure_choice import best_so_far, winner_label
from facex_tune.report.wording import metric_words, number
from facex_tune.runs.events import EpochDone, TrialPaused, TrialPromoted, TrialStarted, TrialStopped
from facex_tune.runs.history import BY_BUDGET, ENDS, FAILED, FINISHED, RUNNING, STOPPED, Trial
from facex_tune.search.scheduler import rungs_of
from facex_tune.space import Choice, Float, Int, Knob, Value
from facex_tune.storage.files import finite
from facex_tune.study.words import clock, not_shared, plural, value_text

if TYPE_CHECKING:
    from facex_tune.runs.store import Event, Run

MOST_TRIALS = 1000  # in the views, the best ones
MOST_POINTS = 60_000  # of all learning curves together
MOST_AXES, MOST_SLICES = 8, 6
FEWEST_CONTOURED = 10  # finished trials that have both knobs
CONTOUR_STEPS = 24  # along each axis
NEAR = 0.12  # the standard deviation of the kernel under a contour plot, in shares of an axis
SHADES = ("--v0", "--v1", "--v2", "--v3", "--v4")  # worst to best
STATES = {FINISHED: "--link", STOPPED: "--faint", RUNNING: "--good", FAILED: "--bad"}
ABSENT = -0.14  # where an axis has what a trial's configuration lacks
Figure = dict[str, Any]
WAITS, GOES_ON, CUT = "waits", "goes on", "stopped"  # at a rung
RUNG_MARKS = {GOES_ON: "triangle-right", WAITS: "line-ns", CUT: "x-thin"}
Decisions = list[tuple[int, str]]  # epoch, what a rung decided there
Pair = dict[str, Any]  # {across, up: names, n: trials, figure: its place or None, said}


def script() -> str:
    """plotly.js, for a script element: the same program, without the two words that mean something on the page."""
    from plotly.offline import get_plotlyjs

    # By the second `service.bundle` knows a page that shows faces.
    said = str(get_plotlyjs()).replace("</script", "<\\/script")
    return said.replace("data:image/png;base64,", "data:image/\\x70ng;base64,")


def of_run(run: Run, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """{objective, winner, shown, trials, knobs, ranked_by, rungs, figures, contours, fronts}; None where no trial has a
    value.

    `figures` are history, learning, parallel, timeline and importance, a figure of plotly.js each, and slices,
    contours and fronts, lists of them; what there are too few trials or knobs for is left out.
    `contours` and `fronts` are {names, pairs, first}: two knobs, or two of several objectives, with the place of their
    figure; and which two are shown before anybody chooses.
    `trials` says of each trial, by its number, what a click opens; also of one that ended, or has not come, before its
    first epoch, which no figure has.
    """
    objective = run.study.objective[0]
    history = run.history()
    every = {trial.number: trial for trial in history.trials.values()}
    board = [every[row["trial"]] for row in document["leaderboard"]]
    drawn = [trial for trial in board if _curve(trial, objective)]
    lacking = [trial for trial in board if not _curve(trial, objective)][:MOST_TRIALS]
    shown = sorted(drawn[:MOST_TRIALS], key=lambda trial: trial.number)
    if not shown:
        return None
    decided, importances = decisions(run), document["importance"]["importances"]
    axes = _axes(shown, dict(run.study.space.knobs()), importances or {})
    usable = [trial for trial in shown if trial.state != FAILED]
    values = {trial.number: _last(trial, objective) for trial in usable}
    contours: list[Pair] = []
    winner, label = winner_label(document), f"validation {metric_words(objective)}"
    figures: dict[str, Any] = {
        "learning": _learning(shown, objective, winner),
        "timeline": _timeline(shown, run.events(), decided),
    }
    if usable:
        figures["history"] = _history(every.values(), usable, values, objective, winner)
    if axes and usable:
        figures["parallel"] = _parallel(axes[:MOST_AXES], usable, values, objective)
        figures["slices"] = [_slice(axis, usable, values, label) for axis in axes[:MOST_SLICES]]
        contours, figures["contours"] = _contours(axes[:MOST_AXES], usable, values)
    fronts: list[Pair] = []
    if len(run.study.objective) > 1 and usable:
        front = [row["trial"] for row in document["leaderboard"] if row["pareto"]]
        fronts, figures["fronts"] = _fronts(usable, run.study.objective, front, winner)
    if importances:
        figures["importance"] = _importance(importances)
    return {
        "objective": metric_words(objective),
        "winner": winner,
        "shown": len(shown),
        "with_value": len(drawn),
        "ranked_by": "importance" if importances else "order",
        "varying": len(axes),
        "knobs": [axis.name for axis in axes],
        "rungs": any(decided.values()),
        "trials": _trials(sorted([*shown, *lacking], key=lambda trial: trial.number), decided, objective, document),
        "figures": figures,
        "contours": _choice({axis.name: axis.name for axis in axes[:MOST_AXES]}, contours),
        "fronts": _choice({name: metric_words(name) for name in run.study.objective}, fronts),
    }


def _curve(trial: Trial, objective: str) -> dict[int, float]:
    found = {epoch: finite(metrics.get(objective)) for epoch, metrics in sorted(trial.epochs.items())}
    return {epoch: value for epoch, value in found.items() if value is not None}


def _last(trial: Trial, objective: str) -> float:
    return list(_curve(trial, objective).values())[-1]


def _thinned(curve: Mapping[int, float], most: int) -> tuple[list[int], list[float]]:
    """At most about so many of a curve's points, its last one among them."""
    step = max(1, math.ceil(len(curve) / most))
    points = list(curve.items())[::-1][::step][::-1]
    return [epoch for epoch, _ in points], [round(value, 5) for _, value in points]


# What a click opens


def _trials(
    trials: Sequence[Trial], decided: Mapping[int, Decisions], objective: str, document: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    ranks = {row["trial"]: row["rank"] for row in document["leaderboard"]}
    most = max(2, MOST_POINTS // len(trials))
    return {
        trial.number: {
            "label": trial.label,
            "rank": ranks[trial.number],
            "value": number(_last(trial, objective)) if _curve(trial, objective) else None,
            "ended": ended(trial),
            "detail": trial.detail,
            "epochs": trial.last_epoch,
            "time": clock(trial.seconds),
            "knobs": {name: value_text(value) for name, value in trial.config.items()},
            "rungs": decision_words(decided.get(trial.number, [])),
            "curve": _thinned(_curve(trial, objective), most),
        }
        for trial in trials
    }


def ended(trial: Trial) -> str:
    """A trial's state, and why: ``stopped at a rung``, ``failed: diverged``."""
    if trial.state == STOPPED and not trial.reason.startswith(BY_BUDGET):
        return "stopped at a rung"
    if trial.paused:
        return "waits at a rung"
    return f"{trial.state}: {trial.reason.replace('_', ' ')}" if trial.reason else trial.state


def decisions(run: Run) -> dict[int, Decisions]:
    """What rungs decided of each trial, by its number, in the order of the epochs: "goes on", "waits", "stopped".

    That a trial goes on is logged only where it had waited. Elsewhere it shows in the epochs that the trial went beyond
    a rung.
    """
    said = {TrialPaused.TYPE: WAITS, TrialPromoted.TYPE: GOES_ON, TrialStopped.TYPE: CUT}
    found: dict[int, Decisions] = {}
    for event in run.events():
        if event["type"] in said and not str(event.get("reason") or "").startswith(BY_BUDGET):
            found.setdefault(event["trial"], []).append((event.get("epoch") or 0, said[event["type"]]))
    rungs = rungs_of(run.study)
    for trial in run.history().trials.values():
        known = found.setdefault(trial.number, [])
        passed = [(epoch, GOES_ON) for epoch in rungs if epoch < trial.last_epoch]
        known += [each for each in passed if each not in known]
        known.sort(key=lambda each: each[0])
    return found


def decision_words(decided: Decisions) -> list[str]:
    """``epoch 2: goes on``."""
    return [f"epoch {epoch}: {said}" for epoch, said in decided]


# Axes of knobs


@dataclass(frozen=True)
class Axis:
    """A knob along an axis.

    Attributes:
        values: trial -> value, of the trials that have the knob.
        categories: the values in their order, where they are no range; else None.
    """

    name: str
    values: dict[int, Value]
    log: bool
    categories: list[str] | None

    def at(self, trial: int) -> float:
        """Where a trial lies: 0 to 1, below 0 where it has no such knob."""
        if trial not in self.values:
            return ABSENT
        if self.categories is not None:
            return self.categories.index(value_text(self.values[trial])) / max(1, len(self.categories) - 1)
        low, high = self._ends
        return 0.5 if low == high else (self._scaled(self.values[trial]) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and what stands there."""
        absent = [(ABSENT, "not used")] if ABSENT in {self.at(trial) for trial in self.values} else []
        if self.categories is not None:
            most = max(1, len(self.categories) - 1)
            return [*absent, *((place / most, text) for place, text in enumerate(self.categories))]
        low, high = self._ends
        places = [0.5] if low == high else [0, 0.5, 1]
        told = [low + place * (high - low) for place in places]
        return [*absent, *((place, value_text(self._value(each))) for place, each in zip(places, told, strict=True))]

    @cached_property
    def _ends(self) -> tuple[float, float]:
        scaled = [self._scaled(value) for value in self.values.values()]
        return min(scaled), max(scaled)

    def _scaled(self, value: Any) -> float:
        return math.log(value) if self.log else float(value)

    def _value(self, scaled: float) -> float:
        value = math.exp(scaled) if self.log else scaled
        return round(value) if all(isinstance(each, int) for each in self.values.values()) else value


def _axes(trials: Sequence[Trial], knobs: Mapping[str, Knob], importances: Mapping[str, float]) -> list[Axis]:
    """The knobs that vary, the most important first; where none is known, parts first, then as in the space."""
    names = not_shared([trial.config for trial in trials])
    names.sort(key=lambda name: -importances.get(name, 0))
    return [axis(name, knobs.get(name), trials) for name in names]


def axis(name: str, knob: Knob | None, trials: Sequence[Trial]) -> Axis:
    """The axis of one knob; of a knob that the space does not have, its values are categories."""
    values = {trial.number: trial.config[name] for trial in trials if name in trial.config}
    if isinstance(knob, Float | Int) and all(knob.holds(value) for value in values.values()):
        return Axis(name, values, knob.log, None)
    order = list(knob.options) if isinstance(knob, Choice) else []
    known = {value_text(value): None for value in order if value in values.values()}
    return Axis(name, values, False, list(known | {value_text(value): None for value in values.values()}))


# Figures


def _layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    return {"xaxis": {"title": {"text": x}, **more}, "yaxis": {"title": {"text": y}}, "showlegend": True}


def _counted(most: int) -> dict[str, Any]:
    """Ticks of an axis of trials or epochs: no halves, and none twice."""
    return {"tickformat": "d"} | ({"dtick": 1} if most <= 10 else {})


def _points(name: str, x: Sequence[Any], y: Sequence[Any], trials: Sequence[Any], colour: str, **more: Any) -> Figure:
    return {
        **{"type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y), "customdata": list(trials)},
        "marker": {"color": colour, "size": 7, **more},
    }


def _by_state(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """State -> its trials; without the states that none is in."""
    found = {state: [trial for trial in trials if trial.state == state] for state in STATES}
    return {state: group for state, group in found.items() if group}


def _state_points(trials: Sequence[Trial], x: Mapping[int, Any], y: Mapping[int, float]) -> list[Figure]:
    """Finished trials as discs, others as rings: their values are of an earlier epoch."""
    traces = []
    for state, group in _by_state(trials).items():
        numbers = [trial.number for trial in group if trial.number in x]
        symbol = "circle" if state == FINISHED else "circle-open"
        at = [x[n] for n in numbers], [y[n] for n in numbers]
        traces.append(_points(state, *at, numbers, STATES[state], symbol=symbol))
    return traces


def _history(
    every: Iterable[Trial], trials: Sequence[Trial], values: Mapping[int, float], objective: str, winner: str
) -> Figure:
    """Each trial's last value, and the best so far of those that compare."""
    compared = sorted((t for t in every if t.state != FAILED and _curve(t, objective)), key=lambda t: t.number)
    lasts = {trial.number: _last(trial, objective) for trial in compared}
    best = best_so_far(compared, lasts, MAXIMIZE[objective])
    line = {"type": "scatter", "mode": "lines", "name": "best so far", "x": list(best), "y": list(best.values())}
    traces = [line | {"line": {"shape": "hv", "color": "--link", "width": 2}, "hoverinfo": "skip"}]
    traces += _state_points(trials, {n: n for n in values}, values)
    for trial in trials:
        if trial.label == winner:
            star = _points("winner", [trial.number], [values[trial.number]], [trial.number], "--best", symbol="star")
            traces.append(star | {"marker": star["marker"] | {"size": 14}})
    numbers = _counted(max(best, default=0))
    return {"data": traces, "layout": _layout("trial", f"validation {metric_words(objective)}", **numbers)}


def _lines(name: str, pieces: Iterable[tuple[int, Sequence[Any], Sequence[Any]]], colour: str, width: float) -> Figure:
    """Many lines as one trace, with a gap after each; a piece is (trial, x, y)."""
    x: list[Any] = []
    y: list[Any] = []
    trials: list[int] = []
    for trial, xs, ys in pieces:
        x += [*xs, None]
        y += [*ys, None]
        trials += [trial] * (len(xs) + 1)
    drawn = {"type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": y, "customdata": trials}
    return drawn | {"line": {"color": colour, "width": width}, "marker": {"color": colour, "size": 3 + width}}


def _learning(trials: Sequence[Trial], objective: str, winner: str) -> Figure:
    most = max(2, MOST_POINTS // len(trials))
    traces = []
    for state, group in _by_state([trial for trial in trials if trial.label != winner]).items():
        pieces = [(trial.number, *_thinned(_curve(trial, objective), most)) for trial in group]
        traces.append(_lines(state, pieces, "--v1" if state == FINISHED else STATES[state], 1))
    for trial in trials:
        if trial.label == winner:
            own = [(trial.number, *_thinned(_curve(trial, objective), most))]
            traces.append(_lines(f"{winner} (winner)", own, "--best", 2.5))
    for trace in traces:
        trace["hovertemplate"] = "epoch %{x}: %{y:.3f}<br>%{hovertext}<extra></extra>"
    epochs = _counted(max(trial.last_epoch for trial in trials))
    return {"data": traces, "layout": _layout("epoch", f"validation {metric_words(objective)}", **epochs)}


def _parallel(axes: Sequence[Axis], trials: Sequence[Trial], values: Mapping[int, float], objective: str) -> Figure:
    """A line for each trial over its knobs to its value, in fifths of the finished ones; others faint."""
    finished = [trial for trial in trials if trial.state == FINISHED] or list(trials)
    ends = Axis(metric_words(objective), dict(values), False, None)
    along = [*axes, ends]
    numbers = {trial.number for trial in finished}
    ranked = sorted(finished, key=lambda trial: values[trial.number], reverse=not MAXIMIZE[objective])
    groups = [("not finished", "--faint", [trial for trial in trials if trial.number not in numbers])]
    for fifth, colour in enumerate(SHADES):
        part = ranked[len(ranked) * fifth // 5 : len(ranked) * (fifth + 1) // 5]
        told = {0: "worst fifth", 4: "best fifth"}.get(fifth, "")
        groups.append((told, colour, part))
    traces = []
    for name, colour, group in groups:
        if group:
            pieces = [(trial.number, range(len(along)), [each.at(trial.number) for each in along]) for trial in group]
            width = 2 if colour == SHADES[-1] else 1
            traces.append(_lines(name, pieces, colour, width) | {"showlegend": bool(name), "hoverinfo": "text"})
    return {"data": traces, "layout": _upright(along)}


def _upright(axes: Sequence[Axis]) -> dict[str, Any]:
    """Axes side by side, each with its own ticks beside it."""
    notes: list[dict[str, Any]] = []
    for place, each in enumerate(axes):
        last = place == len(axes) - 1
        shift = {"xanchor": "right", "xshift": -5} if last else {"xanchor": "left", "xshift": 5}
        notes += [_note(place, y, text, **shift) for y, text in each.ticks()]
        if not last and len(each.values) < len(axes[-1].values):
            notes.append(_note(place, ABSENT, "not used", **shift))
        title = f"<b>{escape(_short(each.name)).replace(' ', '<br>', 1)}</b>"
        notes.append({"x": place, "y": 1.09, "text": title, "showarrow": False, "yanchor": "bottom"})
    line = {"color": "--soft", "width": 1}
    shapes = [
        {"type": "line", "x0": x, "x1": x, "y0": ABSENT, "y1": 1.04, "line": line, "layer": "below"}
        for x in range(len(axes))
    ]
    hidden = {"visible": False, "fixedrange": True}
    room = {"range": [-0.35, len(axes) - 0.65]}
    y = hidden | {"range": [ABSENT - 0.06, 1.2]}
    margin = {"l": 10, "r": 10, "t": 34, "b": 6}
    layout = {"xaxis": hidden | room, "yaxis": y, "annotations": notes, "shapes": shapes}
    return layout | {"margin": margin, "showlegend": True}


def _note(x: float, y: float, text: str, **shift: Any) -> dict[str, Any]:
    plain = {"x": x, "y": y, "text": escape(text[:24]), "showarrow": False, "bgcolor": "--veil", "borderpad": 1}
    return plain | {"font": {"size": 10}, **shift}


def _short(knob: str) -> str:
    """A knob's name as a heading: ``train.batch_size`` is ``batch size``, ``model.resnet.width`` ``resnet width``."""
    return " ".join(knob.split(".")[1:] or [knob]).replace("_", " ")


def _slice(each: Axis, trials: Sequence[Trial], values: Mapping[int, float], label: str) -> Figure:
    """Every trial's value by one knob."""
    if each.categories is None:
        where: dict[int, Any] = dict(each.values)
        kind: dict[str, Any] = {"type": "log" if each.log else "linear"}
    else:
        where = {trial: escape(value_text(value)) for trial, value in each.values.items()}
        kind = {"type": "category", "categoryorder": "array"}
        kind["categoryarray"] = [escape(text) for text in each.categories]
    layout = _layout(escape(_short(each.name)), label, **kind)
    return {"data": _state_points(trials, where, values), "layout": layout | {"showlegend": False}}


def _contours(
    axes: Sequence[Axis], trials: Sequence[Trial], values: Mapping[int, float]
) -> tuple[list[Pair], list[Figure]]:
    """Over two knobs the mean value of the finished trials near a place, and the trials: of every pair of knobs, ranges
    first and then in the order of the knobs, with what is drawn or why nothing is; and the figures.
    """
    finished = [trial for trial in trials if trial.state == FINISHED]
    pairs: list[Pair] = []
    found: list[Figure] = []
    every = sorted(itertools.combinations(range(len(axes)), 2), key=lambda pair: (_kinds(axes, pair), sum(pair), pair))
    for across, up in ((axes[i], axes[j]) for i, j in every):
        both = [trial for trial in finished if trial.number in across.values and trial.number in up.values]
        pair: Pair = {"across": across.name, "up": up.name, "n": len(both), "figure": None}
        pairs.append(pair)
        x_T, y_T = (np.array([each.at(trial.number) for trial in both]) for each in (across, up))
        alike = [each.name for each, at_T in ((across, x_T), (up, y_T)) if len(set(at_T.tolist())) < 2]
        if len(both) < FEWEST_CONTOURED:
            told = f"{plural(len(both), 'finished trial')} {'has' if len(both) == 1 else 'have'} both knobs"
            pair["said"] = f"{told}; contours need {FEWEST_CONTOURED}."
        elif alike:
            pair["said"] = f"{alike[0]} is the same in all {len(both)} finished trials that have both knobs."
        else:
            pair |= {"figure": len(found), "said": f"{len(both)} finished trials have both knobs."}
            found.append(_contour(across, up, (x_T, y_T), both, values))
    return pairs, found


def _contour(
    across: Axis,
    up: Axis,
    at: tuple[NDArray[np.float64], NDArray[np.float64]],
    trials: Sequence[Trial],
    values: Mapping[int, float],
) -> Figure:
    z_T = np.array([values[trial.number] for trial in trials])
    places = np.linspace(0, 1, CONTOUR_STEPS)
    surface = {
        **{"type": "contour", "x": places.round(4).tolist(), "y": places.round(4).tolist(), "hoverinfo": "skip"},
        **{"z": smoothed(*at, z_T, places), "contours": {"coloring": "heatmap"}, "showlegend": False},
        "colorscale": [[step / 3, shade] for step, shade in enumerate(SHADES[:4])],
        "line": {"width": 0.6, "color": "--ground"},
        "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9},
    }
    numbers = [trial.number for trial in trials]
    points = _points("finished", at[0].round(4).tolist(), at[1].round(4).tolist(), numbers, "--best")
    points["marker"] |= {"line": {"color": "--ground", "width": 1}}
    layout = {side: _ticked(each) for side, each in (("xaxis", across), ("yaxis", up))}
    return {"data": [surface, points], "layout": layout | {"showlegend": False}}


def _fronts(
    trials: Sequence[Trial], objectives: Sequence[str], front: Iterable[int], winner: str
) -> tuple[list[Pair], list[Figure]]:
    """Each two objectives against each other: the trials that measured both, and those that no other beats in all
    objectives, joined where there are but two. Pairs as in `_contours`.
    """
    unbeaten = set(front)
    pairs: list[Pair] = []
    found: list[Figure] = []
    for across, up in itertools.combinations(objectives, 2):
        lasts = {trial.number: [_curve(trial, name) for name in (across, up)] for trial in trials}
        known = {n: [list(each.values())[-1] for each in curves] for n, curves in lasts.items() if all(curves)}
        on_front = sorted(unbeaten & set(known), key=lambda number: known[number])
        told = plural(len(on_front), "trial")
        said = f"{told} of {len(known)} {'is' if len(on_front) == 1 else 'are'} on the front."
        pairs.append({"across": across, "up": up, "n": len(known), "figure": len(found), "said": said})
        x, y = ({number: each[side] for number, each in known.items()} for side in (0, 1))
        path = {"x": [x[number] for number in on_front], "y": [y[number] for number in on_front]}
        corner = {"shape": "vh" if MAXIMIZE[across] else "hv", "color": "--best", "width": 1.5}
        edge = {"type": "scatter", "mode": "lines", "name": "front", "line": corner, "hoverinfo": "skip", **path}
        marked = _points("none is better in all", path["x"], path["y"], on_front, "--best", symbol="diamond")
        marked["marker"] |= {"size": 10}
        best = [number for number in known if next(t for t in trials if t.number == number).label == winner]
        star = _points("winner", [x[n] for n in best], [y[n] for n in best], best, "--best", symbol="star")
        star["marker"] |= {"size": 15, "line": {"color": "--ground", "width": 1}}
        others = _state_points([trial for trial in trials if trial.number not in unbeaten], x, y)
        joined = [edge] if len(objectives) == 2 and len(on_front) > 1 else []
        traces = [*others, *joined, *([marked] if on_front else []), *([star] if best else [])]
        found.append({"data": traces, "layout": _layout(_aim(across), _aim(up))})
    return pairs, found


def _choice(names: Mapping[str, str], pairs: Sequence[Pair]) -> dict[str, Any]:
    """What a page chooses two of; the first two are those of the first figure, where there is any."""
    first = next((pair for pair in pairs if pair["figure"] is not None), pairs[0] if pairs else None)
    return {"names": dict(names), "pairs": list(pairs), "first": [first["across"], first["up"]] if first else None}


def _aim(objective: str) -> str:
    """An axis' title: ``validation macro-F1 (more is better)``; costs are of no faces."""
    measured = "" if objective in COSTS else "validation "
    return f"{measured}{metric_words(objective)} ({'more' if MAXIMIZE[objective] else 'less'} is better)"


def _kinds(axes: Sequence[Axis], pair: tuple[int, int]) -> int:
    """How many of two axes are of categories, between which there is nothing to see: ranges come first."""
    return sum(axes[place].categories is not None for place in pair)


def smoothed(
    x_T: NDArray[np.float64], y_T: NDArray[np.float64], z_T: NDArray[np.float64], places: NDArray[np.float64]
) -> list[list[float | None]]:
    """Means of z around each place (a Gaussian kernel: Nadaraya, Theory of Probability and its Applications 9, 1964),
    row by row upwards; None where no trial is within two of its standard deviations.
    """
    squares_YXT = ((places[None, :, None] - x_T) ** 2 + (places[:, None, None] - y_T) ** 2) / NEAR**2
    weights_YXT = np.exp(-squares_YXT / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_YX = weights_YXT @ z_T / weights_YXT.sum(axis=2)
    is_near_YX = squares_YXT.min(axis=2) <= 4
    return [
        [round(float(z), 4) if near else None for z, near in zip(*row, strict=True)]
        for row in zip(mean_YX, is_near_YX, strict=True)
    ]


def _ticked(each: Axis) -> dict[str, Any]:
    """An axis from 0 to 1 with the knob's own values on it."""
    ticks = [(at, text) for at, text in each.ticks() if at >= 0]
    told = {"tickvals": [at for at, _ in ticks], "ticktext": [escape(text[:24]) for _, text in ticks]}
    return {"title": {"text": escape(_short(each.name))}, "range": [-0.03, 1.03], **told}


def _importance(importances: Mapping[str, float]) -> Figure:
    """A bar for each knob, the most important at the top."""
    names = list(importances)[::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [round(importances[name], 4) for name in names],
        "y": [escape(name) for name in names],
        "marker": {"color": "--link"},
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    layout = _layout("importance (PED-ANOVA)", "")
    return {"data": [bars], "layout": layout | {"showlegend": False, "height": 90 + 22 * len(names)}}


# The timeline


def _timeline(trials: Sequence[Trial], events: Sequence[Event], decided: Mapping[int, Decisions]) -> Figure:
    """When each trial held a worker, and what rungs decided of it and when."""
    shown = {trial.number: trial for trial in trials}
    spans = [span for span in _spans(events) if span[0] in shown]
    begun = min(start for _, start, _ in spans)
    longest = max(end for _, _, end in spans) - begun
    unit, seconds = _unit(longest)
    traces: list[Figure] = []
    for state, group in _by_state(trials).items():
        members = {trial.number for trial in group}
        own = [span for span in spans if span[0] in members]
        traces.append(
            {
                **{"type": "bar", "orientation": "h", "name": state, "width": 0.8, "marker": {"color": STATES[state]}},
                "base": [round((start - begun) / seconds, 4) for _, start, _ in own],
                "x": [round((end - start) / seconds, 4) for _, start, end in own],
                "y": [trial for trial, _, _ in own],
                "customdata": [trial for trial, _, _ in own],
            }
        )
    came = {
        (event["trial"], event["epoch"]): round((_seconds(event) - begun) / seconds, 4)
        for event in events
        if event["type"] == EpochDone.TYPE and event["trial"] in shown
    }
    for said, symbol in RUNG_MARKS.items():
        # one that waited goes on where its next bar begins
        waited = {(trial, epoch) for trial in shown for epoch, each in decided.get(trial, []) if each == WAITS}
        at = [
            (trial, epoch)
            for trial in shown
            for epoch, each in decided.get(trial, [])
            if each == said and (trial, epoch) in came and not (said == GOES_ON and (trial, epoch) in waited)
        ]
        if at:
            numbers = [trial for trial, _ in at]
            marks = _points(f"rung: {said}", [came[each] for each in at], numbers, numbers, "--ink", symbol=symbol)
            marks["marker"] |= {"line": {"color": "--ink", "width": 0 if said == GOES_ON else 1.5}}
            marks["text"] = [f"epoch {epoch}: {said}" for _, epoch in at]
            traces.append(marks | {"hovertemplate": "%{text}<br>%{hovertext}<extra></extra>"})
    layout = _layout(f"{unit} since the first trial began", "trial")
    layout["yaxis"] |= {"autorange": "reversed", **_counted(max(shown))}
    return {"data": traces, "layout": layout | {"barmode": "overlay"}}


def _unit(longest_s: float) -> tuple[str, int]:
    """A unit of time for an axis of so many seconds, and its own."""
    return ("hours", 3600) if longest_s >= 7200 else ("minutes", 60) if longest_s >= 120 else ("seconds", 1)


def _spans(events: Iterable[Event]) -> list[tuple[int, float, float]]:
    """(trial, from, to) in seconds, of each time that it held a worker; to its last epoch where it still does."""
    held: dict[int, list[float]] = {}
    spans: list[tuple[int, float, float]] = []
    for event in events:
        kind = event["type"]
        if kind in (TrialStarted.TYPE, TrialPromoted.TYPE):
            now = _seconds(event)
            held.setdefault(event["trial"], [now, now])
        elif kind == EpochDone.TYPE and event["trial"] in held:
            held[event["trial"]][1] = _seconds(event)
        elif kind in (*ENDS, TrialPaused.TYPE) and event["trial"] in held:
            spans.append((event["trial"], held.pop(event["trial"])[0], _seconds(event)))
    return [*spans, *((trial, start, end) for trial, (start, end) in held.items())]


def _seconds(event: Event) -> float:
    return datetime.fromisoformat(event["time_utc"]).timestamp()
