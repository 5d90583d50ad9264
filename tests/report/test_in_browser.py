"""A report in a browser, from its file: every chart is drawn, nobody else is asked, and nothing is complained of."""

from __future__ import annotations

import base64
import math
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from facex_tune import study
from facex_tune.evaluation.evaluate import evaluate
from facex_tune.report import report
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
from tests.evaluation.conftest import new_run, write_data
from tests.service import browser
from tests.service.browser import Browser

pytestmark = browser.needed
TRIALS, EPOCHS = 24, 3
PDFTOTEXT = shutil.which("pdftotext")
NARROW = 1088  # pixels that text and tables had, however wide the window
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
def with_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that was evaluated, and has a trial that failed before its first epoch."""
    folder = tmp_path_factory.mktemp("faces")
    run = new_run(folder / "runs", write_data(folder / "data"))
    with run.log() as log:
        log.append(TrialStarted(trial=4, config=run.study.space.defaults(), source="sampler"))
        log.append(TrialFailed(trial=4, reason="out_of_memory", detail="wanted 9 GB"))
        evaluate(run, log, folder / "data", "cpu")
    report.report(run, folder / "data")
    assert isinstance(run.report_folder, Path)
    return run.report_folder / "index.html"


@pytest.fixture(scope="module")
def looking() -> Iterator[Browser]:
    with browser.browsing() as opened:
        yield opened


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (1920, False)])
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
    head = "[...document.querySelectorAll('#board th')].find((head) => head.innerText === 'lr')"
    right = f"{head}.getBoundingClientRect().right"
    assert width < 600 or looking.value(right) <= width, "no knob is off the screen"
    wide = "[...document.querySelectorAll('.parallel, .timeline, .slices')].map((each) => each.offsetWidth)"
    assert width <= 1280 or min(looking.value(wide)) > NARROW
    assert looking.complaints == []
    assert {url.partition(":")[0] for url in looking.asked} <= {"about", "blob", "data", "file"}


def opened(looking: Browser, page: Path, *, width: int = 1280) -> None:
    looking.complaints.clear()
    looking.look(width=width)
    looking.open("about:blank")
    looking.open(page.as_uri())
    looking.until("document.readyState === 'complete' && document.querySelector('#board [data-trial][role=button]')")


def clicked(looking: Browser, what: str) -> None:
    """A click of the mouse in the middle of an element."""
    looking.value(f"{what}.scrollIntoView({{ block: 'center' }})")
    middle = "({ x, y, width, height }) => [x + width / 2, y + height / 2]"
    at = looking.value(f"({middle})({what}.getBoundingClientRect())")
    told = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
    looking.call("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1])
    for kind in ("mousePressed", "mouseReleased"):
        looking.call("Input.dispatchMouseEvent", type=kind, **told)


def test_a_click_opens_a_trial(with_faces: Path, looking: Browser) -> None:
    opened(looking, with_faces)
    pane = "document.getElementById('trial')"
    assert looking.value(f"{pane}.hidden")
    clicked(looking, "document.querySelector('#board [data-trial=\"2\"]')")
    looking.until(f"{pane}.querySelector('.chart .main-svg')")
    said = looking.value(f"{pane}.innerText")
    assert "t0002" in said
    assert "after epoch 1; stopped at a rung; rank 3" in said
    assert "Rungs: epoch 1: stopped." in said
    knobs = f"[...{pane}.querySelectorAll('dt')].map((each) => each.innerText)"
    assert {"model", "train.lr", "train.batch_size"} <= set(looking.value(knobs))
    looking.value("document.querySelector('#trial button').click()")
    assert looking.value(f"{pane}.hidden")

    history = "document.querySelector('[data-view=history]')"
    looking.until(f"({history}.scrollIntoView({{ block: 'center' }}), {history}.querySelector('.points path'))")
    clicked(looking, f"{history}.querySelector('.points path')")
    looking.until(f"!{pane}.hidden")
    assert looking.value(f"{pane}.querySelector('h3').innerText") in ("t0000", "t0001", "t0002")
    assert looking.complaints == []


def test_a_trial_without_a_value_opens_without_a_chart(with_faces: Path, looking: Browser) -> None:
    opened(looking, with_faces)
    clicked(looking, "document.querySelector('#board [data-trial=\"4\"]')")
    looking.until("!document.getElementById('trial').hidden")
    said = looking.value("document.getElementById('trial').innerText")
    assert "It has no value, as it came to the end of no epoch; failed: out of memory" in said
    assert "wanted 9 GB" in said
    assert looking.value("document.querySelectorAll('#trial .chart').length") == 0
    assert looking.complaints == []


@pytest.mark.skipif(PDFTOTEXT is None, reason="no pdftotext here")
def test_on_paper_a_caption_stands_with_its_faces(with_faces: Path, looking: Browser, tmp_path: Path) -> None:
    """However long the page, of those that have room for a gallery; what is for a screen alone is not printed."""
    assert PDFTOTEXT is not None
    opened(looking, with_faces)
    hidden = "[...document.querySelectorAll('.screen, nav, .filter')].map((each) => getComputedStyle(each).display)"
    assert "none" not in looking.value(hidden)
    looking.call("Emulation.setEmulatedMedia", media="print")
    assert set(looking.value(hidden)) == {"none"}
    looking.call("Emulation.setEmulatedMedia", media="")
    caption = re.compile(r"drawn at random, with the answer|Drawn among those|The most confident wrong|answered as \w")
    for height_in in (11.7, 10.6, 9.5, 8.4, 7.3):
        told = looking.call("Page.printToPDF", paperWidth=8.3, paperHeight=height_in)
        path = tmp_path / "printed.pdf"
        path.write_bytes(base64.b64decode(told["data"]))
        text = subprocess.run([PDFTOTEXT, str(path), "-"], capture_output=True, text=True, check=True).stdout
        assert "Columns sort on a click" not in text
        found = list(caption.finditer(text))
        assert len(found) > 6
        for each in found:
            face = re.compile(r"[✓✗] \w+|^\d\.\d\d$", re.MULTILINE).search(text, each.end())
            assert face is not None
            assert "\f" not in text[each.start() : face.start()], (height_in, text[each.start() : each.end() + 80])
