"""``sam/checkpoints.py`` alone reads weights, and no module unpickles: proved on the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sam", "adapters", "composer", "apps")
ONLY_READER = ROOT / "sam" / "checkpoints.py"

UNPICKLING_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
READERS = {
    "torch.load",
    "torch.serialization.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.export.load",
    "pandas.read_pickle",
}
READER_PREFIXES = ("safetensors.", "torch.hub.", "ultralytics.utils.patches.torch_load")


def violations(source: str) -> list[str]:
    """What in ``source`` reads weights or unpickles: import names are followed through their aliases."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    found = []
    for node in ast.walk(tree):
        for alias, target in imported(node):
            names[alias] = target
            found += [f"line {node.lineno}: import of {target}"] if is_forbidden(target) else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and is_forbidden(resolve(node, names)):
            found.append(f"line {node.lineno}: {resolve(node, names)}")
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            constant = node.value.value if isinstance(node.value, ast.Constant) else None
            if constant is not (node.arg == "weights_only"):
                found.append(f"line {node.value.lineno}: {node.arg}")
    return found


def imported(node: ast.AST) -> list[tuple[str, str]]:
    """(name in the module, dotted name of what it is) of an import statement."""
    if isinstance(node, ast.Import):
        return [
            (a.asname or a.name.split(".")[0], a.name if a.asname else a.name.split(".")[0])
            for a in node.names
        ] + [(a.name, a.name) for a in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [(a.asname or a.name, f"{node.module}.{a.name}") for a in node.names]
    return []


def resolve(node: ast.expr, names: dict[str, str]) -> str:
    """Dotted name of an expression, its first part followed through the imports; empty if it has none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = resolve(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def is_forbidden(dotted: str) -> bool:
    head = dotted.partition(".")[0]
    return (
        head in UNPICKLING_MODULES
        or head == "safetensors"
        or dotted in READERS
        or dotted.startswith(READER_PREFIXES)
    )


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize(
    "path", [p for p in modules() if p != ONLY_READER], ids=lambda p: str(p.relative_to(ROOT))
)
def test_module_reads_no_weights(path):
    assert violations(path.read_text(encoding="utf-8")) == []


def test_the_only_reader_never_unpickles_code():
    calls = [
        node
        for node in ast.walk(ast.parse(ONLY_READER.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert calls
    for call in calls:
        given = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert given.get("weights_only") == "True", f"line {call.lineno}"
    rest = violations(ONLY_READER.read_text(encoding="utf-8"))
    assert [v for v in rest if "safetensors" not in v and "torch.load" not in v] == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "import torch as t\ndef f():\n    return t.load('x', weights_only=True)",
        "from torch import load\nload('x')",
        "from torch import load as read",
        "from torch.serialization import load",
        "import torch.serialization\ntorch.serialization.load('x')",
        "import torch\nreader = torch.load",
        "def f():\n    import pickle",
        "from pickle import loads",
        "import joblib",
        "from safetensors.torch import load_file",
        "import safetensors.torch as st\nst.load_file('x')",
        "from safetensors import safe_open",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import torch\ntorch.hub.load_state_dict_from_url('x')",
        "import pandas as pd\npd.read_pickle('x')",
    ],
)
def test_the_walk_sees_each_way_of_reading(source):
    assert violations(source)


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.load(open('x'))",
        "import torch\ntorch.save({}, 'x')",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "from sam.checkpoints import load_weights\nload_weights(None, 'x')",
        "import yaml\nyaml.safe_load('a')",
    ],
)
def test_the_walk_lets_other_code_be(source):
    assert violations(source) == []
