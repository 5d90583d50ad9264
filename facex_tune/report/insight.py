"""What the models' answers show beyond a score: which emotions are confused, who is versatile, where annotators
disagree too, which labels look wrong, what a better value costs.

Reads what the run folder holds; opens no set. Axes: M models, N faces, C classes, D bootstrap draws.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facex_tune import seeds
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import intervals
from facex_tune.runs.history import FINISHED, before_rungs
from facex_tune.space import FAMILIES
from facex_tune.storage import regular
from facex_tune.storage.files import Place

if TYPE_CHECKING:
    from facex_tune.runs.history import Trial
    from facex_tune.runs.store import Run

PAIRS = 5
MIN_TRIALS = 20  # over which the interval of a rank correlation, or of a part's excess, is said
MIN_OF_PART = 5  # of them with the part; with four and a part three times as noisy its interval held in .88
BANDS = ((0.0, 0.6), (0.6, 0.8), (0.8, 1.01))
SUSPECTS = 50
COPIES = ("in_training", "in_validation")  # columns that say which faces have a copy there
OF_FACES = ("agreed", *COPIES)  # columns that not every table has
NumberT = TypeVar("NumberT", np.int64, np.float64)


@dataclass(frozen=True)
class Answers:
    """A table of faces as it was kept, with the winner's models' probabilities; `in_training_N` says which faces have a
    copy there, or among the validation faces, and is None where the table does not.
    """

    name: str
    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    sources_N: list[str]
    probabilities_MNC: NDArray[np.float64]
    agreed_N: NDArray[np.float64] | None
    in_training_N: NDArray[np.bool_] | None

    @classmethod
    def read(cls, name: str, path: Place, models: Sequence[str]) -> Answers | None:
        """None where the file is absent or does not have these models."""
        import pyarrow.parquet as pq

        if not path.is_file():
            return None
        file = pq.ParquetFile(io.BytesIO(regular.content(path, rooms=1)))
        columns = set(file.schema_arrow.names)
        classes = [emotion for emotion in EMOTIONS if f"{models[0]}.{emotion}" in columns] if models else []
        asked = [f"{model}.{emotion}" for model in models for emotion in classes]
        if not classes or not columns.issuperset(asked):
            return None
        table = file.read(["label", "group", "source", *columns.intersection(OF_FACES), *asked], use_threads=False)
        found = np.stack([_numbers(table[column], np.float64) for column in asked])
        return cls(
            name,
            _numbers(table["label"], np.int64),
            _numbers(table["group"], np.int64),
            table["source"].to_pylist(),
            np.moveaxis(found.reshape(len(models), len(classes), -1), 1, 2),
            _numbers(table["agreed"], np.float64) if "agreed" in columns else None,
            _known(table) if "in_training" in columns else None,
        )

    def take(self, rows_N: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> Answers:
        """Some of the faces."""
        agreed_N, in_training_N = self.agreed_N, self.in_training_N
        return Answers(
            self.name,
            self.labels_N[rows_N],
            self.groups_N[rows_N],
            np.array(self.sources_N, object)[rows_N].tolist(),
            self.probabilities_MNC[:, rows_N],
            None if agreed_N is None else agreed_N[rows_N],
            None if in_training_N is None else in_training_N[rows_N],
        )


def _known(table: Any) -> NDArray[np.bool_]:
    """Which faces have a copy in training, or among the validation faces that models were chosen by."""
    columns = [name for name in COPIES if name in table.column_names]
    known_N: NDArray[np.bool_] = np.any([np.array(table[name].to_pylist(), np.bool_) for name in columns], axis=0)
    return known_N


def _numbers(column: Any, kind: type[NumberT]) -> NDArray[NumberT]:
    """A copy of a table's column. Through DLPack: pyarrow's own conversion would import pandas, half a second."""
    if column.null_count:
        return np.array(column, kind)
    return np.array(np.from_dlpack(column.combine_chunks()), kind)


def answers_of(run: Run, document: Mapping[str, Any]) -> tuple[Answers | None, dict[str, Answers]]:
    """The winner's answers to the validation faces, and to each protocol's, as they were kept."""
    from facex_tune.evaluation.choices import TABLE

    answers = {}
    for name, scored in document["evaluation"].items():
        path = run.folder / "evaluation" / f"{name}.parquet"
        found = Answers.read(name, path, scored["models"]) if scored["n"] else None
        if found is not None:
            answers[name] = found
    models = [model for scored in list(document["evaluation"].values())[:1] for model in scored["models"]]
    return Answers.read("validation", run.folder / "validation" / TABLE, models), answers


def of_run(
    run: Run, document: Mapping[str, Any], validation: Answers | None, answers: Mapping[str, Answers]
) -> dict[str, Any]:
    """{versatility, confused, disagreement, suspects, cost}, each empty or None where there is nothing to read."""
    seed = int(document["environment"]["seed"] or 0)
    trials = list(run.history().trials.values())
    return {
        "versatility": versatility(trials),
        "confused": {name: confused(each) for name, each in answers.items()},
        "disagreement": {
            name: said
            for name, each in answers.items()
            if (said := disagreement(each, _seed(seed, name))) is not None
        },
        "suspects": suspects(_own_labels(run.study.validated_on[0], validation, answers)),
        "cost": cost(trials, run.study.objective[0], run.study.maximize),
    }


def _seed(seed: int, name: str) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, seeds.EVALUATE, zlib.crc32(name.encode()), 9])


def versatility(trials: Sequence[Trial]) -> dict[str, Any] | None:
    """How far a high accuracy goes with a high worst-class recall: Spearman's rho with an interval over trials, and by
    part how much better the worst class is than the accuracy lets expect (a straight line's residual). Over the trials
    among which no rung has chosen, at the epoch of the first that did (`history.before_rungs`). Observational. None
    below eight such trials; no interval below `MIN_TRIALS`.
    """
    at_epoch, done, found = _measured_alike(trials, ("accuracy", "worst_class_recall"))
    xy_2T = np.array([[each[name] for each in found] for name in ("accuracy", "worst_class_recall")])
    if len(done) < 8 or min(len(set(row)) for row in xy_2T.tolist()) < 3:
        return None
    parts = [
        {"family": family, **row}
        for family in FAMILIES
        for row in _excess(xy_2T, np.array([str(trial.config[family]) for trial in done]))
    ]
    points: list[dict[str, Any]] = [
        {"trial": trial.number}
        | {name: each[name] for name in ("accuracy", "worst_class_recall")}
        | {family: str(trial.config[family]) for family in FAMILIES}
        for trial, each in zip(done, found, strict=True)
    ]
    said = {"n": len(done), "at_epoch": at_epoch, "rho": _spearman(xy_2T), "interval": _around_spearman(xy_2T)}
    return said | {"parts": parts, "points": points}


def _measured_alike(
    trials: Sequence[Trial], names: Sequence[str]
) -> tuple[int | None, list[Trial], list[Mapping[str, float]]]:
    """The trials that no rung has chosen, and what each had at the epoch at which they are looked at."""
    at_epoch, alike = before_rungs(trials)
    pairs = [(trial, trial.metrics if at_epoch is None else trial.epochs[at_epoch]) for trial in alike]
    known = [(trial, found) for trial, found in pairs if all(name in found for name in names)]
    return at_epoch, [trial for trial, _ in known], [found for _, found in known]


def _spearman(xy_2T: NDArray[np.float64]) -> float:
    ranks_2T = np.array([_ranks(row_T) for row_T in xy_2T])
    if (ranks_2T.std(axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(ranks_2T)[0, 1])


def _ranks(values_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal values share their mean rank."""
    _, which_T, counts = np.unique(values_T, return_inverse=True, return_counts=True)
    ranks_T: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which_T]
    return ranks_T


def _around_spearman(xy_2T: NDArray[np.float64]) -> intervals.Interval | None:
    """The 95 % interval of Spearman's rho by the jackknife of Fisher's z (Miller, Biometrika 61, 1974), by t.

    A bootstrap of trials, which draws some twice and so makes ties, was mostly too wide for 8 to 20 trials (held in .92
    to 1.00 of simulations, median .98); the closed form of Bonett and Wright (Psychometrika 65, 2000) held in .90 to
    .92 where the relation is bent or has outliers.
    """
    from scipy import special

    n = xy_2T.shape[1]
    if n < MIN_TRIALS:
        return None
    rhos = np.array([_spearman(xy_2T), *(_spearman(np.delete(xy_2T, t, axis=1)) for t in range(n))])
    with np.errstate(divide="ignore"):
        z, *without_T = np.arctanh(np.clip(rhos, -1, 1))
    if not np.isfinite([z, *without_T]).all():
        return None
    reach = float(special.stdtrit(n - 2, (1 + intervals.LEVEL) / 2)) * (n - 1) ** 0.5 * float(np.std(without_T))
    return (float(np.tanh(z - reach)), float(np.tanh(z + reach))) if reach else None


def _excess(xy_2T: NDArray[np.float64], part_T: NDArray[np.str_]) -> list[dict[str, Any]]:
    """By part {part, n, excess, interval}: how far y lies above the straight line through all trials, on average.

    The line goes through these same trials, so that the excesses of a family's parts balance each other, and each has
    an error of all of them: parts' own variances beside a line of one slope, and Satterthwaite's degrees of freedom
    (Biometrics Bulletin 2, 1946). The t interval of a part's own residuals held in .92 to .996 of simulations.
    """
    from scipy import special

    parts, which_T = np.unique(part_T, return_inverse=True)
    n, n_P = len(part_T), np.bincount(which_T)
    x_T, y_T = (row_T - (np.bincount(which_T, row_T) / n_P)[which_T] for row_T in xy_2T)
    beside_T = y_T - (x_T @ y_T) / max(float(x_T @ x_T), 1e-12) * x_T
    lost = (n - len(parts)) / max(n - len(parts) - 1, 1)  # to the slope
    variance_P = np.bincount(which_T, beside_T**2) / np.maximum(n_P - 1, 1) * lost
    line_T2 = np.linalg.qr(np.stack([np.ones(n), xy_2T[0]], axis=1))[0]
    rows = []
    for p, part in enumerate(parts.tolist()):
        weight_T = (which_T == p) / n_P[p]
        weight_T -= line_T2 @ (line_T2.T @ weight_T)
        errors_P = np.bincount(which_T, weight_T**2) * variance_P
        excess, error, interval = float(weight_T @ xy_2T[1]), float(errors_P.sum()), None
        if n >= MIN_TRIALS and n_P[p] >= MIN_OF_PART and len(parts) > 1 and error > 0:
            df = error**2 / float((errors_P**2 / np.maximum(n_P - 1, 1)).sum())
            reach = float(special.stdtrit(df, (1 + intervals.LEVEL) / 2)) * error**0.5
            interval = excess - reach, excess + reach
        rows.append({"part": part, "n": int(n_P[p]), "excess": excess, "interval": interval})
    return rows


def confused(answers: Answers) -> list[dict[str, Any]]:
    """The largest shares of a true emotion's faces answered as one other emotion, means over models.

    Without intervals: of 42 shares that are close the largest is too large in every draw as well, as the worst class's
    recall is too low (`intervals.scores_of_draws`); a bootstrap's interval of it held in .66 to .88 of simulated sets.

    Returns:
        rows {true, answered, n, share, clusters}; `clusters` says in how many a model gave the answer.
    """
    n_classes = max(answers.probabilities_MNC.shape[2], int(answers.labels_N.max()) + 1)
    answers_MN = answers.probabilities_MNC.argmax(axis=2)
    support_K = np.bincount(answers.labels_N, minlength=n_classes)
    counts_KK = np.zeros((n_classes, n_classes))
    np.add.at(counts_KK, (np.tile(answers.labels_N, len(answers_MN)), answers_MN.ravel()), 1 / len(answers_MN))
    share_KK = counts_KK / np.maximum(support_K, 1)[:, None]
    np.fill_diagonal(share_KK, 0)
    pairs = []
    for cell in np.argsort(-share_KK, axis=None, kind="stable")[:PAIRS]:
        true, answered = divmod(int(cell), n_classes)
        if share_KK[true, answered] == 0:
            break
        so_N = (answers.labels_N == true) & (answers_MN == answered).any(axis=0)
        pairs.append(
            {
                "true": EMOTIONS[true],
                "answered": EMOTIONS[answered],
                "n": int(support_K[true]),
                "share": float(share_KK[true, answered]),
                "clusters": len(np.unique(answers.groups_N[so_N])),
            }
        )
    return pairs


def disagreement(answers: Answers, seed: np.random.SeedSequence) -> dict[str, Any] | None:
    """Accuracy by how many annotators agreed, and the most agreed band's minus the least agreed one's. A draw takes
    whole clusters, whose faces may be of several bands: drawn band by band, the difference's interval held in .98 of
    simulated sets, drawn so in .95. A band of few clusters has no interval.
    """
    if answers.agreed_N is None:
        return None
    right_N = (answers.probabilities_MNC.argmax(axis=2) == answers.labels_N).mean(axis=0)
    inside_BN = np.stack([(answers.agreed_N >= low) & (answers.agreed_N < high) for low, high in BANDS]).astype(float)
    draws_DV = intervals.resampled_mean(np.concatenate([inside_BN * right_N, inside_BN]), answers.groups_N, seed)
    bands: list[dict[str, Any]] = []
    drawn: list[tuple[NDArray[np.float64], int] | None] = []
    for b, (low, high) in enumerate(BANDS):
        rows = np.flatnonzero(inside_BN[b])
        if not len(rows):
            continue
        said: dict[str, Any] = {"from": low, "to": min(high, 1.0), "n": len(rows)}
        clusters, own = len(np.unique(answers.groups_N[rows])), None
        if draws_DV is not None and clusters >= intervals.MIN_CLUSTERS:
            with np.errstate(invalid="ignore"):
                own = draws_DV[:, b] / draws_DV[:, len(BANDS) + b], clusters
        bands.append(said | {"accuracy": float(right_N[rows].mean()), "interval": own and intervals.percentile(*own)})
        drawn.append(own)
    first, last = (drawn[0], drawn[-1]) if len(bands) > 1 else (None, None)
    if first is None or last is None:
        return {"bands": bands, "difference": None, "interval": None}
    gap = bands[-1]["accuracy"] - bands[0]["accuracy"]
    clusters_of_both = intervals.together([last[0], first[0]], [last[1], first[1]])
    return {"bands": bands, "difference": gap, "interval": intervals.percentile(last[0] - first[0], clusters_of_both)}


def _own_labels(data: str, validation: Answers | None, answers: Mapping[str, Answers]) -> list[Answers]:
    """The validation faces and those of each protocol that judges by the set's own labels, each face once: none of them
    was trained on.
    """
    from facex_tune.study import protocols

    tables = [] if validation is None else [(data, validation)]
    for name, each in answers.items():
        protocol = protocols.find(name)
        if not protocol.votes and not protocol.masked:
            tables.append((protocol.data, each))
    seen: set[tuple[str, str]] = set()
    found = []
    for of_set, table in tables:
        keys = [(of_set, source) for source in table.sources_N]
        found.append(table.take(np.array([key not in seen for key in keys], bool)))
        seen.update(keys)
    return found


def suspects(tables: Sequence[Answers]) -> dict[str, Any]:
    """Labels that look wrong, most suspicious first: {n_faces, n_suspects, agreement, faces: the first 50}. `agreement`
    is the share of the labels that the answers agree with; None without faces.

    Confident learning (Northcutt et al., JAIR 70, 2021) on answers to faces never trained on, nor a copy of them, so
    that a table which does not tell copies is left out: a face is suspect where another emotion is as probable as that
    emotion is on faces that bear its label, and its own is not. Ranked by how much likelier the other emotion is. To be
    looked at, not to be believed.
    """
    unseen = [table.take(~table.in_training_N) for table in tables if table.in_training_N is not None]
    rows = [row for table in unseen for row in _suspects_of(table)]
    rows.sort(key=lambda row: -row["margin"])
    agrees = [_answers_of(table) == table.labels_N for table in unseen]
    n_faces = sum(len(each) for each in agrees)
    agreement = float(np.concatenate(agrees).mean()) if n_faces else None
    return {"n_faces": n_faces, "n_suspects": len(rows), "agreement": agreement, "faces": rows[:SUSPECTS]}


def _answers_of(table: Answers) -> NDArray[np.int64]:
    """answers_N of the models together."""
    answers_N: NDArray[np.int64] = table.probabilities_MNC.mean(axis=0).argmax(axis=1)
    return answers_N


def _suspects_of(table: Answers) -> list[dict[str, Any]]:
    mean_NC = table.probabilities_MNC.mean(axis=0)
    n_classes = mean_NC.shape[1]
    known_N = table.labels_N < n_classes
    bearing_CN = [known_N & (table.labels_N == c) for c in range(n_classes)]
    usual_C = np.array([mean_NC[own_N, c].mean() if own_N.any() else np.inf for c, own_N in enumerate(bearing_CN)])
    likely_NC = np.where(mean_NC >= usual_C, mean_NC, 0.0)
    label_N = np.where(known_N, table.labels_N, 0)
    own_N = mean_NC[np.arange(len(mean_NC)), label_N]
    other_N = likely_NC.argmax(axis=1)
    best_N = likely_NC.max(axis=1)
    found_N = known_N & (best_N > 0) & (other_N != table.labels_N) & (own_N < usual_C[label_N])
    return [
        {
            "set": table.name,
            "source": table.sources_N[i],
            "label": EMOTIONS[table.labels_N[i]],
            "suggested": EMOTIONS[other_N[i]],
            "p_label": float(own_N[i]),
            "p_suggested": float(best_N[i]),
            "margin": float(best_N[i] - own_N[i]),
        }
        for i in np.flatnonzero(found_N)
    ]


def cost(trials: Sequence[Trial], objective: str, maximize: bool) -> list[dict[str, Any]]:
    """Seconds an epoch and value of each finished trial; `best_at_its_cost`: none is both cheaper and better."""
    done = [trial for trial in trials if trial.state == FINISHED and objective in trial.metrics]
    sign = 1 if maximize else -1
    points: list[dict[str, Any]] = [
        {
            "trial": trial.number,
            "seconds_per_epoch": (trial.seconds - trial.lost_seconds) / max(len(trial.epochs), 1),
            "value": trial.metrics[objective],
            "model": trial.config["model"],
        }
        for trial in done
    ]
    for point in points:
        point["best_at_its_cost"] = not any(
            other["seconds_per_epoch"] <= point["seconds_per_epoch"]
            and sign * other["value"] >= sign * point["value"]
            and (other["seconds_per_epoch"], other["value"]) != (point["seconds_per_epoch"], point["value"])
            for other in points
        )
    return sorted(points, key=lambda point: point["seconds_per_epoch"])
