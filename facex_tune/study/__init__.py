"""What a `search_spaces/*.yaml` says, wholly checked before a GPU is claimed. Needs neither torch nor Ray.

`load` reads a file (`yaml_file`), checks its keys one by one (`schema`) and against each other (`consistency`), and
narrows the parts' own ranges to those that the study names (`ranges`). `protocols` says which test sets can be scored,
and how.
"""

from __future__ import annotations

from facex_tune.study.schema import Holdout, Resources, seconds
from facex_tune.study.study import Study, json_schema, load, parse

__all__ = ["Holdout", "Resources", "Study", "json_schema", "load", "parse", "seconds"]
