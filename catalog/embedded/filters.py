"""Which records does Consul's `?filter=` keep? The language: model/filters.py."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from catalog.embedded.answers import Refused
from model.filters import FilterFault, compile_filter

R = TypeVar("R", bound=msgspec.Struct)


def keep(records: Iterable[R], expression: str, kind: type[R]) -> list[R]:
    """The records that match; all of them when the expression is empty. Raises Refused(500)."""
    if not expression:
        return list(records)
    try:
        matches = compile_filter(expression, kind)
    except FilterFault as error:
        raise Refused(500, f"Failed to create boolean expression evaluator: {error}") from error
    return [record for record in records if matches(record)]
