"""The command line, one file a kind of command; `entry` puts them together."""

from __future__ import annotations

from facex_tune.cli.entry import app, main

__all__ = ["app", "main"]
