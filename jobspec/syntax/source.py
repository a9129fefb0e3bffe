"""Where in which file is an offset, and how is text told from what is not?"""

import unicodedata
from bisect import bisect_right
from typing import NoReturn

from model.errors import Fault, JobspecError

# A name in a file may be a megabyte long; one line of a terminal is not.
_MESSAGE_MAX = 600
_PATH_MAX = 300

# How deep blocks and expressions may nest: the deepest of 653 real job files has 11, Nomad was seen to take 3000.
# Whoever reads without jobspec.deep meets Python's own limit (RecursionError) after about a hundred.
LEVELS_MAX = 5000

# Values, and blocks by twenty: reading so many takes about two seconds and 200 MB; the largest of 653 real files
# has 6000.
NODES_MAX = 200_000
BLOCK_WEIGHT = 20


class SyntaxFault(JobspecError):
    """A text breaks the grammar at the offset `at`; whoever reads it may go on behind."""

    def __init__(self, fault: Fault, at: int) -> None:
        self.at = at
        super().__init__((fault,))


class Source:
    """A text with the name it is reported under."""

    __slots__ = ("_line_starts", "_nodes", "file", "text")

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self._line_starts: list[int] | None = None
        self._nodes = 0

    def count_node(self, at: int, weight: int = 1) -> None:
        """For every value and block that is read. Raises JobspecError when there are far too many to go on."""
        self._nodes += weight
        if self._nodes > NODES_MAX:
            raise JobspecError(
                (
                    self.fault(
                        at,
                        f"the file is too large (more than {NODES_MAX} values, or {NODES_MAX // BLOCK_WEIGHT} blocks)",
                    ),
                )
            )

    def position(self, at: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1; columns count characters."""
        if self._line_starts is None:
            starts, start = [0], self.text.find("\n")
            while start >= 0:
                starts.append(start + 1)
                start = self.text.find("\n", start + 1)
            self._line_starts = starts
        line = bisect_right(self._line_starts, at)
        return line, at - self._line_starts[line - 1] + 1

    def where(self, at: int) -> str:
        line, column = self.position(min(at, len(self.text)))
        return f"{self.file}:{line}:{column}"

    def fault(self, at: int, message: str, path: str = "") -> Fault:
        return one_line(Fault(message=message, where=self.where(at), path=path))

    def refuse(self, at: int, message: str) -> NoReturn:
        raise SyntaxFault(self.fault(at, message), at)


def one_line(fault: Fault) -> Fault:
    """The fault as it fits on a line of a terminal, whatever names and values the file put into it."""
    return Fault(
        message=_printable(fault.message[:_MESSAGE_MAX]),
        where=_printable(fault.where[:_PATH_MAX]),
        path=_printable(fault.path[:_PATH_MAX]),
    )


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "replace").decode()
        for character in text
    )


def read_text(data: bytes, file: str) -> Source:
    """The bytes as text. Raises JobspecError for what is not UTF-8, holds a NUL, or is empty."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    nul = data.find(b"\0")
    if nul >= 0:
        raise _not_text(data, nul, file, "a NUL byte: this is a binary file (a text file was expected)")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _not_text(
            data,
            error.start,
            file,
            f"not UTF-8 text: byte 0x{data[error.start]:02x} (a text file in UTF-8 was expected)",
        ) from None
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)  # as Nomad: a letter and its accent are one character
    return Source(text, file)


def _not_text(data: bytes, at: int, file: str, message: str) -> JobspecError:
    line = data.count(b"\n", 0, at) + 1
    column = at - (data.rfind(b"\n", 0, at) + 1) + 1
    return JobspecError((Fault(message=message, where=f"{file}:{line}:{column}"),))
