"""How does an operator make an agent a candidate for leader at run time, and no candidate any more?

It stands in `control/<node>`, which each process follows (candidacy.py), so it outlives restarts of all of them.
"""

import msgspec

from catalog.kv import put
from leader.draining import change_control
from leader.leading import Leading
from model.node import NodeControl, NodeId
from model.wire import decode, encode


async def set_candidate(leading: Leading, node_id: NodeId, *, is_candidate: bool) -> int:
    """Returns Consul's index. Raises StoreUnavailable. A process that runs no tasks is no node, but may be told too."""

    def change(control: NodeControl) -> NodeControl:
        return msgspec.structs.replace(control, candidate=is_candidate)

    if node_id in leading.view.nodes:
        return await change_control(leading, node_id, change)
    key = leading.keys.control(node_id)
    entry = await leading.fenced.kv.get(key)
    known = decode(entry.value, NodeControl) if entry is not None else NodeControl(node_id=node_id)
    control = msgspec.structs.replace(change(known), epoch=leading.fenced.epoch)
    return (await leading.fenced.commit([put(key, encode(control))]))[key].modify_index
