"""A Gaussian process over any space of a study, knobs that depend on a choice of parts among them: for few trials.

Every configuration is a point. A range is the share of it (of its logarithm where it says so); of a choice every two
options are as far from each other as the ends of a range; a knob that does not apply lies in the middle of its range,
so that it tells two configurations apart by half of it at most, and the choice of the part does the rest. Each knob has
a length of its own, fitted with the noise to what is known: a knob that does not matter gets a long one.

Suggested is the point with the greatest expected improvement over the best that the process believes in, among drawn
points and points near the best; trials that run count with what is believed of them, so that workers do not all go to
one place. Every EXPLORES-th suggestion is drawn evenly: a model that is wrong does not stay so.

Sources: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5; Jones et al.,
"Efficient Global Optimization of Expensive Black-Box Functions", Journal of Global Optimization 13, 1998; Ginsbourger
et al., "Kriging is well-suited to parallelize optimization", 2010, for trials that run; Hvarfner et al., "Vanilla
Bayesian Optimization Performs Great in High Dimensions", ICML 2024, for lengths that grow with the number of knobs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facex_tune.search.ledger import Entry, Ledger, View
from facex_tune.search.samplers import STARTUP_TRIALS, Plan, at_share, seed_of, share_of
from facex_tune.space import Choice, Config, Knob, Value, is_active, is_fixed
from facex_tune.study import Study

Floats = NDArray[np.float64]

IDLE = 0.5  # where a knob does not apply
ONE_HOT = math.sqrt(0.5)  # so that two options are 1 apart
MOST_POINTS = 100  # the best half and the latest half: a fit costs the cube of them
DRAWN, NEAR, OF_BEST = 300, 30, 6  # points that are looked at: drawn evenly; around each of the best
STEP, FINE_STEP = 0.15, 0.04  # of a range, from one of the best; once more from those that promise most
CHANGES = 0.3  # of the knobs are changed in a step
EXPLORES = 8
FITTING_STEPS = 12


class Points:
    """Configurations of a space as points, one row each, and back. A point keeps for each knob that varies a share in
    [0, 1) of its range, as `samplers.at_share` reads it.
    """

    def __init__(self, study: Study) -> None:
        self.space = study.space
        self.knobs = [(name, knob) for name, knob in study.space.knobs() if not is_fixed(knob)]
        self._at = {name: column for column, (name, _) in enumerate(self.knobs)}
        self.widths = [len(knob.options) if isinstance(knob, Choice) else 1 for _, knob in self.knobs]
        self.knob_F = np.repeat(np.arange(len(self.knobs)), self.widths)

    def shares_K(self, config: Config) -> Floats:
        """A configuration's shares; of a knob that does not apply the middle."""
        return np.array([_share(knob, config[name]) if name in config else IDLE for name, knob in self.knobs])

    def config(self, shares_K: Floats) -> Config:
        """The configuration of a point."""
        return self.space.draw(lambda name, knob: at_share(knob, float(shares_K[self._at[name]])))

    def features_NF(self, shares_NK: Floats) -> Floats:
        """What the process measures distances in."""
        active_NK = self._active_NK(shares_NK)
        blocks = [
            _features(knob, shares_NK[:, column], active_NK[:, column])
            for column, (_, knob) in enumerate(self.knobs)
        ]
        return np.concatenate(blocks, axis=1)

    def _active_NK(self, shares_NK: Floats) -> NDArray[np.bool_]:
        active_NK = np.ones(shares_NK.shape, dtype=np.bool_)
        for column, (name, _) in enumerate(self.knobs):
            family, _, rest = name.partition(".")
            part = rest.partition(".")[0]
            if is_active(name, {}):
                continue
            options = list(self.space.parts[family])
            if family in self._at:
                chosen_N = (shares_NK[:, self._at[family]] * len(options)).astype(np.int64)
                active_NK[:, column] = chosen_N == options.index(part)
        return active_NK


def _share(knob: Knob, value: Value) -> float:
    if isinstance(knob, Choice):
        return (knob.options.index(value) + 0.5) / len(knob.options)
    return min(max(share_of(knob, float(value or 0)), 0.0), 1 - 1e-9)


def _features(knob: Knob, shares_N: Floats, active_N: NDArray[np.bool_]) -> Floats:
    if isinstance(knob, Choice):
        chosen_N = (shares_N * len(knob.options)).astype(np.int64)
        hot_NO = np.eye(len(knob.options))[chosen_N] * ONE_HOT
        return np.where(active_N[:, None], hot_NO, IDLE * ONE_HOT)
    return np.where(active_N, shares_N, IDLE)[:, None]


@dataclass(frozen=True)
class Fitted:
    """A process that was fitted to points."""

    scaled_NF: Floats
    lengths_F: Floats
    amplitude: float
    lower_NN: Floats
    weights_N: Floats

    def of(self, features_MF: Floats) -> tuple[Floats, Floats]:
        """What is believed of points: mean_M and deviation_M."""
        from scipy.linalg import solve_triangular

        cross_MN = self.amplitude * _matern(_squares(features_MF / self.lengths_F, self.scaled_NF))[0]
        half_NM = solve_triangular(self.lower_NN, cross_MN.T, lower=True, check_finite=False)
        variance_M = np.maximum(self.amplitude - (half_NM**2).sum(axis=0), 1e-10)
        return cross_MN @ self.weights_N, np.sqrt(variance_M)

    def drawn(self, features_MF: Floats, draws: int, rng: np.random.Generator) -> Floats:
        """Functions that may be the true one, values_DM at points M, so many of them."""
        from scipy.linalg import cholesky, solve_triangular

        scaled_MF = features_MF / self.lengths_F
        cross_MN = self.amplitude * _matern(_squares(scaled_MF, self.scaled_NF))[0]
        half_NM = solve_triangular(self.lower_NN, cross_MN.T, lower=True, check_finite=False)
        covariance_MM = self.amplitude * _matern(_squares(scaled_MF, scaled_MF))[0] - half_NM.T @ half_NM
        covariance_MM[np.diag_indices(len(covariance_MM))] += 1e-6 * self.amplitude  # what rounding may have taken
        lower_MM = cholesky(covariance_MM, lower=True, check_finite=False)
        found: Floats = cross_MN @ self.weights_N + rng.standard_normal((draws, len(features_MF))) @ lower_MM.T
        return found


def _squares(one_NF: Floats, other_MF: Floats) -> Floats:
    squares: Floats = (one_NF**2).sum(1)[:, None] + (other_MF**2).sum(1)[None] - 2 * one_NF @ other_MF.T
    return np.maximum(squares, 0.0)


def _matern(squares: Floats) -> tuple[Floats, Floats]:
    """The Matérn kernel of smoothness 5/2, and (1 + √5 r) exp(-√5 r), of which its slopes are made."""
    far = np.sqrt(5 * squares)
    decay = np.exp(-far)
    return (1 + far + far**2 / 3) * decay, (1 + far) * decay


class Process:
    """Fits lengths, amplitude and noise by their posterior mode.

    Args:
        knob_F: which knob a feature belongs to; the features of a knob share a length.
    """

    def __init__(self, knob_F: NDArray[np.int64]) -> None:
        self._knob_F, self._knobs = knob_F, int(knob_F.max()) + 1
        lengths = math.log(0.5 * math.sqrt(self._knobs))
        self._middle_P = np.array([lengths] * self._knobs + [0.0, math.log(0.1)])
        self._width_P = np.array([1.0] * self._knobs + [0.5, 1.0])

    def fit(self, features_NF: Floats, values_N: Floats, doubts_N: Floats) -> Floats:
        """Finds the parameters P: logarithms of lengths, amplitude (variance) and noise (variance).

        Args:
            doubts_N: variance of each value beyond the noise.
        """
        from scipy.optimize import minimize

        apart_KNN = self._apart(features_NF)
        found = minimize(
            self._loss,
            self._middle_P,
            args=(apart_KNN, values_N, doubts_N),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-3.0, 6.0)] * self._knobs + [(-3.0, 3.0), (-9.0, 1.0)],
            options={"maxiter": FITTING_STEPS},
        )
        parameters_P: Floats = found.x
        return parameters_P

    def _apart(self, features_NF: Floats) -> Floats:
        """Squared distances by knob."""
        squares_KNN = np.zeros((self._knobs, len(features_NF), len(features_NF)))
        for feature, knob in enumerate(self._knob_F):
            column_N = features_NF[:, feature]
            squares_KNN[knob] += (column_N[:, None] - column_N[None]) ** 2
        return squares_KNN

    def _loss(self, at_P: Floats, apart_KNN: Floats, values_N: Floats, doubts_N: Floats) -> tuple[float, Floats]:
        """Minus the logarithm of the posterior, and its slopes."""
        from scipy.linalg import cho_solve, cholesky

        inverse_K, amplitude, noise = np.exp(-2 * at_P[:-2]), math.exp(at_P[-2]), math.exp(at_P[-1])
        kernel_NN, slope_NN = _matern(np.tensordot(inverse_K, apart_KNN, axes=1))
        count = len(values_N)
        covariance_NN = amplitude * kernel_NN
        covariance_NN[np.diag_indices(count)] += noise + doubts_N + 1e-8
        lower_NN = cholesky(covariance_NN, lower=True, check_finite=False)
        weights_N = cho_solve((lower_NN, True), values_N, check_finite=False)
        inner_NN = np.outer(weights_N, weights_N) - cho_solve((lower_NN, True), np.eye(count), check_finite=False)
        loss = 0.5 * values_N @ weights_N + np.log(np.diag(lower_NN)).sum()
        by_length_K = np.tensordot(apart_KNN, inner_NN * slope_NN, axes=2) * inverse_K * amplitude * 5 / 3
        slopes_P = -0.5 * np.array([*by_length_K, (inner_NN * amplitude * kernel_NN).sum(), noise * np.trace(inner_NN)])
        off_P = (at_P - self._middle_P) / self._width_P
        return float(loss + 0.5 * off_P @ off_P), slopes_P + off_P / self._width_P

    def given(self, parameters_P: Floats, features_NF: Floats, values_N: Floats, doubts_N: Floats) -> Fitted:
        """The process with these parameters and points."""
        from scipy.linalg import cho_solve, cholesky

        lengths_F = np.exp(parameters_P[:-2])[self._knob_F]
        amplitude, noise = math.exp(parameters_P[-2]), math.exp(parameters_P[-1])
        scaled_NF = features_NF / lengths_F
        covariance_NN = amplitude * _matern(_squares(scaled_NF, scaled_NF))[0]
        covariance_NN[np.diag_indices(len(values_N))] += noise + doubts_N + 1e-8
        lower_NN = cholesky(covariance_NN, lower=True, check_finite=False)
        return Fitted(scaled_NF, lengths_F, amplitude, lower_NN, cho_solve((lower_NN, True), values_N))


class GaussianProcess:
    """See the module; over studies with one objective and no constraints."""

    view = View(models_values=True)

    def __init__(self, study: Study) -> None:
        self.points, self.seed = Points(study), study.search.seed
        self._maximize = study.maximize
        self._shares: dict[int, Floats] = {}  # by place in the ledger
        self._process = Process(self.points.knob_F) if self.points.knobs else None

    def joined(self, ledger: Ledger, entry: Entry) -> None:
        """Does nothing: a point follows from its configuration."""

    def plan(self, ledger: Ledger, number: int) -> Plan:
        """See `Sampler`."""
        rng = np.random.default_rng(seed_of(self.seed, number))
        probable_N = ledger.probable_NC()[:, 0] if len(ledger) else np.empty(0)
        told_N = np.flatnonzero(~np.isnan(probable_N))
        tried, explores = ledger.tried.copy(), number % EXPLORES == EXPLORES - 1
        if self._process is None or len(told_N) < STARTUP_TRIALS or explores:
            return lambda: self._drawn(tried, rng)
        quality_N = probable_N[told_N] * (1.0 if self._maximize else -1.0)
        kept_N = kept(quality_N)
        shares_NK = np.array([self._of(ledger.entries[place]) for place in told_N[kept_N]])
        pending = [place for place in ledger.pending() if np.isnan(probable_N[place])]
        pending_MK = np.array([self._of(ledger.entries[place]) for place in pending])
        pending_MK = pending_MK.reshape(-1, len(self.points.knobs))
        values_N, _ = levelled(quality_N[kept_N])
        process = self._process
        return lambda: self._best(process, shares_NK, values_N, pending_MK, tried, rng)

    def _of(self, entry: Entry) -> Floats:
        if entry.number not in self._shares:
            self._shares[entry.number] = self.points.shares_K(entry.params)
        return self._shares[entry.number]

    def _drawn(self, tried: set[frozenset[tuple[str, Value]]], rng: np.random.Generator) -> Config:
        for _ in range(64):
            config = self.points.space.random(rng)
            if self._varied(config) not in tried:
                break
        return config

    def _varied(self, config: Config) -> frozenset[tuple[str, Value]]:
        return frozenset((name, config[name]) for name, _ in self.points.knobs if name in config)

    def _best(
        self,
        process: Process,
        shares_NK: Floats,
        values_N: Floats,
        pending_MK: Floats,
        tried: set[frozenset[tuple[str, Value]]],
        rng: np.random.Generator,
    ) -> Config:
        features_NF, doubts_N = self.points.features_NF(shares_NK), np.zeros(len(values_N))
        fitted_P = process.fit(features_NF, values_N, doubts_N)
        fitted = process.given(fitted_P, features_NF, values_N, doubts_N)
        target = float(fitted.of(features_NF)[0].max())
        if len(pending_MK):
            pending_MF = self.points.features_NF(pending_MK)
            believed_M = fitted.of(pending_MF)[0]
            features_NF = np.concatenate([features_NF, pending_MF])
            all_N, doubts_N = np.concatenate([values_N, believed_M]), np.zeros(len(features_NF))
            fitted = process.given(fitted_P, features_NF, all_N, doubts_N)
        best_NK = shares_NK[np.argsort(-values_N, kind="stable")[:OF_BEST]]
        looked_MK = np.concatenate([rng.random((DRAWN, shares_NK.shape[1])), near(best_NK, NEAR, STEP, rng)])
        gain_M = self._gain(fitted, looked_MK, target)
        promising_MK = looked_MK[np.argsort(-gain_M, kind="stable")[:OF_BEST]]
        finer_MK = near(promising_MK, NEAR, FINE_STEP, rng)
        looked_MK = np.concatenate([looked_MK, finer_MK])
        gain_M = np.concatenate([gain_M, self._gain(fitted, finer_MK, target)])
        for at in np.argsort(-gain_M, kind="stable"):
            config = self.points.config(looked_MK[at])
            if self._varied(config) not in tried:
                return config
        return self._drawn(tried, rng)

    def _gain(self, fitted: Fitted, shares_MK: Floats, target: float) -> Floats:
        """The logarithm of the expected improvement."""
        from scipy.special import log_ndtr

        mean_M, deviation_M = fitted.of(self.points.features_NF(shares_MK))
        by_M = (mean_M - target) / deviation_M
        density_M = -0.5 * by_M**2 - 0.5 * math.log(2 * math.pi)
        ratio_M = np.exp(np.minimum(log_ndtr(by_M) - density_M, 700.0)) * by_M  # -1 far below the target
        inner_M = np.where(by_M > -20, np.log1p(np.maximum(ratio_M, -1 + 1e-12)), -2 * np.log(np.abs(by_M) + 1e-9))
        gain_M: Floats = np.log(deviation_M) + density_M + inner_M
        return gain_M


def kept(quality_N: Floats) -> NDArray[np.int64]:
    """The places of the best and of the latest."""
    if len(quality_N) <= MOST_POINTS:
        return np.arange(len(quality_N))
    best = np.argsort(-quality_N, kind="stable")[: MOST_POINTS // 2]
    latest = np.arange(len(quality_N) - MOST_POINTS // 2, len(quality_N))
    return np.unique(np.concatenate([best, latest]))


def levelled(quality_N: Floats) -> tuple[Floats, float]:
    """Values with mean 0 and deviation 1, larger being better, and what the deviation was. What is further below the
    median than 1.5 times as far as the best is above it counts as just so far: how bad the bad ones are tells nothing
    of where the best is.
    """
    middle, best = float(np.median(quality_N)), float(quality_N.max())
    levelled_N = np.maximum(quality_N, middle - 1.5 * (best - middle))
    deviation = float(levelled_N.std())
    levelled_N = levelled_N - levelled_N.mean()
    return (levelled_N / deviation if deviation > 0 else levelled_N), deviation


def near(shares_NK: Floats, count: int, step: float, rng: np.random.Generator) -> Floats:
    """Points around some, `count` around each: some of the knobs changed, at least one of them."""
    start_MK = np.repeat(shares_NK, count, axis=0)
    changed_MK = rng.random(start_MK.shape) < CHANGES
    changed_MK[np.arange(len(start_MK)), rng.integers(start_MK.shape[1], size=len(start_MK))] = True
    moved_MK = start_MK + np.where(changed_MK, rng.normal(0.0, step, start_MK.shape), 0.0)
    moved_MK = np.abs(moved_MK)  # thrown back from the ends
    moved_MK = np.where(moved_MK >= 1, 2 - moved_MK, moved_MK)
    found: Floats = np.clip(moved_MK, 0.0, 1 - 1e-9)
    return found
