"""What holds for every command: help, version, one line for an error, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from apps import cli as program
from sam.errors import BadImage, BadPrompt, CheckpointError, EnvironmentProblem, UsageError

COMMANDS = ("segment", "eval", "train", "models", "doctor")


def broken(error: BaseException):
    """A program whose only command raises ``error``."""

    def build_app() -> typer.Typer:
        app = typer.Typer()

        @app.command()
        def fail() -> None:
            raise error

        return app

    return build_app


def test_help_names_every_command_and_shows_examples(cli) -> None:
    ended = cli("--help")
    assert (ended.code, ended.err) == (0, "")
    for name in COMMANDS:
        assert f" {name} " in ended.out
    assert "sam-composer segment photo.jpg --point 520,375 --out out" in ended.out
    assert "Exit codes" in ended.out


@pytest.mark.parametrize(
    "path",
    [
        *((name,) for name in COMMANDS),
        *(("eval", name) for name in ("points", "boxes", "edges", "proposals", "instances", "all")),
        ("models", "pull"),
    ],
)
def test_every_command_teaches(cli, path: tuple[str, ...]) -> None:
    ended = cli(*path, "--help")
    assert ended.code == 0 and "Usage" in ended.out
    if path != ("eval",):  # which only holds others
        assert f"sam-composer {path[0]}" in ended.out.split("Example", 1)[1]


def test_version(cli) -> None:
    ended = cli("--version")
    assert ended.code == 0 and ended.out.startswith("sam-composer 0.")


@pytest.mark.parametrize("arguments", [("sgment",), ("--verbose",), ("eval", "edgs"), ("doctor", "extra")])
def test_a_wrong_call_is_one_line_that_points_to_the_help(cli, arguments: tuple[str, ...]) -> None:
    ended = cli(*arguments)
    assert ended.code == 2 and ended.out == ""
    assert ended.error.startswith("error: ") and "--help" in ended.error


@pytest.mark.parametrize("arguments", [(), ("segment",), ("eval",), ("train",), ("models",)])
def test_without_arguments_there_is_help_and_no_error_line(cli, arguments: tuple[str, ...]) -> None:
    ended = cli(*arguments)
    assert ended.code in (0, 2) and "Usage" in ended.out and "error" not in ended.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (BadImage("x"), 3),
        (BadPrompt("x"), 3),
        (CheckpointError("x"), 5),
        (EnvironmentProblem("x"), 6),
    ],
)
def test_our_errors_have_their_exit_codes(cli, monkeypatch, error: Exception, code: int) -> None:
    monkeypatch.setattr(program, "build_app", broken(error))
    ended = cli()
    assert (ended.code, ended.error) == (code, "error: x")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("odd\nthing"), 1, ("a bug of sam-composer", "RuntimeError", "--debug")),
        (MemoryError(), 6, ("not enough memory", "smaller")),
        (ImportError("no name", name="adapters.base"), 6, ("another package", "doctor")),
        (ModuleNotFoundError("no timm", name="timm"), 6, ("install", "doctor")),
        (KeyboardInterrupt(), 130, ("interrupted",)),
    ],
)
def test_other_errors(cli, monkeypatch, error: BaseException, code: int, words: tuple[str, ...]) -> None:
    monkeypatch.setattr(program, "build_app", broken(error))
    ended = cli()
    assert ended.code == code
    assert all(word in ended.error for word in words)


def test_debug_adds_the_traceback_wherever_it_stands(cli, monkeypatch) -> None:
    monkeypatch.setattr(program, "build_app", broken(RuntimeError("odd")))
    assert "Traceback" not in cli().err
    ended = cli("--debug")
    assert ended.code == 1 and "Traceback" in ended.err and "RuntimeError: odd" in ended.err


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_a_reader_that_leaves_is_no_error(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        ended = subprocess.run(
            [sys.executable, "-m", "apps.cli", command],
            check=False,
            stdout=gone,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
    assert (ended.returncode, ended.stderr) == (0, b"")
