"""Which device a model runs on, and which number format its products use there, each choice with its reason.

bf16 halves the memory traffic and doubles the throughput only where the hardware multiplies it natively. A
CPU without such units converts back and forth: measured on an AVX2 machine, a bf16 matrix product ran some
300 times slower than fp32 (docs/decisions/0004). So ``auto`` asks the machine instead of trusting a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sam.errors import EnvironmentProblem, UsageError

PRECISIONS: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
BF16_UNITS = ("amx_bf16", "avx512_bf16")
"""CPU features that multiply bf16 natively, as both torch and Linux name them."""
FIRST_BF16_CAPABILITY = 8
"""Compute capability (major) of Ampere, the first NVIDIA generation whose tensor cores take bf16."""
CPUINFO = Path("/proc/cpuinfo")
CUDA_NAME = re.compile(r"cuda(?::(\d{1,3}))?")


@dataclass(frozen=True)
class PrecisionChoice:
    """The number format of a model's matrix products.

    Attributes:
        dtype: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.
        name: ``fp32``, ``bf16`` or ``fp16``.
        reason: one clause that says why, for ``doctor`` and for reports.
    """

    dtype: torch.dtype
    name: str
    reason: str


def choose_precision(device: torch.device, requested: str = "auto") -> PrecisionChoice:
    """The format to compute in on ``device``.

    ``auto`` takes the fastest one that the hardware runs natively: on a CPU bf16 with AMX-bf16 or AVX512-bf16
    units and fp32 without, on CUDA bf16 from compute capability 8 and fp16 below, elsewhere fp32.

    Args:
        device: where the model will run.
        requested: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        UsageError: an unknown name, or fp16 on a CPU, where it gains nothing and some kernels are missing.
    """
    if requested == "auto":
        return _automatic(device)
    if requested not in PRECISIONS:
        known = ", ".join(("auto", *PRECISIONS))
        raise UsageError(f"unknown precision {requested!r}: expected one of {known}", field="precision")
    if requested == "fp16" and device.type == "cpu":
        raise UsageError(
            "fp16 is not supported on a CPU: use precision fp32, bf16 or auto, or a GPU", field="precision"
        )
    return _choice(requested, _reason_for_request(device, requested))


def decoder_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The format of the decoder where the encoder computes in ``dtype``.

    On a CPU float32: the decoder's products are small, what lies between them gains nothing by bf16, and
    an embedding is answered as in float32 (docs/decisions/0024).
    """
    return torch.float32 if device.type == "cpu" else dtype


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``, checked to be there.

    Args:
        name: ``auto`` (a CUDA GPU if there is one, else Apple's MPS, else the CPU), ``cpu``, ``cuda``,
            ``cuda:N`` with N counted from 0, or ``mps``.

    Returns:
        A device with its index set where the kind has several.

    Raises:
        UsageError: not the name of a device.
        EnvironmentProblem: this machine or this PyTorch build has no such device.
    """
    if name == "auto":
        return choose_device(_best_available())
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise _no_device(name, "this machine or this build of PyTorch has no Apple GPU")
        return torch.device("mps")
    match = CUDA_NAME.fullmatch(name)
    if match is None:
        raise UsageError(
            f"unknown device {name!r}: expected auto, cpu, cuda, cuda:N or mps",
            code="device_unknown",
            field="device",
        )
    return _cuda_device(name, match[1])


def cpu_bf16_units() -> tuple[str, ...]:
    """The native bf16 units of this CPU, out of ``BF16_UNITS``; empty if it has none or cannot be asked."""
    capabilities = _torch_capabilities()
    if not capabilities:
        flags = _cpuinfo_flags()
        return tuple(unit for unit in BF16_UNITS if unit in flags)
    return tuple(unit for unit in BF16_UNITS if capabilities.get(unit))


def _automatic(device: torch.device) -> PrecisionChoice:
    if device.type == "cpu":
        units = cpu_bf16_units()
        if units:
            return _choice("bf16", f"the CPU multiplies bf16 natively ({', '.join(units)})")
        return _choice("fp32", "the CPU has no native bf16 units (amx_bf16, avx512_bf16)")
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= FIRST_BF16_CAPABILITY:
            return _choice("bf16", f"the GPU has compute capability {major}.{minor}, native bf16 from 8.0")
        return _choice("fp16", f"the GPU has compute capability {major}.{minor}, below 8.0: no native bf16")
    return _choice("fp32", f"the safe choice on {device.type}")


def _reason_for_request(device: torch.device, requested: str) -> str:
    if requested == "bf16" and device.type == "cpu" and not cpu_bf16_units():
        return "asked for, though this CPU has no native bf16 units: expect it to be far slower than fp32"
    return "asked for"


def _choice(name: str, reason: str) -> PrecisionChoice:
    return PrecisionChoice(PRECISIONS[name], name, reason)


def _torch_capabilities() -> Mapping[str, object]:
    """What torch found by asking the processor; empty where this torch cannot tell (before 2.10)."""
    probe = getattr(torch.cpu, "get_capabilities", None)
    return probe() if callable(probe) else {}


def _cpuinfo_flags() -> frozenset[str]:
    """The feature flags that Linux lists for the first processor; empty on other systems."""
    try:
        text = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _best_available() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _cuda_device(name: str, index: str | None) -> torch.device:
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise _no_device(name, f"PyTorch {torch.__version__} ({built}) sees no GPU or no driver here")
    number = torch.cuda.current_device() if index is None else int(index)
    count = torch.cuda.device_count()
    if number >= count:
        present = "only cuda:0" if count == 1 else f"only cuda:0 to cuda:{count - 1}"
        raise _no_device(name, f"this machine has {present}")
    return torch.device("cuda", number)


def _no_device(name: str, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"device {name!r} is not available: {why}; use device auto or cpu",
        code="device_unavailable",
        field="device",
    )
