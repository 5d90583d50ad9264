"""How many images a second networks train, beside the network that studies for CPUs began with.

    python tests/benchmarks/network_speed.py [--threads 1] [--rounds 7] [--steps 3] [patch_cnn patch_cnn,patch=2 …]

A network is named as `part,knob=value,…`; knobs not named have their defaults. One process; networks take turns, round
after round, so that a machine whose speed drifts slows all of them. A measurement is whole training steps of SGD
(augmentation left out: it is the same for all) on random faces of 48×48, batch 128, in the precision that each would
be trained in; with one thread in seconds of that thread's processor time, which other work on the machine moves less.
Quoted is the ratio to resnet of depth 10, width 32, pooled: the median over rounds, with its least and greatest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import yaml

from facex_tune import parts
from facex_tune.space import Value
from facex_tune.testing.part_contract import defaults
from facex_tune.training.devices import has_fast_bf16

BASE = "resnet,depth=10,width=32,pool=true,dropout=0.0"
NETWORKS = ("patch_cnn", "patch_cnn,activation=relu", "patch_cnn,depth=3", "patch_cnn,patch=2", "patch_cnn,patch=4")
BATCH = 128


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("networks", nargs="*", default=NETWORKS)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--steps", type=int, default=3, help="of each measurement")
    said = asked.parse_args()
    torch.set_num_threads(said.threads)
    clock = time.thread_time if said.threads == 1 else time.perf_counter
    steps = {name: step_of(name) for name in (BASE, *said.networks)}
    for step in steps.values():
        step()  # pays for set-up
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(said.rounds):
        for name, step in steps.items():
            start = clock()
            for _ in range(said.steps):
                step()
            speeds[name].append(said.steps * BATCH / (clock() - start))
    print(f"{said.threads} threads, batch {BATCH}, {said.rounds} rounds of {said.steps} steps")
    for name, measured in speeds.items():
        ratios = [speed / base for speed, base in zip(measured, speeds[BASE], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:50s} {statistics.median(measured):7.0f} images/s, ratio {spread}")


def step_of(said: str) -> Callable[[], None]:
    """A training step of the network that is named."""
    part, *changes = said.split(",")
    knobs: dict[str, Value] = {name: yaml.safe_load(value) for name, value in (each.split("=") for each in changes)}
    torch.manual_seed(0)
    network = parts.model(part).build(defaults("model", part) | knobs, 7).to(memory_format=torch.channels_last)
    low = parts.model(part).PRECISION == "bf16" and has_fast_bf16(torch.device("cpu"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    faces_N1HW, labels_N = torch.randn(BATCH, 1, 48, 48), torch.arange(BATCH) % 7

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits_NC = network(faces_N1HW)
        torch.autograd.backward(torch.nn.functional.cross_entropy(logits_NC.float(), labels_N))
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
