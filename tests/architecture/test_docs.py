"""The documentation points at things that exist, and its code is code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED_PATH = re.compile(r"`((?:sam|adapters|composer|apps|configs|tests|docs|examples|benchmarks)/[\w./-]*)`")
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


def test_commands_name_options_of_one_spelling(pages: dict[Path, str]) -> None:
    """A long option that a page shows must be in the command line's own source."""
    shown = {
        option
        for text in pages.values()
        for line in re.findall(
            r"^.*sam-composer (?:segment|eval|train|models|doctor)\b.*$", text, re.MULTILINE
        )
        for option in re.findall(r"--[a-z][a-z-]+", line)
    }
    assert "--point" in shown
    sources = "\n".join(p.read_text() for p in sorted(Path(__file__).parents[2].glob("apps/**/*.py")))
    unknown = {
        option for option in shown - {"--help"} if f'"{option}"' not in sources and option not in sources
    }
    assert not unknown
