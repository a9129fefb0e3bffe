"""What one listener of the event stream is sent, and when it is let go."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

from api.events import Rendered, lines, wanted
from leader.events import Events
from leader.view import View
from model.cluster import JobRecord
from tests import clock
from tests.build import job


def put(view: View, index: int, job_id: str = "j") -> None:
    one = job(id=job_id)
    view.put_version(one, index, index)
    view.put_record(JobRecord(namespace="default", job_id=job_id, version=0, modify_time=index), index, index)


def view_of(*, capacity: int = 100, floor: int = 10) -> View:
    view = View(floor=floor, events=Events(capacity=capacity))
    view.events.begin(floor)
    return view


def stream(view: View, index: int = 0) -> Any:
    return aclosing(lines(view, Rendered(view), wanted((), "default"), index))


def shown(piece: bytes) -> list[tuple[int, list[str]]]:
    return [(line["Index"], [e["Key"] for e in line["Events"]]) for line in map(json.loads, piece.splitlines())]


def test_an_idle_listener_gets_a_heartbeat_each_30_seconds() -> None:
    async def main() -> list[float]:
        loop, beats = asyncio.get_running_loop(), []
        async with stream(view_of()) as pieces:
            async for piece in pieces:
                if piece:
                    assert piece == b"{}\n"
                    beats.append(round(loop.time()))
                if len(beats) == 3:
                    return beats
        return beats

    assert clock.run(main()) == [30, 60, 90]


def test_a_listener_is_woken_by_an_event_and_ends_with_the_term() -> None:
    async def main() -> list[tuple[float, list[tuple[int, list[str]]]]]:
        view, loop, found = view_of(), asyncio.get_running_loop(), []

        async def happen() -> None:
            await asyncio.sleep(0.3)
            put(view, 11, "a")
            put(view, 11, "b")
            await asyncio.sleep(0.3)
            view.end()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(happen(), name="happen")
            async with stream(view) as pieces:
                async for piece in pieces:
                    if piece:
                        found.append((round(loop.time(), 1), shown(piece)))
        assert round(loop.time(), 1) == 0.6
        return found

    assert clock.run(main()) == [(0.3, [(11, ["a", "b"])])]


def test_a_listener_that_is_overrun_is_told_so_and_let_go() -> None:
    async def main() -> list[bytes]:
        view, found = view_of(capacity=3), []
        async with stream(view) as pieces:
            async for piece in pieces:
                if piece:
                    found.append(piece)
                for index in range(5):
                    put(view, 20 + index, f"j{index}")
        return found

    (last,) = clock.run(main())
    assert "too slow" in json.loads(last)["Error"]["Message"]


def test_from_an_index_before_the_term_each_object_comes_as_it_is_and_then_what_happens() -> None:
    async def main() -> list[tuple[int, list[str]]]:
        view = View(floor=20)
        for index, name in ((12, "b"), (11, "a"), (15, "c"), (14, "c")):
            put(view, index, name)
        view.events.begin(view.floor)
        put(view, 21, "a")
        found: list[tuple[int, list[str]]] = []
        async with stream(view, index=11) as pieces:
            async for piece in pieces:
                found += shown(piece)
                if not piece and len(found) < 4:
                    put(view, 22, "d")
                if len(found) == 4:
                    return found
        return found

    assert clock.run(main()) == [(12, ["b"]), (14, ["c"]), (21, ["a"]), (22, ["d"])]
