"""The errors that a user can cause, told apart from the ones that we cause.

    Exception
    ├── InputError             wrong input, a line a problem: exit code 2
    │   ├── Unfit              (models._zoo) a network of the zoo cannot be built, or does not work, as asked
    │   ├── RunTaken           (runs.store) the name belongs to another run
    │   ├── Full               (service.manager) the service has no room for a run now
    │   └── Unsupported        (storage.remote_errors) a store cannot do what is asked of it
    ├── OSError
    │   └── StorageOutage      the run's store does not answer: exit code 75
    ├── DamagedRun             (storage.files) a record or file of a run is malformed: exit code 1
    ├── LeaseLost              (runs.lease) another process has taken the run over: exit code 1
    ├── Diverged               (training.train) a training's values are not finite any more: the trial fails
    ├── RayNotStarted          a Ray of our own did not start in its time; a run is interrupted by it: exit code 75
    ├── Larger                 (data.pictures) a picture takes more memory than was allowed here; it is read elsewhere
    ├── HostWait               (testing.host_waits) a part made the device wait for the host: its test fails
    └── UserWarning
        └── Remark             something to know that stops nothing
    BaseException
    └── Interrupted            a signal ended the work, which can be resumed: exit code 75
        └── RayLost            a process of Ray's own has ended: exit code 75
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST_SHOWN = 50  # choices: a storage has hundreds of runs


class InputError(Exception):
    """Something the user can mend: printed as one line a problem, exit code 2, never a traceback.

    Args:
        problems: one line, or several lines when everything wrong is told at once.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Interrupted(BaseException):
    """A signal, or what `signal_name` says instead, ended the work early; everything reported so far is saved and the
    run can be resumed (exit code 75).

    No `Exception`: raised inside a library's loop, it must not be taken for a fault of that library's work.

    Args:
        resume: what follows `facex-tune resume`: the run's name, and the options that it needs.
    """

    def __init__(self, resume: str, signal_name: str) -> None:
        self.resume, self.signal_name = resume, signal_name
        super().__init__(f"interrupted by {signal_name}: continue with `facex-tune resume {resume}`")


class RayLost(Interrupted):
    """A process of Ray's own has ended, and Ray with it; what was reported is saved and the run can be resumed (75).

    Args:
        process: what Ray calls it, such as gcs_server.
    """

    def __init__(self, resume: str, process: str) -> None:
        super().__init__(resume, f"the end of Ray's {process}")
        self.process = process


class RayNotStarted(Exception):
    """A Ray of our own did not start in the time that Ray gives itself, as on a machine that is busy with much else."""


class StorageOutage(OSError):
    """The run folder's store has not answered for as long as we wait; what was told is saved, and the run can be
    resumed when it answers again (exit code 75).
    """


class Remark(UserWarning):
    """Something that the user should know and that stops nothing; the command line prints it as one line, once."""


def one_line(said: object, longest: int | None = None) -> str:
    """What an error or a program says, in one line of at most `longest` characters; the class of an error that says
    nothing.
    """
    text = " ".join(str(said).split())[:longest]
    return text or (type(said).__name__ if isinstance(said, BaseException) else "")


def causes(error: BaseException) -> list[BaseException]:
    """An error and the errors that it came from, the latest first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def nearest(name: object, choices: Sequence[str]) -> str:
    """The end of an error about an unknown name: the nearest valid names first, then all, up to `MOST_SHOWN`."""
    close = get_close_matches(str(name), choices, n=3, cutoff=0.5)
    left = len(choices) - MOST_SHOWN
    shown = ", ".join(choices) if left <= 0 else f"{', '.join(choices[:MOST_SHOWN])} and {left:,} more"
    return f"did you mean {' or '.join(close)}? (choices: {shown})" if close else f"choices: {shown}"
