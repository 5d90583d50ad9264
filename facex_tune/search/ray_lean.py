"""A Ray of our own without those of its processes that nothing here asks: the autoscaler's monitor, which has no node
to start, the log monitor, whose lines go to nobody with `log_to_driver=False`, and the head of a dashboard that is not
included. Each of them imports Ray beside the start of the first trials, `ray.init` waits for the last one until it has
done so, and together they hold some 250 MB.

And a Ray of our own begins as many workers as will train at once, not one for each CPU: each loads torch.

Ray has no setting for either; the former are methods of its `Node`, which a private module holds, the latter a word of
the raylet's command line. Where a version of Ray has them no more, it starts all that it starts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

UNASKED = ("start_monitor", "start_log_monitor", "start_api_server")
ADDRESS = "_webui_url"  # of the dashboard, which `start_api_server` sets
START = "start_ray_process"
WORKERS = "--num_prestart_python_workers="


@contextlib.contextmanager
def without_unasked(workers: int | None = None) -> Iterator[None]:
    """What `ray.init` starts within the block lacks the processes that nothing asks. One thread at a time.

    Args:
        workers: to begin with; None: one for each CPU. Others begin when they are asked for.
    """
    from ray._private import node, services

    with contextlib.ExitStack() as stack:
        if all(callable(getattr(node.Node, name, None)) for name in UNASKED):
            for name in UNASKED:
                stack.enter_context(_replaced(node.Node, name, _nothing))
        start = getattr(services, START, None)
        if workers is not None and callable(start):
            stack.enter_context(_replaced(services, START, _beginning_with(workers, start)))
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, by: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _beginning_with(workers: int, start: Callable[..., Any]) -> Callable[..., Any]:
    def started(command: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        words = [f"{WORKERS}{workers}" if word.startswith(WORKERS) else word for word in command]
        return start(words, *args, **kwargs)

    return started


def _nothing(node: Any, **_: object) -> None:
    setattr(node, ADDRESS, "")
