"""The documentation points at things that exist, and its code is code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from apps.cli import main

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED_PATH = re.compile(r"`((?:sam|adapters|composer|apps|configs|tests|docs|examples|benchmarks)/[\w./-]*)`")
COMMAND = re.compile(
    r"sam-composer (segment|serve|train|doctor|eval \w+|models \w+|pipeline \w+)\b(.*)$", re.MULTILINE
)
NOT_YET = {"adapters/detector.py"}
"""Named before it exists, because rules about it do."""
IN_A_WHEEL = {"composer/configs"}


@pytest.fixture(scope="module")
def pages(root: Path) -> dict[Path, str]:
    found = {page: page.read_text() for pattern in PAGES for page in sorted(root.glob(pattern))}
    assert len(found) > 10
    return found


def test_links_lead_somewhere(root: Path, pages: dict[Path, str]) -> None:
    dead = [
        f"{page.relative_to(root)}: {target}"
        for page, text in pages.items()
        for target in LINK.findall(FENCE.sub("", text))
        if not target.startswith(("https://", "#")) and not (page.parent / target.split("#")[0]).exists()
    ]
    assert not dead


def test_files_that_are_named_exist(root: Path, pages: dict[Path, str]) -> None:
    missing = [
        f"{page.relative_to(root)}: {name}"
        for page, text in pages.items()
        for name in NAMED_PATH.findall(FENCE.sub("", text))
        if not (root / name).exists() and name not in NOT_YET | IN_A_WHEEL
    ]
    assert not missing


def test_every_page_is_listed(root: Path) -> None:
    for folder in (root / "docs", root / "docs/decisions"):
        index = (folder / "README.md").read_text()
        unlisted = [
            p.name for p in folder.glob("*.md") if p.name != "README.md" and f"({p.name})" not in index
        ]
        assert not unlisted


def test_code_blocks_parse(root: Path, pages: dict[Path, str]) -> None:
    parse = {"python": ast.parse, "json": json.loads, "yaml": yaml.safe_load}
    count = 0
    for page, text in pages.items():
        for language, code in FENCE.findall(text):
            if language in parse:
                count += 1
                try:
                    parse[language](code)
                except (SyntaxError, ValueError, yaml.YAMLError) as error:
                    pytest.fail(f"{page.relative_to(root)}: a {language} block: {error}")
    assert count > 10


def test_options_that_are_shown_exist(
    pages: dict[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: dict[str, set[str]] = {}
    for text in pages.values():
        for command, rest in COMMAND.findall(text):
            shown.setdefault(command, set()).update(re.findall(r"--[a-z][a-z-]+", rest))
    assert shown["segment"] >= {"--point", "--box", "--everything"}

    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    for command, options in shown.items():
        monkeypatch.setattr("sys.argv", ["sam-composer", *command.split(), "--help"])
        with pytest.raises(SystemExit) as left:
            main()
        explained = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
        assert left.value.code in (0, None), command
        assert options <= explained, command
