"""The API's /v1/client/…/samples: what tasks and the machine used in the last hour (agent/samples.py). drover's own.

Times: seconds since 1970; CPU: MHz, as jobs ask for them; Memory: bytes. Each as long as the others, the oldest first.
"""

from typing import Any

from aiohttp import web

from agent.samples import EVERY_S, Ring
from api.context import CONTEXT
from api.query import answer
from api.stats import core_mhz
from model.alloc import AllocId

_MIB = 1048576


async def of_alloc(request: web.Request) -> web.Response:
    """By task, those that ended within the hour too."""
    samples, mhz = request.app[CONTEXT].samples, core_mhz(request)
    rings = samples.of(AllocId(request.match_info["id"])) if samples is not None else {}
    return answer(request, {"Interval": int(EVERY_S), "Tasks": {name: _shown(ring, mhz) for name, ring in rings.items()}})


async def of_node(request: web.Request) -> web.Response:
    """Total: what the machine has."""
    context = request.app[CONTEXT]
    ring = context.samples.machine if context.samples is not None else Ring()
    resources = context.agent.node.resources
    total = {"CPU": resources.cpu_mhz, "Memory": resources.memory_mb * _MIB}
    return answer(request, {"Interval": int(EVERY_S), **_shown(ring, core_mhz(request)), "Total": total})


def _shown(ring: Ring, mhz: float) -> dict[str, Any]:
    return {
        "Times": list(ring.times),
        "CPU": [round(cores * mhz, 1) for cores in ring.cores],
        "Memory": [round(mib * _MIB) for mib in ring.memory_mib],
    }
