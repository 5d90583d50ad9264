"""How the search stands many trials, without training.

    python tests/benchmarks/scale.py [--trials 1000] [--epochs 30] [--tune]

- suggestions: seconds for each of 1,000 (TPE over a space of parts, all earlier trials told, 30 epochs each; ASHA cuts
  most of them short), asked one after another and, as with many slots, ahead of need;
- replay: seconds until the referee of a resumed run of 1,000 and of 10,000 trials × 30 epochs is ready, and memory;
- with --tune: 1,000 one-second trials on 16 slots through Ray Tune, ours (log on disk, TPE, ASHA) and stock Tune
  (`OptunaSearch`, ASHA) one after the other in the same Ray: what a trial takes beyond its second.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from facex_tune import study as studies
from facex_tune.metrics import names
from facex_tune.runs.history import FINISHED, STOPPED, Trial
from facex_tune.runs.store import Run
from facex_tune.search import scheduler as schedulers
from facex_tune.search.referee import Referee
from facex_tune.search.samplers import distribution
from facex_tune.search.searcher import Searcher
from facex_tune.space import Config, Space
from facex_tune.study import Study

SLOTS = 16
METRICS = [name for name in names() if "contempt" not in name]  # what an epoch on FER2013 logs


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--trials", type=int, default=1000)
    asked.add_argument("--epochs", type=int, default=30)
    asked.add_argument("--tune", action="store_true", help="through Ray Tune as well")
    said = asked.parse_args()
    suggestions(said.trials, said.epochs)
    for trials in (said.trials, 10 * said.trials):
        replay(trials, said.epochs)
    if said.tune:
        through_tune(said.trials)


def studied(trials: int, epochs: int) -> Study:
    """A study as a user would write it, over three models, three augmentations and four ways of balancing."""
    return studies.parse(
        {
            "version": 1,
            "name": "scale",
            "data": "synthetic",
            "budget": {"trials": trials},
            "fidelity": {"min_epochs": 1, "max_epochs": epochs, "reduction": 3},
            "space": {
                "model": ["facex_cnn", "resnet", "vgg"],
                "augment": ["none", "flip_shift", "affine"],
                "balance": ["none", "class_weights", "logit_adjust", "focal"],
                "train": {
                    "lr": {"low": 0.001, "high": 0.3},
                    "momentum": {"low": 0.5, "high": 0.99},
                    "weight_decay": {"low": 1e-6, "high": 1e-2},
                    "batch_size": [32, 64, 128, 256],
                },
            },
        }
    )


def score(config: Config, epoch: int, epochs: int) -> float:
    """Some value that rises with the epochs and has a best learning rate."""
    final = 0.7 - 0.05 * (np.log10(float(config["train.lr"] or 1)) + 1.3) ** 2
    return float(final * (1 - np.exp(-4 * epoch / epochs)))


def suggestions(trials: int, epochs: int) -> None:
    """Seconds for a suggestion, synchronously and ahead."""
    for ahead in (False, True):
        study = studied(trials, epochs)
        searcher, scheduler = Searcher(study, ahead=ahead), schedulers.build(study)
        waited: list[float] = []
        for _ in range(trials):
            start = time.perf_counter()
            number, config, source = searcher.ask()
            waited.append(time.perf_counter() - start)
            trial = Trial(number, config, source, state=FINISHED)
            for epoch in range(1, epochs + 1):
                trial.epochs[epoch] = {"macro_f1": score(config, epoch, epochs)}
                searcher.report(number, epoch, trial.epochs[epoch])
                if not scheduler.goes_on(number, epoch, trial.epochs[epoch]["macro_f1"]):
                    trial.state = STOPPED
                    break
            searcher.tell(trial)
            if ahead and number >= trials - 100:
                time.sleep(0.25)  # sixteen slots, trials of four seconds: one is free every quarter of a second
        late = waited[-99:]
        how = "ahead, a slot free every 250 ms among the last 100" if ahead else "one after another"
        print(
            f"suggestion, {how}: p50 {1e3 * statistics.median(waited):.0f} ms, p95 "
            f"{1e3 * float(np.quantile(waited, 0.95)):.0f} ms, the last 99 of {trials}: p95 "
            f"{1e3 * float(np.quantile(late, 0.95)):.0f} ms",
            flush=True,
        )


def events(trials: int, epochs: int) -> Iterator[dict[str, Any]]:
    """A log in which every trial runs its whole course."""
    study = studied(trials, epochs)
    rng = np.random.default_rng(0)
    yield {"type": "stage_started", "stage": "search"}
    for number in range(trials):
        config = study.space.random(rng)
        yield {"type": "trial_started", "trial": number, "config": config, "source": "sampler"}
        for epoch in range(1, epochs + 1):
            metrics = {name: round(float(rng.random()), 6) for name in METRICS}
            metrics["macro_f1"] = score(config, epoch, epochs)
            yield {"type": "epoch", "trial": number, "epoch": epoch, "metrics": metrics, "seconds": 12.3}
        yield {"type": "trial_finished", "trial": number}


def written(folder: Path, trials: int, epochs: int) -> Run:
    """A run folder with such a log, as one segment."""
    run = Run.create(folder, f"of{trials}", studied(trials + 1, epochs), data={}, environment={})
    path = run.folder / "events" / "000001.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for seq, event in enumerate(events(trials, epochs), start=1):
            file.write(json.dumps({"v": 1, "seq": seq, "time_utc": "2026-01-01T00:00:00.000+00:00", **event}) + "\n")
    return run


def replay(trials: int, epochs: int) -> None:
    """Seconds and memory until a resumed search can go on."""
    with tempfile.TemporaryDirectory() as folder:
        run = written(Path(folder), trials, epochs)
        with run.log() as log:
            start = time.perf_counter()
            referee = Referee(run, log)
            replayed = time.perf_counter() - start
            start = time.perf_counter()
            assert referee.next_trial() is not None
            first = time.perf_counter() - start
            held = 0
            if trials <= 1000:  # tracing is slow
                tracemalloc.start()
                again = Referee(run, log)
                held, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert len(again.trials) == trials + 1
    print(
        f"replay of {trials} trials × {epochs} epochs: {replayed:.2f} s, then a suggestion in {1e3 * first:.0f} ms"
        + (f"; {held / trials / 1e3:.1f} kB a trial" if held else ""),
        flush=True,
    )


# Through Ray Tune


def through_tune(trials: int) -> None:
    """What a one-second trial takes beyond its second, stock Tune's first, then ours."""
    import os

    import ray

    from facex_tune.search.cluster import _SETTINGS

    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.disable(logging.WARNING)
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        _told("stock Tune", trials, _stock(trials))
        _told("ours", trials, _ours(trials))
    finally:
        ray.shutdown()


def _told(who: str, trials: int, seconds: float) -> None:
    over = seconds * SLOTS / trials - 1
    print(
        f"{who}: {trials} one-second trials on {SLOTS} slots in {seconds:.1f} s: {1e3 * over:.0f} ms more a trial",
        flush=True,
    )


@dataclass(frozen=True)
class _Suggesting:
    """The space as `OptunaSearch` wants it; no local function, since Tune pickles the searcher every few seconds."""

    space: Space

    def __call__(self, trial: Any) -> dict[str, Any]:
        return {"config": self.space.draw(lambda name, knob: trial._suggest(name, distribution(knob)))}


def _stock(trials: int) -> float:
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    space = _Suggesting(studied(trials, 1).space)

    class Sleeps(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.value = score(config["config"], 1, 1)

        def step(self) -> dict[str, Any]:
            time.sleep(1.0)
            return {"macro_f1": self.value, "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

    search = ConcurrencyLimiter(OptunaSearch(space, metric="macro_f1", mode="max", seed=0), max_concurrent=SLOTS)
    asha = AsyncHyperBandScheduler(metric="macro_f1", mode="max", max_t=2, grace_period=1, reduction_factor=3)
    with tempfile.TemporaryDirectory() as scratch:
        tuner = tune.Tuner(
            tune.with_resources(Sleeps, {"cpu": 1}),
            tune_config=tune.TuneConfig(search_alg=search, scheduler=asha, num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=scratch, verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
            ),
        )
        start = time.perf_counter()
        tuner.fit()
        return time.perf_counter() - start


def _ours(trials: int) -> float:
    from ray import tune

    from facex_tune.search import search

    class Sleeps(tune.Trainable):
        def setup(self, config: dict[str, Any], context: Any, shared: Any) -> None:
            self.config = config

        def step(self) -> dict[str, Any]:
            time.sleep(1.0)
            value = score(self.config["job"]["config"], 1, 1)
            return {"report": json.dumps({"epoch": 1, "metrics": {"macro_f1": value}, "seconds": 1.0})}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

    search.FaceTrial = Sleeps  # type: ignore[misc, assignment]
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder), "scale", studied(trials, 1), data={}, environment={})
        with run.log() as log:
            context = search.Context(folder, "scale", {}, folder, 1, "cpu", (), log.fence)
            start = time.perf_counter()
            search.search(run, log, context)
            return time.perf_counter() - start


if __name__ == "__main__":
    main()
