"""Where a source's files can be had."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Download:
    """A Kaggle data set (`owner/name`), and the address and SHA-256 of one more file that belongs beside it."""

    kaggle: str
    file_url: str | None = None
    file_sha256: str | None = None

    @property
    def kaggle_url(self) -> str:
        return f"https://www.kaggle.com/datasets/{self.kaggle}"
