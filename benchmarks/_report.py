"""The form that benchmarks report in: paired runs, the machine they ran on, JSON, and a table.

A report is ``{"benchmark", "machine", "settings", "rows"}``; a row has ``case``, ``way`` and ``seconds``
(``median``, ``low``, ``high``, ``runs``), and where the case has a row of ``OURS``, ``ratio``: the
others' seconds over ours in the same round, with median, low and high.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from _allocation import as_installed, as_ours
from _flops import matmul_rate
from _shared import ROOT
from rich.console import Console
from rich.table import Table

from sam.precision import choose_precision, decoder_dtype

OURS = "sam-composer"
RESULTS = ROOT / "benchmarks/results"
PROGRESS = ROOT / "out/benchmarks"
CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
LIBRARIES = (
    "torch",
    "numpy",
    "segment-anything",
    "transformers",
    "ultralytics",
    "open_clip_torch",
    "onnxruntime",
)
BUSY = 0.1
"""Load before the start, for each core, from which a machine counts as busy with something else."""


def machine(*, rates: bool = True, prompts: bool = False) -> dict[str, Any]:
    """Processor, its vector and matrix units, threads, versions, load before the start, rate of products.

    Args:
        rates: measure the rate of matrix products too, about a second.
        prompts: nothing is encoded: ours computes in the format that prompts are decoded in.
    """
    precision = choose_precision(torch.device("cpu"))
    if prompts and decoder_dtype(torch.device("cpu"), precision.dtype) is torch.float32:
        precision = choose_precision(torch.device("cpu"), "fp32")
    load = cores_in_use()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, Any] = {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in CPU_FLAGS if flag in _cpuinfo("flags").split()],
        "cores": cores,
        "threads": torch.get_num_threads(),
        "precision": precision.name,
        "load_before": round(load, 2),
        "busy": load > BUSY * cores,
        "python": platform.python_version(),
        "versions": versions(),
    }
    if rates:
        found["gflops_fp32"] = round(matmul_rate()["high"] / 1e9, 1)
        if precision.dtype is torch.bfloat16:
            found["gflops_bf16"] = round(matmul_rate(torch.bfloat16)["high"] / 1e9, 1)
    return found


def cores_in_use(seconds: float = 2.0) -> float:
    """How many cores work while this process sleeps: for others, then.

    The system's own load is of the last minute, and so of the benchmark before this one.
    """
    if not (path := Path("/proc/stat")).is_file():
        return os.getloadavg()[0]

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in path.read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # idle, and waiting for a disk

    total, idle = ticks()
    time.sleep(seconds)
    later, idle_later = ticks()
    return (os.cpu_count() or 1) * (1 - (idle_later - idle) / max(1, later - total))


def versions() -> dict[str, str]:
    """Versions of the libraries that answer, those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def take_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each way, all of them once a round: a slow minute of the machine meets each alike."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(-1 if warm_up else 0, repeats):
        for name, way in ways.items():
            allocate_for(name)
            started = time.perf_counter()
            way()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - started)
    as_ours()
    return seconds


def allocate_for(way: str) -> None:
    """Have the C library treat freed memory as it does where the users of ``way`` run it."""
    (as_ours if way.startswith(OURS) else as_installed)()


def rows_of(
    case: str, seconds: Mapping[str, Sequence[float]], further: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Rows of one case from the seconds of each round, ``further`` figures of a way beside them."""
    rows = []
    for way, times in seconds.items():
        row: dict[str, Any] = {"case": case, "way": way, "seconds": summary(times) | {"runs": len(times)}}
        if way != OURS and OURS in seconds:
            row["ratio"] = summary([b / a for a, b in zip(seconds[OURS], times, strict=False)])
        rows.append(row | dict((further or {}).get(way, {})))
    return rows


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most, to four significant digits."""
    return {
        "median": _rounded(statistics.median(values)),
        "low": _rounded(min(values)),
        "high": _rounded(max(values)),
    }


def write(
    name: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    path: Path,
) -> None:
    """Write a report as JSON and print its table."""
    report = {"benchmark": name, "machine": dict(about), "settings": dict(settings), "rows": list(rows)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    show(name, rows, about)
    print(f"written to {path}")


def show(name: str, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Print rows as a table: what they measured, how long it took, how that compares, and all else."""
    console = Console(width=150)
    busy = f", busy (load {about['load_before']})" if about["busy"] else ""
    table = Table(title=f"{name}: {about['cpu']}, {about['threads']} threads, {about['precision']}{busy}")
    for column in ("case", "way", "seconds", "range", "times ours", "further"):
        table.add_column(column, justify="right" if column in ("seconds", "times ours") else "left")
    for row in rows:
        seconds, ratio = row["seconds"], row.get("ratio")
        known = ("case", "way", "seconds", "ratio")
        further = ", ".join(f"{key} {value}" for key, value in row.items() if key not in known)
        table.add_row(
            row["case"],
            row["way"],
            f"{seconds['median']:g}",
            f"{seconds['low']:g} to {seconds['high']:g}",
            "" if ratio is None else f"{ratio['median']:.1f}",
            further,
        )
    console.print(table)


class Progress:
    """What long runs have done so far, on disk until all is done: a run that was stopped goes on from there.

    Args:
        name: of the benchmark.
        settings: of the run; what others' settings left is not used.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.path = PROGRESS / f"{name}.json"
        self.settings = json.loads(json.dumps(dict(settings)))
        known = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.done: dict[str, Any] = known["done"] if known.get("settings") == self.settings else {}

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """The value of ``key``, made now or by the run that was stopped."""
        if key not in self.done:
            self.done[key] = make()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"settings": self.settings, "done": self.done}) + "\n")
            print(f"{key}: {json.dumps(self.done[key])}", flush=True)
        else:
            print(f"{key}: kept from the run that was stopped", flush=True)
        return self.done[key]

    def finish(self) -> None:
        """Forget it: the report has it all."""
        self.path.unlink(missing_ok=True)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor; empty elsewhere."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    found = [line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key]
    return found[0] if found else ""
