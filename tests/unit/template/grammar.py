"""Which templates could somebody write? Made-up ones for the tests that compare and that try to break the engine.

They use what Go's text/template has by itself, over DATA. One seed makes one template. A seed and not hypothesis' own
strategies: these nest so deeply that making a template would take longer than all of the rest.
"""

from random import Random

DATA = {
    "name": "web",
    "empty": "",
    "text": 'a<b> & "c" é\t\n',
    "n": 3,
    "zero": 0,
    "neg": -17,
    "big": 1234567,
    "f": 2.5,
    "large": 1e21,
    "small": 0.00001234,
    "yes": True,
    "no": False,
    "nil": None,
    "list": ["a", "b", "c"],
    "numbers": [3, 1, 2],
    "mixed": ["x", 1, 2.0, True],
    "none": [],
    "map": {"b": 1, "a": "two", "c": {"d": "deep"}},
    "maps": [{"k": "v1", "n": 1}, {"k": "v2", "n": 2}],
}
HEAD = '{{define "t"}}<{{.}}>{{end}}{{$x := 1}}{{$y := "y"}}{{$i := 0}}'

_NUMBERS = ["$.n", "$.zero", "$.neg", "$.big", "1", "0", "-3", "0x1F", "'x'", "1_000", "0b101", "017"]
_FLOATS = ["$.f", "$.large", "$.small", "2.0", "1e3", "-0.5", "0x1p4"]
_STRINGS = ["$.name", "$.empty", "$.text", '"a"', '"q\\"t"', "`raw`", '""', "$.map.a", "$.map.c.d", '"\\u00e9\\x41"']
_BOOLS = ["true", "false", "$.yes", "$.no"]
_LISTS = ["$.list", "$.numbers", "$.none", "$.maps", "$.mixed"]
_OTHERS = ["$.map", "$.map.c", ".", "$x", "$y", "$i"]
# What is not there is given to no function: the other implementation passes it on otherwise than Go does.
_ABSENT = ["$.nil", "$.missing", "$.map.zz", "$.missing.more"]
# Verbs by what they are for.
_VERBS = {
    "number": ["%d", "%5d", "%-5d|", "%05d", "%+d", "% d", "%x", "%#x", "%X", "%o", "%b", "%v", "%3v", "%.4d", "%T"],
    "float": ["%f", "%6.2f", "%e", "%g", "%v", "%.3g", "%10.3f|", "%-9.1e|", "%+.2f", "%T", "%G"],
    "string": ["%s", "%q", "%v", "%x", "%X", "%-6s|", "%6s", "%.2s", "%T", "%-8q|"],
    "bool": ["%t", "%v", "%6t", "%-6v|", "%T"],
}


class Grammar:
    """Makes up templates that are right for the most part."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def template(self) -> str:
        return HEAD + "".join(self._node(2) for _ in range(self._random.randint(1, 5)))

    def _pick(self, among: list[str]) -> str:
        return self._random.choice(among)

    def _node(self, depth: int) -> str:
        kind = self._random.randint(0, 9 if depth else 5)
        if kind < 2:
            return self._pick([" ", "\n", "a", " b ", "\n  c\n", "{", "}", "é"])
        if kind < 6:
            return self._action(self._pick([*["pipeline"] * 6, "set", "declare", "template", "comment", "wrong"]))
        return self._block(depth - 1)

    def _delimited(self, inner: str) -> str:
        return self._pick(["{{", "{{ ", "{{- "]) + inner + self._pick(["}}", " }}", " -}}"])

    def _action(self, kind: str) -> str:
        match kind:
            case "set":
                return self._delimited(f"$x = {self.pipeline()}")
            case "declare":
                return self._delimited(f"$x := {self.pipeline()}")
            case "template":
                return self._delimited(f'template "t" {self.value(1)}')
            case "comment":
                return self._pick(["{{/* c */}}", "{{- /* c */ -}}", "{{/* a\nb */}}"])
            case "wrong":
                return self._delimited(self._pick(["end", "else", "$z", "nofunction 1", "1 | 2", '"a" "b"', "len 3", "index $.list 9", "template `no`", "( 1", "break"]))
        return self._delimited(self.pipeline())

    def _block(self, depth: int) -> str:
        body, other = ("".join(self._node(depth) for _ in range(self._random.randint(0, 2))) for _ in range(2))
        kind = self._pick(["if", "else if", "with", "with $y :=", "range", "range $x :=", "range $i, $x :=", "loop"])
        if kind == "else if":
            head, middle = self._delimited(f"if {self.value(1)}"), self._delimited(f"else if {self.value(1)}")
            return head + body + middle + other + self._delimited("end")
        if kind == "loop":
            leave = self._delimited(f"if {self._condition()}") + self._delimited(self._pick(["break", "continue"])) + self._delimited("end")
            return self._delimited("range $j, $k := $.numbers") + leave + body + self._delimited("end")
        over = self._pick(_LISTS + ["$.map", "(slice $.list 1)", "$.nil", "3"][: 4 if "," not in kind else 3]) if "range" in kind else self._condition_value()
        ended = self._delimited("else") + other + self._delimited("end") if self._random.random() < 0.5 else self._delimited("end")
        return self._delimited(f"{kind} {over}") + body + ended

    def _condition_value(self) -> str:
        return self._pick(_ABSENT) if self._random.random() < 0.2 else self.value(1)

    def pipeline(self) -> str:
        if self._random.random() < 0.1:
            return self._pick(_ABSENT)
        first = self.value(2)
        stages = [self._pick(["print", "println", "html", "js", "urlquery", "len", "not", 'printf "%v"', 'printf "<%v>"', "print 1", "and 1", 'or ""']) for _ in range(self._random.choice([0, 0, 0, 1, 2]))]
        return " | ".join([first, *stages])

    def value(self, depth: int) -> str:
        """An operand."""
        if not depth or self._random.random() < 0.4:
            return self._pick(self._random.choice([_NUMBERS, _FLOATS, _STRINGS, _BOOLS, _LISTS, _OTHERS]))
        match self._random.randint(0, 8):
            case 0:
                return f"({self._condition()})"
            case 1:
                return f"({self._printf()})"
            case 2:
                return f"(index $.list {self._pick(['0', '2', '(len $.name | print | len)'])})"
            case 3:
                return f"(index $.maps {self._pick(['0', '1'])}).k"
            case 4:
                return f"(index $.map {self._pick(['`a`', '`b`', '`c`'])})"
            case 5:
                return f"(slice {self._pick(['$.list 1', '$.list 1 2', '$.list 0 3', '$.list 0 1 2', '$.name 1', '$.name 0 2', '`abc` 1 1'])})"
            case 6:
                return f"(len {self._pick(_LISTS + _STRINGS + ['$.map'])})"
            case 7:
                return f"({self._pick(['print', 'println', 'html', 'js', 'urlquery'])} {self.value(depth - 1)} {self.value(depth - 1)})"
        return f"({self._pick(['and', 'or'])} {self.value(depth - 1)} {self.value(depth - 1)})"

    def _condition(self) -> str:
        pool = self._random.choice([_NUMBERS, _FLOATS, _STRINGS])
        if self._random.random() < 0.1:
            return f"eq {self._pick(_NUMBERS)} {self._pick(_STRINGS)}"
        if self._random.random() < 0.2:
            return f"eq {self._pick(pool)} {self._pick(pool)} {self._pick(pool)}"
        return f"{self._pick(['eq', 'ne', 'lt', 'le', 'gt', 'ge'])} {self._pick(pool)} {self._pick(pool)}"

    def _printf(self) -> str:
        kinds = [self._pick(list(_VERBS)) for _ in range(self._random.randint(1, 3))]
        pools = {"number": _NUMBERS, "float": _FLOATS, "string": _STRINGS, "bool": _BOOLS}
        verbs = " ".join(self._pick(_VERBS[kind]) for kind in kinds)
        if self._random.random() < 0.15:
            kinds = kinds[1:] if self._random.random() < 0.5 else [*kinds, "number"]  # too few, too many
        return f'printf "{verbs} %%" ' + " ".join(self._pick(pools[kind]) for kind in kinds)
