"""Which records does `?filter=` keep? The language of Consul's and Nomad's filter expressions.

==, !=, in, not in, contains, not contains, matches, not matches, is [not] empty, and, or, not, parentheses; selectors
such as `Service.Meta.x`, `Checks.Status` or `Meta["a.b"]`. Where a selector runs through a list, a match on any
element is a match, and an empty list has none: `Checks.Status != "passing"` keeps what has at least one check that
does not pass (measured on Consul). A map's missing key equals nothing. An unknown selector is refused.

Records are structs of one kind, whose fields are known beforehand, or JSON objects, whose members are looked for as
they come.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from model.errors import DroverError
from model.patterns import PatternFault, compile_pattern

R = TypeVar("R")

Predicate = Callable[[Any], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>\(|\)|==|!=)
      | "(?P<quoted>(?:[^"\\]|\\.)*)"
      | `(?P<raw>[^`]*)`
      | (?P<number>-?\d+(?:\.\d+)?)(?![\w.])
      | (?P<word>[A-Za-z][\w]*(?:\.[\w-]+|\["[^"]*"\])*)
    )""",
    re.VERBOSE,
)
_STEP = re.compile(r'\["([^"]*)"\]|([\w-]+)')
_KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "matches", "is", "empty"})


class FilterFault(DroverError):
    """The expression does not parse, or names what no record has."""


class _Token(NamedTuple):
    kind: str  # mark | value | word | keyword | end
    text: str


class _Missing:
    """A map had no such key."""


_MISSING = _Missing()


def compile_filter(expression: str, kind: type[msgspec.Struct] | None = None) -> Predicate:
    """A predicate over records of `kind`, None for JSON objects. Raises FilterFault; over objects the predicate does
    too, for a member that they have not."""
    parser = _Parser(_tokens(expression), kind)
    try:
        predicate = parser.either()
    except RecursionError:
        raise FilterFault("nested too deeply") from None
    if parser.peek().kind != "end":
        raise FilterFault(f'unexpected "{parser.peek().text}"')
    return predicate


def _tokens(expression: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(expression.rstrip()):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise FilterFault(f"1:{at + 1} ({at}): no match found")
        at = match.end()
        kind, text = match.lastgroup or "", match[match.lastgroup or 0]
        if kind == "quoted":
            text = re.sub(r"\\(.)", r"\1", text)
        if kind in ("quoted", "raw", "number"):
            kind = "value"
        elif kind == "word" and text in _KEYWORDS:
            kind = "keyword"
        tokens.append(_Token(kind, text))
    return [*tokens, _Token("end", "")]


class _Parser:
    """Recursive descent: either = both ("or" both)*; both = one ("and" one)*."""

    def __init__(self, tokens: list[_Token], kind: type[msgspec.Struct] | None) -> None:
        self._tokens = tokens
        self._at = 0
        self._kind = kind

    def peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def either(self) -> Predicate:
        parts = [self._both()]
        while self._skip("keyword", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda record: any(part(record) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._skip("keyword", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda record: all(part(record) for part in parts)

    def _one(self) -> Predicate:
        if self._skip("keyword", "not"):
            inner = self._one()
            return lambda record: not inner(record)
        if self._skip("mark", "("):
            inside = self.either()
            if not self._skip("mark", ")"):
                raise FilterFault('rule "grouping": Unmatched parentheses')
            return inside
        return self._match()

    def _match(self) -> Predicate:
        if self._value_comes_first():
            value = self._take().text
            is_negated = self._skip("keyword", "not")
            self._expect("keyword", "in")
            return self._compare(self._selector(), "in", value, is_negated)
        path = self._selector()
        if self._skip("mark", "=="):
            return self._compare(path, "==", self._value(), False)
        if self._skip("mark", "!="):
            return self._compare(path, "==", self._value(), True)
        if self._skip("keyword", "is"):
            is_negated = self._skip("keyword", "not")
            self._expect("keyword", "empty")
            return self._compare(path, "empty", "", is_negated)
        is_negated = self._skip("keyword", "not")
        for word, operator in (("contains", "in"), ("matches", "matches")):
            if self._skip("keyword", word):
                return self._compare(path, operator, self._value(), is_negated)
        raise FilterFault(f'no match operator before "{self.peek().text}"')

    def _value_comes_first(self) -> bool:
        after = [self.peek(ahead) for ahead in (1, 2)]
        is_in = after[0] == _Token("keyword", "in") or after == [
            _Token("keyword", "not"),
            _Token("keyword", "in"),
        ]
        return self.peek().kind in ("value", "word") and is_in

    def _compare(self, path: tuple[str, ...], operator: str, value: str, is_negated: bool) -> Predicate:
        if self._kind is not None:
            _check_selector(self._kind, path)
        test = _tests(operator, value)

        def holds(leaf: object) -> bool:
            return (not isinstance(leaf, _Missing) and test(leaf)) != is_negated

        def matches(record: Any) -> bool:
            if self._kind is None and path[0] not in record:
                raise FilterFault(f'Selector "{".".join(path)}" is not valid')
            return any(holds(leaf) for leaf in _leaves(record, path))

        return matches

    def _selector(self) -> tuple[str, ...]:
        token = self._take()
        if token.kind != "word":
            raise FilterFault('rule "match": Invalid selector')
        return tuple(quoted or plain for quoted, plain in _STEP.findall(token.text))

    def _value(self) -> str:
        token = self._take()
        if token.kind not in ("value", "word"):
            raise FilterFault(f'rule "value": Invalid value "{token.text}"')
        return token.text

    def _take(self) -> _Token:
        token = self.peek()
        self._at += 1
        return token

    def _skip(self, kind: str, text: str) -> bool:
        if self.peek() != _Token(kind, text):
            return False
        self._at += 1
        return True

    def _expect(self, kind: str, text: str) -> None:
        if not self._skip(kind, text):
            raise FilterFault(f'expected "{text}" before "{self.peek().text}"')


def _tests(operator: str, value: str) -> Predicate:
    if operator == "==":
        return lambda leaf: _as_text(leaf) == value
    if operator == "empty":
        return lambda leaf: not leaf
    if operator == "matches":
        try:
            pattern = compile_pattern(value)
        except PatternFault as error:
            raise FilterFault(str(error)) from error
        return lambda leaf: isinstance(leaf, str) and pattern.search(leaf) is not None
    return lambda leaf: _contains(leaf, value)


def _contains(leaf: object, value: str) -> bool:
    """A substring, an element of a list or a key of a map."""
    if isinstance(leaf, str | Mapping):
        return value in leaf
    return isinstance(leaf, list | tuple) and any(_as_text(element) == value for element in leaf)


def _as_text(leaf: object) -> str:
    return str(leaf).lower() if isinstance(leaf, bool) else str(leaf)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterable[Any]:
    """What the selector names in this record: several values where it runs through a list."""
    if not path:
        yield value
    elif isinstance(value, msgspec.Struct):
        field = _field_of(type(value), path[0])
        child = getattr(value, field.name)
        is_empty_map = child is None or child is msgspec.UNSET
        yield from _leaves({} if is_empty_map else child, path[1:])
    elif isinstance(value, Mapping):
        yield from _leaves(value[path[0]], path[1:]) if path[0] in value else (_MISSING,)
    elif isinstance(value, tuple | list):
        for element in value:
            yield from _leaves(element, path)


def _check_selector(kind: Any, path: tuple[str, ...]) -> None:
    """Walks the types, so that a wrong name is refused even when no record is there."""
    walked: list[str] = []
    for name in path:
        walked.append(name)
        struct = _struct_in(kind)
        if struct is None:
            return  # below a map: any key
        field = _field_of(struct, name)
        if field is None:
            raise FilterFault(f'Selector "{".".join(path)}" is not valid')
        kind = field.type


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if getattr(kind, "__origin__", None) is tuple:
        return _struct_in(kind.__args__[0])
    return None


def _field_of(kind: type[msgspec.Struct], name: str) -> Any:
    return next((field for field in msgspec.structs.fields(kind) if field.encode_name == name), None)
