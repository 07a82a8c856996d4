"""What several benchmarks need: data beside the project, and a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def unpacked(name: str) -> Path | None:
    """The content of ``../shared/data/NAME.tar``, unpacked to /tmp once; None where there is no such file."""
    archive = ROOT.parent / f"shared/data/{name}.tar"
    if not archive.is_file():
        return None
    target = Path("/tmp") / f"sam-composer-{name}"  # noqa: S108 - not secret, made anew where it is missing
    if not target.is_dir():
        with tarfile.open(archive) as content:
            content.extractall(target, filter="data")
    return target


def own_process(script: str, flag: str) -> Any:
    """The JSON that ``script`` prints when called with ``flag``: memory is that of a fresh process."""
    done = subprocess.run([sys.executable, script, flag], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
