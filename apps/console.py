"""What the commands write to the terminal: results to stdout, everything about the run to stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters.

    A file name may hold any of them, and bytes that are no UTF-8; in a message they would break the line, or
    reach the terminal as commands.
    """
    flat = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in flat)


def flowing(text: str) -> str:
    """Help text whose paragraphs, set apart by empty lines, are one line each: the terminal breaks them."""
    return "\n\n".join(" ".join(part.split("\n")) for part in text.strip("\n").split("\n\n"))


def say(text: str) -> None:
    """One line of results on stdout."""
    typer.echo(one_line(text))


def warn(text: str) -> None:
    """One line on stderr."""
    typer.echo(one_line(text), err=True)


def show(renderable: Any) -> None:
    """A table or tree of rich on stdout; through a pipe every row is one line, and plain."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(200, console.measure(renderable).maximum), no_color=True)
    console.print(renderable, soft_wrap=not console.is_terminal)


@contextmanager
def counting(total: int, unit: str) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """A bar over ``total`` items on stderr, shown where that is a terminal and there is more than one.

    Yields:
        ``start(name)``, called before each item, and ``note(text)``, which writes a line above the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    hidden = total < 2 or not console.is_terminal
    if hidden:
        yield (lambda name: None), warn
        return
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        begun = 0

        def start(name: str) -> None:
            nonlocal begun
            progress.update(task, completed=begun, description=one_line(name)[:60])
            begun += 1

        def note(text: str) -> None:
            progress.console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)

        yield start, note


@contextmanager
def downloading(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over bytes on stderr, shown where that is a terminal.

    Yields:
        What takes bytes that are here and bytes in all (0: unknown).
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(one_line(name), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
