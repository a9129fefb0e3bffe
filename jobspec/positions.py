"""Where in the job file does a part of the document come from?

The mapper notes the offset of every argument and block under its path (`group.cache.count`); validation,
which sees only the canonical job, names the path, and here the two meet again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobspec.syntax.source import Source, one_line
from model.errors import Fault


@dataclass(slots=True)
class SourceMap:
    """Paths to offsets in one text. Paths are those of faults, without the leading `job.NAME.`."""

    source: Source
    job: str = ""
    offsets: dict[str, int] = field(default_factory=dict)

    def note(self, path: str, at: int) -> None:
        """Remembers an offset; the last of several wins, for a double is what a fault is about."""
        self.offsets[path] = at

    def locate(self, fault: Fault) -> Fault:
        """The fault with the position of its path, or of the nearest part that stands in the text."""
        if fault.where or not fault.path:
            return fault
        path = fault.path.removeprefix(f"job.{self.job}").removeprefix(".")
        while path and path not in self.offsets:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        at = self.offsets.get(path)
        if at is None:
            return Fault(message=fault.message, where=self.source.file, path=fault.path)
        return Fault(message=fault.message, where=self.source.where(at), path=fault.path)


class Submission(dict[str, Any]):
    """A submission document that still knows where it was read from."""

    source: SourceMap | None = None


def sorted_faults(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Faults in the order of the text, each once; those without a line come last."""
    unique: Mapping[Fault, None] = dict.fromkeys(map(one_line, faults))
    return tuple(sorted(unique, key=_order))


def _order(fault: Fault) -> tuple[int, int, str]:
    parts = fault.where.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
        return int(parts[1]), int(parts[2]), ""
    return 1 << 60, 0, fault.path
