"""Which known name was probably meant?"""

from collections.abc import Iterable

# Names come from files that may be hostile: comparing a name of a megabyte with a table takes seconds.
_LENGTH_MAX = 64


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)` for the nearest known name, or an empty text."""
    if not name or len(name) > _LENGTH_MAX:
        return ""
    import difflib  # 3 ms of import that only a wrong file pays

    candidates = {item.lower(): item for item in sorted(known, reverse=True)}
    wanted = name.lower()
    plain = wanted.replace("_", "").replace("-", "")
    same = [item for lower, item in candidates.items() if lower.replace("_", "").replace("-", "") == plain]
    near = same or [
        candidates[lower] for lower in difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.7)
    ]
    return f' (did you mean "{near[0]}"?)' if near else ""
