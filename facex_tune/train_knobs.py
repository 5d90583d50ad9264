"""The training knobs: what `training.train` takes besides the parts. Apart from it, so that a study is checked without
torch.
"""

from __future__ import annotations

from facex_tune.space import Choice, Config, Float, Int, Knobs

SPACE: Knobs = {
    "optimizer": Choice(
        ("sgd", "adam", "adamw", "nadam", "rmsprop", "muon"),
        "sgd",
        "sgd is with Nesterov momentum; adamw decays weights apart; muon makes the steps of filters and matrices "
        "orthogonal, at adamw's rates",
    ),
    "lr": Float(1e-5, 1.0, 0.05, log=True, doc="peak learning rate, of whichever optimizer"),
    "momentum": Float(0.0, 0.99, 0.9, doc="of sgd, rmsprop and muon; the first beta of adam, adamw and nadam"),
    "weight_decay": Float(1e-6, 0.3, 5e-4, log=True, doc="on weights, not on biases or normalisation"),
    "schedule": Choice(
        ("one_cycle", "cosine", "step", "plateau"),
        "one_cycle",
        "the rate's course over max_epochs; step takes a tenth at half and at three quarters, later after a long "
        "warmup; plateau reads validation",
    ),
    "warmup": Float(0.0, 0.5, 0.25, doc="share of the epochs until the rate peaks"),
    "plateau_patience": Int(1, 20, 4, doc="of plateau: epochs without a better macro-F1 until the rate falls"),
    "plateau_factor": Float(0.1, 0.9, 0.3, doc="of plateau: what the rate falls to, as a share"),
    "clip_norm": Float(0.0, 10.0, 0.0, doc="largest norm of all gradients together; 0 clips none"),
    "label_smoothing": Float(0.0, 0.3, 0.1),
    "batch_size": Int(8, 4096, 128, log=True, doc="a step of muon costs as much whatever the batch: 256 or more pay"),
    "ema_decay": Float(0.0, 0.9999, 0.0, doc="moving average of the weights, per step; 0 keeps none"),
    "mixup": Float(0.0, 2.0, 0.0, doc="alpha: faces and labels blended with another's; 0 mixes none"),
    "cutmix": Float(0.0, 2.0, 0.0, doc="alpha: a box of another face, and its share of the label; 0 cuts none"),
    "erasing": Float(0.0, 1.0, 0.0, doc="probability that a box of a face is erased"),
    "noise": Float(0.0, 0.06, 0.0, doc="largest standard deviation of noise, pixels being in [0, 1]"),
    "progressive": Choice(
        (False, True), False, "start on faces of two thirds the size, end on whole ones: a third cheaper"
    ),
    "precision": Choice(("auto", "fp32", "bf16"), "auto", "auto: bf16 where model and device are faster with it"),
}

def defaults() -> Config:
    """Every training knob at its default: what a run recorded before a knob existed was trained with."""
    return {name: knob.default for name, knob in SPACE.items()}
