"""Stops what would make a device wait for the host, or the host for a device, so that a CPU alone can show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING_METHODS = {
    *(Tensor.item, Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.is_nonzero),
    *(Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__, Tensor.__complex__),
    *(Tensor.__contains__, Tensor.__array__),
}
# Ops that answer the host, or whose output has a shape that only the values tell.
WAITING_OPS = (
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
)
INDEXING_OPS = ("index", "index_put", "index_put_", "_index_put_impl_")


class HostWait(Exception):
    """A host synchronisation in the path of a batch."""


class _NoMethods(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITING_METHODS:
            raise HostWait(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


class _NoOps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING_OPS or (name in INDEXING_OPS and _has_mask(args[1])):
            raise HostWait(name)
        return func(*args, **(kwargs or {}))


def _has_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextmanager
def no_host_waits() -> Iterator[None]:
    """Within the block, reading a tensor's value into Python raises `HostWait`."""
    with _NoMethods(), _NoOps():  # type: ignore[no-untyped-call]
        yield
