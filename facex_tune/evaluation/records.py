"""What an evaluation leaves in the run folder, and how it is made from scored faces.

Axes: M models, N faces, C classes that a model knows.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import seeds
from facex_tune.data.faces import Faces
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import agreement, intervals, occlusion, scoring, sequences, variants
from facex_tune.evaluation.choices import Choices
from facex_tune.runs.names import model_label, trial_label
from facex_tune.storage import files, regular
from facex_tune.study.protocols import Protocol
from facex_tune.training.posthoc import Adjustment

if TYPE_CHECKING:
    from facex_tune.runs.store import Run

SCHEMA = 1
GALLERY_FACES = 20
PAIR_FACES = 6  # kept of each cell of the confusion matrix

ModelKey = tuple[int, int]  # candidate's trial number, seed
Answer = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]  # faces N x H x W (x 3) -> probabilities N x C


@dataclass(frozen=True)
class Opened:
    """Faces of a set's sealed splits, their rows in the set, every model's probabilities for them, and its own post-hoc
    adjustment, where it was saved with one.

    Attributes:
        seen_N: which have a copy in training.
        chosen_N: which have one among the validation faces, by which the winner, its temperature and its adjustment
            were chosen; None where that is not known.
        converted: what became of the faces before the models saw them, where they are of another shape; "" else.
    """

    faces: Faces
    rows_N: NDArray[np.int64]
    probabilities_MNC: NDArray[np.float32]
    seen_N: NDArray[np.bool_]
    adjustments_M: tuple[Adjustment | None, ...] = ()
    chosen_N: NDArray[np.bool_] | None = None
    converted: str = ""


@dataclass(frozen=True)
class Scored:
    """What one protocol scores: N of the opened faces, with its own labels.

    Attributes:
        answerable: the classes that answers are held to, where the protocol masks; None where all may be answered.
    """

    faces: Faces
    rows_N: NDArray[np.int64]
    labels_N: NDArray[np.int64]
    probabilities_MNC: NDArray[np.floating[Any]]
    seen_N: NDArray[np.bool_]
    n_opened: int
    adjustments_M: tuple[Adjustment | None, ...] = ()
    chosen_N: NDArray[np.bool_] | None = None
    answerable: tuple[int, ...] | None = None
    converted: str = ""

    @property
    def known_N(self) -> NDArray[np.bool_]:
        """Which faces have a copy in training or validation: no answer to them is one to a new face."""
        return self.seen_N if self.chosen_N is None else self.seen_N | self.chosen_N

    @classmethod
    def under(cls, protocol: Protocol, opened: Opened) -> Scored:
        kept_N, labels_N = scoring.judged(protocol, opened.faces, opened.probabilities_MNC.shape[2])
        probabilities_MNC: NDArray[np.floating[Any]] = opened.probabilities_MNC[:, kept_N]
        answerable: tuple[int, ...] | None = None
        if protocol.masked:
            answerable = tuple(int(k) for k in np.unique(labels_N)) or protocol.classes
            per_model = [scoring.masked(found_NC, answerable) for found_NC in probabilities_MNC]
            probabilities_MNC = np.stack(per_model)
        faces, seen_N = opened.faces.take(kept_N), opened.seen_N[kept_N]
        rows_N, n = opened.rows_N[kept_N], len(opened.faces)
        chosen_N = None if opened.chosen_N is None else opened.chosen_N[kept_N]
        about = (opened.adjustments_M, chosen_N, answerable, opened.converted)
        return cls(faces, rows_N, labels_N, probabilities_MNC, seen_N, n, *about)


def _document(
    run: Run, protocol: Protocol, scored: Scored, models: list[ModelKey], choices: Choices, sha256: str
) -> dict[str, Any]:
    """evaluation/<protocol>.json: the winner's scores at the top, every candidate's under `candidates`."""
    history = run.history()
    trials = dict.fromkeys(candidate for candidate, _ in models)
    candidates = {trial_label(trial): _candidate(run, protocol, scored, models, trial) for trial in trials}
    winner = next(iter(candidates))
    return {
        "schema": SCHEMA,
        "protocol": protocol.id,
        "about": protocol.doc + (f"; faces {scored.converted}" if scored.converted else ""),
        "data": protocol.data,
        "face": scored.faces.face.to_data(),
        **({"converted": scored.converted} if scored.converted else {}),
        "sha256": sha256,
        "splits": list(protocol.splits),
        "classes": [EMOTIONS[k] for k in np.unique(scored.labels_N)],
        "left_out": scored.n_opened - len(scored.labels_N),
        "clusters": _clusters(protocol, scored.faces),
        "tta": choices.tta,
        "draws": intervals.DRAWS,
        "opened": history.opened[protocol.id],
        "winner": winner,
        **candidates[winner],
        "candidates": candidates,
        "variants": variants.score(scored.probabilities_MNC, scored, models, choices, _seed(run, protocol, 0)),
        "comparisons": variants.comparisons(scored.probabilities_MNC, scored, models, history, _seed(run, protocol, 0)),
    }


def _clusters(protocol: Protocol, faces: Faces) -> str:
    """What intervals keep together, in words: subjects only where the prepared set knows them."""
    known = protocol.clusters != "subjects" or bool((faces.sequence_N >= 0).all())
    return protocol.clusters if known else "duplicate groups (subjects are unknown)"


def _candidate(run: Run, protocol: Protocol, scored: Scored, models: list[ModelKey], trial: int) -> dict[str, Any]:
    """One candidate's scores, over all faces and over those that no training or validation face is a copy of."""
    own_M = [m for m, (candidate, _) in enumerate(models) if candidate == trial]
    replicates = [models[m][1] for m in own_M]
    probabilities_MNC, groups_N = scored.probabilities_MNC[own_M], scored.faces.group_N
    clean_N, counts = ~scored.known_N, {"excluded": int(scored.known_N.sum()), "in_training": int(scored.seen_N.sum())}
    clean = scoring.score(
        probabilities_MNC[:, clean_N], scored.labels_N[clean_N], groups_N[clean_N], _seed(run, protocol, 1)
    )
    return {
        "models": [model_label(trial, each) for each in replicates],
        "seeds": replicates,
        **scoring.score(probabilities_MNC, scored.labels_N, groups_N, _seed(run, protocol, 0)),
        "per_sequence": sequences.score(scored.faces, scored.labels_N, probabilities_MNC, _seed(run, protocol, 3)),
        "agreement": agreement.score(protocol, scored.faces, probabilities_MNC, _seed(run, protocol, 4)),
        "clean": {**counts, **{key: clean[key] for key in ("n", "n_clusters", "metrics")}},
        "adjusted": _adjusted(scored, own_M, _seed(run, protocol, 0)),
    }


def _adjusted(scored: Scored, own_M: list[int], seed: np.random.SeedSequence) -> dict[str, Any] | None:
    """The same faces and draws with every model's answers adjusted by the tau that validation chose for it."""
    own = [scored.adjustments_M[m] for m in own_M if scored.adjustments_M]
    known = [adjustment for adjustment in own if adjustment is not None]
    if len(known) < len(own_M) or not len(scored.labels_N):
        return None
    per_model = [adjustment(scored.probabilities_MNC[m]) for m, adjustment in zip(own_M, known, strict=True)]
    found = scoring.score(np.stack(per_model), scored.labels_N, scored.faces.group_N, seed)
    return {"tau": [adjustment.tau for adjustment in known], "metrics": found["metrics"]}


def _seed(run: Run, protocol: Protocol, part: int) -> np.random.SeedSequence:
    """The same draws for every candidate of a protocol, so that candidates are compared on the same faces."""
    return np.random.SeedSequence([run.header["seed"], seeds.EVALUATE, zlib.crc32(protocol.id.encode()), part])


def scored_sets(run: Run) -> dict[str, str]:
    """Prepared set -> its SHA-256, of every set that was scored so far."""
    documents = [regular.read_json(path, rooms=1) for path in files.matching(run.evaluation_folder, "*.json")]
    return {document["data"]: document["sha256"] for document in documents if "sha256" in document}


def write(
    run: Run,
    protocol: Protocol,
    scored: Scored,
    models: list[ModelKey],
    choices: Choices,
    sha256: str,
    answer: Answer | None = None,
) -> None:
    """Writes the protocol's table of faces, its gallery and, last, its scores, each atomically.

    Args:
        sha256: the prepared set's.
        answer: asks the first model, to see where it looked; without it that is left out.
    """
    folder = run.evaluation_folder
    files.write_bytes(folder / f"{protocol.id}.parquet", _parquet(scored, models))
    files.write_bytes(folder / f"{protocol.id}.faces.npz", _gallery(run, protocol, scored, answer))
    files.write_json(folder / f"{protocol.id}.json", _document(run, protocol, scored, models, choices, sha256))


def _parquet(scored: Scored, models: list[ModelKey]) -> bytes:
    """One row a face; the probabilities are those that were scored, after masking where the protocol masks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "row": scored.rows_N,
        "source": scored.faces.source_N.tolist(),
        "split": scored.faces.split_N.tolist(),
        "label": scored.labels_N,
        "emotion": [EMOTIONS[k] for k in scored.labels_N],
        "group": scored.faces.group_N,
        "in_training": scored.seen_N,
    }
    if scored.chosen_N is not None:
        columns["in_validation"] = scored.chosen_N
    if scored.faces.votes_NC is not None:
        columns["agreed"] = agreement.agreed(scored.faces.votes_NC)
    for (candidate, seed), found_NC in zip(models, scored.probabilities_MNC, strict=True):
        for c in range(found_NC.shape[1]):
            columns[f"{model_label(candidate, seed)}.{EMOTIONS[c]}"] = found_NC[:, c].astype(np.float32)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _gallery(run: Run, protocol: Protocol, scored: Scored, answer: Answer | None) -> bytes:
    """Faces kept for the report, which must not open a sealed set a second time, with the first model's answers.

    `images_NHW` and so on are the galleries', and `kind_N` says why each was kept. `pair_*` are faces of each cell of
    the model's confusion matrix, whose counts are `pair_counts_CC`. `hidden_KPP` and `whole_K` say where the model
    looked (`occlusion`) on the K faces of the kind "confident".
    """
    found_NC, labels_N = scored.probabilities_MNC[0], scored.labels_N
    draw = np.random.default_rng(_seed(run, protocol, 2))
    kinds = gallery_rows(found_NC, labels_N, draw)
    picked = np.concatenate(list(kinds.values()))
    paired = pair_rows(found_NC, labels_N, draw)
    arrays = {
        "kind_N": np.repeat(list(kinds), [len(rows) for rows in kinds.values()]),
        **_kept(scored, picked, ""),
        **_kept(scored, paired, "pair_"),
        "pair_counts_CC": _counts(found_NC, labels_N),
    }
    if answer is not None and len(surest := kinds["confident"]):

        def held(images_NHW: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
            found_NC = answer(images_NHW)
            return found_NC if scored.answerable is None else scoring.masked(found_NC, scored.answerable)

        images_KHW, answers_K = scored.faces.images_NHW[surest], found_NC[surest].argmax(axis=1)
        arrays["whole_K"], arrays["hidden_KPP"] = occlusion.hidden(held, images_KHW, answers_K)
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)  # type: ignore[arg-type]  # numpy's stubs take them for its own options
    return sink.getvalue()


def _kept(scored: Scored, rows: NDArray[np.int64], prefix: str) -> dict[str, NDArray[Any]]:
    return {
        f"{prefix}images_NHW": scored.faces.images_NHW[rows],
        f"{prefix}labels_N": scored.labels_N[rows],
        f"{prefix}probabilities_NC": scored.probabilities_MNC[0, rows].astype(np.float32),
        f"{prefix}rows_N": scored.rows_N[rows],
    }


def _counts(probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """One model's confusion matrix, true emotion by answer, over all emotions."""
    counts_CC = np.zeros((len(EMOTIONS), len(EMOTIONS)), np.int64)
    np.add.at(counts_CC, (labels_N, probabilities_NC.argmax(axis=1)), 1)
    return counts_CC


def pair_rows(
    probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64], draw: np.random.Generator
) -> NDArray[np.int64]:
    """Up to six faces of each true emotion and answer, drawn at random, cell by cell."""
    cells_N = labels_N * len(EMOTIONS) + probabilities_NC.argmax(axis=1)
    picked = [np.empty(0, np.int64)]
    for cell in np.unique(cells_N):
        rows = np.flatnonzero(cells_N == cell)
        picked.append(np.sort(draw.choice(rows, min(len(rows), PAIR_FACES), replace=False)).astype(np.int64))
    return np.concatenate(picked)


def gallery_rows(
    probabilities_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64], draw: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """Which faces to show: "random", random "right" and "wrong" ones, and the "confident" wrong ones, surest first.

    Only the first kind says how often the model is right.
    """
    right_N = probabilities_NC.argmax(axis=1) == labels_N
    wrong_N = np.flatnonzero(~right_N)
    surest_N = wrong_N[np.argsort(-probabilities_NC[wrong_N].max(axis=1), kind="stable")]

    def some(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        return np.sort(draw.choice(rows, min(len(rows), n), replace=False)).astype(np.int64)

    return {
        "random": some(np.arange(len(labels_N)), GALLERY_FACES),
        "right": some(np.flatnonzero(right_N), GALLERY_FACES // 2),
        "wrong": some(wrong_N, GALLERY_FACES // 2),
        "confident": surest_N[: GALLERY_FACES // 2].astype(np.int64),
    }
