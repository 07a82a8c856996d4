"""The log of a training run: a line of JSON for each stretch of steps and for each validation."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam.errors import EnvironmentProblem


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``log.jsonl``; a line that a crash cut short is left out."""
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table with a header; a row's columns that it has no value for are empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def write_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row, its numbers rounded to five places.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
    try:
        with path.open("a") as log:
            log.write(json.dumps(rounded) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{path}: cannot be written ({error.strerror}); make room and run again: "
        "training goes on from the last saved state"
    )


def forget_after(path: Path, step: int) -> None:
    """Drop the rows of steps that came after the saved state: they are about to be done again.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    if path.exists():
        kept = "".join(json.dumps(row) + "\n" for row in read_log(path) if row["step"] <= step)
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(kept)
            os.replace(partial, path)  # a full disk, or a kill, leaves the log as it was
        except OSError as error:
            raise _unwritable(path, error) from error
