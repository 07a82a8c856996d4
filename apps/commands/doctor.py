"""``sam-composer doctor``: what this machine and this installation can do, and what is wrong with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from apps.console import flowing, say

if TYPE_CHECKING:
    from apps.health import Finding

EPILOG = """
[bold]Example[/bold]

sam-composer doctor --json > report.json     to put into a bug report

[bold]Exit codes[/bold]: 0 all is well, 6 something is broken; its line says what to do.
"""
BROKEN = 6
_STYLES = {"ok": "green", "note": "", "broken": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("doctor", epilog=flowing(EPILOG))(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check versions, device and precision, weights, adapters, name clashes and disk space."""
    from apps.health import examine

    findings = examine()
    broken = [finding for finding in findings if finding.state == "broken"]
    if as_json:
        records = [{"subject": f.subject, "state": f.state, "detail": f.detail} for f in findings]
        say(json.dumps({"ok": not broken, "findings": records}))
    else:
        _print(findings)
        say(f"{len(broken)} broken" if broken else "all is well")
    if broken:
        raise typer.Exit(BROKEN)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=_STYLES[finding.state])
        table.add_row(finding.subject, state, Text(finding.detail))
    Console().print(table)
