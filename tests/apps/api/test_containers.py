"""Dockerfile and compose file: as far as can be told without an engine to build them."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.cli import run
from composer.limits import shipped_limits

ROOT = Path(__file__).resolve().parents[3]


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each, lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    copied = [
        name
        for instruction, rest in instructions()
        if instruction == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    assert len(copied) > 8
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(fnmatch.fnmatch(name, pattern) for pattern in sent), name
    assert {"apps", "composer", "adapters", "sam", "configs"} <= set(copied)


def test_the_order_of_instructions() -> None:
    names = [name for name, _ in instructions()]
    assert names.count("FROM") == 2 and names[0] == "ARG"
    known = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL",
             "HEALTHCHECK", "ENTRYPOINT", "CMD"}  # fmt: skip
    assert set(names) <= known
    last = names[len(names) - names[::-1].index("FROM") :]
    assert "USER" in last and last.index("USER") < last.index("ENTRYPOINT"), "it does not run as root"
    for name, rest in instructions():
        if name == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists" in rest


def test_the_command_is_one_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    found = dict(instructions())
    command = yaml.safe_load(found["CMD"])
    assert yaml.safe_load(found["ENTRYPOINT"]) == ["sam-composer"]
    assert run([*command, "--help"]) == 0
    assert "--host" in capsys.readouterr().out


def test_compose(compose: dict[str, Any]) -> None:
    built = {name for name, _ in (line.partition("=")[::2] for key, line in instructions() if key == "ARG")}
    grace = int(compose["services"]["cpu"]["stop_grace_period"].removesuffix("s"))
    assert grace > shipped_limits().drain_seconds, "docker stop must not cut off what is being drained"
    for service in compose["services"].values():
        assert set(service["build"]["args"]) <= built
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "not open to the network"
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(compose["volumes"])
    assert compose["services"]["cuda"]["profiles"] == ["cuda"]
