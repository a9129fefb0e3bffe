"""Where may reading go on after a syntax fault?

Only where nothing that follows can be nonsense: behind the end of the faulty argument's lines, if what is opened
in them is closed in them, at a line that looks like the start of the next argument or block, or at the brace that
closes the block around it. Anywhere else the reading ends with the faults found so far.
"""

import re

# What is skipped as one: white space, comments, strings (to the end of their line at most), heredocs, names.
_PIECE = re.compile(
    r"""
      (?P<space>[ \t\r]++ | (?:\#|//)[^\n]*+ | /\*(?:[^*]|\*(?!/))*+\*/)
    | (?P<string>"(?:[^"\\\n]|\\[^\n])*+"?)
    | <<(?P<flush>-?)(?P<mark>[^\W\d][\w-]*+)[ \t]*\r?\n
    | (?P<newline>\n)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<other>[\w-]++ | .)
    """,
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
# `name = …`, `name {`, `name "label" … {`, a closing brace.
_ITEM = re.compile(
    r'[ \t]*+(?:[^\W\d][\w-]*+[ \t]*+(?:=(?!=)|(?:"[^"\n]*+"[ \t]*+)*+\{)|\}[ \t]*+\r?$)', re.MULTILINE
)


def resume_at(text: str, start: int, fault_at: int) -> int | None:
    """The offset to go on at, of a line end or a closing brace; None when there is none that is sure.

    start: where the argument or block begins that holds the fault. fault_at: where the fault is.
    """
    opened: list[str] = []
    at = start
    while match := _PIECE.match(text, at):
        at = match.end()
        kind = match.lastgroup
        if kind == "mark":
            closing = re.compile(rf"^[ \t]*+{re.escape(match['mark'])}[ \t]*+\r?$", re.MULTILINE).search(
                text, at
            )
            if closing is None:
                return None
            at = closing.end()
        elif kind == "open":
            opened.append(match[0])
        elif kind == "close":
            if not opened:
                return match.start() if match[0] == "}" and match.start() >= fault_at else None
            if opened.pop() != _PAIRS[match[0]]:
                return None
        elif kind == "newline" and not opened and match.start() >= fault_at:
            return _next_item(text, match.start())
    return None


def _next_item(text: str, newline: int) -> int | None:
    """The end of the line before the first that looks like an item; what is between was meant as something else."""
    while newline >= 0:
        end = text.find("\n", newline + 1)
        line = text[newline + 1 : end if end >= 0 else len(text)].strip()
        if _ITEM.match(text, newline + 1) or line.startswith(("#", "//", "/*")):
            return newline
        newline = end
    return None
