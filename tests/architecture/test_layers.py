"""Who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def test_the_contracts_of_import_linter_are_kept(root: Path) -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as main; main()",
            "--no-cache",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 kept, 0 broken" in run.stdout, run.stdout


@pytest.mark.parametrize(
    ("lower", "upper"),
    [("sam", "adapters"), ("sam", "composer"), ("adapters", "composer"), ("composer", "apps")],
)
def test_the_contracts_can_fail(root: Path, tmp_path: Path, lower: str, upper: str) -> None:
    """A lower package that imports an upper one is reported: the contract is not there for show."""
    for package in ("apps", "composer", "adapters", "sam"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / lower / "culprit.py").write_text(f"import {upper}\n")
    (tmp_path / "pyproject.toml").write_text((root / "pyproject.toml").read_text())
    command = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; sys.path.insert(0, '.');"
        "from importlinter.cli import lint_imports_command as main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", command, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"{lower} is not allowed to import {upper}" in run.stdout


def test_at_most_one_module_of_ours_imports_ultralytics(root: Path, package_files: list[Path]) -> None:
    """It is AGPL-3.0, and importing it writes into the home folder. Imports inside functions count.

    Beside it only the benchmarks' peers: ultralytics is one of those, and no package imports them.
    """
    scripts = [*(root / "examples").glob("*.py"), *(root / "benchmarks").glob("*.py")]
    importers = {
        path.relative_to(root).as_posix()
        for path in (*package_files, *scripts)
        if any(name.split(".")[0] == "ultralytics" for name in imported(path))
    }
    assert importers <= {"adapters/detector.py", "benchmarks/_peers.py"}


def test_a_hidden_import_is_found(tmp_path: Path) -> None:
    file = tmp_path / "sly.py"
    file.write_text(
        "def f():\n    from ultralytics.utils import ASSETS\n    return __import__('ultralytics.nn')\n"
    )
    assert list(imported(file)) == ["ultralytics.utils", "ultralytics.nn"]


def imported(path: Path) -> Iterator[str]:
    """The modules that a file names in an import, an `__import__` or an `import_module`, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in ("__import__", "import_module"):
                yield str(node.args[0].value)
