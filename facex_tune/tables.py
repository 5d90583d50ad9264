"""Tables and figures for a terminal: what `parts`, `doctor`, `data` and `--dry-run` print, and what other tables are
made of.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from facex_tune import doctor
from facex_tune.doctor import Finding
from facex_tune.emotions import EMOTIONS
from facex_tune.space import FAMILIES

GAP, INDENT = 2, 4  # characters between cells, and before the values of a row that stands below its name
MEASURED_AT = 10_000  # characters, wider than any table
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def clock(seconds: float) -> str:
    """A duration: ``42s``, ``3m07s``, ``2h05m``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def gpu_time(hours: float) -> str:
    """What GPUs were held for: ``2.35 GPU-hours``, ``1m24s of GPU time``."""
    return f"{hours:.2f} GPU-hours" if hours >= 0.1 else f"{clock(3600 * hours)} of GPU time"


def ago(seconds: float) -> str:
    """An age in its largest unit: ``42s``, ``3m``, ``2h``, ``5d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"


def metric(value: float | None) -> str:
    """Three decimals, a dash where nothing was measured."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def sparkline(values: Sequence[float], low: float, high: float, *, width: int = 16, ascii_only: bool = False) -> str:
    """Bars between `low` and `high`, one a value, the last `width` of them; what is not a number is a blank."""
    bars = _ASCII_BARS if ascii_only else _BARS
    span = (high - low) or 1.0

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return " "
        return bars[min(len(bars) - 1, max(0, int((value - low) / span * len(bars))))]

    return "".join(bar(value) for value in values[-width:])


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The knobs that tell configurations apart: parts, then training knobs, then the parts' own.

    A part's own knob counts where it differs among the configurations that chose the part.
    """
    names = dict.fromkeys(name for config in configs for name in config)
    differing = [name for name in names if len({repr(config[name]) for config in configs if name in config}) > 1]
    return sorted(differing, key=lambda name: (name not in FAMILIES, not name.startswith("train.")))


def compact(config: Mapping[str, Any], knobs: Sequence[str]) -> str:
    """Knobs as short text, the parts first: ``resnet none | lr=0.031 resnet.width=32``."""
    chosen = [str(config[name]) for name in knobs if name in FAMILIES and name in config]
    rest = [f"{_short(name)}={value_text(config[name])}" for name in knobs if name not in FAMILIES and name in config]
    return " ".join([*chosen, *(["|"] if chosen and rest else []), *rest])


def _short(knob: str) -> str:
    """Without the family, which the part's own name or the knob's tells."""
    return knob.partition(".")[2]


def value_text(value: Any) -> str:
    """A knob's value, short."""
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return str(value)


def predictions(document: Mapping[str, Any]) -> Table:
    """`evidence.predict.predict`: a line a face."""
    table = plain("image", "emotion", *(f">{emotion}" for emotion in document["emotions"]))
    for image in document["images"]:
        table.add_row(image["file"], image["emotion"], *(f"{p:.3f}" for p in image["probabilities"].values()))
    return table


def parts(document: Mapping[str, Any]) -> Table:
    """`overview.of_parts`: a line a part, a line a knob."""
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
    faces = f"{document['batch']} faces of {document['pixels']}×{document['pixels']}"
    told = (
        f"at the defaults; images a second here ({document['device']}, {document['threads']} threads, {faces} a batch)"
    )
    return [table, Text(told, "dim")]


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
    """`overview.of_data`: prepared sets with their counts, then what could be prepared."""
    table = plain("data set", ">faces", "~splits or how to get it")
    for name, manifest in document["prepared"].items():
        if "problem" in manifest:
            table.add_row(name, "-", manifest["problem"], style="red")
            continue
        splits = ", ".join(f"{split} {sum(counts.values()):,}" for split, counts in manifest["counts"].items())
        table.add_row(name, f"{manifest['n']:,}", splits)
    for name, source in document["sources"].items():
        if name not in document["prepared"]:
            command = f"facex-tune data prepare {name}{' SOURCE' if source['needs_source'] else ''}"
            command += " --as NAME" * (name == "folder")
            command += " --as NAME" if source["named_by_user"] else ""
            table.add_row(name, "-", f"{command}  ({source['description']})", style="dim")
    return table


def data_set(document: Mapping[str, Any]) -> list[RenderableType]:
    """`overview.of_set`: the classes of each split, and of the annotators' majority where there are votes."""
    sequences = f", {document['sequences']:,} sequences" if document["sequences"] else ""
    heading = f"{document['name']} | {document['n']:,} faces{sequences} | {document['folder']}"
    parts: list[RenderableType] = [Text(heading, "bold"), _classes("labels", document["counts"], document["groups"])]
    if document["majority_counts"] is not None:
        parts += [Text(), _classes("annotators' majority", document["majority_counts"], None)]
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
        "data set", ">faces", ">exact groups", ">labels differ", ">near, differ", ">blank", ">no face", ">suspects"
    )
    for name, about in document["sets"].items():
        groups = f"{about['exact_groups']:,} of {about['faces_in_exact_groups']:,}"
        differ = [str(about[key]) for key in ("groups_with_conflicting_labels", "pairs_with_conflicting_labels")]
        no_face = f"{len(about['not_a_face']):,}" if about["has_votes"] else "-"
        suspects = f"{len(about['unlike_faces']):,}"
        sets.add_row(name, f"{about['n']:,}", groups, *differ, f"{len(about['blank']):,}", no_face, suspects)
    parts: list[RenderableType] = [sets]
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
    """`pipeline.estimate`: what a run would take."""
    table = plain("", "")
    table.show_header = False
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), _estimated(value))
    return table


def _estimated(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {value_text(each)}" for name, each in value.items())
    return value_text(value)


class _Plain(Table):
    """A table that shows text as it is: a file may be named `face[1].png`, which rich would take for its markup. Where
    the terminal is too narrow, its rows stand below each other, and nothing of a number or a name is lost.
    """

    stacks = True

    def add_row(self, *cells: RenderableType | None, **said: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **said)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.stacks and self._needed(console, options) > options.max_width:
            yield from self._stacked(options.max_width)
        else:
            yield from super().__rich_console__(console, options)

    def _needed(self, console: Console, options: ConsoleOptions) -> int:
        """Characters of a line in which no cell is cut."""
        ample = options.update(width=MEASURED_AT)
        widths = []
        for column in self.columns:
            found = [Measurement.get(console, ample, cell) for cell in (column.header, *column.cells)]
            widths.append(max(each.maximum if column.no_wrap else each.minimum for each in found))
        return sum(widths) + GAP * (len(widths) - 1)

    def _stacked(self, width: int) -> Iterator[Text]:
        """Each row as its name, which is all up to the first column that is no number, and its values below."""
        named = next((n for n, column in enumerate(self.columns, 1) if column.justify == "left"), 1)
        headers = [_text(column.header) for column in self.columns]
        if self.show_header:
            yield from _filled([Text(header.plain, "dim") for header in headers[:named] if header.plain], 0, width)
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            said = [_text(cell) for cell in cells]
            yield from _filled([each for each in said[:named] if each.plain], 0, width)
            values = [
                Text.assemble((f"{header.plain} " if header.plain else "", "dim"), value)
                for header, value in list(zip(headers, said, strict=True))[named:]
                if value.plain
            ]
            yield from _filled(values, INDENT, width)


def _text(cell: Any) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def _filled(pieces: Iterable[Text], indent: int, width: int) -> Iterator[Text]:
    """Lines of pieces, as many in each as fit; one that is longer than a line is folded by the terminal."""
    line = Text(overflow="fold")
    for piece in pieces:
        if line.plain and line.cell_len + GAP + piece.cell_len > width:
            yield line
            line = Text(overflow="fold")
        line.append(" " * (GAP if line.plain else indent)).append_text(piece)
    if line.plain:
        yield line


def plain(*columns: str, stacks: bool = True) -> Table:
    """A table without lines.

    A column whose name starts with `>` is aligned right; one that starts with `~` wraps where the terminal is narrow,
    and the others keep their width.

    Args:
        stacks: where all that does not fit, rows stand below each other; false where the height is bounded.
    """
    table = _Plain(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.stacks = stacks
    for column in columns:
        justify: JustifyMethod = "right" if column.startswith(">") else "left"
        name, wraps = Text(column.lstrip(">~")), column.startswith("~")
        table.add_column(name, justify=justify, no_wrap=not wraps, overflow="fold")
    return table
