"""A Ray of our own without those of its processes that nothing here asks: the autoscaler's monitor, which has no node
to start, the log monitor, whose lines go to nobody with `log_to_driver=False`, and the head of a dashboard that is not
included. Each of them imports Ray beside the start of the first trials, `ray.init` waits for the last one until it has
done so, and together they hold some 250 MB.

Ray has no setting for that; these are methods of its `Node`, which a private module holds. Where a version of Ray has
them no more, it starts all that it starts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

UNASKED = ("start_monitor", "start_log_monitor", "start_api_server")
ADDRESS = "_webui_url"  # of the dashboard, which `start_api_server` sets


@contextlib.contextmanager
def without_unasked() -> Iterator[None]:
    """What `ray.init` starts within the block lacks the processes that nothing asks. One thread at a time."""
    from ray._private import node

    kept: dict[str, Any] = {}
    cls: Any = node.Node
    if all(callable(getattr(cls, name, None)) for name in UNASKED):
        kept = {name: getattr(cls, name) for name in UNASKED}
    try:
        for name in kept:
            setattr(cls, name, _nothing)
        yield
    finally:
        for name, method in kept.items():
            setattr(cls, name, method)


def _nothing(node: Any, **_: object) -> None:
    setattr(node, ADDRESS, "")
