"""How is a list of the UI cut to what a page shows?

`?q=`: only what holds this text, whatever its case. `?sort=NAME&reverse=true`: the columns that the list has. `?page=0`,
`?per_page=` (50; 200 at most). The answer is an array; X-Total-Count says how many there are on all pages.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from api.query import BadRequest, answer, is_true
from leader.view import Topic, View

T = TypeVar("T")
Row = dict[str, Any]

TOTAL_HEADER = "X-Total-Count"
_PER_PAGE, _PER_PAGE_MAX = 50, 200
# Items looked at before the loop may do something else; some 10 ms.
SLICE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """text: in lower case, empty for all. sort: empty for the list's own order."""

    text: str
    sort: str
    is_reverse: bool
    first: int
    per_page: int


def asked(request: web.Request, sorts: Iterable[str]) -> Asked:
    """sorts: the names that the list can be sorted by. Raises BadRequest."""
    sort = request.query.get("sort", "")
    if sort and sort not in sorts:
        raise BadRequest(f"sort must be one of {', '.join(sorts)}")
    per_page = min(_number(request, "per_page") or _PER_PAGE, _PER_PAGE_MAX)
    return Asked(
        text=request.query.get("q", "").strip().lower(),
        sort=sort,
        is_reverse=is_true(request, "reverse"),
        first=_number(request, "page") * per_page,
        per_page=per_page,
    )


def _number(request: web.Request, name: str) -> int:
    raw = request.query.get(name, "")
    if raw and not (raw.isascii() and raw.isdigit() and len(raw) <= 9):
        raise BadRequest(f"Invalid {name}")
    return int(raw or 0)


def page_of(found: list[T], wanted: Asked, keys: Mapping[str, Callable[[T], Any]], default: str) -> list[T]:
    """What the page shows. keys: by the names that may be sorted by. Of very many only the first ones are put in order."""
    key, until = keys[wanted.sort or default], wanted.first + wanted.per_page
    if len(found) > SLICE and until * 10 < len(found):
        pick = heapq.nlargest if wanted.is_reverse else heapq.nsmallest
        return pick(until, found, key=key)[wanted.first :]
    return sorted(found, key=key, reverse=wanted.is_reverse)[wanted.first : until]


def shown(request: web.Request, view: View, topic: Topic, rows: Sequence[Row], total: int) -> web.Response:
    response = answer(request, rows, index=view.topic_index(topic))
    response.headers[TOTAL_HEADER] = str(total)
    return response
