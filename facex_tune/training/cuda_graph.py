"""A training batch as one CUDA graph, replayed instead of launched kernel by kernel.

Faces of 48×48 keep a GPU busy for less time than the host takes to launch a network's hundreds of kernels one by one;
a graph launches them all at once. What it holds is fixed: the shape of the batch, the loss, the addresses of weights
and gradients. Its random draws are not: they follow the generators' seeds as ever.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

WARM_UP_BATCHES = 3  # the first loads kernels; what libraries then allocate or choose must not fall into the capture


class Captured:
    """A batch's loss and gradients as one graph.

    Args:
        batch: computes the mean loss of a batch, from tensors that stay where they are, never waiting for the host.
        model: whose parameters get the gradients. Its buffers (statistics of batch norm) are left as they were.
        device: a CUDA device.
        generators: those that `batch` draws from beside torch's own; left as they were.

    Raises:
        RuntimeError: `batch` waits for the host, or does not fit into memory.
    """

    def __init__(
        self,
        batch: Callable[[], Tensor],
        model: nn.Module,
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def differentiated() -> tuple[Tensor, tuple[Tensor, ...]]:
            loss = batch()
            gradients = torch.autograd.grad(loss, self._trained)
            pairs = zip(gradients, self._trained, strict=True)
            return loss.detach(), tuple(_laid_out(gradient, parameter) for gradient, parameter in pairs)

        stream = _side_stream(device)
        graph = torch.cuda.CUDAGraph()
        for generator in generators if must_register(torch.__version__) else ():
            graph.register_generator_state(generator)
        with _unchanged(model, device, generators):
            stream.wait_stream(torch.cuda.current_stream(device))
            try:
                with torch.cuda.stream(stream):
                    for done in range(WARM_UP_BATCHES):
                        with _no_waiting(done > 0):
                            differentiated()
            finally:  # before what these batches still write is set back
                torch.cuda.current_stream(device).wait_stream(stream)
            with torch.cuda.graph(graph, stream=stream):
                self._loss, self._gradients = differentiated()
        self._graph = graph

    def __call__(self) -> Tensor:
        """Leaves the gradients of the next batch in the parameters; its mean loss, overwritten by the one after."""
        for parameter, gradient in zip(self._trained, self._gradients, strict=True):
            parameter.grad = gradient
        self._graph.replay()
        return self._loss


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The one that graphs are captured on: torch keeps a workspace, tens of megabytes, for every stream that matrices
    were ever multiplied on (its notes on CUDA semantics, "cuBLAS workspaces").
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def must_register(torch_version: str) -> bool:
    """Whether a graph of that torch has to be told of generators; from 2.14 on it finds them, and warns if told."""
    return TorchVersion(torch_version) < "2.14"


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient in its parameter's layout, without which optimizers take one parameter after another."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)


@contextmanager
def _unchanged(model: nn.Module, device: torch.device, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Buffers and generators as they were, whatever happens meanwhile."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    drawn = [generator.get_state() for generator in generators]
    of_torch = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        torch.cuda.set_rng_state(of_torch, device)
        for generator, state in zip(generators, drawn, strict=True):
            generator.set_state(state)
        for buffer, before in buffers:
            buffer.copy_(before)


@contextmanager
def _no_waiting(wanted: bool) -> Iterator[None]:
    """Raises where device and host wait for each other: in a capture that would leave torch's generator unusable."""
    if not wanted:
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype feature")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
