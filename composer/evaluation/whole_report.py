"""One report of everything: which sets a folder holds, what was measured on each, as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from composer.formats.atomic import write_json, write_text
from sam.errors import BadAnnotation, UsageError

Kind = Literal["panoptic", "coco", "bsds"]
MEASURES: Mapping[Kind, tuple[str, ...]] = {
    "panoptic": ("points", "boxes", "proposals"),
    "coco": ("points", "boxes", "proposals"),
    "bsds": ("edges",),
}
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "points": ("miou.1", "oracle.1", "miou.3", "miou.9"),
    "boxes": ("miou.1", "box_filled"),
    "proposals": ("ar@10", "ar@100", "ar@1000"),
    "edges": ("ods", "ois", "ap", "r50"),
}
"""Of each measure's JSON, what the table shows: keys, with a dot between those of nested objects."""


@dataclass(frozen=True)
class FoundSet:
    """A set of labelled photos in a folder.

    Attributes:
        name: its path below the folder that was searched.
        kind: its format.
        folder: where it is.
    """

    name: str
    kind: Kind
    folder: Path


@dataclass(frozen=True)
class Section:
    """What one measure said of one set.

    Attributes:
        found: the set.
        measure: ``points``, ``boxes``, ``proposals`` or ``edges``.
        figures: its JSON object; empty where it failed.
        plot: file name of its plot, beside the report; None where it failed.
        error: why it failed; None where it did not.
    """

    found: FoundSet
    measure: str
    figures: Mapping[str, Any]
    plot: str | None
    error: str | None = None


def find_sets(folder: Path) -> list[FoundSet]:
    """The sets in ``folder``, itself and its subfolders two levels down.

    A folder with ``panoptic.json`` is a COCO-panoptic set, with ``instances.json`` beside ``images/`` a COCO
    set, with ``data/groundTruth/test``, or ``images/`` and ``groundTruth/``, a BSDS set.

    Raises:
        UsageError: no such folder.
        BadAnnotation: nothing in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", field="data")
    found = [
        FoundSet(str(path.relative_to(folder)) if path != folder else folder.resolve().name, kind, path)
        for path in _folders(folder)
        if (kind := _kind(path)) is not None
    ]
    if not found:
        raise BadAnnotation(
            f"{folder}: no labelled set in it; expected folders with panoptic.json, with instances.json and "
            "images/, or BSDS500"
        )
    return found


def write_report(folder: Path, sections: Sequence[Section], about: Mapping[str, Any]) -> list[Path]:
    """Write ``report.json`` and ``report.md``. Raises EnvironmentProblem."""
    content = {
        **about,
        "sets": [_section_json(section) for section in sections],
    }
    return [
        write_json(folder / "report.json", content),
        write_text(folder / "report.md", markdown(sections, about)),
    ]


def _section_json(section: Section) -> dict[str, Any]:
    what = {"set": section.found.name, "kind": section.found.kind, "measure": section.measure}
    if section.error is not None:
        return what | {"error": section.error}
    return what | {"plot": section.plot, **section.figures}


def markdown(sections: Sequence[Section], about: Mapping[str, Any]) -> str:
    """The report as text: what was run, a table for each measure, the plots."""
    model = about.get("model", {})
    lines = [
        f"# Evaluation of {about.get('preset', 'a model')}",
        "",
        f"- weights: `{model.get('weights')}`, SHA-256 `{about.get('weights_sha256')}`",
        f"- device and precision: {model.get('device')}, {model.get('precision')}",
        f"- command: `{about.get('command')}`",
        "",
    ]
    for measure in HEADLINES:
        mine = [section for section in sections if section.measure == measure]
        if not mine:
            continue
        keys = HEADLINES[measure]
        lines += [f"## {measure}", "", "| set | photos | " + " | ".join(keys) + " |"]
        lines += ["|---" * (len(keys) + 2) + "|"]
        for section in mine:
            cells = [_cell(section.figures, key) for key in keys]
            photos = section.figures.get("images", "")
            lines.append(f"| {section.found.name} | {photos} | " + " | ".join(cells) + " |")
        lines.append("")
        lines += [f"- {s.found.name}: not measured: {s.error}" for s in mine if s.error is not None]
        lines += [f"![{s.found.name}: {measure}]({s.plot})" for s in mine if s.plot is not None]
        lines.append("")
    return "\n".join(lines)


def _folders(folder: Path) -> Iterator[Path]:
    yield folder
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        yield path
        yield from sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _kind(folder: Path) -> Kind | None:
    if (folder / "panoptic.json").is_file():
        return "panoptic"
    if (folder / "instances.json").is_file() and (folder / "images").is_dir():
        return "coco"
    if (folder / "data/groundTruth/test").is_dir():
        return "bsds"
    if (folder / "images").is_dir() and (folder / "groundTruth").is_dir() and folder.name != "data":
        return "bsds"
    return None


def _cell(figures: Mapping[str, Any], key: str) -> str:
    value: Any = figures
    for part in key.split(".", 1):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "-" if value is None else f"{float(value):.3f}"
