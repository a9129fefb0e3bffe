"""What can go wrong with a template?

A TemplateFault is told to the user: the text is wrong, or does not fit what it is given. Missing is no fault: an
answer that the text needs is not there yet. No message holds a value that a template was given, since that may be a
secret: names, types and numbers of places only.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from model.errors import DroverError

if TYPE_CHECKING:
    from template.lookups import Read


class TemplateFault(DroverError):
    """A template is wrong, or cannot be rendered.

    line, column: from 1, in characters; the place of the innermost thing that failed.
    words: what was wrong, as Go says it where Go has a word for it.
    """

    def __init__(self, name: str, line: int, column: int, words: str) -> None:
        self.name, self.line, self.column, self.words = name, line, column, words
        super().__init__(f"{name}:{line}:{column}: {words}")


class Missing(DroverError):
    """Answers are not there yet. Fetch all of `reads` and render again.

    A supplier of answers raises it with the one thing asked for; Template.render raises it with everything that one
    pass came to need.
    """

    def __init__(self, reads: "Iterable[Read]") -> None:
        self.reads = frozenset(reads)
        super().__init__("not there yet: " + ", ".join(sorted(str(read) for read in self.reads)))


class Refusal(ValueError):
    """A function refuses what it was given, in words; the engine adds the place."""
