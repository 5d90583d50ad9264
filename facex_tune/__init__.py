"""Distributed hyperparameter search for facial expression recognition.

    import facex_tune

    run = facex_tune.run("search_spaces/quick.yaml", run="demo")    # or open_run("runs/demo")
    run.best, run.trials, run.evaluation
    facex_tune.load_model(run).predict(images)

`docs/python.md` shows each name at work. Importing this package is cheap: a name brings what it needs when it is asked
for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facex_tune.api.ask_tell import Search, Suggestion
    from facex_tune.api.models import Model, load_model
    from facex_tune.api.runs import Best, Run, open_run
    from facex_tune.api.said import Budget, Evaluate, Face, Fidelity, Range, Resources, Retrain, Sampling, Train
    from facex_tune.api.study import Study, run
    from facex_tune.errors import InputError, Interrupted
    from facex_tune.runs.frames import load_run

__all__ = [
    "Best",
    "Budget",
    "Evaluate",
    "Face",
    "Fidelity",
    "InputError",
    "Interrupted",
    "Model",
    "Range",
    "Resources",
    "Retrain",
    "Run",
    "Sampling",
    "Search",
    "Study",
    "Suggestion",
    "Train",
    "__version__",
    "load_model",
    "load_run",
    "open_run",
    "run",
]
__version__ = "0.1.0"

_FILES = {
    "facex_tune.api.ask_tell": ("Search", "Suggestion"),
    "facex_tune.api.models": ("Model", "load_model"),
    "facex_tune.api.runs": ("Best", "Run", "open_run"),
    "facex_tune.api.said": (
        "Budget",
        "Evaluate",
        "Face",
        "Fidelity",
        "Range",
        "Resources",
        "Retrain",
        "Sampling",
        "Train",
    ),
    "facex_tune.api.study": ("Study", "run"),
    "facex_tune.errors": ("InputError", "Interrupted"),
    "facex_tune.runs.frames": ("load_run",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, from the file that has it."""
    if name not in _FILE_OF:
        raise AttributeError(f"module 'facex_tune' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_FILE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
