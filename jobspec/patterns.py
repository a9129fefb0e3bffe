"""Is a regular expression of a job file safe to run?

Nomad's engine takes time with the length of the text, whatever the pattern; Python's backtracks, and
`(a+)+$` never ends on thirty letters. So a repeated group that itself holds a repetition is refused. What
slips through is at worst polynomial, or an alternation whose branches overlap.

Two spellings of Nomad's engine that Python's lacks are translated: `[[:alpha:]]` and `\\z`. `\\pL` is not.
"""

import re
import warnings

_QUANTIFIER = re.compile(r"[*+]|\{\d+,\}")
_BOUNDED = re.compile(r"\{\d+(?:,\d+)?\}|\?")
_PATTERN_MAX = 1000


_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_OF_THEIRS = re.compile(r"\\(?P<escaped>.)|\[:(?P<name>\w+):\]", re.DOTALL)


class PatternFault(ValueError):
    """A text is no usable pattern; the message says why."""


def compile_pattern(text: str) -> "re.Pattern[str]":
    """The compiled pattern. Raises PatternFault."""
    if len(text) > _PATTERN_MAX:
        raise PatternFault(f"bad regular expression: longer than {_PATTERN_MAX} characters")
    try:
        with warnings.catch_warnings():  # of sets that a later Python may read otherwise
            warnings.simplefilter("ignore")
            pattern = re.compile(_OF_THEIRS.sub(_in_python, text))
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternFault(f"bad regular expression: {error}") from None
    if _repeats_a_repetition(text):
        raise PatternFault(
            "this regular expression repeats a repetition, which can take for ever (simplify it)"
        )
    return pattern


def _in_python(match: "re.Match[str]") -> str:
    if match["name"]:
        return _CLASSES.get(match["name"], match[0])
    return r"\Z" if match["escaped"] == "z" else match[0]


def _repeats_a_repetition(text: str) -> bool:
    """Whether a group with an unbounded repetition in it is itself repeated without bound."""
    holds: list[bool] = [False]  # for each open group: whether there is a repetition in it
    closed = False  # whether the last item was a group with one
    at = 0
    while at < len(text):
        character = text[at]
        quantifier = _QUANTIFIER.match(text, at)
        if quantifier:
            if closed:
                return True
            holds[-1], closed, at = True, False, quantifier.end()
            continue
        bounded = _BOUNDED.match(text, at)
        if bounded:
            at = bounded.end()
            continue
        closed = False
        if character == "\\":
            at += 1
        elif character == "[":
            at = _class_end(text, at)
        elif character == "(":
            holds.append(False)
            if text.startswith("(?", at):
                at += 1
        elif character == ")" and len(holds) > 1:
            closed = holds.pop()
            holds[-1] = holds[-1] or closed
        at += 1
    return False


def _class_end(text: str, at: int) -> int:
    """The closing bracket of a character class."""
    at += 1
    if text.startswith("^", at):
        at += 1
    if text.startswith("]", at):
        at += 1
    while at < len(text) and text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return at
