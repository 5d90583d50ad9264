"""How Sphinx makes the pages of this folder into HTML: `make docs`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
project = "facex_tune"
author = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["authors"][0]["name"]
copyright = author
extensions = ["myst_parser"]
exclude_patterns = ["logbook", "notebooks"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Hyperparameter search for facial expression recognition", "page_width": "70rem"}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}


def _downloads(app: Any, name: str, source: list[str]) -> None:
    """Pages beside this folder, such as the README, are files to download: Sphinx knows those below it alone."""
    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)]+\.md)\)", r"{download}`\1 <\2>`", source[0])


def setup(app: Any) -> None:
    """Asked by Sphinx."""
    app.connect("source-read", _downloads)
