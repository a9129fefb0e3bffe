import asyncio

from api.stats import Meter
from tests.clock import run

Counters = dict[str, float]


async def growth(meter: Meter, key: str, *found: Counters, late_s: float = 0.0) -> tuple[Counters, float]:
    """What the meter makes of counters that are read one after the other, and how long it took."""
    left = list(found)

    async def read() -> Counters:
        return left.pop(0)

    begun_s = asyncio.get_running_loop().time()
    last, per_s = await meter.growth(key, read, lambda counters: counters)
    assert last == found[-1]
    assert not left
    return dict(per_s), asyncio.get_running_loop().time() - begun_s


def test_who_asks_first_waits_for_a_second_look_and_who_asks_again_gets_the_whole_time_between() -> None:
    async def main() -> None:
        meter = Meter()
        assert await growth(meter, "a", {"x": 1.0}, {"x": 2.0}) == ({"x": 2.0}, 0.5)
        await asyncio.sleep(10)
        assert await growth(meter, "a", {"x": 7.0}) == ({"x": 0.5}, 0.0)

    run(main())


def test_two_who_ask_at_once_get_a_span_long_enough_to_tell() -> None:
    async def main() -> None:
        meter = Meter()
        await growth(meter, "a", {"x": 0.0}, {"x": 0.0})
        assert await growth(meter, "a", {"x": 1.0}) == ({"x": 2.0}, 0.5)

    run(main())


def test_what_was_seen_long_ago_says_nothing_and_is_forgotten() -> None:
    async def main() -> None:
        meter = Meter()
        await growth(meter, "a", {"x": 0.0}, {"x": 0.0})
        await growth(meter, "b", {"x": 0.0}, {"x": 0.0})
        await asyncio.sleep(61)
        assert await growth(meter, "a", {"x": 100.0}, {"x": 100.0}) == ({"x": 0.0}, 0.5)
        assert set(meter._seen) == {"a"}

    run(main())


def test_a_counter_that_is_new_or_went_back_has_not_grown() -> None:
    async def main() -> None:
        assert (await growth(Meter(), "a", {"x": 5.0}, {"x": 1.0, "y": 9.0}))[0] == {"x": 0.0, "y": 0.0}

    run(main())
