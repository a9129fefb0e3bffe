"""Which submission document does a job block make?

Driven by the table in `schema.py`; what HCL spells differently from the JSON (constraint sugar, tasks
without a group, inherited vault, ports by kind, scaling labels) is in `sugar.py`. Goes on after a fault:
all of a file's faults are found in one pass.
"""

from collections.abc import Mapping
from typing import Any

from jobspec import sugar
from jobspec.bodies import expand
from jobspec.durations import DurationFault, parse_duration
from jobspec.evaluate import EvaluationFault, Scope, evaluate
from jobspec.positions import SourceMap
from jobspec.schema import INTEGER_RANGES, STRUCTS, Field, Struct
from jobspec.suggest import did_you_mean
from jobspec.syntax.tree import Block, Body, Expression, ObjectOf, Setting
from jobspec.values import ConversionFault, Value, to_bool, to_json, to_number, to_text, type_name
from model.errors import Fault

# Faults told of one file; who has more has another problem.
FAULTS_MAX = 100


class TooManyFaults(Exception):
    """The reading stops: `Mapper.faults` holds as many as are told."""


# Stands for a value that could not be read: its fault is noted, and the reading goes on.
_BROKEN = object()


class Mapper:
    """One reading of a job block: the faults found and the positions noted so far."""

    def __init__(self, source: SourceMap) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self._path = ""

    def refuse(self, at: int, message: str, path: str | None = None) -> None:
        if not message:  # follows from a fault that is noted already
            return
        shown = self._path if path is None else path
        full = f"job.{self.source.job}.{shown}".rstrip(".") if self.source.job else shown
        self.faults.append(self.source.source.fault(at, message, full))
        if len(self.faults) >= FAULTS_MAX:
            raise TooManyFaults

    def job(self, block: Block, scope: Scope) -> dict[str, Any]:
        """The job's document. Faults are in `faults`; with any, the document is incomplete."""
        self.source.job = block.labels[0] if block.labels else ""
        self.source.note("", block.at)
        struct = STRUCTS["Job"]
        if len(block.labels) != 1:
            self.refuse(block.at, f"a job block has one label, its name, found {len(block.labels)}")
        document = self.struct(struct, block.body, scope, "")
        sugar.normalise_job(document, self.source.job)
        return document

    def struct(self, struct: Struct, body: Body, scope: Scope, path: str) -> dict[str, Any]:
        """One block's document: every field of the struct, unset ones as null or zero."""
        document: dict[str, Any] = dict(struct.empty)
        self._path = path
        prefix = f"{path}." if path else ""
        extra_settings = sugar.SETTINGS.get(struct.name, {})
        for name, setting in body.settings.items():
            here = prefix + name
            self.source.note(here, setting.at)
            field = struct.attributes.get(name)
            if field is not None:
                value = self._attribute(field, setting, scope, here)
                if value is not _BROKEN:
                    document[field.json] = value
            elif name in extra_settings:
                self._sugar(extra_settings[name], setting, scope, here, document)
            elif name in struct.blocks and not struct.blocks[name].is_struct:
                self._set_data(struct.blocks[name], setting, scope, here, document)
            else:
                self._refuse_setting(struct, setting, extra_settings, here)
        first_at: dict[str, int] = {name: setting.at for name, setting in body.settings.items()}
        counts: dict[str, int] = {}
        for block, inner in expand(body, scope, self.refuse):
            self._path = path
            self._block(struct, block, inner, prefix, document, first_at, counts)
        self._path = path
        sugar.finish(struct.name, document)
        return document

    # ---- blocks

    def _block(
        self,
        struct: Struct,
        block: Block,
        scope: Scope,
        prefix: str,
        document: dict[str, Any],
        first_at: dict[str, int],
        counts: dict[str, int],
    ) -> None:
        kind = block.kind
        field = struct.blocks.get(kind)
        extra = sugar.BLOCKS.get(struct.name, {}).get(kind)
        if field is None and extra is None:
            self._refuse_block(struct, block, prefix)
            return
        inner = STRUCTS.get((field.kind if field is not None else extra) or "")
        if inner is None or extra == "Vault" or (field is not None and not field.shape):
            self._refuse_double(block, first_at, prefix + kind)
        label = self._label(inner, block, prefix + kind)
        index = counts.get(kind, 0)
        counts[kind] = index + 1
        here = self._block_path(
            prefix, kind, label, index, is_single=field is not None and not (field.shape and field.is_struct)
        )
        self.source.note(here, block.at)
        if inner is None and field is not None:
            self._path = here
            document[field.json] = self._data_block(field, block.body, scope, here)
            return
        if inner is None:
            return
        value = self.struct(inner, block.body, scope, here)
        if inner.label is not None:
            value[inner.label.json] = label
        if inner.name == "TaskScaling":
            self._path = here
            sugar.finish_task_scaling(value, label, lambda message: self.refuse(block.at, message))
        if inner.name == "ScalingPolicy" and value["Type"] not in ("", "horizontal"):
            self.refuse(block.at, f'a group\'s scaling has type "horizontal", found "{value["Type"]}"', here)
        _store(document, field, extra, label, value)

    def _block_path(self, prefix: str, kind: str, label: str, index: int, *, is_single: bool) -> str:
        if label:
            return f"{prefix}{kind}.{label}"
        return prefix + kind if is_single else f"{prefix}{kind}[{index}]"

    def _refuse_double(self, block: Block, first_at: dict[str, int], path: str) -> None:
        earlier = first_at.setdefault(block.kind, block.at)
        if earlier != block.at:
            line, _ = self.source.source.position(earlier)
            self.refuse(
                block.at, f"only one {block.kind} is allowed here (the first is on line {line})", path
            )

    def _label(self, struct: Struct | None, block: Block, path: str) -> str:
        wanted = struct is not None and (struct.label is not None or struct.name == "TaskScaling")
        if wanted and not block.labels:
            self.refuse(block.at, f'a {block.kind} block needs a name: {block.kind} "name" {{ … }}', path)
        if len(block.labels) > wanted:
            allowed = "one label" if wanted else "no label"
            self.refuse(
                block.label_ats[int(wanted)],
                f"a {block.kind} block has {allowed}, found {len(block.labels)}",
                path,
            )
        return block.labels[0] if wanted and block.labels else ""

    def _refuse_block(self, struct: Struct, block: Block, prefix: str) -> None:
        known = [*struct.blocks, *sugar.BLOCKS.get(struct.name, {})]
        hint = did_you_mean(block.kind, known)
        if block.kind in struct.attributes:
            hint = f" (it is an argument: {block.kind} = …)"
        self.refuse(block.at, f'unknown block "{block.kind}"{hint}', (prefix + block.kind)[:200])

    def _refuse_setting(
        self, struct: Struct, setting: Setting, extra: Mapping[str, object], path: str
    ) -> None:
        hint = did_you_mean(setting.name, [*struct.attributes, *extra, *(n for n in struct.blocks)])
        if setting.name in struct.blocks or setting.name in sugar.BLOCKS.get(struct.name, {}):
            hint = f" (it is a block: {setting.name} {{ … }})"
        self.refuse(setting.at, f'unknown argument "{setting.name[:60]}"{hint}', path[:200])

    # ---- arguments

    def value(self, expression: Expression, scope: Scope, path: str) -> Any:
        """The value of an expression, or _BROKEN."""
        try:
            return evaluate(expression, scope)
        except EvaluationFault as fault:
            self.refuse(fault.at, str(fault), path)
            return _BROKEN

    def _attribute(self, field: Field, setting: Setting, scope: Scope, path: str) -> Any:
        value = self.value(setting.value, scope, path)
        if value is _BROKEN:
            return value
        try:
            return convert_field(field, value)
        except (ConversionFault, DurationFault) as fault:
            self.refuse(setting.value.at, str(fault), path)
            return _BROKEN

    def _sugar(
        self, rule: sugar.Setting, setting: Setting, scope: Scope, path: str, document: dict[str, Any]
    ) -> None:
        value = self.value(setting.value, scope, path)
        if value is _BROKEN:
            return
        try:
            rule(document, value)
        except ConversionFault as fault:
            self.refuse(setting.value.at, str(fault), path)

    # ---- maps of data

    def _set_data(
        self, field: Field, setting: Setting, scope: Scope, path: str, document: dict[str, Any]
    ) -> None:
        """`env = { … }`: a map set as an argument."""
        value = self.value(setting.value, scope, path)
        if value is _BROKEN or value is None:
            return
        if not isinstance(value, dict):
            self.refuse(setting.value.at, f"map required, found {type_name(value)}", path)
            return
        made = {}
        for key, item in value.items():
            try:
                made[key] = _convert_data(field.kind, item)
            except ConversionFault as fault:
                self.refuse(setting.value.at, f"{key}: {fault}", path)
        document[field.json] = made

    def _data_block(self, field: Field, body: Body, scope: Scope, path: str) -> dict[str, Any]:
        if field.kind == "any":
            return self._free_body(body, scope, path)
        made: dict[str, Any] = {}
        for name, setting in body.settings.items():
            here = f"{path}.{name}"
            self.source.note(here, setting.at)
            value = self.value(setting.value, scope, here)
            if value is _BROKEN:
                continue
            try:
                made[name] = _convert_data(field.kind, value)
            except ConversionFault as fault:
                self.refuse(setting.value.at, str(fault), here)
        for block, _ in expand(body, scope, self.refuse):
            self.refuse(
                block.at,
                f'unknown block "{block.kind}" (only arguments are expected here)',
                f"{path}.{block.kind}",
            )
        return made

    def _free_body(self, body: Body, scope: Scope, path: str) -> dict[str, Any]:
        """Driver configuration: any names. A block or an object written out becomes a list of one map."""
        made: dict[str, Any] = {}
        for name, setting in body.settings.items():
            here = f"{path}.{name}"
            self.source.note(here, setting.at)
            value = self._free_value(setting.value, scope, here)
            if value is not _BROKEN and value is not None:
                made[name] = value
        kinds: dict[str, list[Any]] = {}
        for block in body.blocks:  # a dynamic block is data here, as any other
            here = f"{path}.{block.kind}"
            self.source.note(here, block.at)
            value = self._free_body(block.body, scope, here)
            for label in reversed(block.labels):
                value = {label: [value]}
            kinds.setdefault(block.kind, []).append(value)
        return made | kinds

    def _free_value(self, expression: Expression, scope: Scope, path: str) -> Any:
        value = self.value(expression, scope, path)
        if value is _BROKEN:
            return value
        try:
            plain = to_json(value)
        except ConversionFault as fault:
            self.refuse(expression.at, str(fault), path)
            return _BROKEN
        return [plain] if isinstance(expression, ObjectOf) else plain


def _store(
    document: dict[str, Any], field: Field | None, extra: str | None, label: str, value: dict[str, Any]
) -> None:
    """Puts a block's document where its parent keeps it."""
    if field is None:
        if extra == "Task":
            document.setdefault(sugar.LOOSE_TASKS, []).append(value)
        else:
            document[sugar.INHERITED_VAULT] = value
    elif field.shape == "list":
        if document[field.json]:
            document[field.json].append(value)
        else:
            document[field.json] = [value]
    elif field.shape == "map":
        document[field.json] = {**(document[field.json] or {}), label: value}
    else:
        document[field.json] = value


def convert_field(field: Field, value: Value) -> Any:
    """A value as its field's type wants it. Raises ConversionFault or DurationFault."""
    if field.shape == "list":
        if value is None:
            return None
        if not isinstance(value, list):
            raise ConversionFault(f"list of {field.kind} required, found {type_name(value)}")
        if field.kind in INTEGER_RANGES:
            return [whole_number(field.kind, item) for item in value]
        return [_convert_data(field.kind, item) for item in value]
    if value is None and field.zero is None and field.kind != "duration":
        return None
    return _convert_scalar(field.kind, value)


def _convert_scalar(kind: str, value: Value) -> Any:
    if kind == "string":
        return to_text(value)
    if kind == "bool":
        return to_bool(value)
    if kind == "duration":
        return _duration(value)
    return whole_number(kind, value)


def _duration(value: Value) -> int:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # a bare number is nanoseconds
    raise ConversionFault(f'duration required (as "30s"), found {type_name(value)}')


def whole_number(kind: str, value: Value) -> int:
    """An integer of the field's size. Raises ConversionFault."""
    number = to_number(value)
    low, high = INTEGER_RANGES[kind]
    if not isinstance(number, int) or not low <= number <= high:
        raise ConversionFault(f"whole number between {low} and {high} required, found {to_text(number)[:40]}")
    return number


def _convert_data(kind: str, value: Value) -> Any:
    if kind == "any":
        return to_json(value)
    if kind == "[string]":
        if not isinstance(value, list):
            raise ConversionFault(f"list of string required, found {type_name(value)}")
        return [to_text(item) for item in value]
    return to_text(value)
