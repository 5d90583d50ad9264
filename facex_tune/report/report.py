"""The report of a run: report/index.html (one file, needs no network), report.json, trials.csv and figures/.

Works after every stage: what has not been run yet is said, not left out. Sealed sets are not opened here: the faces in
the galleries were kept by `evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.data import faces as face_sets
from facex_tune.data.joining import told_of_share
from facex_tune.errors import InputError
from facex_tune.evaluation import records
from facex_tune.report import figure_choice, model_cards, page, painting, summary, table_files
from facex_tune.runs import frames
from facex_tune.storage import files
from facex_tune.storage.files import Place
from facex_tune.study import protocols

if TYPE_CHECKING:
    from facex_tune.runs.store import Run


SCHEMA = Path(__file__).parent / "report.schema.json"


def report(run: Run, data_dir: Path | None, *, faces: bool = True) -> Place:
    """Writes the report of what `run` has shown so far and returns the path of index.html.

    Args:
        data_dir: where the prepared sets are, for their counts; None takes what the run recorded.
        faces: whether the page shows faces of the test sets.
    """
    folder = run.report_folder
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    from threadpoolctl import threadpool_limits

    # Two threads wait for each other at every product of draws, and take twice the processor time for it.
    with painting.helpers() as helpers, threadpool_limits(1, "blas"):
        painting.warm(helpers)
        document = summary.document(run, manifests(run, data_dir))
        drawn = painting.Painted(helpers, figure_choice.of_run(run, document), folder / "figures")
        files.write_json(folder / "report.json", document)
        files.write_bytes(folder / SCHEMA.name, SCHEMA.read_bytes())
        files.write_bytes(folder / "trials.csv", frames.trials_csv(run).encode())
        table_files.write(document, folder / "tables")
        _write_cards(run, document, folder / "cards")
        index = folder / "index.html"
        files.write_bytes(index, page.html(run, document, drawn, faces=faces).encode())
        drawn.finish()
    return index


def _write_cards(run: Run, document: Mapping[str, Any], folder: Place) -> None:
    """cards/t0007-s0.md and so on, of the models whose files are there."""
    for model in [*document["models"], *document.get("models_on_all", [])]:
        config = run.folder / model["path"] / "config.json"
        if config.is_file():
            name = model_cards.name_of(model)
            content = model_cards.card(document, model, files.read_json(config))
            files.write_bytes(folder / f"{name}.md", content.encode())


def shares(run: Run) -> Mapping[str, Any]:
    """What each set of a study of several gave, as the run recorded it; empty for a study of one."""
    found: Mapping[str, Any] = (run.header.get("faces") or {}).get("by_set", {})
    return found


def manifests(run: Run, data_dir: Path | None) -> dict[str, Any]:
    """The manifests of the study's own set, of every set that its protocols name, and of others that were scored, where
    one can be had; `told` says what a reader should know of each.
    """
    recorded: Mapping[str, Any] = run.header["data"]
    scored = records.scored_sets(run)
    names = [*run.study.sets, *(protocols.find(name).data for name in run.study.evaluate.protocols)]
    found = {}
    for name in dict.fromkeys([*names, *recorded, *scored]):
        if name in recorded:
            found[name] = recorded[name]
        elif data_dir is not None:
            try:
                manifest = face_sets.read_manifest(data_dir, name)
            except InputError:
                continue  # not prepared: the report says which protocols were not scored
            if scored.get(name) in (None, manifest["sha256"]):
                found[name] = manifest
    study = run.study.to_data()
    told = {name: face_sets.told_of(manifest, **face_sets.as_read(study, name)) for name, manifest in found.items()}
    for name, share in shares(run).items():
        if name in told:
            told[name] = [told_of_share(share), *told[name]]
    return {name: {**face_sets.shareable(manifest), "told": told[name]} for name, manifest in found.items()}
