"""What does a template say of its data?

Walks the tree with Go's rules: variables in scopes, the dot, pipelines whose values are the last arguments, and how a
value that is not there prints. Bounded in what is said, in steps and in depth, whatever the text: it is not trusted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from typing import Literal as OneOf

import msgspec

from template import builtins
from template.budget import CHARACTERS_A_STEP, STEPS_MAX, TEXT_MAX, Budget
from template.calling import call
from template.faults import Missing, Refusal, TemplateFault
from template.formats import plain
from template.scanner import Source
from template.tree import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Dot,
    Expression,
    Field,
    Identifier,
    Leave,
    Literal,
    Node,
    Nodes,
    Pipeline,
    Range,
    Text,
    Variable,
    shown,
)
from template.values import (
    NO_VALUE,
    PENDING,
    Function,
    Methods,
    StringMap,
    field,
    go_type,
    is_int,
    is_map,
    is_nil,
    is_slice,
    is_true,
    items,
)

# Templates, blocks and parentheses within one another while rendering; each costs up to six frames of the thousand.
DEPTH_MAX = 100

OnMissingKey = OneOf["default", "zero", "error"]
_NOTHING: Final = object()  # no value comes from a command before
_BREAK, _CONTINUE = "break", "continue"


class Rendering:
    """One pass over one template."""

    def __init__(
        self,
        source: Source,
        templates: Mapping[str, Nodes],
        functions: Mapping[str, Callable[..., object]],
        on_missing_key: OnMissingKey,
        budget: Budget,
    ) -> None:
        self._source, self._templates, self._functions = source, templates, functions
        self._on_missing_key = on_missing_key
        self._budget = budget
        self._out: list[str] = []
        self._variables: list[tuple[str, object]] = []

    def run(self, body: Nodes, data: object) -> str:
        """Raises TemplateFault; what is missing is in the budget."""
        self._variables = [("$", data)]
        try:
            self._nodes(body, data)
        except RecursionError:
            raise self._fault(body[0].pos, "nested too deeply") from None
        return "".join(self._out)

    def _fault(self, pos: int, words: str) -> TemplateFault:
        return self._source.fault(pos, words)

    def _failed(self, node: Expression | Command, words: str) -> TemplateFault:
        return self._source.fault(node.pos, f"<{_short(shown(node))}>: {words}")

    def _step(self, pos: int, cost: int = 1) -> None:
        self._budget.steps -= cost
        if self._budget.steps < 0:
            raise self._fault(pos, f"it takes more than {STEPS_MAX} steps")

    def _deeper(self, pos: int) -> None:
        self._budget.depth += 1
        if self._budget.depth > DEPTH_MAX:
            raise self._fault(pos, f"exceeded maximum template depth ({DEPTH_MAX})")

    # Nodes.

    def _nodes(self, nodes: Nodes, dot: object) -> str | None:
        """None, or which way a loop is left."""
        for node in nodes:
            left = self._node(node, dot)
            if left is not None:
                return left
        return None

    def _node(self, node: Node, dot: object) -> str | None:
        self._step(node.pos)
        # The most frequent first: a class pattern costs as much as a call.
        match node:
            case Text():
                self._write(node.pos, node.text)
            case Action():
                value = self._pipeline(dot, node.pipeline)
                if not node.pipeline.declares:
                    self._write(node.pos, self._printed(node.pipeline, value))
            case Branch():
                return self._branch(node, dot)
            case Range():
                return self._range(node, dot)
            case Call():
                self._call_template(node, dot)
            case Leave():
                return _BREAK if node.is_break else _CONTINUE
        return None

    def _write(self, pos: int, text: str) -> None:
        self._budget.length -= len(text)
        if self._budget.length < 0:
            raise self._fault(pos, f"it renders more than {TEXT_MAX} characters")
        self._out.append(text)

    def _printed(self, pipeline: Pipeline, value: object) -> str:
        if isinstance(value, str):
            return value
        if value is NO_VALUE or value is PENDING:
            return "<no value>"
        if isinstance(value, Function):
            raise self._failed(pipeline, "can't print a function")
        try:
            return plain(value)
        except Refusal as refusal:
            raise self._failed(pipeline, str(refusal)) from None

    def _branch(self, node: Branch, dot: object) -> str | None:
        known = len(self._variables)
        self._deeper(node.pos)
        left: str | None
        for condition, body in node.ways:
            value = self._pipeline(dot, condition)
            if value is PENDING:
                left = None  # either way would be a guess: the next pass knows
                break
            if is_true(value):
                left = self._nodes(body, value if node.kind == "with" else dot)
                break
        else:
            left = self._nodes(node.otherwise, dot)
        self._budget.depth -= 1
        del self._variables[known:]
        return left

    def _range(self, node: Range, dot: object) -> str | None:
        known = len(self._variables)
        self._deeper(node.pos)
        value = self._pipeline(dot, node.pipeline, is_range=True)
        if value is PENDING:
            self._budget.depth -= 1
            del self._variables[known:]
            return None
        rounds = self._rounds(node.pipeline, value)
        names = node.pipeline.declares
        within = len(self._variables)
        left: str | None = None
        for number, (key, element) in enumerate(rounds):
            if not number and not node.pipeline.is_assignment:
                self._variables.extend((name, None) for name in names)
                within = len(self._variables)
            self._step(node.pos)
            self._name_round(node.pipeline, known, key, element)
            left = self._nodes(node.body, element)
            del self._variables[within:]
            if left == _BREAK:
                break
        if not rounds:
            left = self._nodes(node.otherwise, dot)
        else:
            left = None
        self._budget.depth -= 1
        del self._variables[known:]
        return left

    def _rounds(self, pipeline: Pipeline, value: object) -> "Sequence[tuple[object, object]]":
        if is_nil(value):
            return ()
        if is_map(value):
            return items(value)
        if isinstance(value, range):
            return _Numbers(value)
        if is_slice(value):
            return list(enumerate(value))
        if is_int(value):
            if len(pipeline.declares) > 1:
                raise self._failed(pipeline, "can't use an int to iterate over more than one variable")
            return _Numbers(range(max(0, value)))
        raise self._failed(pipeline, f"range can't iterate over a value of type {go_type(value)}")

    def _name_round(self, pipeline: Pipeline, known: int, key: object, element: object) -> None:
        names = pipeline.declares
        values = (key, element) if len(names) == 2 else (element,)
        for number, name in enumerate(names):
            if pipeline.is_assignment:
                self._assign(name, values[number])
            else:
                self._variables[known + number] = (name, values[number])

    def _call_template(self, node: Call, dot: object) -> None:
        body = self._templates.get(node.name)
        if body is None:
            raise self._fault(node.pos, f'template "{_short(node.name)}" not defined')
        data = self._pipeline(dot, node.pipeline) if node.pipeline is not None else NO_VALUE
        self._deeper(node.pos)
        outer, self._variables = self._variables, [("$", data)]
        self._nodes(body, data)
        self._variables = outer
        self._budget.depth -= 1

    def execute_template(self, name: str, *data: object) -> str:
        """`executeTemplate name data`: what a defined template says, as a value."""
        body = self._templates.get(name)
        if body is None:
            raise Refusal("there is no template of this name")
        if len(data) > 1:
            raise Refusal("expected a name and at most one value")
        dot = data[0] if data else NO_VALUE
        outer = self._out, self._variables
        self._out, self._variables = [], [("$", dot)]
        self._deeper(body[0].pos if body else 0)
        self._nodes(body, dot)
        text = "".join(self._out)
        self._out, self._variables = outer
        self._budget.depth -= 1
        return text

    # Pipelines.

    def _assign(self, name: str, value: object) -> None:
        for number in range(len(self._variables) - 1, -1, -1):
            if self._variables[number][0] == name:
                self._variables[number] = (name, value)
                return

    def _pipeline(self, dot: object, pipeline: Pipeline, *, is_range: bool = False) -> object:
        """is_range: its variables are set round by round instead."""
        value: object = _NOTHING
        for command in pipeline.commands:
            value = self._command(dot, command, value)
            if value is None:
                value = NO_VALUE
        if pipeline.declares and not is_range:
            if pipeline.is_assignment:
                self._assign(pipeline.declares[0], value)
            else:
                self._variables.append((pipeline.declares[0], value))
        return value

    def _command(self, dot: object, command: Command, final: object) -> object:
        first = command.args[0]
        if isinstance(first, Identifier):
            return self._function(dot, first, command.args, final)
        has_arguments = len(command.args) > 1 or final is not _NOTHING
        if not has_arguments:
            if isinstance(first, Literal) and first.value is None:
                raise self._failed(command, "nil is not a command")
            return self._operand(dot, first)
        match first:
            case Field():
                return self._fields(first, dot, first.names, self._arguments(dot, command, final))
            case Variable() if first.names:
                return self._fields(first, self._variable(first), first.names, self._arguments(dot, command, final))
            case Chain():
                return self._fields(first, self._inner(dot, first), first.names, self._arguments(dot, command, final))
            case _:
                raise self._failed(first, "can't give argument to a value that is no function")

    def _arguments(self, dot: object, command: Command, final: object) -> list[object]:
        values = [self._operand(dot, arg) for arg in command.args[1:]]
        return values if final is _NOTHING else [*values, final]

    def _operand(self, dot: object, node: Expression) -> object:
        """A value where no argument can follow."""
        match node:
            case Field():
                return self._fields(node, dot, node.names, None)
            case Literal():
                return node.value
            case Dot():
                return dot
            case Variable():
                value = self._variable(node)
                return self._fields(node, value, node.names, None) if node.names else value
            case Chain():
                return self._fields(node, self._inner(dot, node), node.names, None)
            case Identifier():
                return self._function(dot, node, (node,), _NOTHING)
            case Pipeline():
                self._step(node.pos)
                self._deeper(node.pos)
                value = self._pipeline(dot, node)
                self._budget.depth -= 1
                return value

    def _inner(self, dot: object, node: Chain) -> object:
        value = self._operand(dot, node.inner)
        return NO_VALUE if value is None else value

    def _variable(self, node: Variable) -> object:
        for name, value in reversed(self._variables):
            if name == node.name:
                return value
        raise self._fault(node.pos, f'undefined variable "{node.name}"')

    # Fields.

    def _fields(self, node: Expression, value: object, names: Sequence[str], arguments: list[object] | None) -> object:
        """arguments: of the last name, a method's; None: none were given."""
        self._step(node.pos, len(names))
        last = len(names) - 1
        for number, name in enumerate(names):
            value = self._field(node, value, name, arguments if number == last else None)
        return value

    def _field(self, node: Expression, value: object, name: str, arguments: list[object] | None) -> object:
        if value is PENDING:
            return value
        if value is NO_VALUE:
            if self._on_missing_key == "error":
                raise self._failed(node, f'nil data; no entry for key "{name}"')
            return NO_VALUE
        if value is None:
            raise self._failed(node, f"nil pointer evaluating interface {{}}.{name}")
        if isinstance(value, Methods) and name in value.go_methods:
            return self._called(node, name, getattr(value, value.go_methods[name]), arguments or [])
        if arguments is not None and (is_map(value) or isinstance(value, msgspec.Struct)):
            raise self._failed(node, f"{name} is not a method but has arguments")
        if is_map(value):
            return self._entry(node, value, name)
        if isinstance(value, msgspec.Struct):
            try:
                return field(value, name)
            except KeyError:
                pass
        raise self._failed(node, f"can't evaluate field {name} in type {go_type(value)}")

    def _entry(self, node: Expression, value: Mapping[object, object], name: str) -> object:
        found = value.get(name, NO_VALUE)
        if found is not NO_VALUE or self._on_missing_key == "default":
            return found
        if self._on_missing_key == "error":
            raise self._failed(node, f'map has no entry for key "{name}"')
        return "" if isinstance(value, StringMap) else None

    # Functions.

    def _function(self, dot: object, node: Identifier, args: Sequence[Expression], final: object) -> object:
        if node.name in ("and", "or"):
            return self._short_circuit(dot, node, args, final)
        values = [self._operand(dot, arg) for arg in args[1:]]
        if final is not _NOTHING:
            values.append(final)
        if node.name == "call":
            return self._called_value(node, values)
        return self._called(node, node.name, self._functions[node.name], values)

    def _short_circuit(self, dot: object, node: Identifier, args: Sequence[Expression], final: object) -> object:
        ends_on = node.name == "or"
        value: object = _NOTHING
        for arg in args[1:]:
            value = self._operand(dot, arg)
            if value is PENDING or is_true(value) is ends_on:
                return value
        if final is not _NOTHING:
            value = final
        if value is _NOTHING:
            raise self._failed(node, f"wrong number of args for {node.name}: want at least 1 got 0")
        return value

    def _called_value(self, node: Identifier, values: list[object]) -> object:
        if not values:
            raise self._failed(node, "wrong number of args for call: want at least 1 got 0")
        function = values[0]
        if is_nil(function):
            raise self._failed(node, "error calling call: call of nil")
        if not isinstance(function, Function):
            raise self._failed(node, f"error calling call: non-function of type {go_type(function)}")
        return self._called(node, "call", function.function, values[1:])

    def _called(self, node: Expression, name: str, function: Callable[..., object], values: Sequence[object]) -> object:
        self._step(node.pos, 1 + sum(map(_cost, values)))
        if PENDING in values:  # which is equal to nothing but itself
            return PENDING
        try:
            value = call(name, function, values)
        except Missing as missing:
            self._budget.missing |= missing.reads
            return PENDING
        except Refusal as refusal:
            raise self._failed(node, f"error calling {name}: {refusal}") from None
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
            raise self._failed(node, f"error calling {name}: {type(error).__name__}") from None
        if isinstance(value, str) and len(value) > TEXT_MAX:
            raise self._failed(node, f"error calling {name}: a text of more than {TEXT_MAX} characters")
        return value


class _Numbers(Sequence[tuple[object, object]]):
    """The rounds of a range of numbers, none of which is made before its turn."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return min(len(self._numbers), STEPS_MAX)

    def __getitem__(self, number: int) -> tuple[object, object]:  # type: ignore[override]  # no slices are asked for
        return number, self._numbers[number]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return enumerate(self._numbers)


def _cost(value: object) -> int:
    """Steps for an argument's size, so that a loop over functions of a large value is bounded as well."""
    if isinstance(value, str):
        return len(value) // CHARACTERS_A_STEP
    if value is None or isinstance(value, int | float):
        return 0
    return len(value) >> 6 if is_slice(value) or is_map(value) else 0


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


ENGINE_FUNCTIONS = frozenset({"and", "or", "call"} | set(builtins.BUILTINS))
