"""One seed's run, from boot to convergence, and many of them over the machine's cores."""

import gc
import logging
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from tests.sim import clock
from tests.sim.faults import Storm, pick
from tests.sim.workload import NAMES
from tests.sim.world import World, a_world

STEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """failure: empty when nothing was broken and everything converged. wall_s, virtual_s: how long it took."""

    seed: int
    failure: str = ""
    digest: str = ""
    events: int = 0
    virtual_s: float = 0.0
    wall_s: float = 0.0
    counts: tuple[tuple[str, int], ...] = ()


def run_seed(
    seed: int, *, nodes: int | None = None, steps: int = STEPS, is_fencing: bool = True, names: Sequence[str] = NAMES
) -> Result:
    """Runs it in this process. Never raises for what the simulated cluster does. names: of the jobs asked for."""
    began_s = time.perf_counter()
    seen: list[World] = []
    failure = ""
    is_collecting = gc.isenabled()
    # Finalizers must run at the same moment in every run: with references counted alone they do.
    gc.disable()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        clock.run(_live(seed, nodes, steps, is_fencing, names, seen))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        failure = _told(error)
    finally:
        logging.disable(level)
        gc.collect()
        if is_collecting:
            gc.enable()
    (world,) = seen or (None,)
    return Result(
        seed=seed,
        failure=failure,
        digest=world.digest if world else "",
        events=world.events if world else 0,
        virtual_s=world.loop.time() if world else 0.0,
        wall_s=time.perf_counter() - began_s,
        counts=tuple(sorted(world.checkers.counts.items())) if world else (),
    )


async def _live(
    seed: int, nodes: int | None, steps: int, is_fencing: bool, names: Sequence[str], seen: list[World]
) -> None:
    import random

    machines, candidates = pick(random.Random(f"{seed}/size"))
    async with a_world(
        seed, nodes=nodes or machines, candidates=min(candidates, nodes or machines), is_fencing=is_fencing
    ) as world:
        seen.append(world)
        await Storm(world, names).rage(steps)
        await world.heal()


def _told(error: BaseException) -> str:
    """The checkers' words, or the traceback of what the simulator itself tripped over."""
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, AssertionError):
        return str(inner)
    return "".join(traceback.format_exception(inner))


def _one(task: tuple[int, int | None, int, bool, Sequence[str]]) -> Result:
    seed, nodes, steps, is_fencing, names = task
    return run_seed(seed, nodes=nodes, steps=steps, is_fencing=is_fencing, names=names)


def run_seeds(
    seeds: Sequence[int],
    *,
    nodes: int | None = None,
    steps: int = STEPS,
    is_fencing: bool = True,
    names: Sequence[str] = NAMES,
    processes: int | None = None,
) -> Iterator[Result]:
    """Each seed's result, in order, as they come in."""
    tasks = [(seed, nodes, steps, is_fencing, names) for seed in seeds]
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_one, tasks)
