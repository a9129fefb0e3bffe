"""The API's /v1/client/allocation/…/checks: what the checks of an allocation's services say just now.

They are Consul's checks, shown in the shape in which Nomad shows those that it runs by itself.
"""

import time
from typing import Any

from aiohttp import web

from agent.services import CheckResult
from api.context import CONTEXT
from api.query import answer
from model.alloc import AllocId

# What does not pass keeps a deployment waiting, a warning too.
_STATUS = {"passing": "success"}


async def checks(request: web.Request) -> web.Response:
    """{check id: its state}; empty for an alloc without checks. StatusCode is 0: Consul tells none."""
    context = request.app[CONTEXT]
    alloc_id = AllocId(request.match_info["id"])
    name = context.agent.allocs[alloc_id].desired.name
    now_s = int(time.time())
    found = await context.check_results(alloc_id)
    return answer(request, {one.check.id: _shown(one, name, now_s) for one in found})


def _shown(one: CheckResult, group: str, now_s: int) -> dict[str, Any]:
    # Consul's word for a check that has not run is critical, without output.
    has_run = one.found is not None and (one.found.output or one.found.status != "critical")
    return {
        "ID": one.check.id,
        "Check": one.check.name,
        "Group": group,
        "Mode": "readiness" if one.check.spec.on_update == "ignore" else "healthiness",
        "Service": one.service,
        "Task": one.task,
        "Status": _STATUS.get(one.found.status, "failure") if one.found is not None and has_run else "pending",
        "StatusCode": 0,
        "Output": one.found.output if one.found is not None else "",
        "Timestamp": now_s,
    }
