"""Devices and number formats: what is chosen, why, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam import precision
from sam.errors import EnvironmentProblem, UsageError
from sam.precision import choose_device, choose_precision, cpu_bf16_units, decoder_dtype

CPU = torch.device("cpu")


def cpu_with(monkeypatch: pytest.MonkeyPatch, **features: bool) -> None:
    everything_else = {"avx2": True, "amx_bf16": False, "avx512_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: everything_else | features, raising=False)


def gpus(
    monkeypatch: pytest.MonkeyPatch, count: int, capability: tuple[int, int] = (8, 0), current: int = 0
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16"])
def test_auto_on_a_cpu_with_bf16_units_is_bf16_and_names_them(
    monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    cpu_with(monkeypatch, **{unit: True})
    choice = choose_precision(CPU, "auto")
    assert (choice.dtype, choice.name) == (torch.bfloat16, "bf16")
    assert unit in choice.reason


@pytest.mark.parametrize("feature", ["avx2", "avx512_f", "avx512_vnni", "amx_int8", "amx_tile"])
def test_auto_on_a_cpu_without_bf16_units_is_fp32(monkeypatch: pytest.MonkeyPatch, feature: str) -> None:
    cpu_with(monkeypatch, **{feature: True})
    choice = choose_precision(CPU, "auto")
    assert (choice.dtype, choice.name) == (torch.float32, "fp32")
    assert "no native bf16" in choice.reason


@pytest.mark.parametrize(("device", "decodes"), [("cpu", torch.float32), ("cuda", torch.bfloat16)])
def test_what_the_decoder_computes_in(device: str, decodes: torch.dtype) -> None:
    assert decoder_dtype(torch.device(device), torch.bfloat16) is decodes


def test_auto_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch)
    assert choose_precision(CPU) == choose_precision(CPU, "auto")


def test_cpuinfo_is_read_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)
    assert cpu_bf16_units() == ()  # no such file, as on macOS

    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16x\n\nprocessor\t: 1\n"
    )
    assert cpu_bf16_units() == ("avx512_bf16",)

    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")  # ARM has no line of flags
    assert cpu_bf16_units() == ()


def test_units_of_this_machine_agree_with_linux() -> None:
    """torch asks the processor, Linux lists it: a disagreement would mean that one of them is misread."""
    flags = precision._cpuinfo_flags()
    if not flags:
        pytest.skip("no x86 flags in /proc/cpuinfo here")
    assert set(cpu_bf16_units()) <= flags


@pytest.mark.parametrize(
    ("capability", "name"),
    [((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")],
)
def test_auto_on_cuda_follows_the_compute_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str
) -> None:
    gpus(monkeypatch, 1, capability)
    choice = choose_precision(torch.device("cuda", 0), "auto")
    assert choice.name == name
    assert f"{capability[0]}.{capability[1]}" in choice.reason


def test_auto_on_mps_is_fp32() -> None:
    assert choose_precision(torch.device("mps"), "auto").dtype is torch.float32


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch, amx_bf16=True)
    assert choose_precision(CPU, "fp32").dtype is torch.float32
    assert choose_precision(CPU, "bf16").reason == "asked for"
    assert choose_precision(torch.device("cuda", 0), "fp16").dtype is torch.float16


def test_bf16_on_a_cpu_without_units_is_taken_with_a_warning_in_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu_with(monkeypatch)
    choice = choose_precision(CPU, "bf16")
    assert choice.dtype is torch.bfloat16
    assert "slower" in choice.reason


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(
        UsageError, match="fp16 is not supported on a CPU: use precision fp32, bf16 or auto"
    ) as caught:
        choose_precision(CPU, "fp16")
    assert caught.value.field == "precision"


@pytest.mark.parametrize("name", ["", "float32", "FP32", "half", "int8"])
def test_unknown_precision_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="expected one of auto, fp32, bf16, fp16"):
        choose_precision(CPU, name)


def test_auto_device_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda", 0)


def test_a_gpu_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2, current=1)
    assert choose_device("cuda:0") == torch.device("cuda", 0)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cuda") == torch.device("cuda", 1)  # the one that the process has made current


@pytest.mark.parametrize(
    ("count", "name", "message"), [(1, "cuda:1", "only cuda:0;"), (4, "cuda:9", "only cuda:0 to cuda:3;")]
)
def test_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, count: int, name: str, message: str
) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(EnvironmentProblem, match=message):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_no_gpu_says_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    gpus(monkeypatch, 0)
    with pytest.raises(EnvironmentProblem, match="use device auto or cpu") as caught:
        choose_device(name)
    assert name in str(caught.value)
    assert (caught.value.exit_code, caught.value.field) == (6, "device")


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:9999", "cpu:0", "meta"]
)
def test_a_name_that_is_no_device(name: str) -> None:
    with pytest.raises(UsageError, match="expected auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)
