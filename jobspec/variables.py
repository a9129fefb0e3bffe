"""Which values do `var.x` and `local.y` have?

A variable takes its value from, in rising order: its default, the environment (NOMAD_VAR_x), the files
of -var-file in their order, and -var. What a string or number variable is given outside the job file is
text; for other types it is an HCL expression. A variable without a type has that of its default, as in Nomad.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobspec.evaluate import EvaluationFault, Scope, evaluate
from jobspec.suggest import did_you_mean
from jobspec.syntax.parser import parse_body, parse_expression
from jobspec.syntax.source import Source, read_text
from jobspec.syntax.tree import (
    Block,
    Body,
    Expression,
    ForDirective,
    ForObject,
    ForTuple,
    Literal,
    ObjectOf,
    Reference,
    Setting,
)
from jobspec.type_expressions import TypeFault, read_type
from jobspec.unification import type_of
from jobspec.values import ConversionFault, Type, Value, convert, to_bool, to_text
from model.errors import Fault, JobspecError

_ENVIRONMENT_PREFIX = "NOMAD_VAR_"
_SETTINGS = ("type", "default", "description", "sensitive")
_VALIDATION_SETTINGS = ("condition", "error_message")


@dataclass(slots=True)
class _Variable:
    name: str
    block: Block
    type: Type | None = None
    default: Value = None
    has_default: bool = False
    is_sensitive: bool = False
    validations: list[Block] = field(default_factory=list)  # the sound ones


class Variables:
    """Reads the `variable` and `locals` blocks of one file; faults gather in `faults`."""

    def __init__(self, source: Source, functions: Scope) -> None:
        self._source = source
        self._closed = Scope(functions=functions.functions, prices=functions.prices, is_closed=True)
        self._open = functions
        self._broken: set[str] = set()
        self._places: dict[str, tuple[Source, int]] = {}  # of the values that stand in a file
        self.faults: list[Fault] = []

    def scope(
        self,
        body: Body,
        *,
        given: Mapping[str, str],
        files: Sequence[tuple[str, bytes]],
        environ: Mapping[str, str],
    ) -> Scope:
        """The scope of the job block: `var` and `local` known."""
        declared = self._declared(body)
        values = {name: item.default for name, item in declared.items() if item.has_default}
        values |= self._from_environment(declared, environ)
        for file, data in files:
            values |= self._from_file(declared, file, data)
        values |= self._from_arguments(declared, given)
        for name, item in declared.items():
            if name not in values and f"var.{name}" not in self._broken:
                self._broken.add(f"var.{name}")
                self._refuse(
                    item.block.at,
                    f'the variable "{name}" has no value (set it with -var, -var-file or {_ENVIRONMENT_PREFIX}{name}, or give it a default)',
                )
        scope = self._open.with_names({"var": values}, broken=self._broken)
        for name, item in declared.items():
            if name in values:
                self._validate(item, scope)
        return self._with_locals(body, scope)

    def _refuse(self, at: int, message: str) -> None:
        if not message:  # follows from a fault that is noted already
            return
        self.faults.append(self._source.fault(at, message))

    # ---- declarations

    def _declared(self, body: Body) -> dict[str, _Variable]:
        declared: dict[str, _Variable] = {}
        for block in body.blocks:
            if block.kind in ("variables", "locals"):
                self._refuse_all_but_arguments(block)
            if block.kind == "variables":
                for name, setting in block.body.settings.items():
                    if self._is_new(name, setting.at, declared):
                        declared[name] = self._short_form(name, setting, block)
            if block.kind != "variable":
                continue
            if len(block.labels) != 1:
                self._refuse(block.at, f"a variable block has one label, its name, found {len(block.labels)}")
                continue
            name = block.labels[0]
            if not _is_identifier(name):
                self._refuse(
                    block.label_ats[0],
                    f'"{name[:60]}" is no name of a variable (a letter or "_", then letters, digits, "_" and "-")',
                )
            if self._is_new(name, block.at, declared):
                declared[name] = self._declaration(name, block)
        return declared

    def _refuse_all_but_arguments(self, block: Block) -> None:
        if block.labels:
            self._refuse(block.label_ats[0], f"a {block.kind} block has no label")
        for inner in block.body.blocks:
            self._refuse(
                inner.at, f'a {block.kind} block holds arguments only, found the block "{inner.kind[:60]}"'
            )

    def _is_new(self, name: str, at: int, declared: Mapping[str, _Variable]) -> bool:
        if name in declared:
            line, _ = self._source.position(declared[name].block.at)
            self._refuse(at, f'the variable "{name}" is declared twice (first on line {line})')
        return name not in declared

    def _short_form(self, name: str, setting: Setting, block: Block) -> _Variable:
        item = _Variable(name, Block(setting.at, block.kind, (name,), (setting.at,), block.body))
        self._set_default(item, setting)
        return item

    def _declaration(self, name: str, block: Block) -> _Variable:
        item = _Variable(name, block)
        settings = block.body.settings
        for key, setting in settings.items():
            if key not in _SETTINGS:
                self._refuse(
                    setting.at, f'unknown argument "{key}" in variable "{name}"{did_you_mean(key, _SETTINGS)}'
                )
                self._broken.add(f"var.{name}")  # perhaps its default, misspelt
        for inner in block.body.blocks:
            if inner.kind != "validation":
                self._refuse(
                    inner.at, f'unknown block "{inner.kind}" in variable "{name}" (known: validation)'
                )
            elif self._is_sound(inner, name):
                item.validations.append(inner)
        try:
            if "type" in settings:
                item.type = read_type(settings["type"].value, accepts_any=False)
            if "sensitive" in settings:
                item.is_sensitive = to_bool(evaluate(settings["sensitive"].value, self._closed))
        except (EvaluationFault, TypeFault) as fault:
            self._refuse(fault.at, str(fault))
            self._broken.add(f"var.{name}")
        except ConversionFault as fault:
            self._refuse(block.at, str(fault))
        if "default" in settings:
            self._set_default(item, settings["default"])
        return item

    def _set_default(self, item: _Variable, setting: Setting) -> None:
        item.has_default = True
        self._places[item.name] = (self._source, setting.value.at)
        before = len(self.faults)
        try:
            item.default = evaluate(setting.value, self._closed)
            if item.type is not None:
                item.default = convert(item.default, item.type)
            elif "type" not in item.block.body.settings or item.block.kind == "variables":
                item.type = type_of(item.default)
        except EvaluationFault as fault:
            self._refuse(fault.at, str(fault))
        except ConversionFault as fault:
            self._refuse(
                setting.value.at, f'the default of variable "{item.name}" does not fit its type: {fault}'
            )
        if len(self.faults) > before:
            self._broken.add(f"var.{item.name}")

    # ---- values from outside

    def _from_environment(
        self, declared: Mapping[str, _Variable], environ: Mapping[str, str]
    ) -> dict[str, Value]:
        given = {
            name.removeprefix(_ENVIRONMENT_PREFIX): text
            for name, text in environ.items()
            if name.startswith(_ENVIRONMENT_PREFIX) and name.removeprefix(_ENVIRONMENT_PREFIX) in declared
        }
        return dict(self._read_texts(declared, given, _ENVIRONMENT_PREFIX))

    def _from_arguments(
        self, declared: Mapping[str, _Variable], given: Mapping[str, str]
    ) -> dict[str, Value]:
        for name in given:
            if name not in declared:
                self.faults.append(
                    Fault(
                        message=f'the job file declares no variable "{name}"{did_you_mean(name, declared)}',
                        where=f"-var {name}",
                    )
                )
        known = {name: text for name, text in given.items() if name in declared}
        return dict(self._read_texts(declared, known, "-var "))

    def _read_texts(
        self, declared: Mapping[str, _Variable], given: Mapping[str, str], origin: str
    ) -> Iterator[tuple[str, Value]]:
        for name, text in given.items():
            item = declared[name]
            where = f"{origin}{name}"
            self._places.pop(name, None)
            try:
                if _takes_text(item):
                    value: Value = text
                else:
                    value = evaluate(parse_expression(Source(text, where)), self._closed)
                yield name, convert(value, item.type) if item.type is not None else value
            except JobspecError as error:
                self._broken.add(f"var.{name}")
                self.faults.extend(error.faults)
            except (ConversionFault, EvaluationFault) as fault:
                self._broken.add(f"var.{name}")
                self.faults.append(Fault(message=f"does not fit the variable's type: {fault}", where=where))

    def _from_file(self, declared: Mapping[str, _Variable], file: str, data: bytes) -> dict[str, Value]:
        values: dict[str, Value] = {}
        try:
            source = read_text(data, file)
            body = _variable_file(source)
        except JobspecError as error:
            self.faults.extend(error.faults)
            return values
        for block in body.blocks:
            self.faults.append(
                source.fault(
                    block.at, f'a variable file holds arguments only, found the block "{block.kind}"'
                )
            )
        for name, setting in body.settings.items():
            item = declared.get(name)
            if item is None:
                message = f'the job file declares no variable "{name}"{did_you_mean(name, declared)}'
                self.faults.append(source.fault(setting.at, message))
                continue
            faults_before = len(self.faults)
            self._places[name] = (source, setting.value.at)
            try:
                value = evaluate(setting.value, self._closed)
                values[name] = convert(value, item.type) if item.type is not None else value
            except EvaluationFault as fault:
                self.faults.append(source.fault(fault.at, str(fault)))
            except ConversionFault as fault:
                self.faults.append(
                    source.fault(setting.value.at, f'does not fit the type of variable "{name}": {fault}')
                )
            if len(self.faults) > faults_before:
                self._broken.add(f"var.{name}")
        return values

    # ---- validation and locals

    def _is_sound(self, block: Block, name: str) -> bool:
        """Whether a validation is written as Nomad wants it, whatever the variable's value."""
        before = len(self.faults)
        settings = block.body.settings
        for key, setting in settings.items():
            if key not in _VALIDATION_SETTINGS:
                self._refuse(
                    setting.at,
                    f'unknown argument "{key}" in a validation block{did_you_mean(key, _VALIDATION_SETTINGS)}',
                )
        for inner in block.body.blocks:
            self._refuse(inner.at, f'unknown block "{inner.kind}" in a validation block')
        if block.labels:
            self._refuse(block.label_ats[0], "a validation block has no label")
        if any(key not in settings for key in _VALIDATION_SETTINGS):
            self._refuse(block.at, 'a validation block needs "condition" and "error_message"')
            return False
        self._check_condition(settings["condition"].value, name)
        self._check_message(settings["error_message"].value)
        return len(self.faults) == before

    def _check_condition(self, condition: Expression, name: str) -> None:
        found = list(_free_references(condition))
        others = [item for item in found if item.root != "var" or item.steps[:1] != (name,)]
        for item in others:
            self._refuse(
                item.at, f'the condition of variable "{name}" can refer to var.{name} only, found {item.raw}'
            )
        if not found:
            self._refuse(condition.at, f'the condition of variable "{name}" must refer to var.{name}')

    def _check_message(self, node: Expression) -> None:
        try:
            message = to_text(evaluate(node, self._closed))
        except EvaluationFault as fault:
            self._refuse(fault.at, str(fault))
            return
        except ConversionFault as fault:
            self._refuse(node.at, f"error_message: {fault}")
            return
        is_small = message[:1].isalpha() and not message[:1].isupper()
        if is_small or not message.endswith((".", "?", "!")):
            self._refuse(
                node.at,
                'error_message is a sentence: it begins with a capital letter and ends with ".", "?" or "!"',
            )

    def _validate(self, item: _Variable, scope: Scope) -> None:
        for block in item.validations:
            settings = block.body.settings
            try:
                if not to_bool(evaluate(settings["condition"].value, scope)):
                    message = to_text(evaluate(settings["error_message"].value, self._closed))
                    source, at = self._places.get(item.name, (self._source, item.block.at))
                    self.faults.append(
                        source.fault(at, f'invalid value for variable "{item.name}": {message}')
                    )
            except EvaluationFault as fault:
                self._refuse(fault.at, str(fault))
            except ConversionFault as fault:
                self._refuse(block.at, f"validation: {fault}")

    def _with_locals(self, body: Body, scope: Scope) -> Scope:
        """Locals may refer to each other in any order."""
        written = {
            name: setting.value
            for block in body.blocks
            if block.kind == "locals"
            for name, setting in block.body.settings.items()
        }
        values: dict[str, Value] = {}
        for name in self._local_order(written):
            inner = scope.with_names({"local": values}, broken=self._broken)
            try:
                values[name] = evaluate(written[name], inner)
                scope.budget.spend_value(written[name].at, values[name])
            except EvaluationFault as fault:
                self._broken.add(f"local.{name}")
                self._refuse(fault.at, str(fault))
        return scope.with_names({"local": values}, broken=self._broken)

    def _local_order(self, written: Mapping[str, Expression]) -> list[str]:
        """The names, each after those it refers to."""
        import graphlib

        graph = {
            name: {
                str(item.steps[0]) for item in _free_references(value) if item.root == "local" and item.steps
            }
            & written.keys()
            for name, value in written.items()
        }
        try:
            return list(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1]
            self._refuse(
                written[cycle[0]].at, f"locals refer to each other in a circle: {' -> '.join(cycle[:8])}"
            )
            self._broken.update(f"local.{name}" for name in written)
            return []


def _takes_text(item: _Variable) -> bool:
    return item.type is None or item.type.name in ("string", "number")


def _variable_file(source: Source) -> Body:
    if not source.text.lstrip().startswith("{"):
        return parse_body(source)
    from jobspec.syntax.jsonform import parse_json

    node = parse_json(source)
    items = node.items if isinstance(node, ObjectOf) else ()
    settings = {
        str(key.value): Setting(key.at, str(key.value), value)
        for key, value in items
        if isinstance(key, Literal)
    }
    return Body(settings, (), len(source.text))


def _is_identifier(name: str) -> bool:
    return not name.startswith("-") and name.replace("-", "_").isidentifier()


def _free_references(node: Expression) -> Iterator[Reference]:
    """What an expression refers to; the names of its own loops are no references."""
    stack: list[tuple[object, frozenset[str]]] = [(node, frozenset())]
    while stack:
        item, bound = stack.pop()
        if isinstance(item, Reference):
            if item.root not in bound:
                yield item
        elif isinstance(item, tuple):
            stack.extend((part, bound) for part in item)
        elif isinstance(item, ForTuple | ForObject | ForDirective):
            inside = bound | {item.key, item.value}
            stack.extend(
                (getattr(item, name), bound if name == "collection" else inside)
                for name in item.__struct_fields__
            )
        elif hasattr(item, "__struct_fields__"):
            stack.extend((getattr(item, name), bound) for name in item.__struct_fields__)
