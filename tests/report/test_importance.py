"""Importances of knobs: those of Optuna's own evaluator, which the report does not load."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from facex_tune.report.importance import ped_anova
from facex_tune.space import Choice, Config, Float, Int, Knob

KNOBS: dict[str, Knob] = {
    "model": Choice(("a", "b", "c"), "a"),
    "model.a.depth": Int(1, 40, 3, log=True),
    "model.b.width": Int(1, 300, 8),
    "model.b.groups": Int(2, 4, 2),
    "lr": Float(1e-3, 1, 0.1, log=True),
    "dropout": Float(0, 0.5, 0.1),
}


def drawn(n: int, seed: int) -> tuple[list[Config], list[float]]:
    """Trials whose value hangs on the learning rate most, then on the model; some values are equal."""
    rng = np.random.default_rng(seed)
    configs: list[Config] = []
    values = []
    for _ in range(n):
        config: Config = {"model": str(rng.choice(["a", "b", "c"])), "lr": float(10 ** rng.uniform(-3, 0))}
        config["dropout"] = float(rng.uniform(0, 0.5))
        if config["model"] == "a":
            config["model.a.depth"] = int(rng.integers(1, 41))
        if config["model"] == "b":
            config |= {"model.b.width": int(rng.integers(1, 301)), "model.b.groups": int(rng.integers(2, 5))}
        configs.append(config)
        best = -abs(np.log10(float(config["lr"])) + 1.3) + 0.2 * (config["model"] == "a")
        values.append(round(float(best + rng.normal(0, 0.2)), 2))
    return configs, values


@pytest.mark.parametrize(("n", "maximize"), [(50, True), (170, False)])
def test_importances_are_those_of_optuna(n: int, maximize: bool) -> None:
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    def distribution(knob: Knob) -> CategoricalDistribution | IntDistribution | FloatDistribution:
        if isinstance(knob, Choice):
            return CategoricalDistribution(knob.options)
        of = IntDistribution if isinstance(knob, Int) else FloatDistribution
        return of(knob.low, knob.high, log=knob.log)  # type: ignore[arg-type]

    configs, values = drawn(n, seed=n)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    for config, value in zip(configs, values, strict=True):
        spread = {name: distribution(KNOBS[name]) for name in config}
        study.add_trial(optuna.trial.create_trial(params=config, distributions=spread, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own being experimental
        theirs = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.1))
    ours = ped_anova(configs, values, KNOBS, maximize)
    assert ours == pytest.approx(theirs)
    assert list(ours) == list(theirs)


def test_the_knob_that_decides_comes_first_and_all_are_shares() -> None:
    found = ped_anova(*drawn(200, seed=1), KNOBS, True)
    assert next(iter(found)) == "lr"
    assert sum(found.values()) == pytest.approx(1)


def test_what_no_good_trial_has_is_of_no_importance() -> None:
    configs: list[Config] = [{"lr": 0.1, "dropout": 0.1 + 0.001 * n} for n in range(60)]
    configs[-1] |= {"model.b.width": 7}
    found = ped_anova(configs, [float(n % 2) for n in range(60)], KNOBS, True)
    assert found["model.b.width"] == 0
