"""An hour of what tasks use, bounded."""

from collections.abc import Mapping

from agent.drivers.base import TaskStats
from agent.samples import EVERY_S, KEPT, Ring, Samples
from model.alloc import AllocId
from model.errors import DriverBusy

A, B = AllocId("a"), AllocId("b")


class Agent:
    def __init__(self) -> None:
        self.allocs: dict[AllocId, object] = {A: None}
        self.cpu_s = 0.0
        self.asked = 0

    async def stats(self, alloc_id: AllocId) -> Mapping[str, TaskStats]:
        self.asked += 1
        if alloc_id == B:
            raise DriverBusy("its engine does not answer")
        return {"t": TaskStats(cpu_s=self.cpu_s, memory_bytes=2 * 1048576)}


def of(agent: Agent) -> tuple[Samples, list[float]]:
    now_s = [1_000.0]
    return Samples(agent, now_s=lambda: now_s[0]), now_s


async def test_the_second_look_gives_the_first_sample_and_then_there_is_one_each_half_minute() -> None:
    agent = Agent()
    samples, now_s = of(agent)
    for _ in range(14):  # a look each five seconds
        await samples.look()
        now_s[0] += 5
        agent.cpu_s += 2.5
    ring = samples.of(A)["t"]
    assert (list(ring.times), list(ring.cores), list(ring.memory_mib)) == ([1005, 1035, 1065], [0.5] * 3, [2.0] * 3)
    assert agent.asked == 4


async def test_one_that_does_not_answer_keeps_no_other_from_being_looked_at() -> None:
    agent = Agent()
    agent.allocs = {B: None, A: None}
    samples, now_s = of(agent)
    await samples.look()
    now_s[0] += 5
    await samples.look()
    assert (set(samples.of(A)), set(samples.of(B))) == ({"t"}, set())


async def test_what_is_gone_is_forgotten() -> None:
    agent = Agent()
    samples, _ = of(agent)
    await samples.look()
    agent.allocs = {}
    await samples.look()
    assert samples.of(A) == {}


def test_a_ring_holds_an_hour_and_a_new_process_uses_no_less_than_nothing() -> None:
    ring = Ring()
    for number in range(KEPT + 10):
        ring.look(number * EVERY_S, float(number), 0.0)
    ring.look((KEPT + 10) * EVERY_S, 0.0, 0.0)
    assert (len(ring.times), len(ring.cores), ring.times[0], ring.cores[-1]) == (KEPT, KEPT, int(11 * EVERY_S), 0.0)
