"""The parsers, property by property: what is written is read, one bad row costs one row, damage is told in a line."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from pathlib import Path

import fuzz  # beside this file
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facex_tune.data.faces import Skipped
from facex_tune.data.sources import _pixel_csv, ferplus, folder
from facex_tune.data.sources._pixel_csv import USAGES, Layout
from facex_tune.data.tree import open_tree
from facex_tune.emotions import EMOTIONS, SYNONYMS, canonical
from facex_tune.errors import InputError

ANY_SPLIT = dict(zip(USAGES, ("train", "public_test", "private_test"), strict=True))
spaces = st.text(" \t", max_size=2)
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**32 - 1), st.sampled_from(USAGES)), max_size=6)
rubbish = st.text(st.characters(codec="utf-8", exclude_characters='\r\n",'), max_size=30)


def image_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def written(columns: list[str], records: list[dict[str, str]], end: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(columns)
    writer.writerows([[record[column.strip().lower()] for column in columns] for record in records])
    return text.getvalue().encode()


def load(data: bytes) -> tuple[object, list[Skipped]]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "some.csv"
        path.write_bytes(data)
        found = _pixel_csv.load_rows(path, lambda done, total: None, Layout((0, 1, 2), ANY_SPLIT))
    assert found is not None
    return found


@settings(max_examples=60, deadline=None)
@given(
    rows,
    st.permutations(["emotion", "pixels", "Usage", "remarks"]),
    spaces,
    st.sampled_from(["\n", "\r\n"]),
    st.dictionaries(st.integers(0, 8), rubbish, max_size=3),
)
def test_a_csv_is_read_as_it_was_written_and_bad_rows_cost_themselves_alone(
    rows: list[tuple[int, int, str]], columns: list[str], pad: str, end: str, bad: dict[int, str]
) -> None:
    rows = [*((emotion, emotion, "Training") for emotion in range(3)), *rows]
    bad = {at: text for at, text in bad.items() if 3 <= at < len(rows)}
    records = []
    for at, (emotion, seed, usage) in enumerate(rows):
        pixels = " ".join(map(str, image_of(seed).ravel().tolist()))
        record = {"emotion": str(emotion), "pixels": pixels, "usage": usage, "remarks": 'said "so", twice'}
        records.append(record | ({"pixels": bad[at]} if at in bad else {}))
    faces, skipped = load(written([pad + column + pad for column in columns], records, end))
    kept = [at for at in range(len(rows)) if at not in bad]
    assert [skip.row for skip in skipped] == sorted(bad)
    assert faces.source_N.tolist() == [str(at) for at in kept]
    assert faces.labels_N.tolist() == [rows[at][0] for at in kept]
    assert faces.split_N.tolist() == [ANY_SPLIT[rows[at][2]] for at in kept]
    assert all(np.array_equal(image, image_of(rows[at][1])) for image, at in zip(faces.images_NHW, kept, strict=True))


@given(
    st.integers(2300, 2308),
    st.dictionaries(st.integers(0, 2299), st.integers(-(2**70), 2**70) | st.integers(-1, 256), max_size=5),
)
@settings(deadline=None)
def test_pixels_are_2304_numbers_from_0_to_255_or_refused(n: int, changes: dict[int, int]) -> None:
    values = [changes.get(at, at % 256) for at in range(n)]
    text = " ".join(map(str, values))
    if len(values) == 2304 and all(0 <= value <= 255 for value in values):
        assert _pixel_csv._image(text).ravel().tolist() == values
    else:
        with pytest.raises(
            ValueError, match=r"pixels where 2,304 are wanted|out of range 0\.\.255|no[t ].*whole number"
        ):
            _pixel_csv._image(text)


@given(st.binary(max_size=3000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_told_in_one_line(data: bytes) -> None:
    for header in (b"", b"emotion,pixels,Usage\n"):
        with pytest.raises(InputError) as told:
            load(header + data)
        assert len(str(told.value).splitlines()) == 1


@given(
    st.lists(st.lists(st.integers(0, 10), min_size=10, max_size=10), min_size=1, max_size=8), st.permutations(range(12))
)
@settings(deadline=None)
def test_votes_find_their_answers_in_any_order_of_columns(votes: list[list[int]], order: list[int]) -> None:
    names = ["Usage", "Image name", *ferplus._ANSWER_OF_COLUMN]
    lines = [",".join(names[at] for at in order)]
    lines += [",".join(["Training", "", *map(str, row)][at] for at in order) for row in votes]
    splits, read_RC = ferplus._read(io.BytesIO("\n".join(lines).encode()), "votes.csv")
    assert splits.tolist() == ["train"] * len(votes)
    assert read_RC[:, list(ferplus._ANSWER_OF_COLUMN.values())].tolist() == votes


@given(st.sampled_from([*EMOTIONS, *SYNONYMS]), st.sampled_from([str.lower, str.upper, str.title]), spaces)
def test_a_class_is_known_in_any_case(name: str, case: object, pad: str) -> None:
    assert canonical(pad + case(name) + pad) == canonical(name)  # type: ignore[operator]


@given(st.lists(st.tuples(rubbish, rubbish), max_size=4), st.lists(rubbish, max_size=3))
def test_words_of_map_and_drop_are_read_or_refused_in_one_line(maps: list[tuple[str, str]], drop: list[str]) -> None:
    words = ["=".join(pair) for pair in maps]
    problems: list[str] = []
    try:
        classes = folder.Classes.parse(words, drop)
    except InputError as error:
        problems += error.problems
    else:
        assert set(classes.rename.values()) <= set(EMOTIONS)
        assert not set(classes.rename) & set(classes.drop)
    assert len(problems) <= 1


parts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)


@given(st.lists(st.lists(parts | st.sampled_from(["..", ".", "a\\b"]), min_size=1, max_size=4), max_size=5))
@settings(deadline=None)
def test_no_member_of_a_zip_points_outside(names: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "some.zip"
        members = {"/".join(name): b"x" for name in names}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        problem = ""
        try:
            with open_tree(path) as tree:
                for name in tree.names:
                    assert ".." not in name.split("/")
                    assert not name.startswith("/")
                    assert name.isprintable()
                    assert tree.size_bytes(name) == 1
                    with tree.open(name) as file:
                        assert file.read() == b"x"
        except InputError as error:
            problem = str(error)
        assert not problem or "points outside" in problem


def test_a_member_without_a_name_is_one_line(tmp_path: Path) -> None:
    """Found by `make fuzz`: zipfile looks at the last letter of each name."""
    path = tmp_path / "nameless.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"x")
    with pytest.raises(InputError, match="a member has no name"), open_tree(path):
        pass


def test_damaged_csvs_and_zips_give_faces_or_one_line() -> None:
    counts, faults = fuzz.fuzz(seed=7, n=240)
    assert faults == []
    assert counts["faces"] > 20  # or nothing but the outermost checks would be tried
    assert counts["told"] > 50
