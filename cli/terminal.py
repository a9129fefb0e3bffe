"""What does output look like on a terminal? Tables that fit it, and states in colour; rich does the work.

Imported only where standard output is a terminal, or colours are wanted all the same. NO_COLOR and -no-color are heeded by rich itself.
"""

import io
import shutil
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {
    **dict.fromkeys(("running", "ready", "eligible", "successful", "alive", "healthy", "passing", "true"), "green"),
    **dict.fromkeys(("pending", "blocked", "paused", "initializing", "ineligible", "unknown", "disconnected", "warning"), "yellow"),
    **dict.fromkeys(("failed", "lost", "down", "critical", "unhealthy", "dead (failed)"), "red"),
    **dict.fromkeys(("complete", "dead", "dead (stopped)", "stop", "cancelled", "canceled"), "dim"),
}


_GAP = 2
_WIDTH_FORCED = 10_000  # where colours are wanted in what is no terminal: nothing gives way
_WIDTH_MIN = 4


def fitted(rows: Sequence[Sequence[object]]) -> str:
    """The table as wide as the terminal at most: the widest columns give way, cut, and the last one folded."""
    columns = shutil.get_terminal_size((_WIDTH_FORCED, 24)).columns
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    head, *rest = rows
    for number, (name, width) in enumerate(zip(head, _widths(rows, columns), strict=True)):
        is_last = number == len(head) - 1
        table.add_column(str(name), width=width, overflow="fold" if is_last else "ellipsis", no_wrap=not is_last)
    for row in rest:
        table.add_row(*(Text(str(cell), style=_STYLES.get(str(cell), "")) for cell in row))
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=columns)
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _widths(rows: Sequence[Sequence[object]], columns: int) -> list[int]:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    while sum(widths) + _GAP * (len(widths) - 1) > columns and max(widths) > _WIDTH_MIN:
        widths[widths.index(max(widths))] -= 1
    return widths
