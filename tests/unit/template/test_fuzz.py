"""No text makes the engine fail otherwise than with a TemplateFault or Missing, or takes long."""

import time
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from template import Missing, TemplateFault, parse
from template.functions import KNOWN
from tests.unit.template.answers import Held
from tests.unit.template.grammar import DATA, Grammar

# A text is dealt with in less, on a machine that does something else as well.
SECONDS_MAX = 5.0
_PIECES = [
    "{{", "}}", "{{-", "-}}", " ", "\n", "(", ")", "|", ":=", "=", ",", ".", "$", "$x", "$x := 1", ".list", ".map", ".nil", ".text", ".k",
    "if ", "else", "end", "range ", "with ", "define `t`", "template `t` .", "block `b` .", "break", "continue", "nil", "true", "1", "-1",
    "1.5", "9223372036854775807", "'x'", '"', "`", '"%d %s %v %[3]*.[2]*[1]f"', '"%999999d"', '"a"', "`a`", "/*", "*/", "{{end}}", "é", "\x00", "\udcff",
    "0x", "1e999", "..", "{{$x := .list}}", "{{range loop 3}}", "`{\"a\":[1,{}]}`", "`[`", "`a: &a [*a]`",
]  # fmt: skip


def deal_with(text: str) -> float:
    """Seconds that it took."""
    begun = time.monotonic()
    for held in (Held(environment={"A": "a"}), None):
        try:
            template = parse(text, name="t")
            template.reads()
            template.render(DATA, lookups=held, allowed=frozenset({"executeTemplate"}))
        except (TemplateFault, Missing):
            pass
    return time.monotonic() - begun


def soup(seed: int) -> str:
    """Pieces in any order, or a template in which something was changed."""
    random = Random(seed)
    words = [*_PIECES, *sorted(KNOWN)]
    kind = random.randrange(3)
    if kind == 0:
        return "".join(random.choice(words) + random.choice(["", " "]) for _ in range(random.randint(1, 30)))
    if kind == 1:  # calls of any function with anything
        operand = [".list", ".map", ".nil", ".text", "1", "-1", "1.5", "`a`", "`{}`", '""', "true", "nil", "(sprig_list .map .list)", "(loop 9)", ".", "100000"]
        return "".join(
            "{{ " + random.choice(words[len(_PIECES) :]) + "".join(f" {random.choice(operand)}" for _ in range(random.randint(0, 4)))
            + random.choice(["", f" | {random.choice(words[len(_PIECES) :])} {random.choice(operand)}"]) + " }}"
            for _ in range(random.randint(1, 4))
        )  # fmt: skip
    text = Grammar(seed).template()
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(text))
        text = text[:at] + random.choice([random.choice(words), "", text[at : at + 20] * 2]) + text[at + random.randrange(3) :]
    return text


@pytest.mark.parametrize("block", range(4))
def test_no_soup_of_pieces_breaks_it(block: int) -> None:
    slow = [(seed, took) for seed in range(block * 500, block * 500 + 500) if (took := deal_with(soup(seed))) > SECONDS_MAX]
    assert slow == []


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
@example("{{\ud800}}")
@example("{{`\ud800` | toJSON | parseJSON | toYAML | len | printf `%x`}}")
def test_no_text_breaks_it(text: str) -> None:
    assert deal_with("{{" + text) + deal_with(text + "}}") < SECONDS_MAX


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(_VALUES)
def test_no_value_breaks_a_function(value: object) -> None:
    for name in ("toJSON", "toJSONPretty", "toYAML", "toTOML", "print", "html", "js", "urlquery", "sprig_quote", "sprig_uniq . |print", "len", "index . 0 | print"):
        try:
            said = parse(f"{{{{with $.v}}}}{{{{{name} .}}}}{{{{end}}}}" if "." not in name else f"{{{{with $.v}}}}{{{{{name}}}}}{{{{end}}}}", name="t").render({"v": value})
        except TemplateFault:
            continue
        said.encode("utf-8", "surrogatepass")
