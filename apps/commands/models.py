"""``sam-composer models``: the presets, their weights, and where these are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.console import downloading, flowing, say, show, warn

if TYPE_CHECKING:
    from composer.presets import Part, Preset

_COMPANIONS = {"clip": "its text-image model", "detector": "its detector"}
EPILOG = """
[bold]Examples[/bold]

sam-composer models list

sam-composer models pull vit_b

sam-composer models verify

Downloads go to the folder that `models list` names; SAM_COMPOSER_CACHE chooses another. A download that broke
off is continued by the same command. Without a network, the error says which file to put where.
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    models = typer.Typer(
        help="List presets, download and check their weights.", epilog=flowing(EPILOG), no_args_is_help=True
    )
    models.command("list")(list_models)
    models.command("pull", epilog=flowing(EPILOG))(pull_model)
    models.command("verify")(verify_models)
    app.add_typer(models, name="models")


def list_models() -> None:
    """Show the presets, and which weights are here."""
    from rich.table import Table

    from composer.presets import load_preset, preset_names
    from composer.weights import cache_folder, expected_path

    table = Table("preset", "description", "size", "state", "file", box=None, pad_edge=False)
    for name in preset_names():
        preset = load_preset(name)
        for part in preset.files:
            state, size = weights_state(preset, part)
            description = preset.description if part == "weights" else _COMPANIONS[part]
            table.add_row(_title(preset, part), description, size, state, str(expected_path(preset, part)))
    show(table)
    say(f"cache folder: {cache_folder()}")


def pull_model(
    name: Annotated[
        str, typer.Argument(help="A preset of `models list`, or a YAML file.", show_default=False)
    ],
) -> None:
    """Download a preset's weights and those of its companions, or continue a download that broke off."""
    from composer.presets import load_preset
    from composer.weights import pull

    preset = load_preset(name)
    for part, named in preset.files.items():
        with downloading(named.file) as progress:
            path = pull(preset, progress, part)
        say(_verified(preset, part, path))


def verify_models(
    name: Annotated[
        str | None,
        typer.Argument(help="A preset; without it, all whose weights are here.", show_default=False),
    ] = None,
) -> None:
    """Check size and SHA-256 of weights that are here, those of text-image models and detectors included."""
    from composer.presets import load_preset, preset_names
    from composer.weights import expected_path, verify
    from sam.errors import CheckpointError

    if name is not None:
        preset = load_preset(name)
        for part in preset.files:
            say(_verified(preset, part, verify(preset, part)))
        return
    failures: list[CheckpointError] = []
    for preset, part in [(one, part) for one in map(load_preset, preset_names()) for part in one.files]:
        if not preset.files[part].embedded and not expected_path(preset, part).exists():
            say(f"{_title(preset, part)}: not downloaded")
            continue
        try:
            say(_verified(preset, part, verify(preset, part)))
        except CheckpointError as error:
            failures.append(error)
            warn(f"error: {_title(preset, part)}: {error}")
    if failures:
        raise typer.Exit(CheckpointError.exit_code)


def weights_state(preset: Preset, part: Part = "weights") -> tuple[str, str]:
    """In a few words, whether a file that a preset names is here, by its size alone; and that size."""
    from composer.weights import PARTIAL_SUFFIX, expected_path

    path, named = expected_path(preset, part), preset.files[part]
    pinned = named.bytes
    if path.is_file():
        found = path.stat().st_size
        right = pinned in (None, found)
        here = "in the package" if named.embedded else "here"
        return (here if right else f"wrong size: {found:,} bytes"), _size(pinned or found)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    if partial.is_file() and pinned:
        return f"{partial.stat().st_size / pinned:.0%} downloaded", _size(pinned)
    return ("missing" if named.url is None else "not downloaded"), _size(pinned)


def _verified(preset: Preset, part: Part, path: Path) -> str:
    pinned = preset.files[part].sha256
    found = "size and SHA-256 are right" if pinned else "is here; the preset pins no SHA-256"
    return f"{_title(preset, part)}: {path}: {found}"


def _title(preset: Preset, part: Part) -> str:
    return preset.name if part == "weights" else f"{preset.name} {part}"


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:,.1f} MB"
