"""The page in a browser, over a real service: what it shows, on a phone too, and that it asks nobody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from facex_tune.pipeline.options import Options
from facex_tune.runs.events import (
    EpochDone,
    RunStarted,
    StageStarted,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.store import Run
from tests.search.conftest import tiny_study

from . import browser
from .browser import Browser
from .conftest import Client, serving, write_run

pytestmark = browser.needed
PHONE, DESK = 390, 1280
LOWEST_ROW = 90  # pixels: two lines and their room
DRAWN = "document.querySelectorAll('#views .js-plotly-plot .main-svg').length"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Options:
    return Options(storage=tmp_path_factory.mktemp("page") / "runs", data_dir=tiny_data, device="cpu")


@pytest.fixture(scope="module")
def served(options: Options) -> Iterator[Client]:
    """A finished run, and one whose search goes on in this process."""
    write_run(options.storage, "night", tiny_study())
    going = Run.create(
        options.storage,
        "going",
        tiny_study(),
        data={},
        environment={"packages": {}, "hardware": {}, "git_commit": None},
    )
    configs = [tiny_study().space.draw(lambda _, knob: knob.default) for _ in range(5)]
    with going.log() as log, serving(options) as client:
        log.append(RunStarted())
        log.append(StageStarted(stage="search"))
        for number, config in enumerate(configs):
            log.append(TrialStarted(trial=number, config=config | {"train.lr": 0.01 * (number + 1)}, source="sampler"))
        for number in (0, 1):
            metrics = {"macro_f1": 0.3 + number / 10, "accuracy": 0.4, "train_images_per_second": 120.0}
            log.append(EpochDone(trial=number, epoch=1, metrics=metrics, seconds=1.0))
        log.append(TrialStopped(trial=0, epoch=1, reason="rung"))
        log.append(TrialFailed(trial=2, reason="diverged", detail="the loss was not finite", seconds=1.0))
        yield client


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    with browser.browsing() as opened:
        yield opened


@pytest.fixture
def looked(page: Browser, served: Client) -> Iterator[Browser]:
    """The browser, whose console stays silent and who asks the service alone."""
    page.complaints.clear()
    page.asked.clear()
    page.look(width=DESK)
    page.open("about:blank")
    yield page
    assert page.complaints == []
    hosts = {urlsplit(url).netloc for url in page.asked if urlsplit(url).scheme not in ("data", "about", "blob")}
    assert hosts <= {urlsplit(served.url).netloc}


def write_finished(storage: Path, name: str, n: int) -> None:
    """A run of so many finished trials: the learning rate decides, momentum does not."""
    parsed = tiny_study()
    run = Run.create(storage, name, parsed, data={}, environment={"packages": {}})
    config = parsed.space.draw(lambda _, knob: knob.default)
    with run.log() as log:
        log.append(RunStarted())
        for number in range(n):
            knobs = {"train.lr": 0.14 * (number + 1) / n, "train.momentum": 0.5 + 0.42 * (number * 5 % n) / n}
            log.append(TrialStarted(trial=number, config=config | knobs, source="sampler"))
            metrics = {"macro_f1": 0.3 + 0.14 * number / n, "accuracy": 0.4}
            log.append(EpochDone(trial=number, epoch=1, metrics=metrics, seconds=1.0))
            log.append(TrialFinished(trial=number))


def text(page: Browser, selector: str) -> str:
    said: str = page.value(f"document.querySelector({selector!r}).innerText")
    return said


def rows(page: Browser, table: str) -> list[str]:
    found: list[str] = page.value(f"[...document.querySelectorAll('{table} tbody tr')].map((row) => row.innerText)")
    return found


def test_a_run_that_goes_on_shows_what_the_terminal_knows(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#going")
    looked.until("document.querySelectorAll('#board tbody tr').length === 5")
    looked.until("document.querySelector('#said').innerText === 'live'")
    assert "stage: search · elapsed " in text(looked, ".headline")
    assert "120 images/s" in text(looked, ".headline")
    said = text(looked, "#progress dl")
    running = "t0001 epoch 1/3 (next: about "
    for told in (running, "trials begun 5/", "epoch 1: 2 trials", "1 stopped at a rung", "1 diverged"):
        assert told in said
    going = "document.querySelector('#progress dd').innerText"
    before = looked.value(going)
    assert re.search(r"t0003 epoch 0/3 \(next: .* so far\)", before)
    looked.until(f"{going} !== {json.dumps(before)}")  # no event comes
    looked.value("document.querySelector('#charts').scrollIntoView()")
    looked.until(f"{DRAWN} > 0")


def test_a_run_that_nobody_writes_is_not_called_live(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#night")
    looked.until("document.querySelectorAll('#board tbody tr').length === 1")
    looked.until(f"{DRAWN} > 0")  # by now its events have come
    assert text(looked, "#said") == ""


def test_two_boxes_choose_what_contours_are_of(looked: Browser, served: Client, options: Options) -> None:
    """A pair that enough trials have is drawn, and turned; for others a sentence says why nothing is."""
    write_finished(options.storage, "many", 14)
    looked.open(f"{served.url}/#many")
    pair = "document.querySelector('#views .pair')"
    looked.until(f"{pair} !== null")
    looked.value(f"{pair}.scrollIntoView()")
    looked.until(f"{pair}.querySelectorAll('.main-svg').length > 0")
    assert looked.value(f"{pair}.querySelector('output').innerText") == "14 finished trials have both knobs."
    said = f"{pair}.querySelector('.xtitle').textContent"
    first = looked.value(said)
    looked.value(
        f"(() => {{ const [across, up] = {pair}.querySelectorAll('select'), was = across.value; "
        "across.value = up.value; across.dispatchEvent(new Event('change')); "
        "up.value = was; up.dispatchEvent(new Event('change')); })()"
    )
    looked.until(f"{said} !== {first!r}")
    looked.value(
        f"(() => {{ const [across, up] = {pair}.querySelectorAll('select'); across.value = up.value; "
        "across.dispatchEvent(new Event('change')); })()"
    )
    assert looked.value(f"{pair}.querySelector('output').innerText") == "The same twice: choose two."
    assert looked.value(f"getComputedStyle({pair}.querySelector('.chart')).display") == "none"


def test_how_important_each_knob_is_is_drawn(looked: Browser, served: Client, options: Options) -> None:
    write_finished(options.storage, "sixty", 60)
    looked.open(f"{served.url}/#sixty")
    room = "document.querySelector('#views .chart.importance')"
    looked.until(f"{room} !== null")
    looked.value(f"{room}.scrollIntoView()")
    looked.until(f"{room}.querySelectorAll('.main-svg').length > 0")
    named = f"[...{room}.querySelectorAll('.ytick text')].map((each) => each.textContent)"
    assert looked.value(named)[-1] == "train.lr", "the most important at the top"
    assert looked.value(f"{room}.querySelectorAll('.bars .point').length") == len(looked.value(named))
    caption = looked.value(f"{room}.closest('figure').querySelector('figcaption').innerText")
    assert caption.startswith("Importance: ")
    assert "this is no effect" in caption


def test_a_trial_without_an_epoch_has_no_rank(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#going")
    looked.until("document.querySelectorAll('#board tbody tr').length === 5")
    ranks = looked.value("[...document.querySelectorAll('#board tbody tr')].map((row) => row.cells[0].innerText)")
    assert [rank for rank in ranks if rank] == ["1", "2"]


def test_where_all_failed_ranks_have_no_gap_and_no_chart_is_empty(
    looked: Browser, served: Client, options: Options
) -> None:
    run = Run.create(options.storage, "bad", tiny_study(), data={}, environment={"packages": {}})
    config = run.study.space.draw(lambda _, knob: knob.default)
    with run.log() as log:
        for number in range(3):
            log.append(TrialStarted(trial=number, config=config | {"train.lr": 0.01 * (number + 1)}, source="sampler"))
        for number in (1, 2):
            log.append(EpochDone(trial=number, epoch=1, metrics={"macro_f1": 0.05}, seconds=1.0))
            log.append(TrialFailed(trial=number, reason="collapsed"))
    looked.open(f"{served.url}/#bad")
    looked.until("document.querySelectorAll('#board tbody tr').length === 3")
    ranks = looked.value("[...document.querySelectorAll('#board tbody tr')].map((row) => row.cells[0].innerText)")
    assert ranks == ["1", "2", ""]
    assert text(looked, "#progress dl").count("2 collapsed") == 1, "told once"
    looked.until("document.querySelectorAll('#views .chart').length > 0")
    views = looked.value("[...document.querySelectorAll('#views .chart')].map((each) => each.dataset.view)")
    assert views == ["learning", "timeline"]


def test_trials_are_sorted_and_filtered(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#going")
    looked.until("document.querySelectorAll('#board tbody tr').length === 5")
    choose = (
        "(() => {{ const it = document.querySelector('{0}'); it.value = '{1}';it.dispatchEvent(new Event('{2}')); }})()"
    )
    looked.value(choose.format("#trials-sort", "train.lr", "change"))
    looked.until("document.querySelector('#board tbody tr').innerText.includes('t0000')")
    looked.value("document.querySelector('#board th[aria-sort]')?.querySelector('button')?.click()")
    looked.value(choose.format("#trials-filter", "failed diverged", "input"))
    looked.until("document.querySelectorAll('#board tbody tr').length === 1")
    assert "t0002" in rows(looked, "#board")[0]
    assert text(looked, "#trials-count") == "1 of 5 trials"


def test_a_trials_page_says_why_it_ended(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#going/t0002")
    looked.until("!document.querySelector('#trial').hidden")
    assert "failed: diverged" in text(looked, "#trial .facts")
    assert "the loss was not finite" in text(looked, "#trial .detail")
    assert "no rank before its first epoch" in text(looked, "#trial .facts")
    looked.open(f"{served.url}/#going/t0000")
    looked.until("document.querySelector('#trial h2').innerText === 't0000'")
    looked.until("document.querySelectorAll('#curve .main-svg').length > 0")
    assert "epoch 1: stopped" in text(looked, "#trial .rungs")


def test_errors_of_a_study_stand_beside_the_button_one_a_line(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#/new")
    looked.until("document.querySelector('#submit').elements.study.value.includes('version: 1')")
    looked.value(
        "(() => { const { study } = document.querySelector('#submit').elements;"
        "study.value = study.value.replace('objective:', 'metric:').replace('reduction: 3', 'reduction: 1');"
        "document.querySelector('#check').click(); })()"
    )
    looked.until("!document.querySelector('#problems').hidden")
    problems = looked.value("[...document.querySelectorAll('#problems li')].map((line) => line.innerText)")
    assert len(problems) == 2
    assert any(line.startswith("metric: unknown key; did you mean objective?") for line in problems)
    edge = "document.querySelector('{}').getBoundingClientRect().{}"
    beside = f"{edge.format('#check', 'top')} - {edge.format('#problems', 'bottom')}"
    assert 0 <= looked.value(beside) < 40
    looked.value("document.querySelector('#problems button').click()")  # leads to its place
    key = problems[0].partition(":")[0].split(".")[-1]
    assert looked.value("getSelection().toString()").startswith(f"{key}: ")


def test_the_list_asks_for_what_has_changed_alone(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/")
    looked.until("document.querySelectorAll('#runs-table tbody tr').length >= 2")
    looked.until("performance.getEntriesByType('resource').some(({ name }) => name.includes('runs?since='))")
    lists = [url for url in looked.asked if "/api/runs?" in url or url.endswith("/api/runs")]
    assert [url for url in lists[1:] if "since=" not in url] == []


def test_what_is_written_before_the_template_comes_stays(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#/new")
    looked.until("document.querySelector('#submit').elements.study.value.includes('version: 1')")
    looked.value(
        "(() => { const form = document.querySelector('#submit'); form.elements.study.value = '';"
        "document.querySelector('#fill').click(); form.elements.study.value = 'name: mine'; })()"
    )
    looked.until(
        "performance.getEntriesByType('resource').filter(({ name, responseEnd }) => responseEnd &&"
        " name.includes('study-template')).length == 2 && document.querySelector('#said').textContent == ''"
    )
    assert looked.value("document.querySelector('#submit').elements.study.value") == "name: mine"


def test_the_help_follows_the_cursor(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#/new")
    looked.until("document.querySelector('#told-key').children.length > 0")
    looked.until("document.querySelector('#submit').elements.study.value.includes('version: 1')")
    said = "space:\n  model:\n    - resnet: {depth: [18, 34], width: 32}\n  train:\n    lr: {low: 1}\n"
    words = ["depth", "width", "lr", "low", "model"]
    path = looked.value(
        f"(async () => {{ const {{ pathAt }} = await import('./study.js'); const said = {json.dumps(said)};"
        f"return {words}.map((word) => pathAt(said, said.indexOf(word) + 1).join('.')); }})()"
    )
    assert path == [
        "space.model.resnet.depth",
        "space.model.resnet.width",
        "space.train.lr",
        "space.train.lr.low",
        "space.model",
    ]
    looked.value(
        "(() => { const { study } = document.querySelector('#submit').elements;"
        "study.value = 'budget: {trials: 3, tim: 2}'; study.setSelectionRange(20, 20);"
        "study.dispatchEvent(new Event('input')); })()"
    )
    assert "tim: no key there" in text(looked, "#told-key")


def test_two_runs_are_compared(looked: Browser, served: Client) -> None:
    looked.open(f"{served.url}/#/compare/night/going")
    looked.until("!document.querySelector('#compare').hidden")
    looked.until("document.querySelectorAll('#compare .js-plotly-plot .main-svg').length > 1")
    assert "None of these runs was evaluated yet." in text(looked, "#compared")


@pytest.mark.parametrize("place", ["/", "/#going", "/#going/t0001", "/#/new"])
def test_on_a_phone_nothing_is_wider_than_the_screen(looked: Browser, served: Client, place: str) -> None:
    looked.look(width=PHONE)
    looked.open(served.url + place)
    ready = {"/": "#runs", "/#/new": "#new", "/#going": "#run"}.get(place, "#trial")
    looked.until(f"!document.querySelector('{ready}').hidden")
    if place == "/#going":
        looked.until("document.querySelectorAll('#board tbody tr').length === 5")
        heights = looked.value("[...document.querySelectorAll('#board tbody tr')].map((row) => row.offsetHeight)")
        assert max(heights) <= LOWEST_ROW
    assert looked.value("document.documentElement.scrollWidth") <= PHONE
