"""What value does an expression have?

A name that nobody defined is no fault: it is left in the text for run time, exactly as written, because
only the node knows `${NOMAD_PORT_http}` or `${attr.kernel.name}`.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from decimal import Decimal

from jobspec.suggest import did_you_mean
from jobspec.syntax.tree import (
    Attribute,
    Binary,
    Call,
    Conditional,
    Expression,
    ForDirective,
    ForObject,
    ForTuple,
    If,
    Index,
    Literal,
    ObjectOf,
    Reference,
    Splat,
    Template,
    TupleOf,
    Unary,
)
from jobspec.type_expressions import TypeFault, read_type
from jobspec.unification import type_of, unify
from jobspec.values import (
    ARITHMETIC,
    ConversionFault,
    SetOf,
    Value,
    convert,
    equal,
    to_bool,
    to_number,
    to_text,
    type_name,
    weight,
    whole,
)

Function = Callable[..., Value]

# Loop rounds, calls and list elements, and characters by the hundred: about two seconds of work. The largest
# of 653 real files takes 5000.
STEPS_MAX = 2_000_000
TEXT_MAX = 10_000_000


class EvaluationFault(Exception):
    """An expression has no value: `at` is the offset of the part that is wrong."""

    def __init__(self, at: int, message: str) -> None:
        self.at = at
        super().__init__(message)


@dataclass(slots=True)
class Budget:
    """What a job file may still compute: a loop in a loop in a loop must not take the server with it."""

    steps: int = STEPS_MAX

    def spend(self, at: int, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise EvaluationFault(at, "the file computes too much")

    def spend_value(self, at: int, value: Value) -> None:
        """Where a value gets a name: a name of two names of two names … is cheap to make and endless to read."""
        self.spend(at, weight(value, self.steps))

    def spend_text(self, at: int, text: str) -> str:
        if len(text) > TEXT_MAX:
            raise EvaluationFault(at, f"the text is too long (more than {TEXT_MAX // 1_000_000} MB)")
        self.spend(at, 1 + len(text) // 100)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The names an expression may use, and the functions.

    prices: what a call takes of the budget by its arguments, for functions that are slow. is_closed: an unknown
    name and a call are faults, as in a variable's default. broken: `var.x` and `local.x` whose own
    fault is noted already; using one is a fault without a message, so that it is reported once.
    """

    names: Mapping[str, Value] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    prices: Mapping[str, Callable[..., int]] = field(default_factory=dict)
    is_closed: bool = False
    budget: Budget = field(default_factory=Budget)
    broken: Set[str] = frozenset()

    def with_names(self, names: Mapping[str, Value], *, broken: Set[str] | None = None) -> "Scope":
        return Scope(
            names={**self.names, **names},
            functions=self.functions,
            prices=self.prices,
            is_closed=self.is_closed,
            budget=self.budget,
            broken=self.broken if broken is None else broken,
        )


def evaluate(node: Expression, scope: Scope) -> Value:
    """The value of an expression. Raises EvaluationFault."""
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Reference):
        return _reference(node, scope)
    if isinstance(node, Template):
        return _template(node, scope)
    if isinstance(node, TupleOf):
        return [evaluate(item, scope) for item in node.items]
    if isinstance(node, ObjectOf):
        return {_key(key, scope): evaluate(value, scope) for key, value in node.items}
    if isinstance(node, Call):
        return _call(node, scope)
    if isinstance(node, Conditional):
        return _conditional(node, scope)
    if isinstance(node, Binary):
        return _binary(node, scope)
    if isinstance(node, Unary):
        return _unary(node, scope)
    if isinstance(node, Index):
        return _step(evaluate(node.target, scope), evaluate(node.key, scope), node.at)
    if isinstance(node, Attribute):
        return _step(evaluate(node.target, scope), node.name, node.at)
    if isinstance(node, Splat):
        return _splat(node, scope)
    if isinstance(node, ForTuple):
        return _for_tuple(node, scope)
    if isinstance(node, ForObject):
        return _for_object(node, scope)
    if isinstance(node, If):
        return _template(node.then if _boolean(node.condition, scope) else node.other, scope, is_text=True)
    return _for_directive(node, scope)


def _reference(node: Reference, scope: Scope) -> Value:
    if node.root not in scope.names:
        if scope.is_closed:
            raise EvaluationFault(
                node.at, f'"{node.root}" cannot be used here (a value without references was expected)'
            )
        return "${" + node.raw + "}"
    value = scope.names[node.root]
    trail = node.root
    if scope.broken and node.steps and f"{node.root}.{node.steps[0]}" in scope.broken:
        raise EvaluationFault(node.at, "")
    for step in node.steps:
        if isinstance(value, dict) and isinstance(step, str) and step not in value:
            known = did_you_mean(step, value)
            raise EvaluationFault(node.at, f'{trail} has no "{step}"{known}')
        value = _step(value, step, node.at)
        trail = f"{trail}.{step}"
    return value


def _step(value: Value, step: Value, at: int) -> Value:
    """One index or attribute; maps by name, lists by number."""
    if isinstance(value, dict):
        try:
            name = to_text(step)
        except ConversionFault as fault:
            raise EvaluationFault(at, f"bad key: {fault}") from None
        if name not in value:
            raise EvaluationFault(at, f'no element "{name}"{did_you_mean(name, value)}')
        return value[name]
    if isinstance(value, list) and not isinstance(value, SetOf):
        try:
            number = to_number(step)
        except ConversionFault as fault:
            raise EvaluationFault(at, f"bad index: {fault}") from None
        if not isinstance(number, int) or not 0 <= number < len(value):
            raise EvaluationFault(at, f"index {number} is out of range (the list has {len(value)} elements)")
        return value[number]
    raise EvaluationFault(at, f"{type_name(value)} has no elements to take by index")


def _template(node: Template, scope: Scope, *, is_text: bool = False) -> Value:
    parts = node.parts
    if len(parts) == 1 and not is_text and not isinstance(parts[0], str | If | ForDirective):
        return evaluate(parts[0], scope)  # "${x}" is x itself, whatever its type
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        value = evaluate(part, scope)
        if value is None:
            raise EvaluationFault(part.at, "null cannot stand in a text")
        try:
            texts.append(to_text(value))
        except ConversionFault as fault:
            raise EvaluationFault(part.at, f"cannot stand in a text: {fault}") from None
    return scope.budget.spend_text(node.at, "".join(texts))


def _key(node: Expression, scope: Scope) -> str:
    value = evaluate(node, scope)
    if value is None:
        raise EvaluationFault(node.at, "a key cannot be null")
    try:
        return to_text(value)
    except ConversionFault as fault:
        raise EvaluationFault(node.at, f"bad key: {fault}") from None


def _call(node: Call, scope: Scope) -> Value:
    if scope.is_closed:
        raise EvaluationFault(
            node.at, f"{node.name}() cannot be used here (a value without function calls was expected)"
        )
    if node.name in ("try", "can"):
        return _try(node, scope)
    if node.name == "convert":
        return _convert(node, scope)
    function = scope.functions.get(node.name)
    if function is None:
        raise EvaluationFault(
            node.at, f'there is no function "{node.name}"{did_you_mean(node.name, scope.functions)}'
        )
    arguments = [evaluate(argument, scope) for argument in node.arguments]
    if node.is_spread:
        last = arguments.pop()
        if not isinstance(last, list):
            raise EvaluationFault(node.arguments[-1].at, f'"..." needs a list, found {type_name(last)}')
        arguments.extend(last)
    try:
        if node.name in scope.prices:
            scope.budget.spend(node.at, scope.prices[node.name](*arguments))
        value = function(*arguments)
        return _paid(value, node.at, scope)
    except (ConversionFault, ArithmeticError, ValueError) as fault:
        raise EvaluationFault(node.at, f"{node.name}: {fault}") from None


def _paid(value: Value, at: int, scope: Scope) -> Value:
    if isinstance(value, str):
        return scope.budget.spend_text(at, value)
    scope.budget.spend(at, 1 + (len(value) if isinstance(value, list | dict) else 0))
    return value


def _try(node: Call, scope: Scope) -> Value:
    """try() takes the first argument that has a value, can() asks whether its one has."""
    faults: list[str] = []
    for argument in node.arguments:
        try:
            # Inside try a name that nobody defined is what is being tried for.
            value = evaluate(argument, scope)
        except EvaluationFault as fault:
            faults.append(str(fault))
            continue
        return True if node.name == "can" else value
    if node.name == "can" and len(node.arguments) == 1:
        return False
    if "" in faults:  # one follows from a fault that is noted already
        raise EvaluationFault(node.at, "")
    raise EvaluationFault(node.at, f"{node.name}: no argument has a value: {'; '.join(faults)}")


def _convert(node: Call, scope: Scope) -> Value:
    """convert(value, type): its second argument is a type and no value."""
    if len(node.arguments) != 2:
        raise EvaluationFault(node.at, f"convert: 2 arguments required, found {len(node.arguments)}")
    try:
        return convert(evaluate(node.arguments[0], scope), read_type(node.arguments[1]))
    except TypeFault as fault:
        raise EvaluationFault(fault.at, str(fault)) from None
    except ConversionFault as fault:
        raise EvaluationFault(node.at, f"convert: {fault}") from None


def _boolean(node: Expression, scope: Scope) -> bool:
    value = evaluate(node, scope)
    try:
        return to_bool(value)
    except ConversionFault as fault:
        raise EvaluationFault(node.at, f"a condition must be true or false: {fault}") from None


def _conditional(node: Conditional, scope: Scope) -> Value:
    """Both sides have one type, as in HCL2: a number beside a text is a text, also deep in lists and objects."""
    is_true = _boolean(node.condition, scope)
    chosen = evaluate(node.then if is_true else node.other, scope)
    try:
        other = evaluate(node.other if is_true else node.then, scope)
    except EvaluationFault:
        return chosen
    if chosen is None or other is None or chosen is other:
        return chosen
    for side in (chosen, other):
        if isinstance(side, list | dict):  # their types are worked out, and the chosen one is copied
            scope.budget.spend_value(node.at, side)
    shared = unify((type_of(chosen), type_of(other)))
    if shared is None:
        sides = (chosen, other) if is_true else (other, chosen)
        names = " and ".join(type_name(side) for side in sides)
        raise EvaluationFault(node.at, f"Inconsistent conditional result types: {names}")
    try:
        return convert(chosen, shared)
    except ConversionFault as fault:
        raise EvaluationFault(node.at, f"Inconsistent conditional result types: {fault}") from None


def _unary(node: Unary, scope: Scope) -> Value:
    if node.operator == "!":
        return not _boolean(node.operand, scope)
    number = _number(node.operand, evaluate(node.operand, scope))
    return whole(-number)


def _binary(node: Binary, scope: Scope) -> Value:
    # A long sum leans to the left: walk down it instead of recursing.
    spine = [node]
    left = node.left
    while isinstance(left, Binary):
        spine.append(left)
        left = left.left
    value = evaluate(left, scope)
    for step in reversed(spine):
        value = _operate(step, value, scope)
    return value


def _operate(node: Binary, left: Value, scope: Scope) -> Value:
    operator = node.operator
    if operator in ("&&", "||"):
        try:
            first = to_bool(left)
        except ConversionFault as fault:
            raise EvaluationFault(node.left.at, f"{operator}: {fault}") from None
        second = _boolean(node.right, scope)
        return (first and second) if operator == "&&" else (first or second)
    right = evaluate(node.right, scope)
    if operator == "==":
        return equal(left, right)
    if operator == "!=":
        return not equal(left, right)
    return _calculate(node, _number(node.left, left), _number(node.right, right))


def _number(node: Expression, value: Value) -> int | Decimal:
    try:
        return to_number(value)
    except ConversionFault as fault:
        raise EvaluationFault(node.at, str(fault)) from None


def _calculate(node: Binary, left: int | Decimal, right: int | Decimal) -> Value:
    operator = node.operator
    if operator == "<":
        return left < right
    if operator == ">":
        return left > right
    if operator == "<=":
        return left <= right
    if operator == ">=":
        return left >= right
    a, b = Decimal(left), Decimal(right)
    try:
        if operator == "+":
            return whole(ARITHMETIC.add(a, b))
        if operator == "-":
            return whole(ARITHMETIC.subtract(a, b))
        if operator == "*":
            return whole(ARITHMETIC.multiply(a, b))
        if not right:
            raise EvaluationFault(node.right.at, "division by zero")
        if operator == "/":
            return whole(ARITHMETIC.divide(a, b))
        return whole(ARITHMETIC.remainder(a, b))
    except ArithmeticError:
        raise EvaluationFault(node.at, "the result is too large") from None


def _splat(node: Splat, scope: Scope) -> Value:
    target = evaluate(node.target, scope)
    if target is None:
        return []
    elements = target if isinstance(target, list) else [target]
    results: list[Value] = []
    for element in elements:
        value: Value = element
        for step in node.steps:
            value = _step(value, step if isinstance(step, str) else evaluate(step, scope), node.at)
        results.append(value)
    return results


def _entries(node: Expression, scope: Scope) -> list[tuple[Value, Value]]:
    """The (key, value) pairs a for expression goes over; maps in the order of their keys."""
    collection = evaluate(node, scope)
    scope.budget.spend_value(node.at, collection)
    return entries(collection, node.at, "for")


def entries(collection: Value, at: int, what: str) -> list[tuple[Value, Value]]:
    if isinstance(collection, dict):
        return [(key, collection[key]) for key in sorted(collection)]
    if isinstance(collection, SetOf):
        return [(item, item) for item in collection]
    if isinstance(collection, list):
        return list(enumerate(collection))
    raise EvaluationFault(at, f"{what} needs a list, a set or a map, found {type_name(collection)}")


def _loop_scope(scope: Scope, key_name: str, value_name: str, key: Value, value: Value) -> Scope:
    return scope.with_names({key_name: key, value_name: value} if key_name else {value_name: value})


def _for_tuple(node: ForTuple, scope: Scope) -> Value:
    results: list[Value] = []
    for key, value in _entries(node.collection, scope):
        inner = _loop_scope(scope, node.key, node.value, key, value)
        if node.condition is None or _boolean(node.condition, inner):
            results.append(evaluate(node.result, inner))
    return results


def _for_object(node: ForObject, scope: Scope) -> Value:
    groups: dict[str, list[Value]] = {}
    for key, value in _entries(node.collection, scope):
        inner = _loop_scope(scope, node.key, node.value, key, value)
        if node.condition is not None and not _boolean(node.condition, inner):
            continue
        name = _key(node.result_key, inner)
        if name in groups and not node.is_grouping:
            raise EvaluationFault(
                node.result_key.at, f'the key "{name}" comes up twice (write "..." after the value to group)'
            )
        groups.setdefault(name, []).append(evaluate(node.result, inner))
    if node.is_grouping:
        return {name: list(values) for name, values in groups.items()}
    return {name: values[0] for name, values in groups.items()}


def _for_directive(node: ForDirective, scope: Scope) -> Value:
    texts: list[str] = []
    for key, value in _entries(node.collection, scope):
        inner = _loop_scope(scope, node.key, node.value, key, value)
        texts.append(to_text(_template(node.body, inner, is_text=True)))
    return scope.budget.spend_text(node.at, "".join(texts))
