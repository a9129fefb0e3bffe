"""What would have to change for a group to find a place?

One sentence for each filter that took nodes away, for users: what is asked for, what there is, and on which node the
least is missing. The nearest to a yes comes first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from leader.decide.constraints import reason, resolve
from leader.decide.explain import ORDER, Filter, NodeAnswer, Question, limits_of, needs_on, total_of
from leader.decide.feasible import constraints_of, in_datacenters
from leader.decide.ports import is_reserved, networks_of, static_ports
from leader.decide.table import DIMENSIONS, HostPort
from leader.decide.volumes import lacks_volume
from model.job import Constraint
from model.node import NodeId

# (node, its address and port) -> the job that holds it, "" where none does
PortHolder = Callable[[NodeId, HostPort], str]

# Names in one sentence; the rest is a number.
_NAMES_MAX = 5
_UNITS = {"cpu": " MHz", "memory": " MB", "disk": " MB", "cores": ""}

_Remedy = Callable[[Question, Sequence[NodeAnswer]], Iterator[str]]


def remedies(
    question: Question, found: Sequence[NodeAnswer], missing: int, holder: PortHolder
) -> tuple[str, ...]:
    """missing: allocs without a place. holder: of a node's port."""
    if not question.nodes:
        return ("the cluster has no node yet",)
    by_filter: dict[Filter, list[NodeAnswer]] = {}
    for one in found:
        by_filter.setdefault(one.filter, []).append(one)
    # Their values are those that distinct_property and max_skew choose among.
    may = [one.node_id for one in found if not one.filter or ORDER[one.filter] >= ORDER[Filter.DISTINCT_HOSTS]]
    told: dict[Filter, _Remedy] = {
        Filter.NOT_READY: _not_ready,
        Filter.DRIVER: _drivers,
        Filter.CONSTRAINT: _constraints,
        Filter.VOLUME: _volumes,
        Filter.NETWORK: _networks,
        Filter.DISTINCT_HOSTS: lambda _, nodes: _distinct_hosts(nodes, missing),
        Filter.DISTINCT_PROPERTY: lambda asked, nodes: _distinct_properties(asked, nodes, may),
        Filter.MAX_SKEW: lambda asked, nodes: _max_skews(asked, nodes, may),
        Filter.ROOM: _room,
        Filter.PORTS: lambda asked, nodes: _ports(asked, nodes, holder),
    }
    sentences: list[str] = []
    for kind in sorted(by_filter, key=lambda kind: -ORDER[kind]):
        if kind in told:
            sentences += told[kind](question, by_filter[kind])
    return (*sentences, *_datacenters(question))


def _names(nodes: Iterable[NodeAnswer]) -> str:
    names = [one.name for one in nodes]
    more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
    return ", ".join(names[:_NAMES_MAX]) + more


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# -- room


def _room(question: Question, nodes: Sequence[NodeAnswer]) -> Iterator[str]:
    asked = {one.node_id: dict(zip(DIMENSIONS, needs_on(question, one.node_id))) for one in nodes}
    totals = {one.node_id: dict(zip(DIMENSIONS, total_of(question, one.node_id))) for one in nodes}

    def is_never(one: NodeAnswer, name: str) -> bool:
        return totals[one.node_id][name] < asked[one.node_id][name]

    small = [one for one in nodes if any(is_never(one, name) for name in DIMENSIONS)]
    large = [one for one in nodes if one not in small]
    if large:
        best = min(large, key=lambda one: (max(short / asked[one.node_id][name] for name, short in one.short.items()), one.name))
        for name, short in best.short.items():
            unit, wanted = _UNITS[name], asked[best.node_id][name]
            yield (
                f"{name}: {short}{unit} short on the best node ({best.name}): {wanted}{unit}"
                f" asked for, {wanted - short} of {totals[best.node_id][name]}{unit} free"
            )
    for name in DIMENSIONS:
        # Where the cores are too few their MHz are as well, which is no news.
        never = [one for one in small if is_never(one, name) and not (name == "cpu" and is_never(one, "cores"))]
        if never:
            unit, most = _UNITS[name], max(never, key=lambda one: totals[one.node_id][name]).node_id
            yield (
                f"{name}: too small even when empty: {_names(never)}"
                f" ({asked[most][name]}{unit} asked for, at most {totals[most][name]} there)"
            )


def _ports(question: Question, nodes: Sequence[NodeAnswer], holder: PortHolder) -> Iterator[str]:
    taken: dict[tuple[int, str, str], list[NodeAnswer]] = {}
    for one in nodes:
        node, used = question.nodes[one.node_id].node, question.table.ports_used(question.table.rows[one.node_id])
        for port, label in static_ports(networks_of(question.group), node).items():
            if is_reserved(node, port):
                how = "reserved"
            elif port in used:
                by = holder(one.node_id, port) or question.job.id  # or what the trial placed
                how = f'held by job "{by}"'
            else:
                continue
            taken.setdefault((port[1], label, how), []).append(one)
    for (number, label, how), where in sorted(taken.items()):
        yield f"port {number} ({label}) is {how} on {_names(where)}"
    crowded = [one for one in nodes if "dynamic" in one.reason]
    if crowded:
        yield f"no dynamic port is left on {_names(crowded)}"


# -- what is there already


def _distinct_hosts(nodes: Sequence[NodeAnswer], missing: int) -> Iterator[str]:
    has = "has" if len(nodes) == 1 else "have"
    yield (
        f"distinct_hosts: {_some(len(nodes), 'node')} that would do {has} one already ({_names(nodes)});"
        f" {_some(missing, 'further node')} needed"
    )


def _distinct_properties(question: Question, nodes: Sequence[NodeAnswer], may: Sequence[NodeId]) -> Iterator[str]:
    for rule, held, _ in limits_of(question):
        refused = [one for one in nodes if one.reason == reason(rule)]
        if refused:
            limit = int(rule.rtarget) if rule.rtarget.isdecimal() else 1
            values = _held_by_value(question, rule.ltarget, held, may)
            yield f"distinct_property: at most {limit} for each {rule.ltarget}; {_by_value(values)}{_without(question, rule.ltarget, refused)}"


def _max_skews(question: Question, nodes: Sequence[NodeAnswer], may: Sequence[NodeId]) -> Iterator[str]:
    for spread in (*question.job.spreads, *question.group.spreads):
        refused = [one for one in nodes if one.reason == f"max_skew {spread.max_skew}"]
        if spread.max_skew is None or not refused:
            continue
        values = _held_by_value(question, spread.attribute, question.own, may)
        full = {resolve(spread.attribute, question.nodes[one.node_id].node) for one in refused}
        others = sorted(value for value in values if value not in full)
        where = f"; the next one must go to {' or '.join(others)}, where nothing takes it" if others else ""
        yield (
            f"max_skew: {spread.attribute} may differ by {spread.max_skew} at most; {_by_value(values)}{where}"
            f"{_without(question, spread.attribute, refused)}"
        )


def _held_by_value(
    question: Question, attribute: str, held: Mapping[NodeId, int], may: Sequence[NodeId]
) -> dict[str, int]:
    """{value: live allocs}, also of values with none that the nodes in `may` have."""
    values: Counter[str] = Counter()
    for node_id in {*may, *held}:
        view = question.nodes.get(node_id)
        value = resolve(attribute, view.node) if view else None
        if value is not None:
            values[value] += held.get(node_id, 0)
    return dict(sorted(values.items()))


def _by_value(values: Mapping[str, int]) -> str:
    shown = [f"{value} has {count}" for value, count in values.items()]
    more = f" and {len(shown) - _NAMES_MAX} more values" if len(shown) > _NAMES_MAX else ""
    return ", ".join(shown[:_NAMES_MAX]) + more


def _without(question: Question, attribute: str, nodes: Sequence[NodeAnswer]) -> str:
    lacking = [one for one in nodes if resolve(attribute, question.nodes[one.node_id].node) is None]
    return f"; {_names(lacking)} without {attribute}" if lacking else ""


# -- what a node is


def _constraints(question: Question, nodes: Sequence[NodeAnswer]) -> Iterator[str]:
    for rule in dict.fromkeys(constraints_of(question.job, question.group)):
        refused = [one for one in nodes if one.reason == reason(rule)]
        if refused:
            yield f"constraint {reason(rule)}: {_values(question, rule, refused)}"


def _values(question: Question, rule: Constraint, nodes: Sequence[NodeAnswer]) -> str:
    values = Counter(resolve(rule.ltarget, question.nodes[one.node_id].node) for one in nodes)
    told = [
        f"{_some(count, 'node')} without it" if value is None else f'"{value}" on {_some(count, "node")}'
        for value, count in sorted(values.items(), key=lambda item: (-item[1], item[0] or ""))
    ]
    more = f" and {len(told) - _NAMES_MAX} more values" if len(told) > _NAMES_MAX else ""
    return ", ".join(told[:_NAMES_MAX]) + more


def _volumes(question: Question, nodes: Sequence[NodeAnswer]) -> Iterator[str]:
    for need in question.needs.volumes:
        lacking: dict[str, list[NodeAnswer]] = {}
        for one in nodes:
            why = lacks_volume(question.nodes[one.node_id].node, need)
            if why:
                lacking.setdefault(why, []).append(one)
        for why, where in sorted(lacking.items()):
            told = "not on" if why == "missing" else "asked for to write, read-only on"
            yield f"host volume {need.source}: {told} {_names(where)}"


def _networks(_: Question, nodes: Sequence[NodeAnswer]) -> Iterator[str]:
    by_reason: dict[str, list[NodeAnswer]] = {}
    for one in nodes:
        by_reason.setdefault(one.reason, []).append(one)
    for why, where in sorted(by_reason.items()):
        yield f"{why}: {_names(where)}"


def _drivers(question: Question, nodes: Sequence[NodeAnswer]) -> Iterator[str]:
    by_driver: dict[str, list[NodeAnswer]] = {}
    for one in nodes:
        by_driver.setdefault(one.reason.rpartition(" ")[2], []).append(one)
    for driver, refused in sorted(by_driver.items()):
        missing = []
        for one in refused:
            info = question.nodes[one.node_id].node.drivers.get(driver)
            if info is not None and info.detected:
                yield f"driver {driver}: on {one.name} it is not healthy ({info.health_description or 'no reason given'})"
            else:
                missing.append(one)
        if missing:
            yield f"driver {driver}: not on {_names(missing)}"


def _not_ready(question: Question, nodes: Sequence[NodeAnswer]) -> Iterator[str]:
    by_state: dict[str, list[NodeAnswer]] = {}
    for one in nodes:
        by_state.setdefault(one.reason, []).append(one)
    for state, refused in sorted(by_state.items()):
        hint = " (drover node eligibility -enable)" if state == "ineligible" else ""
        yield f"{state}: {_names(refused)}{hint}"


def _datacenters(question: Question) -> Iterator[str]:
    """Names that no node answers to, and virtual datacenters that a name does not enter."""
    nodes = [view.node for view in question.nodes.values()]
    names = question.job.datacenters
    if bound := question.needs.bound:
        named = [one for one in bound if in_datacenters(names, "", one, bound)]
        if not named:
            yield f"namespace {question.job.namespace} is bound to {', '.join(bound)}, none of which the job names"
        elif not any(node.virtual_datacenter in named for node in nodes):
            yield f"namespace {question.job.namespace} is bound to {', '.join(bound)}, and no node is there"
        return
    known = sorted({node.datacenter for node in nodes if not node.virtual_datacenter})
    virtual = sorted({node.virtual_datacenter for node in nodes if node.virtual_datacenter})
    for name in names:
        closed = [
            node.virtual_datacenter
            for node in nodes
            if in_datacenters((name,), node.datacenter, "")
            and not in_datacenters(names, node.datacenter, node.virtual_datacenter)
        ]
        if closed:
            take, their = ("takes", "its") if len(closed) == 1 else ("take", "their")
            yield (
                f"{_some(len(closed), 'node')} in datacenter {name} {take} only jobs that name {their} virtual datacenter:"
                f" {', '.join(sorted(set(closed)))}"
            )
        elif not any(
            in_datacenters((name,), node.datacenter, virtual) for node in nodes for virtual in (node.virtual_datacenter, "")
        ):
            told = [f"known: {', '.join(known)}"] if known else []
            told += [f"virtual: {', '.join(virtual)}"] if virtual else []
            yield f"no node is in datacenter {name} ({'; '.join(told)})"
