"""The report's figures, drawn by a process beside the one that reckons: loading matplotlib and laying out a dozen
figures takes as long as everything else.

A helper is a process of this program's own, asked by pickles through its standard input and output: what it gets and
gives are calls of the report's own functions. Where a helper cannot be had, or ends, the call is made here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from facex_tune.evaluation import plots
from facex_tune.report import figures
from facex_tune.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from facex_tune.storage.files import Place

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # for matrices of a figure
_SERVE = "from facex_tune.report.painting import serve; serve()"


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn: `function(*args)` gives it. Plain data, so that another process can do it."""

    name: str
    function: Callable[..., Figure]
    args: tuple[Any, ...]


class Helpers:
    """A context in which calls are made by processes beside this one.

    Args:
        n: how many; 0 makes the calls here, when they are asked for. None takes one: a second would load matplotlib
            again, which takes as long as a third of the figures. None with one processor, or where matplotlib is
            loaded already.
    """

    def __init__(self, n: int | None = None) -> None:
        self._n = (0 if "matplotlib" in sys.modules else _helpers_here()) if n is None else n
        self._own = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []
        self._pool = ThreadPoolExecutor(self._n, "report") if self._n else None

    def __enter__(self) -> Helpers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for process in self._started:
            process.communicate()  # its input ends, and so does it

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Asks for a call. What it raises is raised by the future."""
        if self._pool is not None:
            return self._pool.submit(self._asked, function, args)
        done: Future[Any] = Future()
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def warm(self) -> None:
        """Lets helpers load what they need while this process reckons."""
        for _ in range(self._n):
            self.submit(_load)

    def _asked(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """In one of the pool's threads, each of which has a helper of its own."""
        try:
            process = self._helper()
            if process.stdin is None or process.stdout is None:
                raise OSError("no pipes")
            pickle.dump((function, args), process.stdin)
            process.stdin.flush()
            is_done, found = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.PickleError, AttributeError, ImportError):
            return function(*args)
        if not is_done:
            raise found
        return found

    def _helper(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None or process.poll() is not None:
            places = os.pathsep.join(path for path in sys.path if path)
            process = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": places, **ONE_THREAD},
            )
            self._own.process = process
            self._started.append(process)
        return process


def _helpers_here() -> int:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if processors > 1 and sys.executable else 0


def serve() -> None:
    """What a helper does: answers calls until its input ends."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    while True:
        try:
            function, args = pickle.load(asked)
        except EOFError:
            return
        try:
            answer = True, function(*args)
        except Exception as error:
            answer = False, error
        pickle.dump(answer, answers)
        answers.flush()


def _load() -> None:
    from facex_tune.report import rendering  # noqa: F401


def paint(drawing: Drawing) -> tuple[bytes, bytes]:
    """A drawing as SVG and as PNG."""
    from facex_tune.report import rendering

    with plots.style():
        return rendering.both(drawing.function(*drawing.args))


class Painted(Mapping[str, str]):
    """Name -> data URI of a figure's SVG. Helpers draw while others go on; who asks for a figure waits for it.

    Args:
        folder: where <name>.svg and <name>.png of each are written, once it is asked for, or by `finish`.
    """

    def __init__(self, helpers: Helpers, drawings: Iterable[Drawing], folder: Place) -> None:
        self._asked: dict[str, Future[tuple[bytes, bytes]]] = {}
        same: dict[bytes, Future[tuple[bytes, bytes]]] = {}  # of two protocols over the same faces and labels
        for drawing in drawings:
            said = pickle.dumps((drawing.function, drawing.args))
            if said not in same:
                same[said] = helpers.submit(paint, drawing)
            self._asked[drawing.name] = same[said]
        self._done: dict[str, str] = {}
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        if name not in self._done:
            svg, png = self._asked[name].result()
            files.write_bytes(self._folder / f"{name}.svg", svg)
            files.write_bytes(self._folder / f"{name}.png", png)
            self._done[name] = figures.data_uri(svg)
        return self._done[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._asked)

    def __len__(self) -> int:
        return len(self._asked)

    def __contains__(self, name: object) -> bool:
        return name in self._asked

    def finish(self) -> None:
        """Writes those that nobody asked for, too."""
        for name in self:
            self[name]
