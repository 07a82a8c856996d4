"""Where the YAML files live, and reading one so that every complaint names file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sam.errors import EnvironmentProblem, UsageError

MAX_CONFIG_BYTES = 1 << 20
"""A larger file is not one of our configurations; refusing it keeps a wrong path from filling memory."""


def configs_folder() -> Path:
    """The folder with ``limits.yaml``, ``models/``, ``presets/`` and ``training/``.

    An installed wheel carries it as ``composer/configs``; in a checkout it is ``configs/`` beside the
    packages.

    Raises:
        EnvironmentProblem: neither exists, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "limits.yaml").is_file():
            return folder
    raise EnvironmentProblem(
        f"the configs folder is missing from {package} and {package.parent}: reinstall sam-composer",
        code="configs_missing",
    )


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping with plain types only.

    Args:
        path: a file of at most 1 MiB.

    Returns:
        The mapping; an empty file gives an empty one.

    Raises:
        UsageError: the file is missing, unreadable or no mapping; a syntax error, a tag such as
            ``!!python/object`` or a key given twice, with its line.
    """
    path = Path(path)
    text = _read_text(path)
    try:
        values = yaml.load(text, Loader=_StrictLoader)  # a SafeLoader, stricter still
    except yaml.YAMLError as error:
        raise UsageError(f"{path}{_line_of(error)}: {_reason(error)}", code="config_invalid") from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a date such as 2020-99-99
        raise UsageError(f"{path}: not readable as YAML: {error}", code="config_invalid") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise UsageError(f"{path}: expected a mapping of keys to values, not a {kind}", code="config_invalid")
    return values


def check_keys(values: Mapping[str, Any], known: Collection[str], path: str | Path, *parents: str) -> None:
    """Refuse a key that is not ``known``, with its line and the nearest known one.

    Args:
        values: the mapping found under ``parents`` in the file.
        known: the keys allowed there.
        path: the file that ``values`` came from.
        parents: keys that lead to ``values`` from the top of the file.

    Raises:
        UsageError: an unknown key.
    """
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise config_error(path, (*parents, str(key)), f"unknown key; {hint}")


def config_error(path: str | Path, keys: tuple[str, ...], message: str) -> UsageError:
    """An error about one key of a file, to raise: ``limits.yaml:12: max_pixels: message``."""
    return UsageError(
        f"{place_of(path, keys)}: {'.'.join(keys)}: {message}", code="config_invalid", field=".".join(keys)
    )


def place_of(path: str | Path, keys: tuple[str | int, ...]) -> str:
    """``limits.yaml:12``: the file and the line of a nested key, as far as it is there.

    Args:
        path: the file, which may have gone since.
        keys: names of keys, and numbers of list items counted from 0, from the top of the file.
    """
    line = _key_line(Path(path), keys)
    return f"{path}:{line}" if line else f"{path}"


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML types only, and no key twice: with PyYAML's default the last one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, Hashable) else id(key_node))
        return super().construct_mapping(node, deep)


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder, expected a YAML file", code="config_missing")
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", code="config_missing") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", code="config_missing") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise UsageError(f"{path}: over 1 MiB, too large for a configuration file", code="config_invalid")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start})", code="config_invalid") from error


def _line_of(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark is not None else ""


def _reason(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "could not determine a constructor" in problem:
        return (
            problem.replace("could not determine a constructor for the tag", "unknown tag")
            + "; plain YAML only"
        )
    return str(problem)


def _key_line(path: Path, keys: tuple[str | int, ...]) -> int | None:
    """Line of a nested key, counted from 1; read again only now that something is wrong."""
    try:
        node = yaml.compose(_read_text(path), Loader=yaml.SafeLoader)
    except (UsageError, yaml.YAMLError, RecursionError):
        return None
    line: int | None = None
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            return line
        for key_node, value_node in node.value:
            if key_node.value == key:
                line, node = key_node.start_mark.line + 1, value_node
                break
        else:
            return line
    return line
