"""``sam-composer serve``: the HTTP service, with the demo at ``/``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps import model_options
from apps.console import flowing, warn

if TYPE_CHECKING:
    from apps.api.settings import ServiceSettings

EPILOG = """
[bold]Examples[/bold]

sam-composer serve

sam-composer serve --preset vit_b --device cuda --host 0.0.0.0 --token-file tokens.txt

curl -F image=@photo.jpg -F 'requests=[{"kind": "points", "points": [[520, 375]]}]'
http://127.0.0.1:8000/v1/segment

The server listens at once and answers /readyz with 503 until the model is loaded. SIGTERM and Ctrl-C end it:
what has begun is finished first. It is one process; several of them share nothing.
"""
ACCESS, PAGES = "Who may do what", "Pages"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("serve", epilog=flowing(EPILOG))(serve)


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; 0.0.0.0 opens it to the network.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    preset: model_options.PresetName = "tiny",
    checkpoint: model_options.Checkpoint = None,
    device: model_options.Device = "auto",
    precision: model_options.Precision = "auto",
    limits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML with limits that differ from the shipped ones."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Bearer tokens, one a line; without it, those in SAM_COMPOSER_TOKENS, or none.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    quota: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Calls a minute of one client.", rich_help_panel=ACCESS),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="A web page's origin that may call the API. Can be repeated.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    allow_detector: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME",
            help="A detector that requests may name, by its file name. Can be repeated.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    trust_detector: Annotated[
        bool,
        typer.Option(
            "--trust-detector",
            help="Read those detectors even if that runs code in their files.",
            rich_help_panel=ACCESS,
        ),
    ] = False,
    allow_clip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:WEIGHTS]",
            help="A text-image model that requests may name. Can be repeated.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESSES",
            help="Proxies whose X-Forwarded-For says who the client is.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    demo: Annotated[
        bool | None,
        typer.Option(
            "--demo/--no-demo",
            help="The demo at /. On unless there are tokens, which it would not ask for.",
            show_default=False,
            rich_help_panel=PAGES,
        ),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The annotator at /annotate, for these photos.", rich_help_panel=PAGES
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line for each request.")] = False,
) -> None:
    """Answer requests over HTTP."""
    from apps.api.server import ComposerServer
    from apps.api.settings import ServeOptions, has_demo
    from composer.limits import Limits, shipped_limits

    chosen = shipped_limits() if limits is None else Limits.from_file(limits)
    if host is not None:
        chosen = dataclasses.replace(chosen, host=host)
    settings = _settings(token_file, quota, allow_origin, allow_detector, trust_detector, allow_clip)
    options = ServeOptions(
        chosen.host,
        port,
        preset,
        checkpoint,
        device,
        precision,
        chosen,
        settings,
        has_demo() and not settings.tokens if demo is None else demo,
        annotate,
        proxy,
        access_log,
    )
    if settings.tokens and (options.demo or annotate is not None):
        pages = [name for name, there in (("demo", options.demo), ("annotator", annotate)) if there]
        warn(
            f"the {' and the '.join(pages)} will ask for no token: everybody who reaches the port can use it"
        )
    ComposerServer(options).run()


def _settings(
    token_file: Path | None,
    quota: int | None,
    origins: list[str] | None,
    detectors: list[str] | None,
    trust: bool,
    clips: list[str] | None,
) -> ServiceSettings:
    from apps.api.settings import ServiceSettings, read_tokens
    from composer.allowed_models import AllowedModels
    from sam.errors import UsageError

    models = {}
    for entry in clips or ():
        name, _, weights = entry.partition(":")
        models[Path(name).name] = (str(Path(name)), weights or None)
    for name in detectors or ():
        if Path(name).suffix.lower() == ".json":
            raise UsageError(
                f"--allow-detector {name}: a results file knows photos by name, and a service does not",
                field="allow-detector",
            )
    allowed = AllowedModels({Path(name).name: str(Path(name)) for name in detectors or ()}, models, trust)
    return ServiceSettings(read_tokens(token_file), quota, tuple(origins or ()), allowed)
