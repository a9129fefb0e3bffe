"""Which tree does a text make?

Recursive descent over HCL2's grammar. A syntax fault ends the reading of its argument; it goes on at the next one
where recovery.py is sure of it, for guesses would bury the one line that helps. Faults that leave the grammar
intact (an attribute set twice) are collected.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation

from jobspec.syntax.recovery import resume_at
from jobspec.syntax.scanner import Scanner
from jobspec.syntax.source import BLOCK_WEIGHT, LEVELS_MAX, Source, SyntaxFault
from jobspec.syntax.template import read_heredoc, read_quoted
from jobspec.syntax.tree import (
    Attribute,
    Binary,
    Block,
    Body,
    Call,
    Conditional,
    Expression,
    ForObject,
    ForTuple,
    Index,
    Literal,
    ObjectOf,
    Reference,
    Setting,
    Splat,
    TupleOf,
    Unary,
)
from model.errors import Fault, JobspecError

# More faults than anyone mends at a time.
FAULTS_MAX = 20
# How deep data may nest (JSON, HCL1), which knows no expressions: more than any job's document.
NESTING_MAX = 80

# Reading a number takes time with the square of its digits; Nomad's own have no more than 154.
_DIGITS_MAX = 400
NUMBER_TOO_LARGE = f"the number is too large (more than {_DIGITS_MAX} digits)"

_PRECEDENCE = {
    "||": 1,
    "&&": 2,
    "==": 3,
    "!=": 3,
    "<": 4,
    ">": 4,
    "<=": 4,
    ">=": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "%": 6,
}
_KEYWORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def parse_body(source: Source, *, is_relaxed: bool = False) -> Body:
    """A whole file. Raises JobspecError with every fault found.

    is_relaxed: as agent configurations are written: `"driver.raw_exec.enable" = "1"` within a block, and any
    number of arguments and blocks on one line.
    """
    parser = Parser(source, is_relaxed=is_relaxed)
    try:
        parser.scanner.advance()
        body = parser.body("end")
    except _GiveUp:
        pass
    except SyntaxFault as fault:
        parser.faults += fault.faults
    if parser.faults:
        raise JobspecError(tuple(parser.faults))
    return body


def parse_expression(source: Source) -> Expression:
    """A text that is one expression, such as the value of -var."""
    parser = Parser(source)
    parser.scanner.skips_newlines = True
    parser.scanner.advance()
    value = parser.expression()
    if parser.scanner.kind != "end":
        parser.scanner.refuse(f"expected the end of the value, found {parser.scanner.describe()}")
    return value


def parse_template(source: Source) -> Expression:
    """A text that is the inside of a string, as in the JSON form of HCL."""
    if "${" not in source.text and "%{" not in source.text:
        return Literal(0, source.text)
    mark = "T" * 40
    heredoc = Source(f"<<{mark}\n{source.text}\n{mark}\n", source.file)
    parser = Parser(heredoc)
    parser.scanner.advance()
    value = read_heredoc(parser)
    return _without_last_newline(value)


def _without_last_newline(value: Expression) -> Expression:
    from jobspec.syntax.tree import Template

    if isinstance(value, Literal) and isinstance(value.value, str):
        return Literal(value.at, value.value[:-1])
    if isinstance(value, Template) and value.parts and isinstance(value.parts[-1], str):
        last = value.parts[-1][:-1]
        return Template(value.at, (*value.parts[:-1], last) if last else value.parts[:-1])
    return value


class _GiveUp(Exception):
    """There is no sure place to go on at; the faults are in the parser."""


class Parser:
    """The state of one reading: the scanner, the depth, and the faults so far."""

    def __init__(self, source: Source, *, is_relaxed: bool = False) -> None:
        self._is_relaxed = is_relaxed
        self.source = source
        self.scanner = Scanner(source)
        self.faults: list[Fault] = []
        self._depth = 0
        self._is_hcl = False  # whether anything was read in full: else the text is perhaps no HCL at all

    @contextmanager
    def nested(self, at: int) -> Iterator[None]:
        self._enter(at)
        yield
        self._depth -= 1

    @contextmanager
    def inside_sequence(self) -> Iterator[None]:
        """Inside `${ }` line ends are white space, whatever they are around it."""
        before = self.scanner.skips_newlines
        self.scanner.skips_newlines = True
        yield
        self.scanner.skips_newlines = before

    def _enter(self, at: int) -> None:
        self.source.count_node(at)
        self._depth += 1
        if self._depth > LEVELS_MAX:
            self.source.refuse(at, f"nested too deeply (at most {LEVELS_MAX} levels)")

    # ---- bodies

    def body(self, closer: str) -> Body:
        """Settings and blocks up to `closer` ("}" or "end"), which stays the current token."""
        scanner = self.scanner
        settings: dict[str, Setting] = {}
        blocks: list[Block] = []
        while True:
            while scanner.kind == "newline":
                scanner.advance()
            if scanner.kind == closer:
                return Body(settings, tuple(blocks), scanner.start)
            start, depth = scanner.start, self._depth
            try:
                self._item(settings, blocks, closer)
                if scanner.kind not in ("newline", "end") and not self._is_relaxed:
                    self._refuse_no_newline()
                self._is_hcl = True
            except SyntaxFault as fault:
                self._recover(fault, start)
                self._depth = depth

    def _recover(self, fault: SyntaxFault, start: int) -> None:
        """Notes a fault, and goes on behind the item at `start` that holds it. Raises _GiveUp when nothing is sure."""
        scanner = self.scanner
        is_closing = scanner.kind in ("}", "end") and scanner.start == start
        if is_closing and self.faults:  # a brace too many or too few: perhaps because of an earlier fault
            raise _GiveUp
        self.faults += fault.faults
        if (
            is_closing
            or self._is_relaxed
            or len(self.faults) >= FAULTS_MAX
            or not (self._is_hcl or self._depth)
        ):
            raise _GiveUp
        at = resume_at(scanner.text, start, fault.at)
        if at is None:
            raise _GiveUp
        scanner.skips_newlines = False
        scanner.resume(at)

    def _item(self, settings: dict[str, Setting], blocks: list[Block], closer: str) -> None:
        scanner = self.scanner
        is_quoted = scanner.kind == "string" and self._is_relaxed
        if scanner.kind != "name" and not is_quoted:
            self._refuse_item(closer)
        name, at = scanner.value, scanner.start
        scanner.advance()
        if scanner.kind == "=":
            scanner.advance()
            self._set(settings, Setting(at, name, self.expression()))
        elif scanner.kind in ("{", "string", "quote", "name"):
            blocks.append(self._block(name, at))
        elif scanner.kind == ":":
            scanner.refuse(f'an argument is set with "=": {name} = …', at)
        else:
            scanner.refuse(f'expected "=" or "{{" after {name[:60]}, found {scanner.describe()}')

    def _set(self, settings: dict[str, Setting], setting: Setting) -> None:
        earlier = settings.setdefault(setting.name, setting)
        if earlier is not setting:
            line, _ = self.source.position(earlier.at)
            self.faults.append(
                self.source.fault(setting.at, f'"{setting.name}" is set twice (first on line {line})')
            )

    def _refuse_item(self, closer: str) -> None:
        scanner = self.scanner
        if scanner.kind == "end":
            scanner.refuse("a block is not closed (expected } before the end of the file)")
        if scanner.kind == "}":
            scanner.refuse("this } closes nothing")
        if scanner.kind in ("string", "quote"):
            scanner.refuse("argument names are not quoted (expected a name)")
        scanner.refuse(f"expected an argument or a block, found {scanner.describe()}")

    def _refuse_no_newline(self) -> None:
        scanner = self.scanner
        if scanner.kind == ",":
            scanner.refuse("arguments are separated by line ends, not by commas")
        scanner.refuse(f"expected the end of the line, found {scanner.describe()}")

    def _block(self, kind: str, at: int) -> Block:
        scanner = self.scanner
        labels: list[str] = []
        label_ats: list[int] = []
        while scanner.kind != "{":
            label_ats.append(scanner.start)
            if scanner.kind in ("string", "name"):
                labels.append(scanner.value)
                scanner.advance()
            elif scanner.kind == "quote":
                label = read_quoted(self)
                if not isinstance(label, Literal):
                    scanner.refuse("a block's label cannot hold a template", label.at)
                labels.append(str(label.value))
            else:
                scanner.refuse(f'expected "{{" or a label after {kind[:60]}, found {scanner.describe()}')
        self.source.count_node(at, BLOCK_WEIGHT)
        self._enter(at)
        scanner.advance()
        is_long = scanner.kind == "newline" or self._is_relaxed
        body = self.body("}") if is_long else self._one_line_body(kind)
        self._depth -= 1
        scanner.advance()
        return Block(at, kind, tuple(labels), tuple(label_ats), body)

    def _one_line_body(self, kind: str) -> Body:
        """`{ }` or `{ name = value }`: all that one line may hold."""
        scanner = self.scanner
        if scanner.kind == "}":
            return Body({}, (), scanner.start)
        if scanner.kind != "name":
            self._refuse_item("}")
        name, at = scanner.value, scanner.start
        scanner.advance()
        if scanner.kind != "=":
            scanner.refuse(f"a block within {kind} starts on a line of its own", at)
        scanner.advance()
        setting = Setting(at, name, self.expression())
        if scanner.kind != "}":
            scanner.refuse(
                f"a block on one line holds one argument (expected }} or separate lines), found {scanner.describe()}"
            )
        return Body({name: setting}, (), scanner.start)

    # ---- expressions

    def expression(self, left: Expression | None = None) -> Expression:
        """One expression; `left` is its first operand when that was already read."""
        scanner = self.scanner
        at = scanner.start if left is None else left.at
        self._enter(at)
        condition = self._binary(left)
        if scanner.kind == "?":
            scanner.advance()
            then = self.expression()
            if scanner.kind != ":":
                scanner.refuse(f'expected ":" and the other value of "… ? … : …", found {scanner.describe()}')
            scanner.advance()
            condition = Conditional(at, condition, then, self.expression())
        self._depth -= 1
        return condition

    def _binary(self, left: Expression | None) -> Expression:
        """Operators by precedence, with a stack of its own: a long sum is no deep recursion."""
        scanner = self.scanner
        operands = [self._operand() if left is None else left]
        operators: list[tuple[int, str, int]] = []
        while True:
            precedence = _PRECEDENCE.get(scanner.kind, 0)
            while operators and operators[-1][0] >= precedence:
                _, operator, at = operators.pop()
                right = operands.pop()
                operands.append(Binary(at, operator, operands.pop(), right))
            if not precedence:
                return operands[0]
            self.source.count_node(scanner.start)
            operators.append((precedence, scanner.kind, scanner.start))
            scanner.advance()
            operands.append(self._operand())

    def _operand(self) -> Expression:
        scanner = self.scanner
        signs: list[tuple[str, int]] = []
        while scanner.kind in ("!", "-"):
            signs.append((scanner.kind, scanner.start))
            if len(signs) > LEVELS_MAX:
                scanner.refuse("too many signs before a value", signs[0][1])
            scanner.advance()
        value = self._postfix(self._primary())
        for operator, at in reversed(signs):
            value = Unary(at, operator, value)
        return value

    def _primary(self) -> Expression:
        scanner = self.scanner
        kind, at, value = scanner.kind, scanner.start, scanner.value
        if kind == "string":
            scanner.advance()
            return Literal(at, value)
        if kind == "name":
            return self._named()
        if kind == "number":
            number = read_number(value)
            if number is None:
                scanner.refuse(NUMBER_TOO_LARGE)
            scanner.advance()
            return Literal(at, number)
        if kind == "quote":
            return read_quoted(self)
        if kind == "heredoc":
            return read_heredoc(self)
        if kind == "[":
            return self._tuple()
        if kind == "{":
            return self._object()
        if kind == "(":
            return self._parentheses()
        return scanner.refuse(f"expected a value, found {scanner.describe()}")

    def _named(self) -> Expression:
        scanner = self.scanner
        name, at, end = scanner.value, scanner.start, scanner.end
        scanner.advance()
        if scanner.kind == "(":
            return self._call(name, at)
        if name in _KEYWORDS:
            return Literal(at, _KEYWORDS[name])
        return Reference(at, name, (), scanner.text[at:end])

    def _call(self, name: str, at: int) -> Expression:
        scanner = self.scanner
        outer, scanner.skips_newlines = scanner.skips_newlines, True
        scanner.advance()
        arguments: list[Expression] = []
        is_spread = False
        while scanner.kind != ")":
            arguments.append(self.expression())
            if scanner.kind == "...":
                is_spread = True
                scanner.advance()
                if scanner.kind != ")":
                    scanner.refuse(f'expected ")" after "...", found {scanner.describe()}')
            elif scanner.kind == ",":
                scanner.advance()
            elif scanner.kind != ")":
                scanner.refuse(
                    f'expected "," or ")" in the arguments of {name[:60]}, found {scanner.describe()}'
                )
        scanner.skips_newlines = outer
        scanner.advance()
        return Call(at, name, tuple(arguments), is_spread)

    def _parentheses(self) -> Expression:
        """Any number of opening parentheses at once: `((((1) + 2)))` is no deep recursion."""
        scanner = self.scanner
        outer, scanner.skips_newlines = scanner.skips_newlines, True
        opened: list[int] = []
        while scanner.kind == "(":
            opened.append(scanner.start)
            scanner.advance()
        value = self.expression()
        while True:
            if scanner.kind != ")":
                scanner.refuse(
                    f'expected ")", found {scanner.describe()}', opened[-1] if scanner.kind == "end" else None
                )
            opened.pop()
            if not opened:
                break
            scanner.advance()
            value = self.expression(self._postfix(value))
        scanner.skips_newlines = outer
        scanner.advance()
        return value

    def _postfix(self, value: Expression) -> Expression:
        """`.name`, `[key]`, `[*]` and `.*` after a value."""
        scanner = self.scanner
        count = 0
        while scanner.kind in (".", "["):
            count += 1
            if count > LEVELS_MAX:
                scanner.refuse(f"more than {LEVELS_MAX} indexes after one value")
            value = self._dot(value) if scanner.kind == "." else self._bracket(value)
        return value

    def _dot(self, value: Expression) -> Expression:
        scanner = self.scanner
        scanner.advance()
        at, end = scanner.start, scanner.end
        if scanner.kind == "name":
            name = scanner.value
            scanner.advance()
            return self._step(value, name, at, end)
        if scanner.kind == "number":  # the old form of an index: list.0, or list.0.1
            for digits in scanner.value.split("."):
                if not digits.isdigit():
                    scanner.refuse(f'expected a name after ".", found {scanner.describe()}')
                value = self._step(value, int(digits), at, end)
            scanner.advance()
            return value
        if scanner.kind == "*":
            scanner.advance()
            steps: list[Expression | str] = []
            while scanner.kind == ".":
                scanner.advance()
                if scanner.kind != "name":
                    scanner.refuse(f'expected a name after ".", found {scanner.describe()}')
                steps.append(scanner.value)
                scanner.advance()
            return Splat(at, value, tuple(steps))
        return scanner.refuse(f'expected a name after ".", found {scanner.describe()}')

    def _bracket(self, value: Expression) -> Expression:
        scanner = self.scanner
        outer, scanner.skips_newlines = scanner.skips_newlines, True
        scanner.advance()
        at = scanner.start
        if scanner.kind == "*":
            scanner.advance()
            self._close_bracket(outer)
            steps: list[Expression | str] = []
            while scanner.kind in (".", "["):
                if scanner.kind == ".":
                    scanner.advance()
                    if scanner.kind != "name":
                        scanner.refuse(f'expected a name after ".", found {scanner.describe()}')
                    steps.append(scanner.value)
                    scanner.advance()
                else:
                    scanner.skips_newlines = True
                    scanner.advance()
                    if scanner.kind == "*":
                        scanner.refuse("a splat within a splat is not supported (use a for expression)")
                    steps.append(self.expression())
                    self._close_bracket(outer)
            return Splat(at, value, tuple(steps))
        key = self.expression()
        end = scanner.end
        self._close_bracket(outer)
        if isinstance(key, Literal) and isinstance(key.value, str | int) and not isinstance(key.value, bool):
            return self._step(value, key.value, at, end, is_index=True)
        return Index(at, value, key)

    def _close_bracket(self, outer: bool) -> None:
        scanner = self.scanner
        if scanner.kind != "]":
            scanner.refuse(f'expected "]", found {scanner.describe()}')
        scanner.skips_newlines = outer
        scanner.advance()

    def _step(
        self, value: Expression, step: str | int, at: int, end: int, *, is_index: bool = False
    ) -> Expression:
        if isinstance(value, Reference):
            return Reference(value.at, value.root, (*value.steps, step), self.scanner.text[value.at : end])
        if is_index or isinstance(step, int):
            return Index(at, value, Literal(at, step))
        return Attribute(at, value, step)

    # ---- collections

    def _tuple(self) -> Expression:
        scanner = self.scanner
        at = scanner.start
        outer, scanner.skips_newlines = scanner.skips_newlines, True
        scanner.advance()
        if scanner.kind == "name" and scanner.value == "for":
            value = self._for_tuple(at)
            scanner.skips_newlines = outer
            scanner.advance()
            return value
        items: list[Expression] = []
        while scanner.kind != "]":
            items.append(self.expression())
            if scanner.kind == ",":
                scanner.advance()
            elif scanner.kind != "]":
                scanner.refuse(f'expected "," or "]" in a list, found {scanner.describe()}')
        scanner.skips_newlines = outer
        scanner.advance()
        return TupleOf(at, tuple(items))

    def _for_tuple(self, at: int) -> Expression:
        scanner = self.scanner
        scanner.advance()
        key, name = self.loop_names()
        collection = self.expression()
        self._expect(":", "after the collection of a for expression")
        result = self.expression()
        if scanner.kind == "=>":
            scanner.refuse('"=>" makes an object (enclose the for expression in { } instead of [ ])')
        condition = self._for_condition()
        if scanner.kind != "]":
            scanner.refuse(f'expected "]" at the end of the for expression, found {scanner.describe()}')
        return ForTuple(at, key, name, collection, result, condition)

    def _for_object(self, at: int) -> Expression:
        scanner = self.scanner
        scanner.advance()
        key, name = self.loop_names()
        collection = self.expression()
        self._expect(":", "after the collection of a for expression")
        result_key = self.expression()
        self._expect("=>", "between key and value of a for expression")
        result = self.expression()
        is_grouping = scanner.kind == "..."
        if is_grouping:
            scanner.advance()
        condition = self._for_condition()
        if scanner.kind != "}":
            scanner.refuse(f'expected "}}" at the end of the for expression, found {scanner.describe()}')
        return ForObject(at, key, name, collection, result_key, result, condition, is_grouping)

    def _for_condition(self) -> Expression | None:
        if self.scanner.kind == "name" and self.scanner.value == "if":
            self.scanner.advance()
            return self.expression()
        return None

    def _expect(self, kind: str, place: str) -> None:
        if self.scanner.kind != kind:
            self.scanner.refuse(f'expected "{kind}" {place}, found {self.scanner.describe()}')
        self.scanner.advance()

    def loop_names(self) -> tuple[str, str]:
        """`v in` or `k, v in`: the names, the first empty when only one is given."""
        scanner = self.scanner
        names: list[str] = []
        while True:
            if scanner.kind != "name":
                scanner.refuse(f"expected a name after for, found {scanner.describe()}")
            names.append(scanner.value)
            scanner.advance()
            if scanner.kind != "," or len(names) == 2:
                break
            scanner.advance()
        if scanner.kind != "name" or scanner.value != "in":
            scanner.refuse(f'expected "in", found {scanner.describe()}')
        scanner.advance()
        return ("", names[0]) if len(names) == 1 else (names[0], names[1])

    def _object(self) -> Expression:
        scanner = self.scanner
        at = scanner.start
        outer, scanner.skips_newlines = scanner.skips_newlines, False
        scanner.advance()
        self._skip_newlines()
        if scanner.kind == "name" and scanner.value == "for":
            scanner.skips_newlines = True
            value = self._for_object(at)
            scanner.skips_newlines = outer
            scanner.advance()
            return value
        items: list[tuple[Expression, Expression]] = []
        while scanner.kind != "}":
            items.append(self._object_item())
            if scanner.kind == ",":
                scanner.advance()
            elif scanner.kind not in ("newline", "}"):
                scanner.refuse(
                    f'expected ",", the end of the line or "}}" in an object, found {scanner.describe()}'
                )
            self._skip_newlines()
        scanner.skips_newlines = outer
        scanner.advance()
        return ObjectOf(at, tuple(items))

    def _object_item(self) -> tuple[Expression, Expression]:
        scanner = self.scanner
        is_computed = scanner.kind == "("
        key = self.expression()
        if isinstance(key, Reference) and not is_computed:
            if key.steps:
                scanner.refuse(
                    "an object's key is a name, a quoted string or an expression in parentheses", key.at
                )
            key = Literal(key.at, key.root)
        if scanner.kind not in ("=", ":"):
            scanner.refuse(f'expected "=" after an object\'s key, found {scanner.describe()}')
        scanner.advance()
        self._skip_newlines()
        return key, self.expression()

    def _skip_newlines(self) -> None:
        while self.scanner.kind == "newline":
            self.scanner.advance()


def read_number(text: str) -> int | Decimal | None:
    """A number as HCL means it: exact, and an integer whenever it is whole (1.0 is 1). None: too large."""
    if len(text) > _DIGITS_MAX:
        return None
    if text.isdigit():
        return int(text)
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return None
    if abs(number.adjusted()) > _DIGITS_MAX:
        return None
    return int(number) if number == number.to_integral_value() else number
