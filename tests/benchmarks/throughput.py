"""What every model costs, as a table; or how training speed changes with precision and with the size of the faces; or
what it gains on a GPU where a batch is replayed as one graph.

    python tests/benchmarks/throughput.py [--threads 1] [--device auto] [--models resnet facex_cnn] [--batch 32]
    python tests/benchmarks/throughput.py --ratios [--rounds 5]
    python tests/benchmarks/throughput.py --graphs [--rounds 5] [--batch 128]

The table has a line for each model at its defaults and at each of its sizes: parameters, multiply-accumulates of one
48×48 face, images a second forward and in training (forward and backward), in fp32 and in bf16.

With --ratios and --graphs variants take turns, round after round, so that a machine whose speed drifts slows all of
them; what is to be quoted is the ratio to the first variant (fp32, whole faces; batches launched kernel by kernel), the
median over rounds, with its least and greatest.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping

import torch

from facex_tune import parts, train_knobs
from facex_tune.errors import InputError
from facex_tune.inspection import costs
from facex_tune.space import Choice, Config, Space, Value, constant
from facex_tune.training import train
from facex_tune.training.batches import Split
from facex_tune.training.devices import has_fast_bf16, pick_device

SIZES = ("size", "depth", "name")  # the knobs that choose another network; `width` too, where there is no other
VARIANTS = (("fp32", 48), ("bf16", 48), ("fp32", 40), ("fp32", 32))
BATCH, STEPS, GRAPH_STEPS = 32, 2, 50
EMULATED_BATCH = 4  # bf16 without instructions for it is some fifteen times slower


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--device", default="auto")
    asked.add_argument("--models", nargs="*", default=parts.names("model"))
    asked.add_argument("--seconds", type=float, default=0.5, help="of each measurement, at least")
    asked.add_argument("--batch", type=int, default=BATCH, help="faces in a batch of the table; a GPU wants 256")
    asked.add_argument("--ratios", action="store_true")
    asked.add_argument("--graphs", action="store_true")
    asked.add_argument("--rounds", type=int, default=5)
    said = asked.parse_args()
    torch.set_num_threads(said.threads)
    device = pick_device(said.device)
    if said.ratios:
        print(f"{device}, {said.threads} threads, batch {BATCH}, {said.rounds} rounds of {STEPS} steps")
        for model in said.models:
            variants = {f"{precision} {px} px": _training(model, precision, px, device) for precision, px in VARIANTS}
            _take_turns(model, variants, said.rounds)
    elif said.graphs:
        print(f"{device}, batch {said.batch}, {said.rounds} rounds of {GRAPH_STEPS} steps")
        for model in said.models:
            launched, replayed = (_training(model, "auto", 48, device, said.batch, GRAPH_STEPS) for _ in range(2))
            launched.replays = False
            _take_turns(model, {"launched": launched, "replayed": replayed}, said.rounds)
            if not replayed.replays:
                print(f"{model:16s} could not be captured: both are launched")
    else:
        _table(said.models, said.seconds, said.batch, device)


def _table(models: list[str], seconds: float, batch: int, device: torch.device) -> None:
    small = batch if has_fast_bf16(device) else EMULATED_BATCH
    print(f"{device}, {torch.get_num_threads()} threads, 48×48, images a second; batch {batch}, with bf16 {small}")
    print("| model | parameters | MACs (M) | fp32 forward | fp32 training | bf16 forward | bf16 training |")
    print("|---|---|---|---|---|---|---|")
    for name, knobs in ((model, knobs) for model in models for knobs in _sizes(model)):
        config = costs.configuration(name, **knobs)
        try:
            counted = costs.counted(config)
        except InputError as error:
            print(f"| {name} | {error.problems[0]} | | | | | |")
            continue
        speeds: list[str] = []
        for precision, size in (("fp32", batch), ("bf16", small)):
            told = costs.measured(config | {"train.precision": precision}, device, batch=size, seconds=seconds)
            speeds += [f"{told['forward']:,.0f}", f"{told['training']:,.0f}"]
        label = " ".join([name, *(f"{knob}={value}" for knob, value in knobs.items())])
        cells = [label, f"{counted['parameters']:,}", f"{counted['macs'] / 1e6:,.1f}", *speeds]
        print(f"| {' | '.join(cells)} |", flush=True)


def _sizes(model: str) -> Iterator[dict[str, Value]]:
    """The knobs that choose a part's networks, one after another."""
    space = parts.model(model).SPACE
    name = next((name for name in (*SIZES, "width") if name in space), None)
    knob = space.get(name or "")
    if name is None or not isinstance(knob, Choice):
        yield {}
        return
    yield from ({name: option} for option in knob.options)


def _take_turns(model: str, variants: Mapping[str, train.Training], rounds: int) -> None:
    for run in variants.values():
        run.epoch()  # the first pays for set-up
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            speeds[name].append(run.epoch().metrics["train_images_per_second"])
    first = next(iter(speeds.values()))
    for name, measured in speeds.items():
        ratios = [speed / base for speed, base in zip(measured, first, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{model:16s} {name}: {statistics.median(measured):8.0f} images/s, ratio {spread}", flush=True)


def _training(
    model: str, precision: str, pixels: int, device: torch.device, batch: int = BATCH, steps: int = STEPS
) -> train.Training:
    space = Space(
        {"model": {model: dict(parts.model(model).SPACE)}, "augment": {"none": {}}, "balance": {"none": {}}},
        {name: constant(knob.default) for name, knob in train_knobs.SPACE.items()},
    )
    config: Config = {**space.defaults(), "train.batch_size": batch, "train.precision": precision}
    images_NHW = torch.randint(0, 256, (batch * steps, pixels, pixels), dtype=torch.uint8, device=device)
    faces = Split(images_NHW, torch.arange(len(images_NHW), device=device) % 7)
    few = Split(faces.images_NHW[:7], faces.labels_N[:7])
    return train.Training(config, faces, few, n_classes=7, epochs=10_000, seed=[0], device=device)


if __name__ == "__main__":
    main()
