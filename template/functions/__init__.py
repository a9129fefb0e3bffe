"""Which functions does a template have?

consul-template's, over Go's own: one module for each kind. Which argument is which follows consul-template: the last one
is what comes through a pipeline.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from template.builtins import BUILTINS
from template.functions.answers import REFUSED, Answers, refusing
from template.functions.documents import DOCUMENTS
from template.functions.groups import GROUPS, Scratch
from template.functions.moments import Clock
from template.functions.numbers import NUMBERS
from template.functions.sprig import SPRIG
from template.functions.text import TEXT
from template.lookups import Lookups, Nowhere, Read, What

Functions = Mapping[str, Callable[..., object]]

_FIXED: Functions = {**{name: refusing(name) for name in REFUSED}, **BUILTINS, **TEXT, **NUMBERS, **DOCUMENTS, **GROUPS, **SPRIG}


class _Own:
    """What one rendering has for itself."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups, self._scratch = lookups, Scratch()

    def scratch(self) -> object:
        return self._scratch

    def sockaddr(self, pipeline: str) -> str:
        from template.functions.sockaddr import sockaddr

        return sockaddr(self._lookups.interfaces(Read(what=What.INTERFACES)), pipeline)


def functions(lookups: Lookups, now: Callable[[], datetime]) -> dict[str, Callable[..., object]]:
    """All of them for one rendering."""
    own = _Own(lookups)
    return {**_FIXED, **Answers(lookups).functions(), **Clock(now).functions(), "scratch": own.scratch, "sockaddr": own.sockaddr}


# `and`, `or` and `call` are the engine's.
KNOWN = frozenset({"and", "or", "call", *functions(Nowhere(), datetime.now)})
