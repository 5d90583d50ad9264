"""Where training runs, in which precision, and what its running out of memory looks like."""

from __future__ import annotations

import gc

import torch

from facex_tune import parts
from facex_tune.errors import InputError
from facex_tune.space import Config

# What allocators say that raise a plain RuntimeError: torch's on the CPU (Linux, Windows), Apple's, cuBLAS and cuDNN.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name; "auto" or None takes CUDA where there is one, then Apple's MPS, then the CPU.

    Raises:
        InputError: torch cannot use that device here.
    """
    if name not in (None, "auto"):
        return _named_device(str(name))
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _named_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        working = [each for each, works in _devices().items() if works]
        raise InputError(f"--device {name}: torch cannot use it here; choices: auto, {', '.join(working)}") from error
    return device


def _devices() -> dict[str, bool]:
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def pick_precision(config: Config, device: torch.device) -> str:
    """ "bf16" or "fp32": the configuration's word, or for "auto" what model and device are faster with."""
    said = str(config["train.precision"])
    if said != "auto":
        return said
    wanted = parts.model(str(config["model"])).PRECISION
    return wanted if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively; a CPU without such instructions emulates them, ten times slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    checks = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(check() for check in checks if check is not None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device's or the host's memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Gives back what the allocator holds and nothing uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
