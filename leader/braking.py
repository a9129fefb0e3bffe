"""How does an operator see the brake, and let it go?"""

import asyncio

from catalog.kv import put
from leader.decide.brake import Scope
from leader.leading import Leading
from model.cluster import BrakeRelease
from model.node import NodeId
from model.wire import Document, encode


class BrakeStatus(Document):
    """held_s: for how long no node at all is held lost yet (a new leader, an outage of Consul). released: nodes that an
    operator gave up."""

    engaged: bool
    held_s: float
    scopes: tuple[Scope, ...]
    released: tuple[NodeId, ...]
    released_at: int


def status(leading: Leading) -> BrakeStatus:
    brake = leading.lives.brake()
    return BrakeStatus(
        engaged=bool(brake.engaged),
        held_s=round(leading.lives.held_s(asyncio.get_running_loop().time()), 1),
        scopes=brake.scopes,
        released=leading.view.released.nodes,
        released_at=leading.view.released.released_at,
    )


async def release(leading: Leading) -> BrakeStatus:
    """Gives up the nodes that are unheard now: their work is replaced. Those that fall silent later engage it again.
    Raises StoreUnavailable."""
    brake, view = leading.lives.brake(), leading.view
    unheard = {node for scope in brake.engaged for node in scope.nodes}
    known = {node for node in view.released.nodes if node in view.nodes and not view.nodes[node].takes_work}
    released = BrakeRelease(
        nodes=tuple(sorted(known | unheard)), released_at=leading.fenced.now_ns, epoch=leading.fenced.epoch
    )
    await leading.fenced.commit([put(leading.keys.brake, encode(released))])
    view.released = released
    view.nodes_changed.set()
    return status(leading)
