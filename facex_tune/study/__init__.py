"""What a `search_spaces/*.yaml` says, wholly checked before a GPU is claimed. Needs neither torch nor Ray.

`load` reads a file (`yaml_file`), checks its keys one by one (`schema`) and against each other (`consistency`), and
narrows the parts' own ranges to those that the study names (`ranges`). `protocols` says which test sets can be scored,
and how.
"""

from __future__ import annotations

from facex_tune.study.editor_schema import json_schema
from facex_tune.study.schema import (
    ARRIVAL,
    FIXED,
    NEVER,
    Budget,
    Holdout,
    Resources,
    data_text,
    seconds,
    sets_of,
    validated_sets,
)
from facex_tune.study.study import Study, load, parse, with_budget

__all__ = [
    "ARRIVAL",
    "FIXED",
    "NEVER",
    "Budget",
    "Holdout",
    "Resources",
    "Study",
    "data_text",
    "json_schema",
    "load",
    "parse",
    "seconds",
    "sets_of",
    "validated_sets",
    "with_budget",
]
