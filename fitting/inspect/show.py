"""Reports as text: a table a file, as wide as the terminal, or 120 columns where the output is no terminal."""

import sys

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fitting.inspect.report import Report

WIDTH = 120
INDENT = (0, 0, 0, 2)
COLUMNS = {"key": "key", "holds": "holds", "axes": "axes", "meaning": "what it is"}


def show(reports: list[Report]) -> None:
    """Print every report."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    for i, report in enumerate(reports):
        if i:
            console.print()
        _show(console, report)


def _show(console: Console, report: Report) -> None:
    console.print(Text(f"{report.file}: {report.kind}", style="bold"))
    if report.rows:
        console.print(_table(report))
    for label, value in report.facts.items():
        console.print(Padding(Text(f"{label}: {value}"), INDENT, expand=False))
    for sentence in report.wrong:
        console.print(Padding(Text(f"! {sentence}", style="yellow"), INDENT, expand=False))
    for command in report.next:
        console.print(Text(f"  next: {command}", style="green"), soft_wrap=True)  # one line, to be copied


def _table(report: Report) -> Table:
    """Only the columns in which some row has something."""
    used = [name for name in COLUMNS if any(getattr(row, name) for row in report.rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in used:
        table.add_column(COLUMNS[name], overflow="fold", no_wrap=name in ("key", "holds"))
    for row in report.rows:
        table.add_row(*(Text(getattr(row, name)) for name in used))
    return table
