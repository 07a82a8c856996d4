"""``sam-composer``: the command line.

This module alone turns errors into exit codes and lines on stderr; commands raise. The lower packages are
imported when they are needed, so that `--help` is quick and `doctor` can speak even where another package
shadows one of ours.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from typing import Annotated, Any

import typer

from apps.console import flowing, warn

PROGRAM = "sam-composer"
COMMANDS = (
    "segment", "pipeline", "serve", "annotate", "evaluate", "train", "self_label", "export_onnx", "models",
    "doctor",
)  # fmt: skip
"""Modules of :mod:`apps.commands`, in the order of `--help`."""
DEFAULT_PROPOSALS = "1000"
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

EPILOG = """
[bold]Examples[/bold]

sam-composer segment photo.jpg --point 520,375 --out out

sam-composer segment PHOTOS --everything --format coco,masks --out out

sam-composer models pull vit_b

sam-composer doctor

[bold]Exit codes[/bold]

0 done, 1 a bug of ours, 2 wrong call, 3 bad input, 4 some items failed and the others are done,
5 weights missing, damaged or of another model, 6 the machine (no such device, disk full, no network,
folder not writable), 130 interrupted.

Every command takes --debug, which adds the traceback to an error.
"""


def main() -> None:
    """The console script: run the command line of this process and exit with its code."""
    if "--debug" not in sys.argv:
        warnings.filterwarnings("ignore")  # of libraries, about themselves: nothing that a user can act on
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code. An error has been written to stderr as one line by then.
    """
    arguments, debug = _without_debug(with_counts(arguments))
    with _debugging() if debug else nullcontext():
        return _run(arguments, debug)


def _run(arguments: Sequence[str], debug: bool) -> int:
    try:
        command = typer.main.get_command(build_app())
        code = command.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # how typer passes a Ctrl-C on
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SystemExit as ended:
        # By a command that was interrupted and has said so, or by rich, whose reader (`head`, say) has gone:
        # that is no error.
        return INTERRUPTED if ended.code == INTERRUPTED else 0
    except BrokenPipeError:  # the same, met by a plain write
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        warn("interrupted")
        return INTERRUPTED
    except Exception as error:
        code, line = explain(error)
        if line:
            warn(line)
        if debug and not _is_usage(error):
            traceback.print_exception(error, file=sys.stderr)
        return code


def build_app() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name=PROGRAM,
        help="Segment photos by clicks, by boxes, or everything in them.",
        epilog=flowing(EPILOG),
        no_args_is_help=True,
        rich_markup_mode="rich",
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in COMMANDS:
        importlib.import_module(f"apps.commands.{name}").register(app)
    return app


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and one line for an error that ended a command; an empty line where all has been said."""
    if _is_usage(error):
        return _explain_usage(error)
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):  # ours, and typer.Exit
        return code, f"error: {error}" if str(error) and not isinstance(error, typer.Exit) else ""
    if isinstance(error, MemoryError):
        return 6, "error: not enough memory; make the images smaller, or use a smaller preset"
    if isinstance(error, ImportError):
        return 6, f"error: {_explain_import(error)}"
    return 1, (
        f"error: a bug of sam-composer: {type(error).__name__}: {error}; "
        "please report it with what `--debug` prints"
    )


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """`--debug` is taken out by :func:`run`, wherever it stands; here it is documented."""


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        except PackageNotFoundError:  # run from a checkout that is not installed
            import composer

            typer.echo(f"{PROGRAM} {composer.__version__}")
        raise typer.Exit


@contextmanager
def _debugging() -> Iterator[None]:
    """Our own log on stderr; libraries keep theirs to themselves."""
    ours = logging.getLogger("apps")
    handler = logging.StreamHandler()
    level = ours.level
    ours.setLevel(logging.DEBUG)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)


def with_counts(arguments: Sequence[str]) -> list[str]:
    """``--proposals`` without a number gets its default, which typer's options cannot have."""
    filled: list[str] = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        filled.append(argument)
        if argument == "--proposals" and not following.lstrip("-").isdigit():
            filled.append(DEFAULT_PROPOSALS)
    return filled


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    ours = list(arguments)
    end = ours.index("--") if "--" in ours else len(ours)
    kept = [a for a in ours[:end] if a != "--debug"] + ours[end:]
    return kept, len(kept) < len(ours)


def _is_usage(error: Exception) -> bool:
    """An error of the option parser. By its shape: some versions of typer bring a click of their own."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _explain_usage(error: Any) -> tuple[int, str]:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message = error.format_message().strip().rstrip(".")
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help; with rich, printed already
        typer.echo(error.format_message(), nl=False)
        return 2, ""
    return 2, f"error: {message} (see `{path} --help`)"


def _explain_import(error: ImportError) -> str:
    top = (error.name or "").partition(".")[0]
    if top in ("apps", "composer", "adapters", "sam"):
        return f"{error}: another package may be in the way of ours; run `{PROGRAM} doctor`"
    return f"{error}: the installation is incomplete or broken; run `{PROGRAM} doctor`, or install again"


if __name__ == "__main__":
    main()
