"""The errors that a user can cause, told apart from the ones that we cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class InputError(Exception):
    """Something the user can mend: printed as one line a problem, exit code 2, never a traceback.

    Args:
        problems: one line, or several lines when everything wrong is told at once.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Interrupted(BaseException):
    """A signal ended the work early; everything reported so far is saved and the run can be resumed (exit code 75).

    No `Exception`: raised inside a library's loop, it must not be taken for a fault of that library's work.

    Args:
        resume: what follows `facex-tune resume`: the run's name, and the options that it needs.
    """

    def __init__(self, resume: str, signal_name: str) -> None:
        self.resume, self.signal_name = resume, signal_name
        super().__init__(f"interrupted by {signal_name}: continue with `facex-tune resume {resume}`")


class StorageOutage(OSError):
    """The run folder's store has not answered for as long as we wait; what was told is saved, and the run can be
    resumed when it answers again (exit code 75).
    """


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
    """The end of an error about an unknown name: the nearest valid names first, else all of them."""
    close = get_close_matches(str(name), choices, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}? (choices: {', '.join(choices)})"
    return f"choices: {', '.join(choices)}"
