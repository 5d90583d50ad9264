"""Distributed hyperparameter search for facial expression recognition."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

__all__ = ["__version__", "load_run"]
__version__ = "0.1.0"


def load_run(path: str | Path, kind: str = "trials") -> pd.DataFrame:
    """A run's folder as a pandas frame: its "trials", "epochs" or final "models"; see `facex_tune.runs.frames`.

    Raises:
        facex_tune.errors.InputError: there is no run, or no such kind.
    """
    from facex_tune.runs import frames  # here, so that importing the package stays cheap

    return frames.load_run(path, kind)
