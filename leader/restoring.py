"""How does a saved state get back into an empty Consul, under running tasks?

    hold decisions ─> marker ─> versions, controls, … desired, jobs ─> index base, marker away ─> the term ends

Until the marker is gone no leader decides anything, so one that dies half way leaves a cluster that waits for the same
restore once more, and not one that starts or stops tasks by half a state. Agents run on what they run; when the next
term reads everything, their tasks are found wanted, by the very ids under which they run.

What agents write themselves (their nodes, what they see) is put back only where nothing newer is there. The lock, the
epoch and the inboxes are of today and are left alone.
"""

from catalog.keys import Keys, is_sentinel
from catalog.kv import Entry, Op, Verb, cut, delete, put
from catalog.saved import Saved
from leader.leading import Leading
from model.cluster import IndexBase, Sentinel
from model.errors import DroverError
from model.wire import decode, encode


class RestoreRefused(DroverError):
    """There is a state already."""


async def restore(leading: Leading, saved: Saved, *, is_forced: bool) -> int:
    """Returns how many keys were written; the term ends with it. Raises RestoreRefused, StoreUnavailable: then it has
    to be done once more."""
    keys, fenced = leading.keys, leading.fenced
    is_interrupted = await fenced.kv.get(keys.restoring) is not None
    if leading.view.jobs and not is_forced and not is_interrupted:
        raise RestoreRefused(
            f"there are {len(leading.view.jobs)} jobs already: restoring would write over them (force it to do so)"
        )
    leading.deciding.hold()
    await fenced.commit([put(keys.restoring, encode(Sentinel(nonce=fenced.new_id())))])
    present = set(await fenced.kv.keys(keys.state))
    entries = _in_order(saved, keys, present)
    for ops in cut([[_put(entry)] for entry in entries], reserve=fenced.term.fence.ops):
        await fenced.commit(ops)
    # The API's index goes on above the highest that the saved cluster can have shown.
    known = next((e for e in saved.entries if e.key == _saved_keys(saved).index_base), None)
    base = (decode(known.value, IndexBase).base if known is not None else 0) + saved.head.index + 1
    base = max(base, leading.view.index_base)
    await fenced.commit([put(keys.index_base, encode(IndexBase(base=base, nonce=fenced.new_id()))), delete(keys.restoring)])
    leading.end("a snapshot was restored")
    return len(entries)


def _saved_keys(saved: Saved) -> Keys:
    return Keys(saved.head.root)


def _in_order(saved: Saved, keys: Keys, present: set[str]) -> list[Entry]:
    """What is to be written, below today's root: what others name comes before them."""
    old = _saved_keys(saved)
    ranks = (
        old.scheduler,
        old.namespaces,
        f"{old.state}submissions/",
        old.versions,
        old.controls,
        old.nodes,
        old.observed,
        old.deployments,
        old.evals,
        old.brake,
        old.launches,
        old.desired,
        old.jobs,
    )
    found: list[tuple[int, Entry]] = []
    for entry in saved.entries:
        rank = next((number for number, prefix in enumerate(ranks) if entry.key.startswith(prefix)), None)
        if rank is None:
            continue
        key = keys.root + entry.key.removeprefix(old.root)
        is_agents = entry.key.startswith((old.nodes, old.observed))
        if not (is_agents and key in present) and not (is_sentinel(key) and key in present):
            found.append((rank, Entry(key=key, raw=entry.raw)))
    return [entry for _, entry in sorted(found, key=lambda one: one[0])]


def _put(entry: Entry) -> Op:
    """The very bytes that were saved, deflated or not."""
    return Op(Verb.SET, entry.key, entry.raw)
