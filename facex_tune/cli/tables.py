"""The tables that `parts`, `doctor`, `data` and `--dry-run` print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from facex_tune.data.faces import told_of
from facex_tune.display.table import plain
from facex_tune.emotions import EMOTIONS, GREY_48, FaceShape
from facex_tune.inspection import doctor
from facex_tune.inspection.doctor import Finding
from facex_tune.study.words import clock, measured_text, value_text


def predictions(document: Mapping[str, Any]) -> Table:
    """`predict.predict`: a line a face."""
    table = plain("image", "emotion", *(f">{emotion}" for emotion in document["emotions"]))
    for image in document["images"]:
        table.add_row(image["file"], image["emotion"], *(f"{p:.3f}" for p in image["probabilities"].values()))
    return table


def found_faces(document: Mapping[str, Any]) -> Table:
    """`find_faces.document`: a line a face, and one for a photograph in which none was found."""
    table = plain("image", ">face", "box", "emotion", *(f">{emotion}" for emotion in document["emotions"]))
    for image in document["images"]:
        for n, face in enumerate(image["faces"], start=1):
            box = ", ".join(f"{corner:.0f}" for corner in face["box"])
            probabilities = (f"{p:.3f}" for p in face["probabilities"].values())
            table.add_row(image["file"], str(n), box, face["emotion"], *probabilities)
        if not image["faces"]:
            table.add_row(image["file"], "-", "no face was found", "", *[""] * len(document["emotions"]), style="dim")
    return table


def parts(document: Mapping[str, Any]) -> Table:
    """`catalog.of_parts`: a line a part, a line a knob."""
    table = plain("family", "part", "~what it is, and its knobs")
    for family, found in document["families"].items():
        for name, part in found.items():
            table.add_row(family, Text(name, "bold"), part["summary"])
            for knob, about in part["knobs"].items():
                doc = f"  {about['doc']}" if about["doc"] else ""
                table.add_row("", "", Text(f"  {knob}: {_range(about)}{doc}", "dim"))
    return table


def costs(document: Mapping[str, Any]) -> list[RenderableType]:
    """`costs.of_models`: a line a model, at its defaults."""
    table = plain("model", ">parameters", ">MACs a face", ">forward", ">training", "precision", "~")
    for name, cost in document["models"].items():
        if "problem" in cost:
            table.add_row(name, *["-"] * 5, cost["problem"], style="dim")
            continue
        speeds = [f"{cost[kind]:,.0f}/s" if kind in cost else "-" for kind in ("forward", "training")]
        counts = f"{cost['parameters']:,}", f"{cost['macs'] / 1e6:,.1f} M"
        table.add_row(name, *counts, *speeds, str(cost.get("precision", "-")), "")
    faces = f"{document['batch']} {FaceShape.of(document)} faces"
    told = (
        f"at the defaults; images a second here ({document['device']}, {document['threads']} threads, {faces} a batch)"
    )
    return [table, Text(told, "dim")]


def bench(document: Mapping[str, Any]) -> list[RenderableType]:
    """`pipeline.bench.bench`: a line a model, and where profiled a table of operations."""
    models, gflops = document["models"], document["matmul_gflops"]
    shares = list(dict.fromkeys(name for each in models.values() for name in each["shares"]))
    table = plain("model", ">trained/s", ">bare step", "precision", ">an epoch", *(f">{name}" for name in shares))
    for name, each in models.items():
        speeds = [f"{each['images_per_second']:,.0f}", f"{each['bare_images_per_second']:,.0f}"]
        cells = [each["precision"], clock(each["seconds_per_epoch"])]
        table.add_row(name, *speeds, *cells, *(f"{each['shares'][share]:.1%}" for share in shares))
    machine = (
        f"at the study's defaults ({document['device']}, {document['threads']} threads); matrices here: "
        f"{gflops['fp32']:,.0f} GFLOP/s in fp32, {gflops['bf16']:,.0f} in bf16"
    )
    found: list[RenderableType] = [table, Text(machine, "dim")]
    if any("operations" in each for each in models.values()):
        kinds = list(dict.fromkeys(kind for each in models.values() for kind in each.get("operations", {})))
        profiled = plain("model", *(f">{kind}" for kind in kinds))
        for name, each in models.items():
            profiled.add_row(name, *(f"{each['operations'].get(kind, 0.0):.1%}" for kind in kinds))
        found += [Text(), profiled]
    return found


def simulated(document: Mapping[str, Any]) -> list[RenderableType]:
    """`simulation.simulate`: a line an arm, then what the numbers rest on."""
    headers = ">found", "95 %", ">within 1 % after", ">ended after", ">worker hours", ">trials", ">failing"
    table = plain("sampler", "scheduler", ">workers", *headers)
    for arm in document["arms"]:
        scheduler = arm["scheduler"] + ("" if arm["reduction"] is None else f" 1/{arm['reduction']}")
        low_high = "-" if arm["interval"] is None else "[{:.3f}, {:.3f}]".format(*arm["interval"])
        times = clock(arm["near_seconds"]), clock(arm["seconds"]), f"{arm['worker_seconds'] / 3600:.2f}"
        counts = f"{arm['trials']:.1f}", f"{arm['failing']:.1f}"
        found = measured_text(arm["found"])
        table.add_row(arm["sampler"], scheduler, f"{arm['workers']:,}", found, low_high, *times, *counts)
    return [table, *(Text(line, "dim") for line in _rests_on(document))]


def _rests_on(document: Mapping[str, Any]) -> list[str]:
    """What a simulation's numbers are, and how far its curves tell of what was not recorded."""
    curves, unseen = document["curves"], document["unseen"]
    how = "a model of the curves" if document["by"] == "surrogate" else "the nearest recorded training"
    two = "" if unseen["seed_error"] is None else f"; seeds alone differ by {unseen['seed_error']:.3f}"
    means = "one search" if document["seeds"] == 1 else f"means over {document['seeds']} searches"
    return [
        f"found: {document['objective']} at the end of a training, expected of what would be retrained; {means}",
        f"by {how}, {curves['trainings']:,} trainings of {curves['configurations']:,} configurations "
        f"({curves['failed']:,} failed): {curves['what']}",
        f"a configuration that it has not seen is told with a mean error of {unseen['mean_error']:.3f} (n = "
        f"{unseen['n']}; rank correlation {unseen['rank_correlation']:.2f}); if all were told the same, "
        f"{unseen['constant_error']:.3f}{two}",
    ]


def _range(knob: Mapping[str, Any]) -> str:
    default = f" (default {value_text(knob['default'])})"
    if knob["type"] == "choice":
        also = f", or {knob['also']}" if "also" in knob else ""
        return ", ".join(value_text(option) for option in knob["choices"]) + also + default
    return f"{value_text(knob['low'])} to {value_text(knob['high'])}{', log' if knob['log'] else ''}{default}"


def findings(found: Iterable[Finding]) -> Table:
    """What the doctor found, a line each."""
    table = plain("", "what", "~how it is")
    for finding in found:
        style = {doctor.PROBLEM: "red", doctor.WARNING: "yellow"}.get(finding.level, "green")
        advice = f": {finding.advice}" if finding.advice else ""
        table.add_row(Text(finding.level, style), finding.name, f"{finding.text}{advice}")
    return table


def data_sets(document: Mapping[str, Any]) -> Table:
    """`catalog.of_data`: prepared sets with their counts, then what could be prepared."""
    table = plain("data set", ">faces", "~splits or how to get it")
    for name, manifest in document["prepared"].items():
        if "problem" in manifest:
            table.add_row(name, "-", manifest["problem"], style="red")
            continue
        splits = ", ".join(f"{split} {sum(counts.values()):,}" for split, counts in manifest["counts"].items())
        face = FaceShape.of(manifest)
        shape = f" | {face}" if face != GREY_48 else ""
        table.add_row(name, f"{manifest['n']:,}", splits + shape + " | incomplete" * bool(manifest["incomplete"]))
    for name, source in document["sources"].items():
        if name not in document["prepared"]:
            command = f"facex-tune data prepare {name}{' SOURCE' if source['needs_source'] else ''}"
            command += " --as NAME" if source["named_by_user"] else ""
            table.add_row(name, "-", f"{command}  ({source['description']})", style="dim")
    return table


def data_set(document: Mapping[str, Any]) -> list[RenderableType]:
    """`catalog.of_set`: the classes of each split, and of the annotators' majority where there are votes."""
    sequences = f", {document['sequences']:,} sequences" if document["sequences"] else ""
    face = FaceShape.of(document)
    heading = f"{document['name']} | {document['n']:,} faces of {face}{sequences} | {document['folder']}"
    parts: list[RenderableType] = [Text(heading, "bold"), _classes("labels", document["counts"], document["groups"])]
    if document["majority_counts"] is not None:
        parts += [Text(), _classes("annotators' majority", document["majority_counts"], None)]
    if told := told_of(document):
        parts += [Text(), *(Text(f"note: {each}") for each in told)]
    if document["skipped"]:
        reasons = Counter(skip["reason"] for skip in document["skipped"])
        parts += [Text(), *(Text(f"skipped {count:,}: {reason}") for reason, count in reasons.most_common(5))]
    return parts


def _classes(title: str, counts: Mapping[str, Mapping[str, int]], groups: Mapping[str, int] | None) -> Table:
    """A row an emotion: faces, share and a bar for each split; then the sum, and the groups of faces kept together."""
    splits = list(counts)
    table = plain(title, *(column for split in splits for column in (f">{split}", ">", "")))
    totals = {split: sum(counts[split].values()) for split in splits}
    for emotion in EMOTIONS:
        if any(emotion in counts[split] for split in splits):
            cells = [_class(counts[split].get(emotion, 0), totals[split]) for split in splits]
            table.add_row(emotion, *(cell for three in cells for cell in three))
    table.add_row("all", *(cell for split in splits for cell in (f"{totals[split]:,}", "", "")), style="dim")
    if groups is not None:
        table.add_row("groups", *(cell for split in splits for cell in (f"{groups[split]:,}", "", "")), style="dim")
    return table


def _class(n: int, total: int) -> tuple[str, str, str]:
    share = n / max(total, 1)
    return f"{n:,}", f"{share:.1%}", "#" * round(share * 20)


def audit(document: Mapping[str, Any]) -> list[RenderableType]:
    """`data.audit.document`: each set, copies by part, and the share of evaluation faces seen in training."""
    sets = plain(
        "data set", ">faces", ">exact groups", ">labels differ", ">near, differ", ">blank", ">no face", ">suspects",
        ">uncropped",
    )  # fmt: skip
    for name, about in document["sets"].items():
        groups = f"{about['exact_groups']:,} of {about['faces_in_exact_groups']:,}"
        differ = [str(about[key]) for key in ("groups_with_conflicting_labels", "pairs_with_conflicting_labels")]
        no_face = f"{len(about['not_a_face']):,}" if about["has_votes"] else "-"
        suspects, uncropped = (f"{len(about[key]):,}" for key in ("unlike_faces", "uncropped"))
        sets.add_row(name, f"{about['n']:,}", groups, *differ, f"{len(about['blank']):,}", no_face, suspects, uncropped)
    parts: list[RenderableType] = [sets]
    if len({FaceShape.of(about) for about in document["sets"].values()}) > 1:
        shapes = ", ".join(f"{name} {FaceShape.of(about)}" for name, about in document["sets"].items())
        parts.append(Text(f"sets of several shapes ({shapes}), all compared as {document['compared_as']}"))
    if document["copies"]:
        copies = plain("faces of", "with a copy in", ">exact", ">mirrored", ">near")
        for row in document["copies"]:
            counts = [f"{row[kind]:,}" for kind in ("exact", "mirrored", "near")]
            copies.add_row(f"{row['set']} {row['split']}", f"{row['in_set']} {row['in_split']}", *counts)
        parts += [Text(), copies]
    if document["seen_in_training"]:
        seen = plain("evaluation faces", ">faces", ">exact", ">mirrored", ">near", ">seen in training")
        for row in document["seen_in_training"]:
            counts = [f"{row[kind]:,}" for kind in ("n", "exact", "mirrored", "near")]
            seen.add_row(f"{row['set']} {row['split']}", *counts, f"{row['any']:,} ({row['share']:.1%})")
        parts += [Text(), seen]
    return parts


def estimate(figures: Mapping[str, Any]) -> Table:
    """`dry_run.estimate`: what a run would take."""
    table = plain("", "")
    table.show_header = False
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), _estimated(value))
    return table


def _estimated(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {value_text(each)}" for name, each in value.items())
    return value_text(value)
