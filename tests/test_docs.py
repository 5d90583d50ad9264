"""The documentation is tested: its commands parse, the files that it names exist, its example works."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from facex_tune import study
from facex_tune.cli import app
from facex_tune.data import prepare
from facex_tune.runs.events import EpochDone, TrialFinished, TrialStarted
from facex_tune.runs.store import Run

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {
    path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *DOCS, ROOT / "cluster" / "README.md")
}
TEXT = "\n".join(PAGES.values())


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, README's first."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every `facex-tune ...`, in blocks, in running text, and in the headers of studies and in the Makefile."""
    in_blocks = [line.partition("#")[0] for block in blocks("sh") for line in block.splitlines()]
    in_blocks += [given for given, _ in shown()]
    inline = [code for code in re.findall(r"`([^`\n]+)`", TEXT) if code.startswith("facex-tune ")]
    files = [ROOT / "Makefile", *(ROOT / "search_spaces").glob("*.yaml")]
    elsewhere = [line.lstrip("# \t") for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [one for line in [*in_blocks, *inline, *elsewhere] for one in line.split("&&")]
    found = [re.sub(r"^(\.venv|\$\(BIN\))(/bin)?/", "", line.strip()) for line in lines]
    return sorted({line for line in found if line.startswith("facex-tune ")})


def shown() -> list[tuple[str, str]]:
    """The commands that are shown with what they print, each with that."""
    found = []
    for block in blocks("console"):
        for each in block.removeprefix("$ ").split("\n$ "):
            given, _, printed = each.partition("\n")
            found.append((given.partition("  #")[0].strip(), printed))
    return found


def parsed(line: str) -> Any:
    """Parses a command line down to its last command, running none; raises what the real one would."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    # These end the parsing, need no arguments, and the second one writes into the shell's own files.
    asks_help = bool({"--help", "--install-completion", "--show-completion"} & set(words))
    words = [word for word in words if word not in ("--help", "--install-completion", "--show-completion")]
    context = command.make_context("facex-tune", words, resilient_parsing=asks_help)
    if not words:
        return context
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, words, parent=context, resilient_parsing=asks_help)
    return context


def test_the_readme_has_commands_to_test() -> None:
    assert len(commands()) >= 20


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_documentation_parses(line: str) -> None:
    parsed(line)


@pytest.mark.parametrize("line", ["facex-tune rnu x", "facex-tune run", "facex-tune run x --nosuch"])
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    with pytest.raises(typer.BadParameter.__mro__[2]):
        parsed(line)


def named_files() -> list[str]:
    links = [
        os.path.relpath(path.parent / link, ROOT)
        for path, text in PAGES.items()
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    ]
    in_commands = [word for line in commands() for word in shlex.split(line) if re.match(r"[\w/]+\.yaml$", word)]
    return sorted({*links, *(word for word in in_commands if "/" in word)})


@pytest.mark.parametrize("name", named_files())
def test_every_file_that_the_documentation_names_exists(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", TEXT, re.MULTILINE))
def test_every_make_target_of_the_documentation_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def studies() -> list[str]:
    return [block for block in blocks("yaml") if "name: my_study" in block]


@pytest.mark.parametrize("text", studies(), ids=range(len(studies())))
def test_the_studies_of_the_pages_are_studies(text: str) -> None:
    assert study.parse(yaml.safe_load(text)).name == "my_study"


def test_the_readme_is_read_in_four_minutes() -> None:
    words = len(PAGES[ROOT / "README.md"].split())
    assert words <= 800, "what is longer belongs on a page of docs/"


def test_the_readme_shows_two_commands_with_their_output() -> None:
    """Lines of it, as they were printed."""
    assert len(shown()) >= 2
    assert all(given.startswith("facex-tune ") and printed.strip() for given, printed in shown())


def test_the_page_of_commands_names_every_importer_and_its_options() -> None:
    page = PAGES[ROOT / "docs" / "commands.md"]
    assert [name for name in prepare.names() if f"`{name}`" not in page] == []
    command: Any = typer.main.get_command(app)
    options = command.commands["data"].commands["prepare"].params
    names = [each.opts[0] for each in options if each.param_type_name == "option"]
    assert [name for name in names if name not in page] == []


@pytest.mark.parametrize(
    ("share", "n", "said"),
    [
        (float(share), int(n.replace(",", "")), (float(low), float(high)))
        for row in PAGES[ROOT / "docs" / "comparison.md"].splitlines()
        if row.startswith("|") and "this project" not in row
        for n in re.findall(r"\| ([\d,]+) \|", row)
        for share, low, high in re.findall(r"(\.\d+) \[(\.\d+), (\.\d+)\]", row)
    ],
)
def test_intervals_of_other_packages_are_wilson_s(share: float, n: int, said: tuple[float, float]) -> None:
    z = 1.96
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    found = [(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert said == pytest.approx(found, abs=6e-4)


@pytest.mark.parametrize("path", [path for path in DOCS if path.name != "index.md"], ids=lambda path: path.stem)
def test_every_page_is_led_to(path: Path) -> None:
    others = [text for other, text in PAGES.items() if other != path]
    assert any(f"]({path.name})" in text or f"](docs/{path.name})" in text for text in others)


def test_the_index_has_every_page() -> None:
    listed = re.findall(r"^([\w-]+)$", PAGES[ROOT / "docs" / "index.md"], re.MULTILINE)
    pages = {path.stem for path in DOCS if path.name != "index.md"}
    assert sorted(listed) == sorted(pages), "each once"


def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*command, str(ROOT / "docs"), str(tmp_path / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "python.html").is_file()


def test_the_part_of_the_readme_is_found_and_passes_faces_through(tmp_path: Path) -> None:
    text = next(block for block in blocks("python") if "def build(" in block)
    part = tmp_path / "models" / "tiny.py"
    part.parent.mkdir()
    part.write_text(text, encoding="utf-8")
    code = f"""
import torch
from facex_tune import parts
parts.use_folder({str(tmp_path)!r})
tiny = parts.model("tiny")
model = tiny.build({{name: knob.default for name, knob in tiny.SPACE.items()}}, 7)
print(tuple(model(torch.zeros(4, 1, 48, 48)).shape), "tiny" in parts.names("model"))
"""
    # in a process of its own: own parts stay for the life of one
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(4, 7) True"


def test_the_frame_of_the_readme_is_one(tmp_path: Path) -> None:
    run = Run.create(
        tmp_path / "runs", "demo", study.load(ROOT / "search_spaces" / "quick.yaml"), data={}, environment={}
    )
    with run.log() as log:
        log.append(TrialStarted(trial=0, config={"train.lr": 0.125}, source="sampler"))
        log.append(EpochDone(trial=0, epoch=1, metrics={"macro_f1": 0.5}, seconds=1.0))
        log.append(TrialFinished(trial=0))
    code = next(block for block in blocks("python") if "load_run" in block)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[1].split() == ["0", "0", "0.5", "1", "0.125"]


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_is_valid_and_its_header_says_how_to_run_it(path: Path) -> None:
    study.load(path)
    assert f"facex-tune run search_spaces/{path.name}" in path.read_text(encoding="utf-8")
