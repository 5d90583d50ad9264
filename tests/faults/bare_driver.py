"""The search without Ray: the referee, and a worker in the driver's own process. Takes the arguments of `search`."""

from __future__ import annotations

import argparse
from pathlib import Path

from facex_tune import parts, study
from facex_tune.runs.store import Run
from facex_tune.search.referee import Referee
from facex_tune.search.worker import Context, Worker


def main() -> None:
    """Begins or resumes a run and searches to the end of its budget."""
    asked = argparse.ArgumentParser()
    asked.add_argument("study", type=Path)
    for name in ("--run", "--storage", "--data", "--parts"):
        asked.add_argument(name, required=True)
    said = asked.parse_args()
    parts.use_folder(said.parts)
    run = Run(Path(said.storage), said.run)
    if not run.exists():
        Run.create(Path(said.storage), said.run, study.load(said.study), data={}, environment={})
    with run.log() as log:
        log.append("run_resumed")
        log.append("stage_started", stage="search")
        referee = Referee(run, log)
        context = Context(
            said.storage, said.run, run.study.to_data(), said.data, 1, "cpu", tuple(parts.own_folders()), log.fence
        )
        worker = Worker(context)
        while (trial := referee.next_trial()) is not None:
            worker.begin(referee.job(trial))
            while referee.take(trial.number, worker.step()):
                pass
        if referee.fatal is not None:
            raise referee.fatal
        log.append("stage_finished", stage="search", reason=referee.over())


if __name__ == "__main__":
    main()
