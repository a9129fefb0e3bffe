"""How is a list answered: filtered, page by page, and once something in it changed?

`?filter=` is an expression over the documents (model/filters.py). `?per_page=N&next_token=T`: at most N, and
X-Nomad-NextToken names where the next page begins, also when that one was deleted meanwhile. `?reverse=true` turns
the order around.
"""

import base64
import binascii
import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, Query, answer, block, is_true, read
from api.rights import jobs_in
from leader.leading import Leading
from leader.view import Topic, View
from model.filters import FilterFault, compile_filter
from model.snapshot import JobKey

T = TypeVar("T")

# Where an item stands in its list: numbers and texts, in the order of the list.
Position = tuple[int | str, ...]


class Kind(Generic[T]):
    """One kind of list. find: what the query asks for. position: by which it is sorted. shown: the items as the
    answer's body. filtered: what a filter is asked of. job_of: the job that an item belongs to, which the caller must be
    allowed to read; None where the list is of no jobs."""

    def __init__(
        self,
        find: Callable[[View, Query], Iterable[T]],
        position: Callable[[T], Position],
        shown: Callable[[web.Request, View, Sequence[T]], object],
        filtered: Callable[[View, T, str], Mapping[str, Any]],
        job_of: Callable[[T], JobKey] | None,
    ) -> None:
        self._job_of = job_of
        self._find, self._position, self._shown, self._filtered = find, position, shown, filtered

    async def answer(self, request: web.Request, leading: Leading, topic: Topic) -> web.Response:
        """Raises BadRequest."""
        view, query = leading.view, read(request)
        per_page, after = _page(request)
        await block(view, topic, query)
        if self._job_of is not None:
            # After the wait, and with nothing awaited between this and the look.
            rights = request.app[CONTEXT].rights
            query = replace(query, sees=await rights.readable(request, jobs_in(view, query.namespace)))
        items = sorted(self._kept(request, view, query), key=self._position, reverse=is_true(request, "reverse"))
        following = ""
        if after is not None:
            items = items[self._first(items, after, is_reversed=is_true(request, "reverse")) :]
        if per_page and len(items) > per_page:
            following = _token(self._position(items[per_page]))
            items = items[:per_page]
        response = answer(request, self._shown(request, view, items), index=view.topic_index(topic))
        if following:
            response.headers["X-Nomad-NextToken"] = following
        return response

    def _kept(self, request: web.Request, view: View, query: Query) -> Iterable[T]:
        job_of = self._job_of
        found = self._find(view, query)
        if job_of is not None:
            found = (item for item in found if query.sees(job_of(item)))
        expression = request.query.get("filter", "")
        if not expression:
            return found
        try:
            matches = compile_filter(expression)
            return [item for item in found if matches(self._filtered(view, item, expression))]
        except FilterFault as error:
            raise BadRequest(f"failed to read filter expression: {error}") from error

    def _first(self, items: Sequence[T], wanted: Position, *, is_reversed: bool) -> int:
        """The first item that is not before the wanted position."""
        positions = [self._position(item) for item in items]
        try:
            if is_reversed:
                return len(positions) - bisect_left(positions[::-1], wanted) - (wanted in positions)
            return bisect_left(positions, wanted)
        except TypeError:
            raise BadRequest("Invalid next_token: it is of another list") from None


def _page(request: web.Request) -> tuple[int, Position | None]:
    raw = request.query.get("per_page", "")
    if raw and not (raw.isascii() and raw.isdigit() and len(raw) <= 9):
        raise BadRequest("Invalid per_page")
    token = request.query.get("next_token", "")
    if not token:
        return int(raw or 0), None
    try:
        found = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise BadRequest("Invalid next_token") from None
    if not isinstance(found, list) or not all(isinstance(one, int | str) for one in found):
        raise BadRequest("Invalid next_token")
    return int(raw or 0), tuple(found)


def _token(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()
