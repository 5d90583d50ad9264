"""A trained model in Python."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.api import places
from facex_tune.api.runs import Run
from facex_tune.emotions import FaceShape
from facex_tune.errors import InputError
from facex_tune.storage import files

if TYPE_CHECKING:
    import pandas as pd

    from facex_tune.inference.answers import Asked
    from facex_tune.storage.files import Place


class Model:
    """A trained model, to be asked for emotions; `load_model` gives one."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    @property
    def name(self) -> str:
        """The run's name and the model's, such as ``demo/t0007-s0``."""
        return self._asked.name

    @property
    def emotions(self) -> tuple[str, ...]:
        """What it tells apart, in the order of its answers."""
        return self._asked.emotions

    @property
    def face(self) -> FaceShape:
        """The size and channels of the faces that it was trained on; `predict` brings others into this shape."""
        return self._asked.face

    @property
    def info(self) -> dict[str, Any]:
        """What was kept beside its weights: its configuration, the seed, its metrics on the validation faces."""
        return copy.deepcopy(self._asked.info)

    def predict(self, images: Any, *, batch: int = 256, uncropped: bool = False) -> pd.DataFrame:
        """Gives the probability of each emotion for each face: a row a face, a column an emotion, rows of sum 1.
        ``model.predict(images).idxmax(axis=1)`` names the likeliest.

        Expects one cropped, roughly upright face an image, as it was trained with, and looks for none. Images of
        another size are cut centrally to a square and resized, as the data were; colours become grey for a model that
        was trained in grey, and grey becomes three equal channels for one that was trained in colour.

        Args:
            images: an array of grey faces N x H x W or H x W, or of colours N x H x W x 3 or H x W x 3, with whole
                numbers from 0 to 255 or floats from 0 to 1 or to 255; a tensor alike, also N x 1 or 3 x H x W; a PIL
                image; a path; or an iterable of single ones, which may be longer than memory. Paths become the rows'
                names.
            batch: faces that are read and asked at once.
            uncropped: take whole photographs too, of which the middle is read, whatever is there.

        Raises:
            InputError: another shape, NaN, numbers that are neither 0 to 1 nor 0 to 255, a file that is no image, or
                what looks like a whole photograph.
        """
        import numpy as np
        import pandas as pd

        from facex_tune.inference.images import batches

        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise InputError(f"batch: {batch!r} is no number of faces from 1 on")
        names: list[str] = []
        found = [
            self._asked.probabilities_NC(faces)
            for faces in batches(_noting(images, names), batch, self._asked.face, uncropped=uncropped)
            if len(faces)
        ]
        rows = np.concatenate(found) if found else np.empty((0, len(self.emotions)), np.float32)
        index = pd.Index(names, name="file") if names and len(names) == len(rows) else None
        return pd.DataFrame(rows, columns=list(self.emotions), index=index)

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {len(self.emotions)} emotions)"


def _noting(images: Any, names: list[str]) -> Any:
    """The images, the paths among them noted as they are read."""
    if isinstance(images, str | Path):
        names.append(str(images))
    if hasattr(images, "__array__") or hasattr(images, "getexif") or isinstance(images, str | Path | bytes):
        return images
    if not hasattr(images, "__iter__"):
        return images
    return _noted(images, names)


def _noted(images: Any, names: list[str]) -> Any:
    for image in images:
        if isinstance(image, str | Path):
            names.append(str(image))
        yield image


def load_model(
    source: Run | Path | str,
    *,
    device: str | None = None,
    flip: bool = False,
    storage: Place | str | None = None,
    parts: Sequence[Path | str] = (),
) -> Model:
    """Loads a trained model.

    Args:
        source: a run or its folder (the winner's first seed), a model's folder (``runs/demo/final/t0007-s0``), a file
            that `facex-tune export` wrote (safetensors or ONNX); or, as on the command line, a run's name or
            ``RUN/t0007-s0`` of `storage`.
        device: "cpu", "cuda", ...; None picks.
        flip: average each face with its mirror image.
        storage: where a run that is named lies; default: FACEX_STORAGE, else ``runs``.
        parts: folders with parts of the user's own, where its architecture is one.

    Raises:
        InputError: there is no such model, or it is none that can be built.
    """
    from facex_tune.inference import answers

    places.use_parts(parts)
    said, where = _named(source, storage)
    return Model(answers.ask(said, where, device_name=device, tta="flip" if flip else "none"))


def _named(source: Run | Path | str, storage: Place | str | None) -> tuple[str, Place]:
    """The words of the command line for a model: its name, and the folder of runs."""
    if isinstance(source, Run):
        return source.name, source.folder.parent
    if not isinstance(source, str | Path):
        raise InputError(f"load_model: {type(source).__name__} is no model; give a run, a folder or a file")
    place = files.place(source)
    if (place / "run.json").is_file():
        return place.name, place.parent
    return str(source), places.storage_place(storage)
