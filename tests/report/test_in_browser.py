"""A report in a browser, from its file: every chart is drawn, nobody else is asked, and nothing is complained of."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from facex_tune import study
from facex_tune.report import report
from facex_tune.runs.events import EpochDone, RunStarted, StageStarted, TrialFinished, TrialStarted, TrialStopped
from facex_tune.runs.store import Run
from tests.service import browser
from tests.service.browser import Browser

pytestmark = browser.needed
TRIALS, EPOCHS = 24, 3
SAID = {
    "version": 1,
    "name": "two_aims",
    "data": "synthetic",
    "objective": ["macro_f1", "images_per_second"],
    "budget": {"trials": TRIALS},
    "fidelity": {"min_epochs": 1, "max_epochs": EPOCHS, "reduction": 3},
    "space": {
        "model": ["facex_cnn"],
        "augment": ["none"],
        "balance": ["none"],
        "train": {"lr": {"low": 0.001, "high": 0.3, "log": True}, "momentum": {"low": 0.5, "high": 0.99}},
    },
}


@pytest.fixture(scope="module", params=[2, 3], ids=["two knobs", "three knobs"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a search of two aims over so many knobs, whose values are drawn."""
    said = {**SAID, "space": {**SAID["space"], "train": dict(SAID["space"]["train"])}}  # type: ignore[dict-item]
    if request.param == 3:
        said["space"]["train"]["weight_decay"] = {"low": 1e-5, "high": 1e-2, "log": True}  # type: ignore[index]
    parsed, chance = study.parse(said), random.Random(1)
    storage = tmp_path_factory.mktemp("report") / "runs"
    run = Run.create(storage, "r", parsed, data={}, environment={"packages": {}, "hardware": {}, "git_commit": None})
    with run.log() as log:
        log.append(RunStarted())
        log.append(StageStarted(stage="search"))
        for number in range(TRIALS):
            config = parsed.space.draw(lambda _, knob: knob.default)
            knobs = {"train.lr": 10 ** chance.uniform(-3, -0.6), "train.momentum": chance.uniform(0.5, 0.99)}
            knobs |= {"train.weight_decay": 10 ** chance.uniform(-5, -2)} if request.param == 3 else {}
            log.append(TrialStarted(trial=number, config=config | knobs, source="sampler"))
            last = EPOCHS if number % 3 else 1
            for epoch in range(1, last + 1):
                value = (0.6 - 0.1 * (math.log10(knobs["train.lr"]) + 1.5) ** 2) * (1 - math.exp(-epoch))
                metrics = {"macro_f1": max(0.05, value), "accuracy": 0.4}
                metrics |= {"images_per_second": chance.uniform(300, 2000), "train_images_per_second": 200.0}
                log.append(EpochDone(trial=number, epoch=epoch, metrics=metrics, seconds=1.0))
            stopped = TrialStopped(trial=number, epoch=1, reason="rung")
            log.append(TrialFinished(trial=number) if last == EPOCHS else stopped)
    report.report(run, None)
    assert isinstance(run.report_folder, Path)
    return run.report_folder / "index.html"


@pytest.fixture(scope="module")
def looking() -> Iterator[Browser]:
    with browser.browsing() as opened:
        yield opened


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_chart_of_a_report_is_drawn(page: Path, looking: Browser, width: int, dark: bool) -> None:
    looking.complaints.clear()
    looking.asked.clear()
    looking.look(width=width, dark=dark)
    looking.open("about:blank")
    looking.open(page.as_uri())
    looking.until("document.querySelectorAll('[data-view]').length > 5")
    for number in range(looking.value("document.querySelectorAll('[data-view]').length")):
        chart = f"document.querySelectorAll('[data-view]')[{number}]"
        into_view = f"{chart}.scrollIntoView({{ block: 'center' }})"  # again, since what is drawn above moves it
        looking.until(f"({into_view}, {chart}.querySelectorAll('.main-svg').length > 0)")
    assert looking.value("document.documentElement.scrollWidth") <= width
    chosen = "document.querySelectorAll('figure.chosen')"
    said = looking.value(f"[...{chosen}].map((each) => each.querySelector('output').innerText)")
    wanted = ["finished trials have both knobs.", f"trials of {TRIALS} are on the front."]
    assert [each.partition(" ")[2] for each in said] == wanted
    beside = f"[...{chosen}].map((each) => each.querySelector('.chart').offsetLeft - each.offsetLeft)"
    assert looking.value(beside) == [0, 0], "below its choice, as wide as the page"
    assert looking.complaints == []
    assert {url.partition(":")[0] for url in looking.asked} <= {"about", "blob", "data", "file"}
