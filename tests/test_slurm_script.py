"""`cluster/slurm/search.sbatch`, run by bash where Slurm would, with stand-ins on PATH that record how they are called:
`slurm_commands.txt`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "cluster" / "slurm" / "search.sbatch"
STAND_IN = Path(__file__).with_name("slurm_stand_in.py")
GOLDEN = Path(__file__).with_name("slurm_commands.txt")
PROGRAMS = ("scontrol", "srun", "hostname", "ray", "facex-tune")
INTERRUPTED = 75
DEADLINE_S = 300


@dataclass
class Job:
    """The script, going, with its driver up."""

    process: subprocess.Popen[str]
    folder: Path
    last_word: int

    def says(self) -> str:
        """Its next line; "" where it and all that it started have ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def let_driver_end(self, code: int) -> None:
        with open(self.last_word, "w", closefd=False) as pipe:
            pipe.write(f"{code}\n")

    def ends(self) -> tuple[int, str]:
        """Its exit code, and what it said since."""
        assert self.process.stdout is not None
        said = self.process.stdout.read()
        return self.process.wait(), said

    def recorded(self) -> str:
        """What was called, places that differ from run to run made alike."""
        text = (self.folder / "record").read_text().replace(str(self.folder), "SUBMIT")
        return re.sub(r"SUBMIT/tmp/tmp\.\w+", "PID_FILE", text)


def submit_folder(folder: Path) -> None:
    """A checkout with a virtual environment as far as the script looks at it."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (folder / "tmp").mkdir()
    for name in PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{STAND_IN}" {name} "$@"\n')
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(
        f'export VIRTUAL_ENV="{programs.parent}"\nexport PATH="$VIRTUAL_ENV/bin:$PATH"\n'
    )
    os.mkfifo(folder / "last_word")


@contextmanager
def submitted(folder: Path, awaits: str = "", **environment: str) -> Iterator[Job]:
    """The script as Slurm starts it on the first of three nodes, elsewhere than it was submitted."""
    submit_folder(folder)
    said = {"PATH": os.environ["PATH"], "TMPDIR": str(folder / "tmp"), "AWAITS": awaits}
    said |= {"RECORD": str(folder / "record"), "LAST_WORD": str(folder / "last_word")}
    said |= {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_NUM_NODES": "3"}
    last_word = os.open(folder / "last_word", os.O_RDWR)  # so that neither end waits for the other to open it
    process = subprocess.Popen(
        ["bash", str(SCRIPT)],
        stdout=subprocess.PIPE,
        text=True,
        env=said | environment,
        cwd="/",
        start_new_session=True,
    )
    deadline = threading.Timer(DEADLINE_S, _kill_all, [process])
    deadline.start()
    try:
        job = Job(process, folder, last_word)
        assert job.says() == "driver: up\n"
        yield job
    finally:
        deadline.cancel()
        _kill_all(process)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        os.close(last_word)


def _kill_all(process: subprocess.Popen[str]) -> None:
    """The script and what it started, which may outlive it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def test_what_it_calls_and_where(tmp_path: Path) -> None:
    with submitted(tmp_path) as job:
        job.let_driver_end(0)
        assert job.ends() == (0, "driver: saved\n")
        assert job.recorded() == GOLDEN.read_text()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_study_and_run_are_the_submitters(tmp_path: Path) -> None:
    with submitted(tmp_path, STUDY="my study.yaml", RUN="mine") as job:
        job.let_driver_end(2)
        assert job.ends()[0] == 2
        assert "facex-tune run 'my study.yaml' --run mine --storage" in job.recorded()


def test_a_term_reaches_the_driver_alone_and_is_waited_for(tmp_path: Path) -> None:
    with submitted(tmp_path, awaits="TERM") as job:
        job.process.send_signal(signal.SIGTERM)  # to the script alone, as --signal=B: does
        assert job.says() == "driver: told\n"
        job.let_driver_end(INTERRUPTED)
        assert job.ends() == (INTERRUPTED, "driver: saved\n")


def test_slurm_tells_it_in_time_and_keeps_one_log() -> None:
    options = re.findall(r"^#SBATCH (\S+)", SCRIPT.read_text(), re.MULTILINE)
    assert {"--signal=B:TERM@120", "--requeue", "--open-mode=append", "--exclusive"} <= set(options)
