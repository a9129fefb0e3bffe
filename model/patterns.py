"""Which regular expression does a text of a job file or of a filter name?

RE2 reads it, as Go's regexp does: the syntax is Nomad's, and a search takes time with the length of the text
whatever the pattern, where Python's own would never be done with `(a+)+$` on thirty letters.
"""

import re

_PATTERN_MAX = 1000


class PatternFault(ValueError):
    """A text is no usable pattern; the message says why."""


def compile_pattern(text: str) -> "re.Pattern[str]":
    """The compiled pattern, for its `search` and `finditer`. Raises PatternFault."""
    if len(text) > _PATTERN_MAX:
        raise PatternFault(f"bad regular expression: longer than {_PATTERN_MAX} characters")
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except (re2.error, ValueError) as error:
        reason = error.args[0] if error.args else ""
        shown = reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)
        raise PatternFault(f"bad regular expression: {shown}") from None
