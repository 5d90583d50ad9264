"""How a command ends: its exit code, and what is said of an error, in one line each and never a traceback.

0 done · 2 wrong input · 75 interrupted, resumable · 1 anything else, with what was saved and where the traceback lies.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from facex_tune.errors import InputError, Interrupted, StorageOutage, causes, one_line
from facex_tune.storage.files import NO_SPACE, Place

DONE, INTERNAL, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 75
_NOT_THERE = (errno.ENOTDIR, errno.EISDIR)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
# the root of click's own exceptions, from whichever copy of click this typer carries
_CLICK_EXCEPTION = typer.BadParameter.__mro__[2]


class Outcome:
    """Runs a command and gives its exit code.

    Attributes:
        run_folder: the run that the command works on; None for a command that works on none.
        resume: the words after `facex-tune resume` that continue this run: its name and the options that it needs.
    """

    def __init__(self) -> None:
        self.run_folder: Place | None = None
        self.resume = ""

    def of(self, command: Callable[[], Any]) -> int:
        """Runs a command; its exit code is what it returns (None: 0), or what its error means."""
        try:
            code = int(command() or DONE)
            sys.stdout.flush()  # what does not fit on a full disk is told, and not left to the interpreter's end
            return code
        except InputError as error:
            return _told(WRONG_INPUT, *(f"error: {problem}" for problem in error.problems))
        except Interrupted as error:
            return _told(INTERRUPTED, str(error))
        except StorageOutage as error:
            return _told(INTERRUPTED, f"interrupted: {error}; {self._when_it_answers()}")
        except (KeyboardInterrupt, typer.Abort):
            return _told(INTERRUPTED, self._interrupted())
        except BrokenPipeError:  # the reader has gone (`| head`); let the interpreter's last flush go nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return INTERNAL
        except Exception as error:
            interrupted = _interrupt_behind(error)
            return self._failed(error) if interrupted is None else _told(INTERRUPTED, str(interrupted))

    def _interrupted(self) -> str:
        if self.run_folder is None:
            return "interrupted: nothing was begun; give the same command again"
        return f"interrupted: continue with `facex-tune resume {self.resume or self.run_folder.name}`"

    def _when_it_answers(self) -> str:
        if self.run_folder is None:
            return "give the same command again when it does"
        resume = self.resume or self.run_folder.name
        return f"what was reported is saved; continue with `facex-tune resume {resume}` when it does"

    def _failed(self, error: Exception) -> int:
        if isinstance(error, _CLICK_EXCEPTION):
            return _told(WRONG_INPUT, f"error: {_usage(error)}")
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            place = error.filename or self.run_folder or "the disk"
            return _told(WRONG_INPUT, f"error: no space left ({place}); free some, or give another --storage or --data")
        if isinstance(error, OSError) and error.errno in _NOT_THERE:
            return _told(WRONG_INPUT, f"error: {error.filename or 'a place'}: {error.strerror}; name another place")
        if isinstance(error, OSError) and error.errno in _NO_ACCESS:
            return _told(WRONG_INPUT, f"error: {error.filename or 'a file'}: {error.strerror}; mend its permissions")
        from facex_tune.runs.lease import LeaseLost
        from facex_tune.storage.files import DamagedRun  # here, so that a command that goes well need not load them

        if isinstance(error, DamagedRun | LeaseLost):
            return _told(INTERNAL, f"error: {error}")
        return _told(INTERNAL, self._internal(error))

    def _internal(self, error: Exception) -> str:
        first = (str(error).splitlines() or [""])[0]
        said = f"internal error: {type(error).__name__}{': ' if first else ''}{first}"
        if self.run_folder is not None:
            said += f"; everything reported so far is saved in {self.run_folder}"
        log = self._crash_log()
        return said + (f"; traceback in {log}" if log else "; its traceback could not be written anywhere")

    def _crash_log(self) -> Place | None:
        """Writes the traceback of the error being handled: into the run's folder, else among the temporary files."""
        from facex_tune.storage import files

        content = traceback.format_exc().encode()
        with suppress(OSError, InputError):
            if self.run_folder is not None and self.run_folder.is_dir():
                path = self.run_folder / "crash.log"
                files.write_bytes(path, content)  # in the place of what is there, and never through a link
                return path
        with suppress(OSError):
            descriptor, made = tempfile.mkstemp(prefix="facex-tune-crash-", suffix=".log")
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            return Path(made)
        return None


def _interrupt_behind(error: BaseException) -> Interrupted | None:
    """The interruption that an error comes from: a signal within Ray's compiled code surfaces as a SystemError."""
    return next((each for each in causes(error) if isinstance(each, Interrupted)), None)


def _usage(error: BaseException) -> str:
    """A wrong command line, in one line: click's sentence and where the right one is written."""
    message = one_line(getattr(error, "format_message", lambda: error)()).rstrip(".")
    for refused in _refused(error):
        message = message.replace(": Input ", f": {refused!r} is not allowed: input ", 1)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "facex-tune"
    return f"{message}; see `{command} --help`"


def _refused(error: BaseException) -> list[Any]:
    """The values that an option's number check refused, which its sentence leaves out."""
    tell = getattr(error.__cause__, "errors", None)
    return [each["input"] for each in tell()] if callable(tell) else []


def _told(code: int, *lines: str) -> int:
    for line in lines:
        print(line, file=sys.stderr)
    return code
