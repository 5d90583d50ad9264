"""What a page explores of runs while they go on: the report's views, every trial sorted and filtered, one trial, and
runs beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, PlainTextResponse

from facex_tune.errors import InputError, nearest
from facex_tune.metrics import MAXIMIZE
from facex_tune.runs import overview
from facex_tune.runs.history import FAILED, RUNNING, History, Trial
from facex_tune.runs.store import Run
from facex_tune.service import live
from facex_tune.service.held import Held, Looked
from facex_tune.service.reads import Reads
from facex_tune.storage.files import NAME, finite
from facex_tune.study.words import value_text

MOST_ROWS = 500  # of trials in one answer
MOST_COMPARED = 6  # runs
SORTED = ("rank", "trial", "state", "epochs", "value", "seconds")  # by these, by metrics and by knobs
SHADES = ("--link", "--best", "--good", "--bad", "--soft", "--v1")
Name = Annotated[str, PathParameter(pattern=NAME, description="A run's name.")]
Runs = Annotated[
    list[str],
    Query(alias="run", min_length=2, max_length=MOST_COMPARED, description="A run's name, twice or more often."),
]


def router(
    held: Held, apart: Held, reads: Reads, slow: Reads, errors: Mapping[int | str, Any], report_policy: str
) -> APIRouter:
    """The doors.

    Args:
        apart: runs whose views are reckoned, which nothing else waits for.
        reads: for what is asked each second.
        slow: for what takes longer: views, comparisons.
        errors: what every door may answer with.
        report_policy: the content policy of a report's page, which a comparison's is like.
    """
    made = APIRouter(prefix="/api", responses=dict(errors))

    @made.get("/runs/{run}/views")
    async def show_views(run: Name, since: Annotated[str, Query(max_length=4000)] = "") -> dict[str, Any]:
        """The report's interactive views as they are now: figures of plotly.js, and what a click on a trial opens.
        With the `stamp` of an answer before, `views` is left out where nothing has changed since.
        """
        return await slow.do(of_views, apart, run, since)

    @made.get("/runs/{run}/trials")
    async def list_trials(
        run: Name,
        sort: Annotated[str, Query(max_length=100, description="rank, a column, a metric or a knob.")] = "rank",
        order: Literal["ascending", "descending"] = "ascending",
        text: Annotated[str, Query(max_length=200, description="Words that its row has, all of them.")] = "",
        first: Annotated[int, Query(ge=0, le=10**9)] = 0,
        count: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    ) -> dict[str, Any]:
        """Trials, best first or sorted by what is asked; those that lack it come last in either order."""
        return await reads.do(of_trials, held, run, sort, order == "descending", text, first, count)

    @made.get("/runs/{run}/trials/{trial}")
    async def show_trial(
        run: Name, trial: Annotated[str, PathParameter(max_length=32, description="t0007, or 7.")]
    ) -> dict[str, Any]:
        """One trial: knobs, metrics of each epoch, what rungs decided, why it ended."""
        return await reads.do(of_trial, held, run, trial)

    @made.get("/runs/{run}/study", response_class=PlainTextResponse)
    async def show_study(run: Name) -> PlainTextResponse:
        """The study of a run as YAML, with every range written out: a new one can begin with it."""
        return PlainTextResponse(await reads.do(of_study, held, run))

    @made.get("/comparison")
    async def compare(runs: Runs) -> dict[str, Any]:
        """Runs beside each other: what was searched, what came out, paired differences on the same faces, and how the
        searches went.
        """
        return await slow.do(of_comparison, held, runs)

    @made.get("/comparison/page", response_class=HTMLResponse)
    async def compare_page(runs: Runs) -> HTMLResponse:
        """The same as a page to keep: what `facex-tune report RUN RUN` writes."""
        said = await slow.do(comparison_page, held, runs)
        return HTMLResponse(said, headers={"Content-Security-Policy": report_policy})

    return made


# One run


def of_views(held: Held, name: str, since: str = "") -> dict[str, Any]:
    """{version, run, stamp, views}; `views` is None before any trial has a value, and not there if nothing changed."""
    with held.run(name) as looked:
        marked = live.stamp(held.manager, looked.run)
        said: dict[str, Any] = {"version": overview.VERSION, "run": name, "stamp": marked}
        if since == marked:
            return said
        from facex_tune.report import views  # here, with what it draws by: it takes a second

        made_from, found = looked.kept.get("views", (None, None))
        if made_from != marked:
            found = views.of_run(looked.run, _explored(looked))
            looked.kept["views"] = marked, found
        return said | {"views": found}


def _explored(looked: Looked) -> dict[str, Any]:
    """As much of a report's document as its views need. Importance, which takes longest, is reckoned again only when
    another trial has ended.
    """
    from facex_tune.report import importance, summary

    run, history = looked.run, looked.run.history()
    ended = tuple((trial.number, trial.state) for trial in history.trials.values() if trial.state != RUNNING)
    made_from, found = looked.kept.get("importance", (None, None))
    if made_from != ended:
        found = importance.of_search(run.study, history)
        looked.kept["importance"] = ended, found
    board = summary.leaderboard(run, history)
    return {
        "leaderboard": board,
        "importance": found,
        "models": summary.models(run, history),
        "search": {"best": board[0] if board and board[0]["metrics"] and board[0]["state"] != FAILED else None},
    }


def of_trials(held: Held, name: str, sort: str, descending: bool, text: str, first: int, count: int) -> dict[str, Any]:
    """{version, run, stamp, objective, metrics, knobs, trials, matching, of}: a page of the run's trials.

    Raises:
        InputError: nothing to sort by that is called so.
    """
    with held.run(name) as looked:
        run, history = looked.run, looked.run.history()
        marked = live.stamp(held.manager, run)
        board = [overview.of_standing(each, run.study) for each in history.standings(run.study)]
    metrics = list(dict.fromkeys(metric for row in board for metric in row["metrics"]))
    knobs = list(dict.fromkeys(knob for row in board for knob in row["config"]))
    words = text.lower().split()
    found = [row for row in board if all(word in _text(row) for word in words)] if words else board
    return {
        "version": overview.VERSION,
        "run": name,
        "stamp": marked,
        "objective": run.study.objective[0],
        "metrics": metrics,
        "knobs": knobs,
        "of": len(board),
        "matching": len(found),
        "trials": _sorted(found, sort, descending, [*SORTED, *metrics, *knobs])[first : first + count],
    }


def _text(row: Mapping[str, Any]) -> str:
    """What a filter's words are looked for in: what the row shows."""
    knobs = " ".join(f"{knob}={value_text(value)}" for knob, value in row["config"].items())
    return f"{row['trial']} {row['state']} {row['reason']} {row['source']} {knobs}".lower()


def _sorted(rows: Sequence[dict[str, Any]], by: str, descending: bool, known: Sequence[str]) -> list[dict[str, Any]]:
    if by not in known:
        raise InputError(f"sort: no column, metric or knob named {by[:80]!r}; {nearest(by, list(known))}")

    def value(row: Mapping[str, Any]) -> Any:
        if by == "rank" and not row["epochs"]:
            return None  # a trial without an epoch has no rank yet
        return row[by] if by in SORTED else row["metrics"].get(by, row["config"].get(by))

    numbers = [row for row in rows if isinstance(value(row), int | float)]
    texts = [row for row in rows if value(row) is not None and not isinstance(value(row), int | float)]
    lacking = [row for row in rows if value(row) is None]
    numbers.sort(key=value, reverse=descending)
    texts.sort(key=lambda row: str(value(row)), reverse=descending)
    return [*(texts + numbers if descending else numbers + texts), *lacking]


def of_trial(held: Held, name: str, label: str) -> dict[str, Any]:
    """As `overview.of_trial`, with what rungs decided, why it ended in words, and the trials beside it on the board.

    Raises:
        InputError: the run has no such trial.
        HTTPException: the same, as what it is over HTTP.
    """
    from facex_tune.report import views

    with held.run(name) as looked:
        run = looked.run
        try:
            told = overview.of_trial(run, label)
        except InputError as error:
            raise HTTPException(404, str(error).removeprefix("--trial: ")) from error
        history = run.history()
        board = [trial.label for trial in history.leaderboard(run.study)]
        number = int(told["trial"].removeprefix("t"))
        at = board.index(told["trial"])
        return {
            **told,
            "stamp": live.stamp(held.manager, run),
            "ended": views.ended(history.trials[number]),
            "rungs": views.decision_words(views.decisions(run).get(number, [])),
            "better": board[at - 1] if at else None,
            "worse": board[at + 1] if at + 1 < len(board) else None,
            "of": len(board),
        }


def of_study(held: Held, name: str) -> str:
    """The study in the form that `facex-tune run` reads."""
    from facex_tune.report import page

    with held.run(name) as looked:
        return page.study_yaml(looked.run)


# Several


def _opened(held: Held, names: Sequence[str]) -> list[Run]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"run: {twice[0][:80]!r} is named twice; name each run once")
    return [held.manager.open(name) for name in names]


def of_comparison(held: Held, names: Sequence[str]) -> dict[str, Any]:
    """What `several_runs.compared` says, and `figures`: the searches' progress and their best trials' curves.

    Raises:
        InputError: a run is named twice, or there is none of a name.
    """
    from facex_tune.report import several_runs

    runs = _opened(held, names)
    return several_runs.compared(runs, held.manager.options.data_dir) | {"figures": _beside(runs)}


def comparison_page(held: Held, names: Sequence[str]) -> str:
    """The page of the same."""
    from facex_tune.report import page, several_runs

    return page.of_several(several_runs.compared(_opened(held, names), held.manager.options.data_dir))


def _beside(runs: Sequence[Run]) -> dict[str, Any]:
    """Figures of plotly.js: the best value so far by trial, and the best trial's learning curve, a line a run."""
    from facex_tune.report.wording import metric_words

    histories = [(run, run.history()) for run in runs]
    objectives = list(dict.fromkeys(run.study.objective[0] for run in runs))
    label = " or ".join(f"validation {metric_words(name)}" for name in objectives)
    best = [_line(run.name, *_best_so_far(run, history), shape="hv") for run, history in histories]
    curves = [_line(*_best_curve(run, history)) for run, history in histories]
    return {"best": _figure(best, "trial", label), "curves": _figure(curves, "epoch", label)}


def _figure(traces: Iterable[dict[str, Any]], x: str, y: str) -> dict[str, Any]:
    data = [each | {"line": each["line"] | {"color": shade}} for each, shade in zip(traces, SHADES, strict=False)]
    axes = {"xaxis": {"title": {"text": x}, "tickformat": "d"}, "yaxis": {"title": {"text": y}}}
    return {"data": data, "layout": axes | {"showlegend": True}}


def _line(name: str, x: Iterable[int], y: Iterable[float], *, shape: str = "linear") -> dict[str, Any]:
    said = "%{x}: %{y:.3f}<extra>%{fullData.name}</extra>"
    line = {"shape": shape, "width": 2}
    points = {"x": list(x), "y": list(y), "mode": "lines+markers", "hovertemplate": said}
    return {"type": "scatter", "name": name, "line": line, **points}


def _best_so_far(run: Run, history: History) -> tuple[list[int], list[float]]:
    from facex_tune.report.figure_choice import best_so_far

    objective = run.study.objective[0]
    found = {trial.number: _value(trial, objective) for trial in _by_number(history) if trial.state != FAILED}
    values = {number: value for number, value in found.items() if value is not None}
    best = best_so_far(_by_number(history), values, MAXIMIZE[objective])
    return list(best), list(best.values())


def _best_curve(run: Run, history: History) -> tuple[str, list[int], list[float]]:
    objective, board = run.study.objective[0], history.leaderboard(run.study)
    if not board:
        return run.name, [], []
    found = {epoch: finite(metrics.get(objective)) for epoch, metrics in sorted(board[0].epochs.items())}
    curve = {epoch: value for epoch, value in found.items() if value is not None}
    return f"{run.name}, {board[0].label}", list(curve), list(curve.values())


def _by_number(history: History) -> list[Trial]:
    return [history.trials[number] for number in sorted(history.trials)]


def _value(trial: Trial, objective: str) -> float | None:
    value: float | None = finite(trial.metrics.get(objective))
    return value
