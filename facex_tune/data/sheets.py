"""Pictures of a data set for its user's own eyes: they show its faces and share the set's licence."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.audit import Found, face
from facex_tune.data.faces import Faces
from facex_tune.emotions import EMOTIONS
from facex_tune.errors import InputError
from facex_tune.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIRS_SHOWN = 60  # of each kind
SAMPLES = 8  # faces of each emotion
_COLUMNS = 6
_DPI = 100


def write_show(faces: Faces, document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `classes.png`, the histogram of `document["counts"]`, and `faces.png`, some faces of each emotion.

    Raises:
        InputError: the folder cannot be written.
    """
    classes, sample = _png(_classes(document["counts"])), _png(_sample(faces))
    return [_written(folder / "classes.png", classes), _written(folder / "faces.png", sample)]


def _classes(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """One panel a split: how many faces of each emotion."""
    from matplotlib.figure import Figure

    names = [emotion for emotion in EMOTIONS if any(emotion in of_split for of_split in counts.values())]
    figure = Figure(figsize=(3.2 * max(len(counts), 1), 3), dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, max(len(counts), 1), squeeze=False).ravel()
    for axes, (split, of_split) in zip(panels, counts.items(), strict=False):
        bars = axes.barh(names, [of_split.get(name, 0) for name in names], color="#4c72b0")
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=7, padding=2)
        axes.invert_yaxis()
        axes.margins(x=0.2)
        axes.set_title(f"{split} (n = {sum(of_split.values()):,})", fontsize=9)
        axes.set_xlabel("faces", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _sample(faces: Faces) -> Figure:
    """A row an emotion, each of faces drawn at random, the same ones every time."""
    rng = np.random.default_rng(0)
    images: list[NDArray[np.uint8]] = []
    titles: list[str] = []
    for label in np.unique(faces.labels_N):
        rows = rng.permutation(np.flatnonzero(faces.labels_N == label))[:SAMPLES]
        images += [np.asarray(faces.images_NHW[row]) for row in rows]
        titles += [f"{EMOTIONS[label]}\n{faces.split_N[row]} {str(faces.source_N[row])[-20:]}" for row in rows]
        images += [np.full(faces.face.images(1)[1:], 255, np.uint8)] * (SAMPLES - len(rows))
        titles += [""] * (SAMPLES - len(rows))
    return grid(images, titles, columns=SAMPLES, width=1.3, height=1.5)


def write_audit(found: Found, document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `audit.json` and, where there are any, `pairs.png`, the exact, mirrored and near copies, and
    `suspects.png`, what is or may be no face.

    Of exact copies those come first whose labels differ, of the others those that cross a split.

    Raises:
        InputError: the folder cannot be written.
    """
    text = json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"
    written = [_written(folder / "audit.json", text)]
    if shown := [*_exact_shown(found), *_near_shown(found)]:
        written.append(_written(folder / "pairs.png", _png(_pairs(found, shown))))
    if suspects := _suspects(found, document):
        written.append(_written(folder / "suspects.png", _png(grid(*suspects, columns=SAMPLES, width=1.3, height=1.5))))
    return written


def _suspects(found: Found, document: Mapping[str, Any]) -> tuple[list[NDArray[np.uint8]], list[str]] | None:
    """What is blank or no face, and what looks least like one, each under why it is shown; None where there is none."""
    faces = zip(found.set_N.tolist(), found.source_N.tolist(), strict=True)
    row_of = {(found.names[at], source): row for row, (at, source) in enumerate(faces)}
    images, titles = [], []
    for name, about in document["sets"].items():
        for key, why in (("blank", "blank"), ("not_a_face", "no face, by votes"), ("unlike_faces", "unlike others"),
                         ("uncropped", "a whole photograph?")):  # fmt: skip
            for source in about[key][:PAIRS_SHOWN]:
                images.append(found.images_NHW[row_of[name, source]])
                titles.append(f"{why}\n{name} {source[-20:]}")
    return (images, titles) if images else None


class _Shown(NamedTuple):
    """A pair of faces, rows of N, and how they are alike."""

    first: int
    second: int
    mirrored: bool
    kind: str


def _exact_shown(found: Found) -> list[_Shown]:
    """Of each group of equal images two that differ in label, else in part."""
    order_N = np.argsort(found.group_N, kind="stable")
    groups = np.split(order_N, np.flatnonzero(np.diff(found.group_N[order_N])) + 1)
    ranked = []
    for first, *others in (group.tolist() for group in groups if len(group) > 1):
        differ = [found.labels_N[row] != found.labels_N[first] for row in others]
        crosses = [found.part_N[row] != found.part_N[first] for row in others]
        best = max(range(len(others)), key=lambda at: (differ[at], crosses[at]))
        kind = "exact, labels differ" if differ[best] else "exact"
        ranked.append((not differ[best], not crosses[best], _Shown(first, others[best], False, kind)))
    return [shown for *_, shown in sorted(ranked)][:PAIRS_SHOWN]


def _near_shown(found: Found) -> list[_Shown]:
    """Mirrored pairs, then plain ones; those that cross a split first, then the most alike."""
    a, b = found.pairs.first_P, found.pairs.second_P
    order = np.lexsort((-found.pairs.ncc_P, found.part_N[a] == found.part_N[b]))
    mirrored_P = found.pairs.mirrored_P[order]
    shown = [*order[mirrored_P][:PAIRS_SHOWN], *order[~mirrored_P][:PAIRS_SHOWN]]
    return [_Shown(int(a[at]), int(b[at]), bool(found.pairs.mirrored_P[at]), _kind(found, int(at))) for at in shown]


def _pairs(found: Found, shown: Sequence[_Shown]) -> Figure:
    """The pairs side by side, a mirrored one's first face turned; titles tell parts, labels and likeness."""
    images, titles = [], []
    for pair in shown:
        one = found.images_NHW[pair.first]
        images.append(np.hstack([one[:, ::-1] if pair.mirrored else one, found.images_NHW[pair.second]]))
        titles.append("\n".join([_caption(found, pair.first), _caption(found, pair.second), pair.kind]))
    return grid(images, titles, columns=_COLUMNS)


def _kind(found: Found, at: int) -> str:
    turned = "mirrored " if found.pairs.mirrored_P[at] else "near "
    return f"{turned}{found.pairs.ncc_P[at]:.3f}"


def _caption(found: Found, row: int) -> str:
    about = face(found, row)
    return f"{about['set']} {about['split']} {about['source'][-24:]}: {about['label']}"


def grid(
    images: Sequence[NDArray[np.uint8]], titles: Sequence[str], columns: int, width: float = 2.6, height: float = 2.0
) -> Figure:
    """Images, grey or in colour, in rows of `columns`, each under its title; width and height of a place in inches."""
    from matplotlib.figure import Figure

    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(width * columns, height * rows), dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, title in zip(axes, images, titles, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(title, fontsize=6)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _written(path: Path, content: bytes) -> Path:
    try:
        files.write_bytes(path, content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error
    return path
