"""``sam-composer pipeline``: which there are, what is in one, whether a file is one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.console import flowing, one_line, say, show

if TYPE_CHECKING:
    from rich.tree import Tree

    from composer.pipeline import Pipeline

EPILOG = """
[bold]Examples[/bold]

sam-composer pipeline list

sam-composer pipeline show carried --out carried.png

sam-composer pipeline check mine.yaml

sam-composer segment photo.jpg --pipeline mine.yaml --out out
"""

Source = Annotated[
    str, typer.Argument(metavar="FILE|NAME", help="A YAML file, or a name of `list`.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    pipeline = typer.Typer(
        help="Steps in a YAML file, of which later ones use what earlier ones found.",
        epilog=flowing(EPILOG),
        no_args_is_help=True,
    )
    pipeline.command("list")(list_pipelines)
    pipeline.command("show", epilog=flowing(EPILOG))(show_pipeline)
    pipeline.command("check", epilog=flowing(EPILOG))(check_pipeline)
    app.add_typer(pipeline, name="pipeline")


def list_pipelines() -> None:
    """List the pipelines that come with the program."""
    from rich.table import Table

    from composer.configs import configs_folder
    from composer.pipeline_files import describe_pipeline, pipeline_names

    table = Table("pipeline", "description", box=None, pad_edge=False)
    for name in pipeline_names():
        table.add_row(name, describe_pipeline(name))
    show(table)
    say(f"their files: {configs_folder() / 'pipelines'}")


def show_pipeline(
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Draw it too: .png, .svg or .pdf."),
    ] = None,
) -> None:
    """Show the steps of a pipeline, and draw them."""
    from composer.pipeline_files import load_pipeline
    from composer.pipeline_picture import save_picture

    pipeline = load_pipeline(source)
    show(steps_tree(pipeline))
    if out is not None:
        save_picture(pipeline, out)
        say(f"drawn into {out}")


def check_pipeline(source: Source) -> None:
    """Check a pipeline without running it: steps, fields, values, references."""
    from composer.pipeline_files import load_pipeline, pipeline_path

    pipeline = load_pipeline(source)
    steps = "1 step" if len(pipeline) == 1 else f"{len(pipeline)} steps"
    say(f"{pipeline_path(source)}: {steps}, output {', '.join(pipeline.outputs)}: all right")


def steps_tree(pipeline: Pipeline) -> Tree:
    """The steps as a tree for the terminal: name and kind, then where fields come from, then values."""
    from rich.text import Text
    from rich.tree import Tree

    from composer.pipeline_picture import field_lines

    tree = Tree(Text(one_line(f"{pipeline.name}: {pipeline.description}".rstrip(": ")), style="bold"))
    for step in pipeline.steps:
        line = Text(step.name, style="bold cyan")
        line.append(f"  {step.kind}", style="default")
        if step.name in pipeline.outputs:
            line.append("  → output", style="green")
        branch = tree.add(line)
        for field, source in step.references.items():
            branch.add(Text(f"{field} ← {source}", style="yellow"))
        for text in field_lines(step):
            branch.add(Text(one_line(text)))
    return tree
