"""Which parts of a graph can be reached from one another?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

V = TypeVar("V")


def components(ahead: Mapping[V, Sequence[V]]) -> dict[V, int]:
    """By vertex the number of its strongly connected component (Tarjan's way, without recursion), in time of the graph's
    size. ahead: of each vertex those that it leads to, all of them keys too."""
    order: dict[V, int] = {}  # when it was come to
    low: dict[V, int] = {}  # the earliest that it leads back to
    component: dict[V, int] = {}
    open_: list[V] = []
    for start in ahead:
        if start in order:
            continue
        path: list[tuple[V, Iterator[V]]] = [_entered(start, ahead, order, low, open_)]
        while path:
            vertex, others = path[-1]
            other = next((one for one in others if one not in component), None)
            if other is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[vertex])
                if low[vertex] == order[vertex]:
                    _close(vertex, open_, component)
            elif other in order:
                low[vertex] = min(low[vertex], order[other])
            else:
                path.append(_entered(other, ahead, order, low, open_))
    return component


def _entered(vertex: V, ahead: Mapping[V, Sequence[V]], order: dict[V, int], low: dict[V, int], open_: list[V]) -> tuple[V, Iterator[V]]:
    order[vertex] = low[vertex] = len(order)
    open_.append(vertex)
    return vertex, iter(ahead[vertex])


def _close(vertex: V, open_: list[V], component: dict[V, int]) -> None:
    number = len(component)  # no other component has it: this one adds at least one
    while True:
        one = open_.pop()
        component[one] = number
        if one == vertex:
            return
