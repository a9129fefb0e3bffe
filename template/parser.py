"""What does a template's text say?

Recursive descent over the scanner's tokens, after Go's grammar. All names are checked here: of functions, and of
variables in their scope. How deep blocks and parentheses may be nested is bounded, so that no text exhausts the stack.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

from template.constants import BadConstant, number, quoted, rune
from template.scanner import Kind, Source, Token, scan
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
)

# Blocks and parentheses within one another. Real templates have ten; each costs about five frames of the interpreter's
# thousand, in parsing as in rendering.
NESTING_MAX = 60

_KEYWORDS = {"block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with", "true", "false"}
_CONSTANTS: Mapping[str, object] = {"true": True, "false": False, "nil": None}


@dataclass(frozen=True, slots=True)
class Parsed:
    """body: what the text itself renders. definitions: {name: body} of `define` and `block`."""

    body: Nodes
    definitions: Mapping[str, Nodes]


def parse_text(source: Source, left: str, right: str, functions: Collection[str]) -> Parsed:
    """Raises TemplateFault."""
    parser = _Parser(source, scan(source, left, right), functions)
    return Parsed(parser.file(), parser.definitions)


class _Parser:
    def __init__(self, source: Source, tokens: Iterator[Token], functions: Collection[str]) -> None:
        self._source, self._functions = source, functions
        # The scanner runs ahead, so that its faults come first only where they are first.
        self._tokens = tokens
        self._ahead: list[Token] = []
        self._variables = ["$"]
        self._nesting = 0
        self._loops = 0
        self.definitions: dict[str, Nodes] = {}

    # Tokens.

    def _next(self) -> Token:
        return self._ahead.pop() if self._ahead else next(self._tokens)

    def _next_solid(self) -> Token:
        token = self._next()
        while token.kind is Kind.SPACE:
            token = self._next()
        return token

    def _peek(self) -> Token:
        token = self._next()
        self._ahead.append(token)
        return token

    def _peek_solid(self) -> Token:
        token = self._next_solid()
        self._ahead.append(token)
        return token

    def _expect(self, kind: Kind, context: str) -> Token:
        token = self._next_solid()
        if token.kind is not kind:
            self._unexpected(token, context)
        return token

    def _fault(self, pos: int, words: str) -> NoReturn:
        raise self._source.fault(pos, words)

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        shown = "EOF" if token.kind is Kind.END else f'"{token.text[:40]}"'
        if token.kind is Kind.WORD and token.text in _KEYWORDS:
            shown = f"<{token.text}>"
        self._fault(token.pos, f"unexpected {shown} in {context}")

    @contextmanager
    def _deeper(self, pos: int) -> Iterator[None]:
        self._nesting += 1
        if self._nesting > NESTING_MAX:
            self._fault(pos, f"nested deeper than {NESTING_MAX} levels")
        yield
        self._nesting -= 1

    # Blocks.

    def file(self) -> Nodes:
        nodes, ended = self._nodes(is_top=True)
        if ended.kind is not Kind.END:
            self._fault(ended.pos, f"unexpected {{{{{ended.text}}}}}")
        return nodes

    def _nodes(self, *, is_top: bool = False) -> tuple[Nodes, Token]:
        """Nodes, and the token that ends them: the words `end` or `else`, or END."""
        nodes: list[Node] = []
        while True:
            token = self._next()
            if token.kind is Kind.TEXT:
                nodes.append(Text(token.pos, token.text))
                continue
            if token.kind is Kind.END:
                return tuple(nodes), token
            word = self._peek_solid()
            if word.kind is Kind.WORD and word.text in ("end", "else"):
                self._next_solid()
                return tuple(nodes), word
            if word.kind is Kind.WORD and word.text == "define" and is_top:
                self._next_solid()
                self._definition(word)
                continue
            nodes.append(self._action(token))

    def _action(self, begun: Token) -> Node:
        word = self._next_solid()
        if word.kind is Kind.WORD and word.text in _KEYWORDS:
            match word.text:
                case "if" | "with":
                    return self._branch(word)
                case "range":
                    return self._range(word)
                case "template":
                    return self._call(word)
                case "block":
                    return self._block(word)
                case "break" | "continue":
                    return self._leave(word)
                case _:
                    pass
        self._ahead.append(word)
        return Action(begun.pos, self._pipeline("command", Kind.RIGHT))

    def _branch(self, word: Token) -> Branch:
        known = len(self._variables)
        ways: list[tuple[Pipeline, Nodes]] = []
        otherwise: Nodes = ()
        with self._deeper(word.pos):
            while True:
                condition = self._pipeline(word.text, Kind.RIGHT)
                body, ended = self._nodes()
                ways.append((condition, body))
                if self._is_end(ended, word):
                    break
                again = self._peek_solid()
                if again.kind is Kind.WORD and again.text == word.text:
                    self._next_solid()
                    continue
                otherwise = self._otherwise(word)
                break
        del self._variables[known:]
        return Branch(word.pos, "if" if word.text == "if" else "with", tuple(ways), otherwise)

    def _range(self, word: Token) -> Range:
        known = len(self._variables)
        otherwise: Nodes = ()
        with self._deeper(word.pos):
            pipeline = self._pipeline("range", Kind.RIGHT)
            self._loops += 1
            body, ended = self._nodes()
            self._loops -= 1
            if not self._is_end(ended, word):
                otherwise = self._otherwise(word)
        del self._variables[known:]
        return Range(word.pos, pipeline, body, otherwise)

    def _is_end(self, ended: Token, word: Token) -> bool:
        """Whether it is `end`, and not `else`."""
        if ended.kind is Kind.END:
            self._fault(word.pos, f"unexpected EOF: {{{{{word.text}}}}} has no {{{{end}}}}")
        if ended.text == "end":
            self._expect(Kind.RIGHT, "end")
            return True
        return False

    def _otherwise(self, word: Token) -> Nodes:
        self._expect(Kind.RIGHT, "else")
        nodes, ended = self._nodes()
        if not self._is_end(ended, word):
            self._fault(ended.pos, "expected end; found {{else}}")
        return nodes

    def _leave(self, word: Token) -> Leave:
        if not self._loops:
            self._fault(word.pos, f"{{{{{word.text}}}}} outside {{{{range}}}}")
        token = self._next_solid()
        if token.kind is not Kind.RIGHT:
            self._unexpected(token, f"{{{{{word.text}}}}}")
        return Leave(word.pos, word.text == "break")

    def _name(self, context: str) -> str:
        token = self._next_solid()
        if token.kind not in (Kind.STRING, Kind.RAW):
            self._unexpected(token, context)
        return self._unquoted(token)

    def _definition(self, word: Token) -> None:
        name = self._name("define clause")
        self._expect(Kind.RIGHT, "define clause")
        self._define(word, name)

    def _define(self, word: Token, name: str) -> None:
        outer, self._variables = self._variables, ["$"]
        loops, self._loops = self._loops, 0
        with self._deeper(word.pos):
            body, ended = self._nodes()
        self._variables, self._loops = outer, loops
        if not self._is_end(ended, word):
            self._fault(ended.pos, f"unexpected {{{{else}}}} in {word.text} clause")
        if not _is_empty(self.definitions.get(name, ())):
            if not _is_empty(body):
                self._fault(word.pos, f'multiple definition of template "{name}"')
            return
        self.definitions[name] = body

    def _call(self, word: Token) -> Call:
        name = self._name("template clause")
        pipeline = None
        token = self._next_solid()
        if token.kind is not Kind.RIGHT:
            self._ahead.append(token)
            pipeline = self._pipeline("template clause", Kind.RIGHT)
        return Call(word.pos, name, pipeline)

    def _block(self, word: Token) -> Call:
        name = self._name("block clause")
        pipeline = self._pipeline("block clause", Kind.RIGHT)
        self._define(word, name)
        return Call(word.pos, name, pipeline)

    # Pipelines.

    def _pipeline(self, context: str, end: Kind) -> Pipeline:
        first = self._peek_solid()
        declares, is_assignment = self._declared(context)
        commands: list[Command] = []
        while True:
            token = self._next_solid()
            if token.kind is end:
                break
            if token.kind is Kind.RIGHT:
                self._fault(first.pos, "unclosed left paren")
            self._ahead.append(token)
            if token.kind in (Kind.DECLARE, Kind.ASSIGN, Kind.COMMA, Kind.PIPE, Kind.CLOSE, Kind.END):
                self._unexpected(token, context)
            commands.append(self._command(end))
        if not commands:
            self._fault(first.pos, f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], Dot | Literal):
                self._fault(command.pos, f"non executable command in pipeline stage {stage}")
        return Pipeline(first.pos, declares, is_assignment, tuple(commands))

    def _declared(self, context: str) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =` and, of a range, `$i, $x :=`. Declared variables are known from here on."""
        first = self._peek_solid()
        if first.kind is not Kind.VARIABLE:
            return (), False
        self._next_solid()
        read = [first]
        after = self._next()
        if after.kind is Kind.SPACE:
            read.append(after)
            after = self._next()
        if after.kind in (Kind.DECLARE, Kind.ASSIGN):
            return self._declare((first.text,), after), after.kind is Kind.ASSIGN
        if after.kind is Kind.COMMA:
            if context != "range":
                self._fault(first.pos, f"too many declarations in {context}")
            second = self._next_solid()
            sign = self._next_solid()
            if second.kind is not Kind.VARIABLE or sign.kind not in (Kind.DECLARE, Kind.ASSIGN):
                self._fault(second.pos, "range can only initialize variables")
            return self._declare((first.text, second.text), sign), sign.kind is Kind.ASSIGN
        self._ahead.append(after)
        self._ahead.extend(reversed(read))
        return (), False

    def _declare(self, names: tuple[str, ...], sign: Token) -> tuple[str, ...]:
        for name in names:
            if sign.kind is Kind.DECLARE:
                self._variables.append(name)
            elif name not in self._variables:
                self._fault(sign.pos, f'undefined variable "{name}"')
        return names

    def _command(self, end: Kind) -> Command:
        begun = self._peek_solid()
        args: list[Expression] = []
        while True:
            self._peek_solid()
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                self._ahead.append(token)
            elif token.kind is not Kind.PIPE:
                self._unexpected(token, "operand")
            break
        if not args:
            self._fault(begun.pos, "empty command")
        if token.kind is Kind.PIPE and self._peek_solid().kind in (Kind.RIGHT, Kind.CLOSE):
            self._fault(token.pos, "missing value for command")
        return Command(begun.pos, tuple(args))

    def _operand(self) -> Expression | None:
        term = self._term()
        if term is None:
            return None
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if not names:
            return term
        match term:
            case Field() | Variable():
                return replace(term, names=(*term.names, *names))
            case Pipeline() | Identifier():
                return Chain(term.pos, term, tuple(names))
        raise self._source.fault(term.pos, "unexpected . after a constant or the dot")

    def _term(self) -> Expression | None:
        token = self._next_solid()
        match token.kind:
            case Kind.WORD:
                return self._word(token)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.VARIABLE:
                if token.text not in self._variables:
                    self._fault(token.pos, f'undefined variable "{token.text}"')
                return Variable(token.pos, token.text, ())
            case Kind.FIELD:
                return Field(token.pos, (token.text[1:],))
            case Kind.CHAR | Kind.NUMBER | Kind.STRING | Kind.RAW:
                return self._constant(token)
            case Kind.OPEN:
                with self._deeper(token.pos):
                    return self._pipeline("parenthesized pipeline", Kind.CLOSE)
            case _:
                self._ahead.append(token)
                return None

    def _word(self, token: Token) -> Expression:
        if token.text in _CONSTANTS:
            return Literal(token.pos, _CONSTANTS[token.text], token.text)
        if token.text in _KEYWORDS:
            self._unexpected(token, "command")
        if token.text not in self._functions:
            self._fault(token.pos, f'function "{token.text}" not defined{self._hint(token.text)}')
        return Identifier(token.pos, token.text)

    def _hint(self, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, list(self._functions), n=1, cutoff=0.75) if len(name) <= 40 else []
        return f" (did you mean {near[0]}?)" if near else ""

    def _constant(self, token: Token) -> Literal:
        try:
            value = number(token.text) if token.kind is Kind.NUMBER else rune(token.text) if token.kind is Kind.CHAR else None
        except BadConstant as error:
            self._fault(token.pos, str(error))
        return Literal(token.pos, self._unquoted(token) if value is None else value, token.text)

    def _unquoted(self, token: Token) -> str:
        try:
            return quoted(token.text) if token.kind is Kind.STRING else token.text[1:-1].replace("\r", "")
        except BadConstant as error:
            self._fault(token.pos, str(error))


def _is_empty(nodes: Nodes) -> bool:
    """Nothing but white space: Go lets another definition replace that."""
    return all(isinstance(node, Text) and not node.text.strip() for node in nodes)
