"""One training run from configuration to scores, in torch and numpy alone: no Ray, no paths, no printing.

`run` is the whole of it; `Training` is the same, an epoch at a time, for a caller that must stop, save and go on. An
epoch's randomness is drawn from (seed, epoch) alone, so a run resumed from epoch e's state is the run that was never
interrupted, and no generator's state needs saving. Bit by bit on a CPU; to rounding on a GPU, whose kernels add in any
order.

Two guards stand here. A training that diverges ends with `Diverged`. Where a batch does not fit into memory, the model
is shown its halves one after the other, from then on, and their gradients are added up: the step is the configuration's
own, but for what BatchNorm sees, which is half a batch. Validation's batches are halved likewise, and nothing changes
by that. A half that does not fit either ends the training.

On a CUDA device a batch, from its faces' indices to its gradients, is one graph that is captured once and replayed
(`cuda_graph.py`). What cannot be captured, since it waits for the host or wants too much memory, is launched as on
a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from facex_tune import metrics, parts, train_knobs
from facex_tune.augment._mixing import Mixing
from facex_tune.balance import Loss, Targets
from facex_tune.emotions import FaceShape
from facex_tune.errors import InputError
from facex_tune.space import Config, knobs_of
from facex_tune.training import posthoc
from facex_tune.training.batches import Batches, Split
from facex_tune.training.classifier import (
    as_floats,
    evaluation_batch,
    pixel_scale,
    placed,
    predict_logits,
    resized,
    start_model,
)
from facex_tune.training.cuda_graph import Captured
from facex_tune.training.devices import is_out_of_memory, pick_precision, release_memory
from facex_tune.training.optimization import Average, build_optimizer, plateau_factor, progressive_pixels, rate_factor

EXPLODED = 10.0  # times the loss of guessing; no loss of ours starts near it, and one that ends there has lost its way
RECOVERED = 2.0
Found = TypeVar("Found")


class Diverged(Exception):
    """Loss or logits stopped being finite numbers, or exploded."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        epoch: 1-based, complete.
        metrics: validation scores by name, plain and adjusted post hoc (`posthoc.py`), `train_loss`, and
            `train_images_per_second`, its speed.
        seconds: training and validation, wall clock.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float


class Training:
    """One configuration in training.

    Args:
        config: flat and qualified, as `Space.draw` gives it.
        train, validation: splits on `device`.
        epochs: the whole course; the learning rate's schedule spans it.
        seed: integers for `numpy.random.SeedSequence`; equal seeds give equal runs on equal CPUs and threads.
        weights: "last" or "ema", the weights that are validated and kept.

    Attributes:
        face: the shape of its faces.
        slices: in how many parts the model is shown a batch; two where a whole one did not fit into memory.
        evaluation_slices: the same of validation's batches.
        replays: whether batches are captured and replayed; false on other devices than CUDA, once that failed, and
            where validation did not fit into memory beside a captured batch.
        not_captured: why it failed, "" where it did not.
        on_batch: called after every batch, for whoever watches that a training moves.
    """

    def __init__(
        self,
        config: Config,
        train: Split,
        validation: Split,
        *,
        n_classes: int,
        epochs: int,
        seed: Sequence[int],
        device: torch.device,
        weights: str = "last",
    ) -> None:
        self.config, self.train, self.validation = config, train, validation
        self.n_classes, self.epochs, self.device = n_classes, epochs, device
        self.seed, self.done = tuple(seed), 0
        self.slices = self.evaluation_slices = 1
        self.on_batch: Callable[[], object] = lambda: None
        self.watched: list[float] = []  # validation macro-F1 of each epoch done, which "plateau" reads
        self.knobs = train_knobs.defaults() | knobs_of("train", config)
        torch.manual_seed(self._epoch_seed(0))
        self.precision = pick_precision(config, device)
        self.face = FaceShape.of_array(train.images_NHW.shape)
        model, self.pretrained = start_model(config, n_classes, pixel_scale(train.images_NHW), self.face)
        self.model = placed(model, device)
        self.optimizer = build_optimizer(self.model, self.knobs)
        smoothing = float(self.knobs["label_smoothing"] or 0)
        towards = Targets.of(train.labels_N, n_classes, train.targets_NC, smoothing)
        self.plan = parts.balance_plan(
            str(config["balance"]), train.labels_N, n_classes, parts.knobs("balance", config), towards
        )
        self.class_counts = torch.bincount(train.labels_N, minlength=n_classes).cpu().numpy()  # of real faces
        self.target_shares = towards.shares_C().cpu().numpy()  # of real faces, as they are trained towards
        if self.plan.synthesize is not None:
            self.train = train.joined(*self.plan.synthesize(train.images_NHW, train.targets_NC, self._epoch_seed(0)))
        self.batches = Batches(
            self.train,
            self.plan,
            largest=int(self.knobs["batch_size"] or 1),
            n_classes=n_classes,
            smoothing=smoothing,
        )
        self.augment = parts.augment(str(config["augment"])).build(parts.knobs("augment", config))
        self.mixing = Mixing(*(float(self.knobs[name] or 0) for name in ("mixup", "cutmix", "erasing", "noise")))
        decay = float(self.knobs["ema_decay"] or 0)
        self.average = Average(self.model, decay) if weights == "ema" and decay > 0 else None
        self.generator = torch.Generator(device)
        self.replays, self.not_captured = device.type == "cuda", ""
        self._index_B = torch.zeros(self.batches.size, dtype=torch.int64, device=device)  # of the batch in training
        self._captured: tuple[int, Loss, Captured] | None = None  # for this size of face and this loss

    @property
    def kept(self) -> nn.Module:
        """The model whose weights are validated and kept."""
        return self.model if self.average is None else self.average.model

    def epoch(self) -> Epoch:
        """Trains one epoch and validates.

        Raises:
            Diverged: the loss of the epoch, or a validation logit, is not finite; or the loss exploded.
            MemoryError, torch.OutOfMemoryError, RuntimeError: half a batch does not fit into memory either.
        """
        start = time.perf_counter()
        number = self.done + 1
        train_loss = self._train_epoch(number)
        trained_seconds = time.perf_counter() - start
        if not math.isfinite(train_loss):
            raise Diverged(f"training loss is {train_loss} in epoch {number}")
        scores = self._validate(number)
        self._refuse_explosion(number, train_loss, scores["log_loss"])
        self.done = number
        self.watched.append(scores["macro_f1"])
        scores["train_loss"] = train_loss
        scores["train_images_per_second"] = len(self.batches) * self.batches.size / trained_seconds
        return Epoch(number, scores, time.perf_counter() - start)

    def _train_epoch(self, number: int) -> float:
        torch.manual_seed(self._epoch_seed(number))  # dropout draws from torch's own generator
        self.generator.manual_seed(self._epoch_seed(number) + 1)
        self.model.train()
        pixels, clip_norm = self._pixels(number), float(self.knobs["clip_norm"] or 0)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        loss_sum = torch.zeros((), device=self.device)
        for step, index_B in enumerate(self.batches.draw(self.generator)):
            progress = (number - 1 + step / len(self.batches)) / self.epochs
            self._set_rate(progress)
            self._index_B.copy_(index_B)
            loss_sum += self._differentiate(pixels, self.plan.loss_at(progress))
            if clip_norm > 0:
                nn.utils.clip_grad_norm_(trained, clip_norm)
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
            self.on_batch()
        return float(loss_sum / len(self.batches))

    def _differentiate(self, pixels: int, loss: Loss) -> Tensor:
        """Leaves the gradients of the faces `_index_B` in the parameters; their mean loss, a scalar on the device."""
        replay = self._replay(pixels, loss)
        if replay is not None:
            return replay()
        return self._retried(partial(self._gradients, *self._shown(pixels), loss), self.slices, self._halve)

    def _shown(self, pixels: int) -> tuple[Tensor, Tensor]:
        """The faces `_index_B` as the model is to see them, faces_N1HW, and their targets_NC."""
        given_N1HW = as_floats(self.train.images_NHW[self._index_B])
        faces_N1HW = self.augment(given_N1HW, self.generator)
        if faces_N1HW.shape != given_N1HW.shape:
            raise self._reshaped(given_N1HW, faces_N1HW)
        faces_N1HW, targets_NC = self.mixing(faces_N1HW, self.batches.targets(self._index_B), self.generator)
        return resized(faces_N1HW, pixels), targets_NC

    def _reshaped(self, given: Tensor, made: Tensor) -> InputError:
        """That an augmentation gives faces of another shape, as one of the user's own for grey faces may."""
        shapes = [" x ".join(map(str, each.shape)) for each in (given, made)]
        return InputError(
            f"augment {self.config['augment']}: it makes faces {shapes[1]} of {shapes[0]}: mend it to keep size and "
            "channels of what it gets, or leave it out of the study"
        )

    def _replay(self, pixels: int, loss: Loss) -> Captured | None:
        """What computes `_index_B`'s gradients in one launch; None where it cannot be had."""
        if not self.replays or self.slices > 1:
            return None
        if self._captured is None or self._captured[:2] != (pixels, loss):
            self._captured = None  # its memory is wanted
            self.optimizer.zero_grad(set_to_none=True)
            try:
                compute = partial(self._drawn_loss, pixels, loss)
                self._captured = pixels, loss, Captured(compute, self.model, self.device, [self.generator])
            except RuntimeError as error:
                self.replays, self.not_captured = False, str(error) or type(error).__name__
        if self._captured is None:  # outside the handler, whose traceback holds on to what did not fit
            release_memory(self.device)
            return None
        return self._captured[2]

    def _drawn_loss(self, pixels: int, loss: Loss) -> Tensor:
        return self.mean_loss(*self._shown(pixels), loss)

    def mean_loss(self, faces_N1HW: Tensor, targets_NC: Tensor, loss: Loss) -> Tensor:
        """The loss of one batch as it is shown, a scalar; faces_N1HW in [0, 1]."""
        with self._autocast():
            logits_NC = self.model(faces_N1HW)
        return loss(logits_NC.float(), targets_NC)

    def _gradients(self, faces_N1HW: Tensor, targets_NC: Tensor, loss: Loss) -> Tensor:
        """Leaves the batch's gradients in the parameters, slice by slice; its mean loss, a scalar on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for faces_S1HW, targets_SC in zip(faces_N1HW.chunk(self.slices), targets_NC.chunk(self.slices), strict=True):
            share = self.mean_loss(faces_S1HW, targets_SC, loss) * (len(faces_S1HW) / len(faces_N1HW))
            torch.autograd.backward(share)
            total += share.detach()
        return total

    def _retried(self, compute: Callable[[], Found], slices: int, halve: Callable[[], None]) -> Found:
        """What `compute` finds, with batches halved from then on if whole ones do not fit into memory."""
        try:
            return compute()
        except (MemoryError, RuntimeError) as error:
            if slices > 1 or not is_out_of_memory(error):
                raise
        halve()  # outside the handler, whose traceback holds on to what did not fit
        self._captured = None
        self.optimizer.zero_grad(set_to_none=True)
        release_memory(self.device)
        return compute()

    def _halve(self) -> None:
        self.slices = 2

    def _halve_evaluation(self) -> None:
        """Also goes without captured batches, which hold the memory of a whole one."""
        self.evaluation_slices = 2
        if self.replays:
            self.replays, self.not_captured = False, "validation does not fit into memory beside a captured batch"

    def _refuse_explosion(self, number: int, train_loss: float, validation_loss: float) -> None:
        """A spike that the epoch has recovered from is let pass: validation then does about as well as guessing."""
        guessing = math.log(self.n_classes)
        if train_loss > EXPLODED * guessing and validation_loss > RECOVERED * guessing:
            raise Diverged(
                f"training loss exploded to {train_loss:.4g} in epoch {number}; guessing costs {guessing:.2f}"
            )

    def _validate(self, number: int) -> dict[str, float]:
        logits_NC = self._retried(
            partial(self._validation_logits, number), self.evaluation_slices, self._halve_evaluation
        )
        probabilities_NC = logits_NC.softmax(1).cpu().numpy()
        if not np.isfinite(probabilities_NC).all():
            raise Diverged(f"validation logits are not finite in epoch {number}")
        labels_N = self.validation.labels_N.cpu().numpy()
        adjusted = posthoc.scores(probabilities_NC, labels_N, self.target_shares)
        return metrics.scores(probabilities_NC, labels_N) | adjusted

    def _validation_logits(self, number: int) -> Tensor:
        return predict_logits(
            self.kept,
            self.validation.images_NHW,
            pixels=self._pixels(number),
            autocast=self._autocast,
            batch=evaluation_batch(self.device) // self.evaluation_slices,
        )

    def _pixels(self, number: int) -> int:
        """Side of the faces in this epoch, in training and validation alike."""
        height = int(self.train.images_NHW.shape[1])
        return progressive_pixels(height, number, self.epochs) if self.knobs["progressive"] else height

    def _set_rate(self, progress: float) -> None:
        warmup = float(self.knobs["warmup"] or 0)
        factor = rate_factor(str(self.knobs["schedule"]), progress, warmup)
        if self.knobs["schedule"] == "plateau":
            patience, fall = int(self.knobs["plateau_patience"] or 1), float(self.knobs["plateau_factor"] or 0)
            factor *= plateau_factor(self.watched[math.ceil(warmup * self.epochs) :], patience, fall)
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.knobs["lr"] or 0) * factor

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _epoch_seed(self, number: int) -> int:
        return int(np.random.SeedSequence([*self.seed, number]).generate_state(1, np.uint32)[0])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a resumed run needs: tensors by name, and plain values."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{slot}": value for slot, value in slots.items() if isinstance(value, Tensor)
            }
        updates = 0 if self.average is None else self.average.updates
        values = {"epoch": self.done, "average_updates": updates, "watched": list(self.watched)}
        return tensors, values | {"slices": self.slices, "evaluation_slices": self.evaluation_slices}

    def load_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self.model.load_state_dict(_under("model.", tensors))
        if self.average is not None:
            self.average.model.load_state_dict(_under("average.", tensors))
            self.average.updates = int(values["average_updates"])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("optimizer.", tensors).items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor if tensor.ndim == 0 else tensor.to(self.device)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._place_slots()
        self.done, self.slices = int(values["epoch"]), int(values["slices"])
        if int(values.get("evaluation_slices", 1)) > 1:
            self._halve_evaluation()
        self.watched = [float(value) for value in values.get("watched", [])]

    def _place_slots(self) -> None:
        """Lays out what was loaded as optimizers do. Counts of steps and products of momenta go to the host: torch
        loads some of them onto the GPU, which every step would then wait for. Momenta get their parameter's layout,
        which files do not keep, and without which optimizers take one parameter after another.
        """
        for parameter, slots in self.optimizer.state.items():
            for name, value in slots.items():
                if isinstance(value, Tensor) and value.ndim == 0 and parameter.ndim > 0:
                    slots[name] = value.cpu()
                elif isinstance(value, Tensor) and value.shape == parameter.shape:
                    slots[name] = torch.empty_like(parameter).copy_(value)


def run(
    config: Config,
    train: Split,
    validation: Split,
    report: Callable[[Epoch], object],
    *,
    n_classes: int,
    epochs: int,
    seed: Sequence[int],
    device: torch.device,
    weights: str = "last",
) -> nn.Module:
    """Trains `config` for `epochs`, handing every epoch to `report`; the trained model.

    Raises:
        Diverged: see `Training.epoch`.
    """
    training = Training(
        config, train, validation, n_classes=n_classes, epochs=epochs, seed=seed, device=device, weights=weights
    )
    while training.done < epochs:
        report(training.epoch())
    return training.kept.eval()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
