"""The examinations of ``sam-composer doctor``. Each stands alone, so that one broken thing hides no other."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

State = Literal["ok", "note", "broken"]

DISTRIBUTION = "sam-composer"
OUR_PACKAGES = ("composer", "adapters", "sam", "apps")
LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "opencv-python",
    "pycocotools",
    "safetensors",
    "supervision",
    "scipy",
    "typer",
)
LOW_SPACE = 3 << 30
"""The largest published checkpoint has 2.6 GB."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at.
        state: ``ok``; ``note``, worth knowing; ``broken``, with what to do in ``detail``.
        detail: what was found.
    """

    subject: str
    state: State
    detail: str


def examine() -> list[Finding]:
    """Every examination. What one of them raises is its finding."""
    findings: list[Finding] = []
    for subject, look in EXAMINATIONS.items():
        try:
            findings += look()
        except Exception as error:
            findings.append(Finding(subject, "broken", f"{type(error).__name__}: {error}"))
    return findings


def versions() -> list[Finding]:
    """Python, this distribution and the libraries that it stands on."""
    findings = [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    ]
    for name in (DISTRIBUTION, *LIBRARIES):
        try:
            findings.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            # Other builds of OpenCV have other names, and a checkout need not be installed to be imported.
            findings.append(Finding(name, "note", "not installed under this name"))
    return findings


def names(providers: Mapping[str, list[str]] | None = None) -> list[Finding]:
    """Whether another distribution installs a package of one of our four names.

    Args:
        providers: top-level package -> distributions; by default those installed.
    """
    providers = metadata.packages_distributions() if providers is None else providers
    home = Path(__file__).resolve().parents[1]
    findings = []
    for package in OUR_PACKAGES:
        others = sorted({d for d in providers.get(package, []) if _normal(d) != DISTRIBUTION})
        spec = find_spec(package)
        found = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if others:
            detail = (
                f"{', '.join(others)} installs a package of this name too; "
                f"uninstall it, or install {DISTRIBUTION} into an environment of its own"
            )
            findings.append(Finding(f"package {package}", "broken", detail))
        elif found != home / package:
            where = f"is imported from {found}" if found else "is not there"
            detail = f"{where}, not from {home}; check PYTHONPATH and the current folder"
            findings.append(Finding(f"package {package}", "broken", detail))
        else:
            findings.append(Finding(f"package {package}", "ok", str(found)))
    return findings


def adapters() -> list[Finding]:
    """Whether every registered kind of request has an adapter that loads."""
    from composer.registry import adapter_for, adapter_names
    from sam.errors import SamComposerError

    kinds = adapter_names()
    if not kinds:
        return [Finding("adapters", "broken", f"none registered; install {DISTRIBUTION} (pip install -e .)")]
    findings = []
    for kind in kinds:
        try:
            adapter_for(kind)
        except SamComposerError as error:
            findings.append(Finding("adapters", "broken", str(error)))
    return findings or [Finding("adapters", "ok", ", ".join(kinds))]


def machine() -> list[Finding]:
    """Processor, GPU, and the device and precision that ``auto`` chooses here."""
    import torch

    from sam.precision import choose_device, choose_precision, cpu_bf16_units

    units = cpu_bf16_units()
    simd = torch.backends.cpu.get_cpu_capability()
    cpu = (
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, vector units {simd}; "
        f"native bf16: {', '.join(units) or 'none (no amx_bf16, no avx512_bf16)'}"
    )
    device = choose_device("auto")
    precision = choose_precision(device, "auto")
    return [
        Finding("cpu", "ok", cpu),
        Finding("cuda", "ok" if torch.cuda.is_available() else "note", _cuda()),
        Finding("device", "ok", f"{device} (auto)"),
        Finding("precision", "ok", f"{precision.name} (auto): {precision.reason}"),
    ]


def weights() -> list[Finding]:
    """For every preset, whether its weights are here and are the pinned file. Not downloaded is no fault."""
    from composer.presets import load_preset, preset_names
    from composer.weights import expected_path, verify
    from sam.errors import SamComposerError

    findings = []
    for name in preset_names():
        try:
            parts = load_preset(name).files()
        except SamComposerError as error:
            findings.append(Finding(f"weights {name}", "broken", str(error)))
            continue
        for part in parts:
            if part.weights.url and not expected_path(part).exists():
                detail = f"not downloaded (`{DISTRIBUTION} models pull {name}`)"
                findings.append(Finding(f"weights {part.label}", "note", detail))
                continue
            try:
                path = verify(part)
            except SamComposerError as error:
                findings.append(Finding(f"weights {part.label}", "broken", str(error)))
                continue
            checked = "size and SHA-256 right" if part.weights.sha256 else "no SHA-256 pinned"
            findings.append(Finding(f"weights {part.label}", "ok", f"{path}: {checked}"))
    return findings


def space() -> list[Finding]:
    """Whether the cache folder can be written, and how much fits into it."""
    from composer.weights import cache_folder

    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        detail = f"{folder} cannot be written; set SAM_COMPOSER_CACHE to a folder that you may write to"
        return [Finding("cache folder", "broken", detail)]
    free = shutil.disk_usage(there).free
    state: State = "ok" if free >= LOW_SPACE else "note"
    return [Finding("cache folder", state, f"{folder}, {free / 1e9:.1f} GB free")]


def _cuda() -> str:
    import torch

    built = (
        f"PyTorch built for CUDA {torch.version.cuda}" if torch.version.cuda else "PyTorch built without CUDA"
    )
    if not torch.cuda.is_available():
        return f"no GPU in use; {built}"
    gpus = [
        f"cuda:{i} {torch.cuda.get_device_name(i)}, compute capability "
        f"{'.'.join(map(str, torch.cuda.get_device_capability(i)))}"
        for i in range(torch.cuda.device_count())
    ]
    return f"{built}; {'; '.join(gpus)}"


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


EXAMINATIONS: Mapping[str, Callable[[], list[Finding]]] = {
    "versions": versions,
    "names": names,
    "adapters": adapters,
    "machine": machine,
    "weights": weights,
    "space": space,
}
