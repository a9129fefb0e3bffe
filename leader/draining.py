"""How does an operator empty a node, and when is it empty?

    set_drain ──control/<node>.drain──> the jobs' ordinary decisions (counted.py, system.py) ──all ended──> finished

The order stands in the node's control document, so that whoever leads goes on with it. What must leave when is each
job's own decision; here it only begins, is called off, and ends.
"""

from collections.abc import Callable, Mapping

import msgspec

from catalog.kv import replace
from leader.commands import UnknownNode
from leader.decide.nodes import drain_called_off, drain_set
from leader.leading import Leading
from model.errors import StoreUnclear, WriteConflict
from model.node import Drain, NodeControl, NodeId
from model.wire import encode

# The node's life is written into the same document: then this is worked out again over what it is now.
_TRIES = 5


async def set_drain(
    leading: Leading, node_id: NodeId, drain: Drain | None, *, mark_eligible: bool, meta: Mapping[str, str] = {}
) -> int:
    """Begins, changes or (None) calls off; mark_eligible: then the node takes new work again; meta: what the operator
    says of it, over what was said before of the same drain. Returns Consul's index. Raises UnknownNode,
    StoreUnavailable."""
    now_ns = leading.fenced.now_ns
    stamp = leading.fenced.now().isoformat().replace("+00:00", "Z")

    def change(control: NodeControl) -> NodeControl:
        if drain is not None:
            return drain_set(control, drain, now_ns, stamp, meta)
        return drain_called_off(control, now_ns, stamp, mark_eligible=mark_eligible, meta=meta)

    return await change_control(leading, node_id, change)


async def change_control(leading: Leading, node_id: NodeId, change: Callable[[NodeControl], NodeControl]) -> int:
    """Writes what `change` makes of the node's control document, over what was read. Returns Consul's index."""
    error: Exception | None = None
    for _ in range(_TRIES):
        node = leading.view.nodes.get(node_id)
        if node is None:
            raise UnknownNode("node not found")
        control = change(node.control)
        if control == node.control and node.control_index:
            return node.control_index
        control = msgspec.structs.replace(control, epoch=leading.fenced.epoch)
        key = leading.keys.control(node_id)
        try:
            written = await leading.fenced.commit([replace(key, encode(control), node.control_index)])
        except (StoreUnclear, WriteConflict) as problem:
            error = problem
            leading.deciding.doubt_node(node_id)
            await leading.deciding.read_doubted_nodes()
            continue
        except BaseException:
            leading.deciding.doubt_node(node_id)
            raise
        leading.view.put_control(control, written[key].modify_index)
        return written[key].modify_index
    raise error or UnknownNode("node not found")
