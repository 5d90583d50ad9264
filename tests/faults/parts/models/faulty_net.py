"""A network of one layer that goes wrong when told to, and says how often it was asked.

Source: ours, for the tests alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.space import Choice, Config, Float, Int, Knobs

if TYPE_CHECKING:
    from torch import Tensor, nn

FAULTS = (
    "none",
    "nan",
    "explodes",
    "constant",
    "torch_memory",
    "host_memory",
    "cpu_memory",
    "no_memory",
    "hangs",
    "dies",
)
SPACE: Knobs = {
    "fault": Choice(FAULTS, "none", "what goes wrong"),
    "tag": Float(0.0, 1.0, 0.0, doc="tells a trial's steps from another's"),
    "step_ms": Int(0, 1000, 0, doc="how long a step takes"),
    "fits": Int(1, 4096, 16, doc="of the memory faults: faces that fit"),
    "sound_steps": Int(0, 1000, 0, doc="before the fault begins"),
}
PRECISION = "fp32"


def build(knobs: Config, n_classes: int) -> nn.Module:
    """Faces in patches of eight pixels, a linear layer, and the fault."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Faulty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.steps = nn.Linear(36, n_classes), 0

        def forward(self, faces_N1HW: Tensor) -> Tensor:
            if self.training:
                self.steps += 1
                tick(knobs)
            logits_NC: Tensor = self.layer(functional.adaptive_avg_pool2d(faces_N1HW, 6).flatten(1))
            if self.steps <= int(knobs["sound_steps"] or 0):
                return logits_NC
            return broken(str(knobs["fault"]), logits_NC, int(knobs["fits"] or 0), self.training)

    def broken(fault: str, logits_NC: Tensor, fits: int, training: bool) -> Tensor:
        is_too_large = training and len(logits_NC) > fits
        if fault == "nan":
            return logits_NC * float("nan")
        if fault == "explodes":
            return logits_NC * 1e5
        if fault == "constant":
            return logits_NC * 0 + torch.eye(n_classes)[3] * 5
        if fault == "hangs":
            threading.Event().wait()
        if fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "no_memory" or (fault == "torch_memory" and is_too_large):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if fault == "host_memory" and is_too_large:
            raise MemoryError
        if fault == "cpu_memory" and is_too_large:
            torch.empty(2**62, dtype=torch.uint8)  # the allocator's own words
        return logits_NC

    return Faulty()


def tick(knobs: Config) -> None:
    """One byte more in a file of the trial's own: a step has begun."""
    if folder := os.environ.get("FACEX_TICKS"):
        with (Path(folder) / f"{knobs['tag']}").open("ab") as file:
            file.write(b".")
    time.sleep(int(knobs["step_ms"] or 0) / 1000)


def fault(name: str, **knobs: Any) -> dict[str, Any]:
    """A study's `start_with` of that fault."""
    return {"model.faulty_net.fault": name, **{f"model.faulty_net.{knob}": value for knob, value in knobs.items()}}
