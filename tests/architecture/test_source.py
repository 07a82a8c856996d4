"""House rules that a linter does not know."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MAX_LINES = 350
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}


def test_no_file_is_too_long(root: Path, package_files: list[Path]) -> None:
    long = {
        path.relative_to(root).as_posix(): count
        for path in package_files
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"over {MAX_LINES} lines; split it where its subjects part"


def test_no_file_is_a_drawer_for_everything(package_files: list[Path]) -> None:
    assert not [path for path in package_files if path.name in FORBIDDEN_NAMES]


def test_public_things_have_docstrings(root: Path, package_files: list[Path]) -> None:
    bare = [
        f"{path.relative_to(root).as_posix()}:{node.lineno} {node.name}"
        for path in package_files
        for node in public_definitions(ast.parse(path.read_text()))
        if not ast.get_docstring(node)
    ]
    assert not bare, "a public function or class says what it is for: " + ", ".join(bare)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(): ...", ["f"]),
        ("def _f(): ...", []),
        ("class A:\n    def g(self): ...\n    def __len__(self): ...\n    def _h(self): ...", ["A", "g"]),
        ("class _A:\n    def g(self): ...", []),
        ("def f():\n    def inner(): ...", ["f"]),
        ("class A:\n    @overload\n    def g(self): ...\n    @v.setter\n    def v(self, x): ...", ["A"]),
        ("if X:\n    def f(): ...", ["f"]),
        ("class M(nn.Module):\n    def forward(self): ...", ["M", "forward"]),
    ],
)
def test_what_counts_as_public(source: str, found: list[str]) -> None:
    assert [node.name for node in public_definitions(ast.parse(source))] == found


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public_definitions(tree: ast.AST) -> Iterator[Definition]:
    """Functions and classes of a module and methods of its public classes, not what functions hold."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            if node.name.startswith("_") or _repeats_another(node):
                continue
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from public_definitions(node)


def _repeats_another(node: Definition) -> bool:
    """An overload or a setter: its docstring is the one of the function it belongs to."""
    names = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(names & {"overload", "setter", "override"})
