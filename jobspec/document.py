"""Does a submission document have the right shape?

Reads a JSON body (or what the mapper made) along the table in `schema.py`: every known field gets its
type checked and durations become nanoseconds; what is null or unknown is left out. Key names are matched
without regard to case, as Go's decoder does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jobspec.durations import DurationFault, parse_duration
from jobspec.schema import EXTENSION_OPERATORS, INTEGER_RANGES, STRUCTS, Field, Struct
from model.errors import Fault

# How deep driver configuration may nest: Consul, the API and the drivers all walk it recursively.
_DATA_DEPTH_MAX = 64
_SHOWN = {bool: "a bool", int: "a number", float: "a number", str: "a string", type(None): "null"}
_BROKEN = object()


def read_job_document(
    document: Mapping[str, Any], faults: list[Fault], *, is_strict: bool = False
) -> dict[str, Any]:
    """The set fields of a job's document, checked. `document`: with or without the `Job` wrapper.

    is_strict: what only drover has is a fault.
    """
    inner = document.get("Job", document.get("job"))
    if isinstance(inner, Mapping) and "ID" not in document:
        document = inner
    name = document.get("ID")
    prefix = f"job.{name}" if isinstance(name, str) and name else "job"
    return _Reader(faults, prefix, is_strict).struct(STRUCTS["Job"], document, "")


class _Reader:
    def __init__(self, faults: list[Fault], prefix: str, is_strict: bool) -> None:
        self._faults = faults
        self._is_strict = is_strict
        self._prefix = prefix

    def _refuse(self, path: str, message: str) -> None:
        self._faults.append(Fault(message=message, path=f"{self._prefix}.{path}" if path else self._prefix))

    def struct(self, struct: Struct, document: Mapping[str, Any], path: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in document.items():
            if value is None or not isinstance(key, str):
                continue
            field = struct.by_folded_name.get(key.lower())
            if field is None:
                continue
            here = f"{path}.{_shown_name(field)}" if path else _shown_name(field)
            is_own_operator = field.json == "Operand" and value in EXTENSION_OPERATORS
            if (field.is_extension or is_own_operator) and self._is_strict:
                self._refuse(here, "only drover knows this (refused by -nomad-strict)")
                continue
            read = self._field(field, value, here)
            if read is not _BROKEN:
                made[field.json] = read
        return made

    def _field(self, field: Field, value: Any, path: str) -> Any:
        if field.shape == "list":
            if not isinstance(value, Sequence) or isinstance(value, str | bytes):
                return self._wrong(path, "a list", value)
            if field.is_struct:
                return self._structs(STRUCTS[field.kind], value, path)
            return self._items(((item, f"{path}[{number}]") for number, item in enumerate(value)), field.kind)
        if field.shape == "map":
            return self._map(field, value, path)
        if field.is_struct:
            if not isinstance(value, Mapping):
                return self._wrong(path, "an object", value)
            return self.struct(STRUCTS[field.kind], value, path)
        return self._scalar(field.kind, value, path)

    def _structs(self, struct: Struct, values: Sequence[Any], path: str) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for number, item in enumerate(values):
            if item is None:
                continue
            if not isinstance(item, Mapping):
                self._wrong(f"{path}[{number}]", "an object", item)
                continue
            label = item.get(struct.label.json) if struct.label else None
            here = f"{path}.{label}" if isinstance(label, str) and label else f"{path}[{number}]"
            made.append(self.struct(struct, item, here))
        return made

    def _items(self, items: Any, kind: str) -> list[Any]:
        read = (self._scalar(kind, item, path) for item, path in items)
        return [item for item in read if item is not _BROKEN]

    def _map(self, field: Field, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self._wrong(path, "an object", value)
        if field.kind == "any":
            if _depth(value) > _DATA_DEPTH_MAX:
                self._refuse(path, f"nested too deeply (at most {_DATA_DEPTH_MAX} levels)")
                return _BROKEN
            return dict(value)
        made: dict[str, Any] = {}
        for key, item in value.items():
            here = f"{path}.{key}"
            if field.is_struct:
                if not isinstance(item, Mapping):
                    self._wrong(here, "an object", item)
                    continue
                made[str(key)] = self.struct(STRUCTS[field.kind], item, here)
                continue
            if item is None:
                continue
            read = (
                self._strings(item, here) if field.kind == "[string]" else self._scalar("string", item, here)
            )
            if read is not _BROKEN:
                made[str(key)] = read
        return made

    def _strings(self, value: Any, path: str) -> Any:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return self._wrong(path, "a list", value)
        return self._items(((item, f"{path}[{number}]") for number, item in enumerate(value)), "string")

    def _scalar(self, kind: str, value: Any, path: str) -> Any:
        if kind == "string":
            return value if isinstance(value, str) else self._wrong(path, "a string", value)
        if kind == "bool":
            return value if isinstance(value, bool) else self._wrong(path, "true or false", value)
        if kind == "duration":
            if isinstance(value, str):
                try:
                    return parse_duration(value)
                except DurationFault as fault:
                    self._refuse(path, str(fault))
                    return _BROKEN
            kind = "int"
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value != value
            or abs(value) == float("inf")
        ):
            return self._wrong(path, "a whole number", value)
        low, high = INTEGER_RANGES[kind]
        if value != int(value) or not low <= value <= high:
            self._refuse(path, f"{str(value)[:40]} is no whole number between {low} and {high}")
            return _BROKEN
        return int(value)

    def _wrong(self, path: str, expected: str, value: Any) -> Any:
        found = _SHOWN.get(type(value), "an object" if isinstance(value, Mapping) else "a list")
        self._refuse(path, f"expected {expected}, found {found}")
        return _BROKEN


def _shown_name(field: Field) -> str:
    """The HCL name where there is one: one form of path, whatever the input was."""
    return field.hcl if field.hcl not in "@-" else field.json


def _depth(value: Any) -> int:
    """How deep a document nests, without recursion."""
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, depth = stack.pop()
        deepest = max(deepest, depth)
        if depth > _DATA_DEPTH_MAX:
            return depth
        if isinstance(item, Mapping):
            stack.extend((inner, depth + 1) for inner in item.values())
        elif isinstance(item, list | tuple):
            stack.extend((inner, depth + 1) for inner in item)
    return deepest
