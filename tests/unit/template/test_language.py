"""What Go's template language says: each text with what Go renders, or the words with which it refuses."""

import pytest

from template import Function, StringMap, TemplateFault, parse
from tests.unit.template.grammar import DATA


def said(text: str, data: object = None, **how: object) -> str:
    return parse(text, name="t.tpl").render({**DATA, **(data or {})}, **how)  # type: ignore[arg-type, dict-item]


def refusal(text: str, data: object = None, **how: object) -> str:
    with pytest.raises(TemplateFault) as caught:
        said(text, data, **how)
    return str(caught.value)


# As Go has it, where the implementation that test_differential.py compares with does something else.
AS_GO = [
    ("{{print .missing}}|{{.nil | println}}", "<nil>|<nil>\n"),
    ("{{html .missing}} {{.missing | js}}", "&lt;no value&gt; \\u003Cno value\\u003E"),
    ("{{.missing | not}} {{if .nil | not}}y{{end}}", "true y"),
    ('{{printf "%s %d %v" .nil .missing .nil}}', "%!s(<nil>) %!d(<nil>) <nil>"),
    ('{{printf "%d" .list}}', "[%!d(string=a) %!d(string=b) %!d(string=c)]"),
    ('{{printf "%d" .map.c}} {{printf "%q" .list}}', 'map[%!d(string=d):%!d(string=deep)] ["a" "b" "c"]'),
    ('{{printf "% x|% x" "web" ""}}', "77 65 62|"),
    ('{{printf "%08.3f" -0.5}}', "-000.500"),
    ('{{printf "%c|%q|%U" -1 65 128512}}', "\ufffd|'A'|U+1F600"),
    ('{{printf "%+v %+d" 15 15}}', "15 +15"),
    ('{{printf "%#v %#v %#v" "a" .list .nil}}', '"a" []interface {}{"a", "b", "c"} <nil>'),
    ('{{printf "%x" 1.5}} {{printf "%t" 1}} {{printf "%s" .yes}}', "0x1.8p+00 %!t(int=1) %!s(bool=true)"),
    ("{{eq .nil 1}} {{eq .nil .missing}} {{ne .nil 1}}", "false true true"),
    ("{{.yes | or}} {{`` | and}}|", "true |"),
    ("{{range $i, $x := .numbers}}{{continue}}{{end}}{{with $i := 7}}{{$i}}{{end}}", "7"),
    ("{{`a\r\nb`}}", "a\nb"),
    ('{{"\\xff" | printf "%q"}}', '"\\xff"'),
    ("{{1e21}} {{123456789.0}} {{-0.0}} {{100000.0}}", "1e+21 1.23456789e+08 -0 100000"),
    ("{{range $i, $c := .deep}}{{$i}}{{$c}} {{end}}", "1x 2y b3 "),
    ("{{.strings.a}}|{{.strings.b}}|{{index .strings `b`}}|", "A|<no value>||"),
    ("{{call .twice 4}}", "8"),
]


@pytest.mark.parametrize(("text", "rendered"), AS_GO, ids=[text for text, _ in AS_GO])
def test_it_says_what_go_says(text: str, rendered: str) -> None:
    def twice(number: int) -> int:
        return number * 2

    data = {"deep": {"b": 3, 2: "y", 1: "x"}, "strings": StringMap(a="A"), "twice": Function(twice)}
    assert said(text, data, on_missing_key="default") == rendered


AS_CONSUL_TEMPLATE = [
    ("{{.missing}}|{{.strings.b}}|{{.map.zz}}", "<no value>||<no value>"),
    ("{{if .missing}}x{{else}}y{{end}}{{with .strings.b}}x{{end}}", "y"),
    ("{{$x := .missing}}{{$x.more}}", "<no value>"),
]


@pytest.mark.parametrize(("text", "rendered"), AS_CONSUL_TEMPLATE, ids=[text for text, _ in AS_CONSUL_TEMPLATE])
def test_what_a_map_lacks_is_its_zero_value_as_consul_template_has_it(text: str, rendered: str) -> None:
    assert said(text, {"strings": StringMap(a="A")}) == rendered


FAULTS = [
    ("{{.name", "t.tpl:1:1: unclosed action"),
    ("line\n  {{nofunction}}", 't.tpl:2:5: function "nofunction" not defined'),
    ("{{toUper `x`}}", 't.tpl:1:3: function "toUper" not defined (did you mean toUpper?)'),
    ("{{$x}}", 't.tpl:1:3: undefined variable "$x"'),
    ("{{if true}}\n", "t.tpl:1:3: unexpected EOF: {{if}} has no {{end}}"),
    ("{{end}}", "t.tpl:1:3: unexpected {{end}}"),
    ("{{break}}", "t.tpl:1:3: {{break}} outside {{range}}"),
    ("{{1 | 2}}", "t.tpl:1:7: non executable command in pipeline stage 2"),
    ("{{if}}x{{end}}", "t.tpl:1:5: missing value for if"),
    ("{{9223372036854775808}}", "t.tpl:1:3: 9223372036854775808 overflows int"),
    ("{{1i}}", 't.tpl:1:3: complex numbers are not supported: "1i"'),
    ("{{nil}}", "t.tpl:1:3: <nil>: nil is not a command"),
    ("{{.nil.x}}", "t.tpl:1:3: <.nil.x>: nil pointer evaluating interface {}.x"),
    ("{{.name.x}}", "t.tpl:1:3: <.name.x>: can't evaluate field x in type string"),
    ("{{index .map 1}}", "t.tpl:1:3: <index>: error calling index: value has type int; should be string"),
    ("{{index .list 5}}", "t.tpl:1:3: <index>: error calling index: index out of range: 5"),
    ("{{eq 1 1.0}}", "t.tpl:1:3: <eq>: error calling eq: incompatible types for comparison"),
    ("{{lt .nil 1}}", "t.tpl:1:3: <lt>: error calling lt: invalid type for comparison"),
    ("{{eq 1}}", "t.tpl:1:3: <eq>: error calling eq: missing argument for comparison"),
    ("{{len 3}}", "t.tpl:1:3: <len>: error calling len: len of type int"),
    ("{{range 1.5}}{{end}}", "t.tpl:1:9: <1.5>: range can't iterate over a value of type float64"),
    ("{{toUpper 1}}", "t.tpl:1:3: <toUpper>: error calling toUpper: wrong type for value; expected string; got int"),
    ("{{toUpper .nil}}", "t.tpl:1:3: <toUpper>: error calling toUpper: invalid value; expected string"),
    ("{{toUpper}}", "t.tpl:1:3: <toUpper>: error calling toUpper: wrong number of args for toUpper: want 1 got 0"),
    ("{{printf}}", "t.tpl:1:3: <printf>: error calling printf: wrong number of args for printf: want at least 1 got 0"),
    ("{{.name 1}}", "t.tpl:1:3: <.name>: name is not a method but has arguments"),
    ("{{template `x`}}", 't.tpl:1:3: template "x" not defined'),
    ("{{range $i, $x := 3}}{{end}}", "t.tpl:1:9: <$i, $x := 3>: can't use an int to iterate over more than one variable"),
]


@pytest.mark.parametrize(("text", "words"), FAULTS, ids=[text for text, _ in FAULTS])
def test_what_is_wrong_is_told_with_its_place(text: str, words: str) -> None:
    assert refusal(text) == words


def test_a_missing_key_is_refused_where_that_is_asked_for() -> None:
    assert refusal("{{.map.zz}}", on_missing_key="error") == 't.tpl:1:3: <.map.zz>: map has no entry for key "zz"'
    assert said('{{index .map "zz"}}', on_missing_key="error") == "<no value>"


def test_other_delimiters_leave_the_usual_ones_as_text() -> None:
    template = parse("[[ .name ]] {{ .name }} [[- 1 -]] x", name="t.tpl", left="[[", right="]]")
    assert template.render(DATA) == "web {{ .name }}1x"


NO_DOORS = ["{{.__class__}}", "{{.name.__class__}}", '{{(printf "").format}}', "{{scratch.__init__}}", "{{scratch._values}}", "{{(sprig_list).append}}"]


@pytest.mark.parametrize("text", NO_DOORS)
def test_no_attribute_of_a_python_object_can_be_reached(text: str) -> None:
    try:
        answer = said(text)
    except TemplateFault as fault:
        answer = fault.words
    # A key that the data has not, or no field.
    assert answer == "<no value>" or "can't evaluate field" in answer


def test_no_message_holds_a_value_that_the_template_was_given() -> None:
    texts = [
        "{{parseInt .s}}", "{{parseJSON .s}}", "{{parseYAML .y}}", "{{base64Decode .s}}", "{{range .s}}{{end}}", "{{index .s 99}}",
        "{{regexMatch .r `a`}}", "{{toUpper (sprig_list .s)}}", "{{key .s}}", "{{parseBool .s}}", "{{.s.x}}", "{{add 1 .s}}",
        "{{timestamp .s .s}}", "{{service .s}}", "{{executeTemplate .s}}", "{{lt .s 1}}", "{{sockaddr .s}}", "{{parseFloat .s}}",
    ]  # fmt: skip
    secret = "hunter2 is secret"
    for text in texts:
        assert "hunter2" not in refusal(text, {"s": secret, "y": f"a: [{secret}", "r": f"({secret}"})


BOUNDS = {
    "a loop in a loop": "{{range loop 400000}}{{range loop 400000}}{{end}}{{end}}",
    "a number": "{{range 1000000000000}}{{end}}",
    "a list of itself": "{{$l := sprig_list 1}}{{range loop 60}}{{$l = sprig_list $l $l}}{{end}}{{$l}}",
    "a map of itself": "{{$d := sprig_dict `a` 1}}{{$_ := sprig_set $d `a` $d}}{{$d}}",
    "a text of itself": "{{$l := .text}}{{range loop 60}}{{$l = printf `%s%s` $l $l}}{{end}}{{$l}}",
    "a template of itself": "{{define `r`}}{{template `r` .}}{{end}}{{template `r` .}}",
    "templates that call one another twice": "{{define `r`}}{{if .}}{{template `r` (sprig_rest .)}}{{template `r` (sprig_rest .)}}{{end}}{{end}}{{template `r` (sprig_until 90)}}",
    "a long output": "{{range loop 1000}}{{range loop 400}}{{$.text | sprig_repeat 1000}}{{end}}{{end}}",
    "a width": "{{printf `%999999999d` 1}}",
    "a repetition": "{{sprig_repeat 999999999 `abc`}}",
    "an indentation": "{{indent 999999999 `abc`}}",
    "a replacement": "{{replaceAll `a` (sprig_repeat 1000000 `b`) (sprig_repeat 1000000 `a`)}}",
    "deep JSON": "{{parseJSON (sprig_repeat 100000 `[`)}}",
    "deep YAML": "{{parseYAML (sprig_repeat 100000 `[`)}}",
    "a YAML of laughs": "{{parseYAML `{a: &a [x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e], g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]}`}}",
    "patterns without end": "{{range loop 100000}}{{regexMatch (printf `(x{1,900}){1,%d}` .) `x`}}{{end}}",
    "many hashes of a long text": "{{$t := sprig_repeat 10000000 `x`}}{{range loop 100000}}{{sha256Hex $t}}{{end}}",
    "a smuggled loop": "{{sockaddr `GetAllInterfaces}}{{range 100000000}}{{end}}{{GetAllInterfaces`}}",
    "deep parentheses": "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
    "deep blocks": "{{if 1}}" * 5000 + "{{end}}" * 5000,
}  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", BOUNDS.values(), ids=BOUNDS)
def test_what_would_take_for_ever_is_refused(text: str) -> None:
    class Machine:
        def interfaces(self, read: object) -> list[object]:
            return []

    with pytest.raises(TemplateFault):
        parse(text, name="t.tpl").render(DATA, lookups=Machine())  # type: ignore[arg-type]  # it asks for nothing else


def test_a_long_text_takes_time_with_its_length() -> None:
    text = "{{/* c */}} {{.name}} {{if .yes}}a{{else}}b{{end}} (((( {{ ( .n ) }}" * 5000
    assert len(said(text)) == 5000 * len(" web a (((( 3")
