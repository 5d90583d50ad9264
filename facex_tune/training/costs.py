"""What a network costs whoever asks it: parameters, multiply-accumulates, and images a second of one face at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facex_tune.emotions import FaceShape

LEAST_TIMED, TIMED_S = 10, 0.3  # of one face: the median is steady from here on, and a trial is hardly longer for it


def counted(network: nn.Module, face: FaceShape, device: torch.device) -> dict[str, int]:
    """`parameters`, and `macs`: multiplications of weights or activations that one face takes forward, in convolutions
    and matrix products.

    Args:
        network: of faces_NCHW of that shape, on `device`; on "meta" nothing is computed.
    """
    was_training = network.training
    network.eval()
    # In inference mode torch 2.4 counts neither convolutions nor matrix products, and says 0.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, face.channels, face.size, face.size, device=device))
    network.train(was_training)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "macs": counter.get_total_flops() // 2}


def images_per_second(network: nn.Module, face: FaceShape, device: torch.device) -> float:
    """Images a second of faces that come one at a time, in fp32 and with torch's threads as they are, as `predict`
    would answer them: the median of some tenths of a second, after a first face that is not counted.
    """
    was_training = network.training
    network.eval()
    face_1CHW = torch.zeros(1, face.channels, face.size, face.size, device=device)
    with torch.inference_mode():
        seconds = seconds_each(lambda: network(face_1CHW), device, TIMED_S, LEAST_TIMED)
    network.train(was_training)
    return 1 / seconds


def seconds_each(do: Callable[[], object], device: torch.device, seconds: float, least: int = 1) -> float:
    """How long something takes: the median over some `seconds`, and `least` times at least, after a first time that is
    not counted.
    """
    timed(do, device)
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < least:
        taken.append(timed(do, device))
    return statistics.median(taken)


def timed(do: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of doing something once, all of it done on the device too."""
    start = time.perf_counter()
    do()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
