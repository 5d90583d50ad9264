"""The final evaluation as other tools are told it: scores of each candidate on each sealed set, and a confusion matrix.

Reads what `evaluate` has written; no sealed set is opened here.
"""

from __future__ import annotations

import csv
import io
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facex_tune import metrics
from facex_tune.data.members import read_arrays
from facex_tune.emotions import EMOTIONS
from facex_tune.evaluation import plots
from facex_tune.runs.history import History
from facex_tune.runs.store import Run
from facex_tune.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG_DPI = 110
MAX_FACES_BYTES = 2**26  # of one array of the faces that an evaluation keeps
FACES_A_ROW = 5
Png = tuple[bytes, int, int]  # with its width and its height


@dataclass(frozen=True)
class FinalScores:
    """One candidate's scores under one protocol.

    Attributes:
        candidate: its trial's label, such as "t0007".
        found: its part of the protocol's document.
        wall_s: when the document was written.
        is_winner: whose answers stand with the faces that were kept.
    """

    protocol: str
    candidate: str
    found: Mapping[str, Any]
    wall_s: float
    is_winner: bool

    @property
    def name(self) -> str:
        return f"{self.protocol}/{self.candidate}"

    @property
    def values(self) -> dict[str, float]:
        """Means over the final models with the ends of their 95 % intervals, by tag; with them n and the seeds."""
        counts = {"evaluation/n": float(self.found["n"]), "evaluation/seeds": float(len(self.found["seeds"]))}
        return counts | {tag: value for tag, value in self._all() if value is not None and math.isfinite(value)}

    def _all(self) -> Iterator[tuple[str, float | None]]:
        for family, metric, told in self._told():
            low, high = told["interval"] or (None, None)
            yield from zip(_tags(family, metric), (told["mean"], low, high), strict=True)
        for emotion, told in self.found["per_emotion"].items():
            for metric in ("precision", "recall", "f1"):
                low, high = told[f"{metric}_interval"] or (None, None)
                tags = _tags("evaluation_emotions", f"{metric}.{emotion}")
                yield from zip(tags, (told[metric], low, high), strict=True)

    def _told(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """(family, metric, scores): of all faces, of those that no known face is a copy of, of adjusted answers."""
        for family, part in (("", self.found), ("_clean", self.found.get("clean")), ("_adjusted", self._adjusted)):
            for metric, told in (part or {"metrics": {}})["metrics"].items():
                yield f"evaluation{family}", metric, told

    @property
    def _adjusted(self) -> Mapping[str, Any] | None:
        adjusted: Mapping[str, Any] | None = self.found.get("adjusted")
        return adjusted

    @property
    def table(self) -> str:
        """The scores in Markdown, each with n, seeds and interval."""
        n, n_seeds = self.found["n"], len(self.found["seeds"])
        lines = [f"{self.candidate} on {self.protocol}: {n:,} faces, means over seeds: {n_seeds}", ""]
        lines += ["| scores | metric | mean | 95 % interval |", "|---|---|---|---|"]
        for family, metric, told in self._told():
            interval = " to ".join(f"{end:.4f}" for end in told["interval"]) if told["interval"] else "none"
            mean = "none" if told["mean"] is None else f"{told['mean']:.4f}"
            lines.append(f"| {family.replace('_', ', ')} | {metric} | {mean} | {interval} |")
        return "\n".join(lines)

    def confusion_png(self) -> Png | None:
        """The confusion matrix over all its final models as a PNG, its width and its height; None without faces."""
        matrix = self.found["confusion"]
        if not self.found["n"]:
            return None
        with plots.style():
            return _png(plots.confusion(np.array(matrix["counts"]), matrix["classes"]))


def read(run: Run, history: History) -> list[FinalScores]:
    """Every candidate's scores under every protocol that was opened so far.

    Raises:
        DamagedRun: a document is malformed.
    """
    if not history.opened:
        return []
    return [each for path in files.matching(run.folder / "evaluation", "*.json") for each in _in(path)]


def _in(path: files.Place) -> Iterator[FinalScores]:
    document, wall_s = files.read_json(path), files.modified(path)
    for candidate, found in document["candidates"].items():
        yield FinalScores(path.stem, candidate, found, wall_s, candidate == document["winner"])


def face_sheets(run: Run, protocol: str) -> dict[str, Png]:
    """The faces that the evaluation kept, by why it kept them, with their emotion and the winner's answer; none where
    none were kept.
    """
    path = run.folder / "evaluation" / f"{protocol}.faces.npz"
    if not path.is_file():
        return {}
    kept = read_arrays(path.read_bytes(), MAX_FACES_BYTES)
    kinds = kept.get("kind_N", np.full(len(kept["labels_N"]), "random"))
    with plots.style():
        return {str(kind): _png(_sheet(kept, np.flatnonzero(kinds == kind))) for kind in dict.fromkeys(kinds.tolist())}


def _sheet(kept: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]) -> Figure:
    from matplotlib.figure import Figure

    n_down = -(-len(rows) // FACES_A_ROW)
    figure = Figure(figsize=(1.3 * FACES_A_ROW, 1.5 * n_down), layout="constrained")
    places = figure.subplots(n_down, FACES_A_ROW, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, row in zip(places, rows.tolist(), strict=False):
        true, answer = (EMOTIONS[int(k)] for k in (kept["labels_N"][row], kept["probabilities_NC"][row].argmax()))
        axes.imshow(kept["images_NHW"][row], cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"is {true},\nsaid {answer}", fontsize=7)
    return figure


def _png(figure: Figure) -> Png:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=PNG_DPI)
    content = sink.getvalue()
    return content, *struct.unpack(">II", content[16:24])


def model_curve(run: Run, candidate: int, seed: int) -> tuple[dict[int, dict[str, float]], float]:
    """A final model's metrics by epoch, as its own history tells them, and when that was written, in seconds."""
    path = run.final_folder(candidate, seed) / "history.csv"
    curve = {}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        epoch = int(row.pop("epoch"))
        curve[epoch] = {name: float(value) for name, value in row.items() if value}
    return curve, files.modified(path)


def _tags(family: str, metric: str) -> tuple[str, str, str]:
    return f"{family}/{metric}", f"{family}/{metric}.low", f"{family}/{metric}.high"


def tag(metric: str) -> str:
    """Where a tool shows a metric of an epoch: `validation/macro_f1`, `recall/happy`, `training/train_loss`."""
    family, dot, emotion = metric.partition(".")
    if dot:
        return f"{family}/{emotion}"
    if metric in metrics.COSTS:
        return f"cost/{metric}"
    return f"validation/{metric}" if metric in metrics.MAXIMIZE else f"training/{metric}"
