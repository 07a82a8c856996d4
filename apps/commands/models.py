"""``sam-composer models``: the presets, their weights, and where these are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apps.console import downloading, flowing, say, show, warn

if TYPE_CHECKING:
    from composer.presets import Preset

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
        for part in load_preset(name).files():
            state, size = weights_state(part)
            about = part.description if part.part == "weights" else ""
            table.add_row(part.label, about, size, state, str(expected_path(part)))
    show(table)
    say(f"cache folder: {cache_folder()}")


def pull_model(
    name: Annotated[
        str, typer.Argument(help="A preset of `models list`, or a YAML file.", show_default=False)
    ],
) -> None:
    """Download a preset's weights, or continue a download that broke off."""
    from composer.presets import load_preset
    from composer.weights import pull

    for part in load_preset(name).files():
        if part.part != "weights" and part.weights.url is None:
            continue  # a companion that is not for downloading
        with downloading(part.weights.file) as progress:
            path = pull(part, progress)
        say(f"{part.label}: {path} is here, size and SHA-256 are right")


def verify_models(
    name: Annotated[
        str | None,
        typer.Argument(help="A preset; without it, all whose weights are here.", show_default=False),
    ] = None,
) -> None:
    """Check size and SHA-256 of weights that are here."""
    from composer.presets import load_preset, preset_names
    from composer.weights import expected_path, verify
    from sam.errors import CheckpointError

    if name is not None:
        for part in load_preset(name).files():
            say(_verified(part, str(verify(part))))
        return
    failures: list[CheckpointError] = []
    for preset in (part for known in preset_names() for part in load_preset(known).files()):
        if not preset.embedded and not expected_path(preset).exists():
            say(f"{preset.label}: not downloaded")
            continue
        try:
            say(_verified(preset, str(verify(preset))))
        except CheckpointError as error:
            failures.append(error)
            warn(f"error: {preset.label}: {error}")
    if failures:
        raise typer.Exit(CheckpointError.exit_code)


def weights_state(preset: Preset) -> tuple[str, str]:
    """In a few words, whether the weights are here, by their size alone; and that size."""
    from composer.weights import PARTIAL_SUFFIX, expected_path

    path = expected_path(preset)
    pinned = preset.weights.bytes
    if path.is_file():
        found = path.stat().st_size
        right = pinned in (None, found)
        here = "in the package" if preset.embedded else "here"
        return (here if right else f"wrong size: {found:,} bytes"), _size(pinned or found)
    part = path.with_name(path.name + PARTIAL_SUFFIX)
    if part.is_file() and pinned:
        return f"{part.stat().st_size / pinned:.0%} downloaded", _size(pinned)
    return ("missing" if preset.weights.url is None else "not downloaded"), _size(pinned)


def _verified(preset: Preset, path: str) -> str:
    pinned = "size and SHA-256 are right" if preset.weights.sha256 else "is here; the preset pins no SHA-256"
    return f"{preset.label}: {path}: {pinned}"


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:,.1f} MB"
