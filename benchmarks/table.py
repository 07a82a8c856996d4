"""Write the tables of docs/performance.md from the JSON files in benchmarks/results.

    python benchmarks/table.py [--check]

The page has a pair of comments for each table, ``<!-- table: NAME -->`` and ``<!-- end of table -->``; what
is between them is made from ``benchmarks/results/NAME.json``. ``--check`` writes nothing, and exits with 1
where the page is not what the files give.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/performance.md"
RESULTS = ROOT / "benchmarks/results"
OURS = "sam-composer"
END = "<!-- end of table -->"
PLACE = re.compile(rf"<!-- table: ([\w-]+) -->\n.*?{END}", re.DOTALL)
COLUMNS = ("measured", "with", "seconds (range)", "times ours", "beside it")
MILLISECONDS_BELOW = 0.1
MACHINE = {"cpu", "flags", "threads", "precision", "versions", "busy", "load_before"}
HIDDEN = {"case", "way", "seconds", "ratio", "gflop", "gflop_published"}
WORDING = {
    "difference": "logits differ by at most {} of the largest",
    "least_iou": "least IoU with ours {}",
    "iou_99": "{:.1%} with IoU ≥ 0.99",
    "masks": "{} masks",
    "matched": "{:.1%} of them ours at IoU ≥ 0.99",
    "matched_of_ours": "{:.1%} of ours",
    "median_iou": "median IoU {}",
    "encode_seconds": "encoding {} s",
    "masks_seconds": "proposing {} s",
    "crops_seconds": "cutting crops {} s",
    "pictures_seconds": "CLIP on pictures {} s",
    "words_seconds": "CLIP on words {} s",
    "scoring_seconds": "scoring {} s",
}
"""How figures beside a time are read; others go by their own name."""


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before, RESULTS)
    if options.check:
        sys.exit(int(before != after))
    PAGE.write_text(after, encoding="utf-8")
    print(f"{PAGE}: {'unchanged' if before == after else 'written'}")


def filled(page: str, results: Path) -> str:
    """The page with every table made anew from the files in ``results``."""

    def made(place: re.Match[str]) -> str:
        name = place[1]
        return f"<!-- table: {name} -->\n{table(name, results / f'{name}.json')}\n{END}"

    return PLACE.sub(made, page)


def table(name: str, path: Path) -> str:
    """The table of one report; a sentence where it was not measured, or is reported in another form."""
    if not path.is_file():
        return f"Not measured yet (`{name}.json`)."
    report = json.loads(path.read_text(encoding="utf-8"))
    if not of_the_common_form(report):
        return f"In a form of its own: [{name}.json](../benchmarks/results/{name}.json)."
    rows, about = report["rows"], report["machine"]
    lines = [about_machine(about), "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    cases: list[str] = []
    for row in rows:
        first = row["case"] not in cases
        cases.append(row["case"])
        lines.append(line([row["case"] if first else "", *cells(row, about)]))
    return "\n".join(lines)


def of_the_common_form(report: Mapping[str, Any]) -> bool:
    """Whether a report is as benchmarks/_report.py writes it."""
    rows, about = report.get("rows"), report.get("machine")
    return (
        isinstance(rows, list)
        and isinstance(about, dict)
        and about.keys() >= MACHINE
        and all({"case", "way", "seconds"} <= row.keys() for row in rows)
    )


def about_machine(about: Mapping[str, Any]) -> str:
    """What it was measured on, in a paragraph."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    flags = ", ".join(about["flags"]) or "no vector units known"
    rate = about.get(f"gflops_{about['precision']}")
    products = "" if rate is None else f"; matrix products at {rate:g} GFLOP/s"
    busy = (
        f" **Made on a busy machine (load {about['load_before']:g} before the start): to be made again.**"
        if about["busy"]
        else ""
    )
    return (
        f"{about['cpu']} ({flags}), {about['threads']} threads, ours in {about['precision']}{products}; "
        f"{versions}.{busy}"
    )


def cells(row: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """A row's cells after the first: way, time, ratio, and what else there is."""
    ratio = row.get("ratio")
    times = (
        "" if ratio is None else f"{short(ratio['median'])} ({short(ratio['low'])}–{short(ratio['high'])})"
    )
    beside = [
        WORDING.get(key, key.replace("_", " ") + " {}").format(value)
        for key, value in row.items()
        if key not in HIDDEN
    ]
    beside += to_the_limit(row, about)
    return [row["way"], spent(row["seconds"]), times, "; ".join(beside)]


def to_the_limit(row: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """How far a time is from that of its products alone at the rate of the same run; published ones too.

    Their number alone where some of them are in another format: of an encoder in bf16, and of prompts.
    """
    rate = about.get(f"gflops_{about['precision']}")
    if row.get("gflop") is None or rate is None:
        return []
    if about["precision"] != "fp32" and "masks" in row:
        return [f"{short(row['gflop'])} GFLOP"]
    distance = row["seconds"]["median"] * rate / row["gflop"]
    said = [f"{short(row['gflop'])} GFLOP, {distance:.1f} times what they take at the full rate"]
    if "gflop_published" in row:
        floor = short(row["gflop_published"] / rate)
        said.append(f"published code: {short(row['gflop_published'])} GFLOP, no less than {floor} s")
    return said


def spent(seconds: Mapping[str, float]) -> str:
    """Median and range, in milliseconds where they are few."""
    factor, unit = (1e3, " ms") if seconds["median"] < MILLISECONDS_BELOW else (1.0, "")
    low, high = short(factor * seconds["low"]), short(factor * seconds["high"])
    around = "" if seconds.get("runs", 2) < 2 else f" ({low}–{high})"
    return f"{short(factor * seconds['median'])}{around}{unit}"


def short(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def line(texts: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    main()
