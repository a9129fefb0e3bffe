"""What differs between two versions of a job?

In the shape of Nomad's plan: `Fields` are values by name (`Meta[a]`, `Env[A]`), `Objects` are blocks inside, each
"Added", "Deleted", "Edited" or "None". With context, an edited block shows its unchanged values too. A list of
blocks is a set: one that was edited is deleted and added, except where it has a name (groups, tasks, services,
checks).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from model.job import Job
from model.wire import encode

Json = dict[str, Any]
Flat = dict[str, str]

_NONE, _ADDED, _DELETED, _EDITED = "None", "Added", "Deleted", "Edited"

# Filled in by the leader: they differ without anybody having changed the job.
_NOT_OF_THE_JOB = (
    "ID", "Status", "StatusDescription", "Version", "Stable", "CreateIndex", "ModifyIndex", "JobModifyIndex", "RestartedAt",
    "SubmitTime", "Update",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Inside:
    """A block inside of another. label: the name a diff shows. name: the field that tells which is which in a list,
    "" when the list is a set. parts: the blocks inside of this one. is_data: no block of known fields."""

    field: str
    label: str
    name: str = ""
    parts: tuple["_Inside", ...] = ()
    is_data: bool = False


_RULES = (_Inside("Constraints", "Constraint"), _Inside("Affinities", "Affinity"))
_SPREAD = _Inside("Spreads", "Spread", parts=(_Inside("SpreadTarget", "SpreadTarget"),))
_NETWORK = _Inside(
    "Networks",
    "Network",
    parts=(
        _Inside("ReservedPorts", "Static Port"),
        _Inside("DynamicPorts", "Dynamic Port"),
        _Inside("DNS", "DNS"),
        _Inside("CNI", "CNIConfig", is_data=True),
    ),
)
_CHECK = _Inside(
    "Checks", "Check", "Name", (_Inside("CheckRestart", "CheckRestart"), _Inside("Header", "Header", is_data=True))
)
_SERVICE = _Inside(
    "Services", "Service", "Name", (_CHECK, _Inside("Weights", "Weights"), _Inside("Connect", "ConsulConnect", is_data=True))
)
_RESOURCES = _Inside("Resources", "Resources", parts=(_NETWORK, _Inside("Devices", "Device", is_data=True), _Inside("NUMA", "NUMA", is_data=True)))
_TASK = (
    *_RULES,
    _Inside("Config", "Config", is_data=True),
    _RESOURCES,
    _Inside("LogConfig", "LogConfig"),
    _Inside("RestartPolicy", "RestartPolicy"),
    _Inside("DispatchPayload", "DispatchPayload"),
    _Inside("Lifecycle", "Lifecycle"),
    _Inside("Artifacts", "Artifact"),
    _SERVICE,
    _Inside("Vault", "Vault"),
    _Inside("Templates", "Template", parts=(_Inside("ChangeScript", "ChangeScript", is_data=True), _Inside("Wait", "Wait", is_data=True))),
    _Inside("VolumeMounts", "VolumeMount"),
    _Inside("ScalingPolicies", "Scaling", is_data=True),
    _Inside("CSIPluginConfig", "CSIPluginConfig", is_data=True),
)
_GROUP = (
    *_RULES,
    _SPREAD,
    _Inside("RestartPolicy", "RestartPolicy"),
    _Inside("ReschedulePolicy", "ReschedulePolicy"),
    _Inside("EphemeralDisk", "EphemeralDisk"),
    _Inside("Update", "Update"),
    _Inside("Migrate", "Migrate"),
    _Inside("Disconnect", "Disconnect"),
    _Inside("Completion", "Completion"),
    _NETWORK,
    _SERVICE,
    _Inside("Volumes", "Volume", "Name"),
    _Inside("Scaling", "Scaling", is_data=True),
    _Inside("Consul", "Consul", is_data=True),
)
_JOB = (
    *_RULES,
    _SPREAD,
    _Inside("Periodic", "Periodic", parts=(_Inside("History", "History"),)),
    _Inside("ParameterizedJob", "ParameterizedJob", parts=(_Inside("History", "History"),)),
    _Inside("Multiregion", "Multiregion", is_data=True),
    _Inside("UI", "UI"),
)


def job_diff(old: Job | None, new: Job | None, *, has_context: bool = True) -> Json:
    """The difference from `old` (None: it is new) to `new` (None: it goes). Keys and words are Nomad's:

    {Type, ID, Fields: [{Type, Name, Old, New, Annotations}], Objects: [{Type, Name, Fields, Objects}],
    TaskGroups: [{Type, Name, Fields, Objects, Tasks: [{Type, Name, Fields, Objects, Annotations}], Updates}]}
    """
    one, other = _document(old), _document(new)
    fields = _fields(_flat(one, _JOB, skip=_NOT_OF_THE_JOB), _flat(other, _JOB, skip=_NOT_OF_THE_JOB), False)
    objects = _all_inside(_JOB, one, other, has_context)
    groups = [
        _group(name, before, after, has_context) for name, before, after in _named("TaskGroups", "Name", one, other)
    ]
    job = new or old
    return {
        "Type": _kind(one, other, [*fields, *objects, *groups]),
        "ID": job.id if job else "",
        "Fields": fields,
        "Objects": objects,
        "TaskGroups": sorted(groups, key=lambda group: str(group["Name"])),
    }


def _document(job: Job | None) -> Json | None:
    return msgspec.json.decode(encode(job)) if job is not None else None


def _group(name: str, old: Json | None, new: Json | None, has_context: bool) -> Json:
    fields = _fields(_flat(old, _GROUP, skip=("Name",)), _flat(new, _GROUP, skip=("Name",)), False)
    objects = _all_inside(_GROUP, old, new, has_context)
    tasks = [_task(task, before, after, has_context) for task, before, after in _named("Tasks", "Name", old, new)]
    return {
        "Type": _kind(old, new, [*fields, *objects, *tasks]),
        "Name": name,
        "Fields": fields,
        "Objects": objects,
        "Tasks": sorted(tasks, key=lambda task: str(task["Name"])),
        "Updates": None,
    }


def _task(name: str, old: Json | None, new: Json | None, has_context: bool) -> Json:
    fields = _fields(_flat(old, _TASK, skip=("Name",)), _flat(new, _TASK, skip=("Name",)), False)
    objects = _all_inside(_TASK, old, new, has_context)
    return {
        "Type": _kind(old, new, [*fields, *objects]),
        "Name": name,
        "Fields": fields,
        "Objects": objects,
        "Annotations": None,
    }


def _kind(old: Json | None, new: Json | None, parts: Iterable[Mapping[str, Any]]) -> str:
    if old is None:
        return _ADDED
    if new is None:
        return _DELETED
    return _EDITED if any(part["Type"] != _NONE for part in parts) else _NONE


# -- values


def _flat(document: Json | None, parts: Sequence[_Inside], *, skip: Sequence[str] = ()) -> Flat:
    """Values by name; maps as `Name[key]`. Blocks, and lists of anything, are objects and not here."""
    left_out = {part.field for part in parts}.union(skip, ("TaskGroups", "Tasks"))
    flat: Flat = {}
    for name, value in (document or {}).items():
        if name in left_out or isinstance(value, list):
            continue
        if isinstance(value, dict):
            flat.update({f"{name}[{key}]": _text(item) for key, item in value.items()})
        else:
            flat[name] = _text(value)
    return flat


def _data(prefix: str, value: Any) -> Flat:
    """All values inside, whatever their nesting: `args[0]`, `auth[0][username]`."""
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        return {prefix: _text(value)}
    flat: Flat = {}
    for key, item in pairs:
        flat |= _data(f"{prefix}[{key}]" if prefix else str(key), item)
    return flat


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fields(old: Flat, new: Flat, has_context: bool) -> list[Json]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, ""), new.get(name, "")
        if before == after and not (has_context and before):
            continue
        kind = _NONE if before == after else _ADDED if not before else _DELETED if not after else _EDITED
        found.append({"Type": kind, "Name": name, "Old": before, "New": after, "Annotations": None})
    return found


# -- blocks


def _all_inside(parts: Sequence[_Inside], old: Json | None, new: Json | None, has_context: bool) -> list[Json]:
    """The objects that differ, sorted by name; lists of plain values are among them."""
    found: list[Json] = []
    for part in parts:
        found += _inside(part, old, new, has_context)
    known = {part.field for part in parts} | {"TaskGroups", "Tasks"}
    for name in (old or {}).keys() | (new or {}).keys():
        before, after = (old or {}).get(name), (new or {}).get(name)
        if name not in known and (isinstance(before, list) or isinstance(after, list)):
            found += _list(name, before or [], after or [], has_context)
    return sorted(found, key=lambda one: (str(one["Name"]), one["Type"] != _DELETED))


def _inside(part: _Inside, old: Json | None, new: Json | None, has_context: bool) -> list[Json]:
    before, after = (old or {}).get(part.field), (new or {}).get(part.field)
    if not part.name and not isinstance(before or after, list):
        changed = _object(part, before or None, after or None, has_context)
        return [changed] if changed else []
    if part.name:
        pairs = [(a, b) for _, a, b in _named(part.field, part.name, old, new)]
    else:
        left, right = list(before or ()), list(after or ())
        for item in list(left):
            if item in right:
                left.remove(item)
                right.remove(item)
        pairs = [*((item, None) for item in left), *((None, item) for item in right)]
    objects = (_object(part, a, b, has_context) for a, b in pairs)
    return [one for one in objects if one]


def _object(part: _Inside, old: Json | None, new: Json | None, has_context: bool) -> Json | None:
    """The block's difference, None if there is none."""
    if old == new:
        return None
    before, after = (
        (_data("", document or {}) if part.is_data else _flat(document, part.parts)) for document in (old, new)
    )
    return {
        "Type": _ADDED if old is None else _DELETED if new is None else _EDITED,
        "Name": part.label,
        "Fields": _fields(before, after, has_context) or None,
        "Objects": ([] if part.is_data else _all_inside(part.parts, old, new, has_context)) or None,
    }


def _list(name: str, old: Sequence[Any], new: Sequence[Any], has_context: bool) -> list[Json]:
    """A list of plain values (datacenters, tags): what was added and what is gone."""
    if list(old) == list(new):
        return []
    before, after = {_text(v): None for v in old}, {_text(v): None for v in new}
    fields = [
        {
            "Type": _NONE if text in before and text in after else _DELETED if text in before else _ADDED,
            "Name": name,
            "Old": text if text in before else "",
            "New": text if text in after else "",
            "Annotations": None,
        }
        for text in sorted(before | after)
        if has_context or not (text in before and text in after)
    ]
    kind = _ADDED if not old else _DELETED if not new else _EDITED
    return [{"Type": kind, "Name": name, "Fields": fields, "Objects": None}]


def _named(field: str, name: str, old: Json | None, new: Json | None) -> list[tuple[str, Json | None, Json | None]]:
    """(name, before, after) of the blocks in a list; of several with one name, in their order."""
    sides: list[dict[tuple[str, int], Json]] = []
    for document in (old, new):
        seen: dict[str, int] = {}
        side: dict[tuple[str, int], Json] = {}
        items = (document or {}).get(field) or ()
        for item in items.values() if isinstance(items, dict) else items:
            number = seen[item[name]] = seen.get(item[name], -1) + 1
            side[item[name], number] = item
        sides.append(side)
    keys = sorted(sides[0].keys() | sides[1].keys())
    return [(key[0], sides[0].get(key), sides[1].get(key)) for key in keys]
