"""The search without Ray: the referee, and a worker in the driver's own process. Takes the arguments of `search`."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from facex_tune import parts, study
from facex_tune.pipeline.options import Options
from facex_tune.pipeline.stages import _context
from facex_tune.runs.events import RunResumed, StageFinished, StageStarted
from facex_tune.runs.store import Run
from facex_tune.search.referee import Referee
from facex_tune.search.worker import Worker


def main() -> None:
    """Begins or resumes a run and searches to the end of its budget."""
    asked = argparse.ArgumentParser()
    asked.add_argument("study", type=Path)
    asked.add_argument("--run", required=True)
    asked.add_argument("--parts", required=True)
    said = asked.parse_args()
    parts.use_folder(said.parts)
    options = Options(Path("runs"), Path("data"))
    run = Run(options.storage, said.run)
    if not run.exists():
        Run.create(options.storage, said.run, study.load(said.study), data={}, environment={})
    with run.log() as log:
        log.append(RunResumed())
        log.append(StageStarted(stage="search"))
        referee = Referee(run, log)
        worker = Worker(_context(run, options, log.fence))
        os.chdir(tempfile.gettempdir())  # as Ray's workers have another working folder than their driver
        while (trial := referee.next_trial()) is not None:
            worker.begin(referee.job(trial))
            while referee.take(trial.number, worker.step()):
                pass
        if referee.fatal is not None:
            raise referee.fatal
        log.append(StageFinished(stage="search", reason=referee.over()))


if __name__ == "__main__":
    main()
