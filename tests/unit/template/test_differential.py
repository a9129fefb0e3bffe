"""The engine says what another implementation of Go's templates says: gotpl, which is itself checked against Go.

Compared is what is rendered, and whether something is refused; words and places differ. Where the two differ and ours is
what Go does, the grammar does not go (a field of a string, nil given to a function, verbs that do not fit a list, `% x`,
zeros before a negative fraction, integers that overflow, characters beyond Unicode): tests/unit/template/test_language.py has those.
"""

from collections.abc import Callable

import gotpl
import pytest
from gotpl.funcs.sprig import text_func_map
from hypothesis import given, settings
from hypothesis import strategies as st

from template import TemplateFault, parse
from tests.unit.template.grammar import DATA, Grammar

REFUSED = "refused"


def ours(text: str) -> str:
    try:
        return parse(text, name="t.tpl").render(DATA, on_missing_key="default")
    except TemplateFault:
        return REFUSED


def theirs(text: str) -> str:
    try:
        return gotpl.Template(text).render(DATA)
    except gotpl.TemplateError:
        return REFUSED


@pytest.mark.parametrize("block", range(6))
def test_made_up_templates_say_the_same(block: int) -> None:
    texts = [Grammar(seed).template() for seed in range(block * 100, block * 100 + 100)]
    said = [ours(text) for text in texts]
    assert said == [theirs(text) for text in texts]
    assert sum(one != REFUSED for one in said) > 50  # or little would be compared


@settings(max_examples=300, deadline=None)
@given(st.integers(min_value=10_000, max_value=2**40))
def test_any_made_up_template_says_the_same(seed: int) -> None:
    text = Grammar(seed).template()
    assert ours(text) == theirs(text)


HAND_WRITTEN = [
    "plain text",
    "{{.name}} {{ .n }} {{- .f -}} !",
    "a \n\t {{- .n -}} \n b",
    "{{/* nothing */}}x{{- /* nothing */ -}} y",
    '{{"{{"}} {{`}}`}}',
    "{{range .list}}{{.}},{{end}}",
    "{{range $i, $e := .list}}{{if $i}}, {{end}}{{$i}}={{$e}}{{end}}",
    "{{range $k, $v := .map}}{{$k}}={{$v}};{{end}}",
    "{{range .none}}x{{else}}nothing{{end}}",
    "{{range 4}}{{.}}{{end}}{{range $i := 2}}<{{$i}}>{{end}}",
    "{{range .numbers}}{{if eq . 1}}{{continue}}{{end}}{{.}}{{if eq . 2}}{{break}}{{end}}{{end}}",
    "{{with .map}}{{.a}}{{with .c}}{{.d}}{{end}}{{end}}",
    "{{with .empty}}x{{else}}y{{end}}{{with $q := .name}}{{$q}}{{end}}",
    "{{with .empty}}x{{else with .name}}{{.}}{{else}}z{{end}}",
    "{{if .yes}}a{{else if .no}}b{{else}}c{{end}}",
    '{{if and .yes (not .no) (eq .name "web")}}all{{end}}',
    "{{if or .no .empty .zero .none}}some{{else}}none{{end}}",
    "{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}",
    "{{$x := 1}}{{if true}}{{$x = 2}}{{$x}}{{end}}{{$x}}",
    "{{$s := 0}}{{range .numbers}}{{$s = len (printf `%*d` $s .)}}{{end}}{{$s}}",
    '{{define "row"}}<td>{{.}}</td>{{end}}{{range .list}}{{template "row" .}}{{end}}',
    '{{define "a"}}{{template "b" .n}}{{end}}{{define "b"}}[{{.}}]{{end}}{{template "a" .}}',
    '{{block "c" .list}}{{len .}}{{end}}{{template "c" .numbers}}',
    '{{template "nothing"}}',
    '{{define "x"}}{{$.name}}{{end}}{{template "x" .}}{{template "x" .map}}',
    "{{eq 1 1}} {{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 2 1}} {{ge 1 2}}",
    '{{eq "a" "a"}} {{lt "a" "b"}} {{gt "a" "B"}} {{eq true true}} {{eq 1.5 1.5}}',
    '{{eq 1 "1"}}',
    "{{eq 1 1.0}}",
    "{{lt true false}}",
    "{{eq .list .list}}",
    "{{lt .nil 1}}",
    "{{index .list 1}} {{index .map `a`}} {{index .maps 1 `k`}} {{index `abc` 1}}",
    "{{index .list 3}}",
    "{{index .list -1}}",
    "{{index .list `a`}}",
    "{{index 1 1}}",
    "{{slice .list 1}} {{slice .list 1 2}} {{slice .name 1 2}} {{slice .list}}",
    "{{slice .list 2 1}}",
    "{{slice .list 9}}",
    "{{len .list}} {{len .map}} {{len .name}} {{len `é`}}",
    "{{len 3}}",
    "{{print 1 2 `a` `b` 3}} {{println 1 `a`}}{{print}}",
    '{{printf "%d %5d %-5d| %05d %+d %x %X %o %b %#x" 1 2 3 4 5 255 255 8 5 255}}',
    '{{printf "%s %10s %-10s| %q %x %.2s" `a` `b` `c` `d"` `e` `fgh`}}',
    '{{printf "%f %.2f %8.3f %e %g" 1.5 1.555 2.5 1234.5 0.0001}}',
    '{{printf "%v %v %v %v" 1.0 .list .map true}}',
    '{{printf "%t %v" .yes .no}} {{printf "%T %T %T %T" 1 `a` 1.5 true}}',
    '{{printf "%d" `a`}} {{printf "%s" 1}} {{printf "%d"}} {{printf "%d" 1 2}} {{printf "%!"}} {{printf "100%%"}}',
    '{{printf "%[2]s %[1]s" `a` `b`}} {{printf "%*d|%-*d|" 5 1 4 2}}',
    "{{1}} {{-1}} {{0x10}} {{0b11}} {{0o17}} {{017}} {{1_000}} {{'a'}} {{'\\n'}} {{1.0}} {{1e3}} {{1e21}} {{1e20}} {{0.000001}} {{.large}}",
    "{{1000000.0}} {{123456.0}} {{1234567.0}} {{0.0001}} {{0.00001}} {{100000.5}}",
    "{{9223372036854775807}}",
    r'{{"a\tb\"c\u00e9\x41"}} {{`a\tb`}}',
    "{{true}} {{false}} {{.yes}} {{.nil}} {{.missing}} {{.map.missing}}",
    "{{nil}}",
    "{{.missing.x.y}}",
    "{{.list}} {{.map}} {{.maps}} {{.none}} {{.mixed}}",
    "{{(index .maps 0).k}} {{(.map).a}} {{((.map).c).d}}",
    "{{.name | print | len}} {{1 | print 2 | print 3}}",
    "{{html .text}} {{js .text}} {{urlquery .text}} {{html 1 2}} {{`a'b` | html | js}}",
    "{{not 0}} {{not 1}} {{not ``}} {{not .none}} {{not .map}}",
    "{{and 1 2}} {{and 0 2}} {{or 0 2}} {{or 1 2}} {{and 1 .nil}} {{or 0 .empty}}",
    "{{or 1 (index .list 99)}} {{and 0 (len 3)}}",
    "{{$.name}}{{with .map}}{{$.name}}{{.a}}{{end}}",
    "{{.name 1}}",
    "{{1 2}}",
    "{{.n | 3}}",
    "{{end}}",
    "{{else}}",
    "{{if true}}",
    "{{if}}{{end}}",
    "{{range}}{{end}}",
    "{{break}}",
    "{{range .list}}{{define `d`}}{{end}}{{end}}",
    "{{$x}}",
    "{{$x = 1}}",
    "{{if true}}{{$z := 1}}{{end}}{{$z}}",
    "{{nofunction}}",
    "{{(1}}",
    "{{1)}}",
    "{{}}",
    "{{.name",
    '{{"abc}}',
    "{{`abc}}",
    "{{/* abc}}",
    "{{ /* spaced */ }}",
    "{{'ab'}}",
    "{{1a}}",
    "{{.a,b}}",
    "{{$x, $y := .map}}",
    "{{range $a, $b, $c := .map}}{{end}}",
    "{{if true}}{{else}}{{else}}{{end}}",
    "{{template name}}",
    "{{define `a`}}1{{end}}{{define `a`}}2{{end}}",
    "{{define `a`}} {{end}}{{define `a`}}2{{end}}{{template `a`}}",
    "{{call .name}}",
    "{{- 1 -}}{{-1}} {{- -1 }}",
    "{{.name}}\n{{- \"\" }}\n\n{{- .n}}",
    "é{{.name}}日本{{len `日本`}}",
    "{{if (eq (len .list) 3)}}{{else if 1}}{{end}}{{with 1}}{{.}}{{end}}{{with .zero}}{{else}}0{{end}}",
    "{{range .maps}}{{.k}}{{range $i, $_ := $.list}}{{$i}}{{end}};{{end}}",
    "{{range $i, $m := .maps}}{{range $k, $v := $m}}{{$i}}{{$k}}{{$v}} {{end}}{{end}}",
]


@pytest.mark.parametrize("text", HAND_WRITTEN)
def test_hand_written_templates_say_the_same(text: str) -> None:
    assert ours(text) == theirs(text)


# Sprig's functions, without their prefix.
SPRIG = r"""
trim " a "
trimAll "$" "$5$"
trimSuffix "-" "a-"
trimPrefix "-" "-a"
upper "aé"
lower "AÉ"
title "hello wOrld x-y"
untitle "Hello World"
repeat 3 "ab"
substr 1 3 "abcdef"
substr -1 3 "abcdef"
substr 2 -1 "abcdef"
substr 0 99 "abc"
trunc 3 "abcdef"
trunc -3 "abcdef"
trunc -9 "abc"
abbrev 5 "hello world"
abbrev 3 "hello"
initials "First Try"
nospace "a b  c"
contains "b" "abc"
hasPrefix "a" "abc"
hasSuffix "c" "abc"
quote "a" 1 true
quote "a\"b"
squote "a" 1
cat "a" 1 true
indent 2 "a\n\nb"
nindent 2 "a\nb"
replace " " "-" "a b c"
plural "one" "many" 1
plural "one" "many" 5
snakecase "FirstName"
snakecase "HTTPServer"
snakecase "first-name"
camelcase "http_server"
camelcase "first name"
camelcase "a-b-c"
kebabcase "FirstName"
kebabcase "HTTPServer"
split "$" "foo$bar"
splitn "$" 2 "a$b$c"
splitList "," "a,b"
join "-" (sprig_list 1 "a" 2.5)
sortAlpha (sprig_list "c" "a" "b")
toString 1.5
toStrings (sprig_list 1 2)
default "d" ""
default "d" 0
default "d" "x"
empty ""
coalesce 0 "" "x"
coalesce 0 ""
ternary 1 2 true
ternary "a" "b" false
all 1 ""
any 0 1
int "12"
int 3.9
int "0x1f"
int "abc"
int true
int64 "7"
float64 "1.5"
float64 3
atoi "12"
atoi "x"
toDecimal 0777
add 1 2 3
add "1" 2
add1 4
sub 5 3
mul 2 3 4
div 7 2
div -7 2
mod 7 3
max 1 5 3
min 4 2
ceil 1.2
floor 1.9
round 2.5 0
round -1.55 1
until 3
until -2
untilStep 0 10 3
untilStep 5 0 -2
seq 3
seq 2 5
seq 0 2 6
seq -2
seq 5 1
list 1 "a"
first (sprig_list 1 2)
last (sprig_list 1 2)
rest (sprig_list 1 2 3)
initial (sprig_list 1 2 3)
append (sprig_list 1) 2
prepend (sprig_list 1) 2
concat (sprig_list 1) (sprig_list 2 3)
reverse (sprig_list 1 2)
uniq (sprig_list 1 1 2 "a" "a")
without (sprig_list 1 2 1) 1
has 2 (sprig_list 1 2)
compact (sprig_list 1 "" 0 "a")
slice (sprig_list 1 2 3) 1 2
slice (sprig_list 1 2 3) 1
chunk 2 (sprig_list 1 2 3)
first (sprig_list)
last (sprig_list)
rest (sprig_list)
dict "a" 1 "b" 2
get (sprig_dict "a" 1) "a"
get (sprig_dict "a" 1) "b"
hasKey (sprig_dict "a" 1) "a"
keys (sprig_dict "a" 1)
values (sprig_dict "a" 1)
pick (sprig_dict "a" 1 "b" 2) "a"
omit (sprig_dict "a" 1 "b" 2) "a"
merge (sprig_dict "a" 1) (sprig_dict "a" 2 "b" 3)
mergeOverwrite (sprig_dict "a" 1) (sprig_dict "a" 2 "b" 3)
pluck "a" (sprig_dict "a" 1) (sprig_dict "b" 2) (sprig_dict "a" 3)
dig "a" "b" "d" (sprig_dict "a" (sprig_dict "b" 5))
dig "a" "z" "d" (sprig_dict "a" (sprig_dict "b" 5))
set (sprig_dict "a" 1) "b" 2
unset (sprig_dict "a" 1) "a"
b64enc "hi"
b64dec "aGk="
b32enc "hi"
b32dec "NBUQ===="
sha1sum "a"
sha256sum "a"
adler32sum "a"
toJson (sprig_dict "a" "<")
toPrettyJson (sprig_dict "a" 1)
toRawJson (sprig_dict "a" "<")
fromJson "{\"a\":[1,2.5]}"
regexMatch "^a" "abc"
regexFind "[a-z]+" "12ab"
regexFindAll "[0-9]" "a1b2c3" -1
regexFindAll "[0-9]" "a1b2c3" 2
regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W"
regexReplaceAllLiteral "a(x*)b" "-ab-axxb-" "${1}"
regexSplit "z+" "pizza" -1
regexSplit "z" "pizza" 2
regexSplit "a*" "abaabaccadaaae" 5
regexQuoteMeta "1.2+3"
kindOf 1
kindOf "a"
kindOf (sprig_list)
kindOf (sprig_dict)
kindOf 1.5
kindOf true
kindIs "int" 1
typeOf 1
typeOf "a"
typeIs "string" "a"
deepEqual (sprig_list 1) (sprig_list 1)
htmlDate 0
date "2006-01-02" 0
""".strip().splitlines()


@pytest.fixture(scope="module")
def sprig() -> dict[str, Callable[..., object]]:
    return {f"sprig_{name}": function for name, function in text_func_map().items()}


@pytest.mark.parametrize("call", SPRIG)
def test_sprigs_functions_answer_the_same(call: str, sprig: dict[str, Callable[..., object]]) -> None:
    text = f"{{{{ sprig_{call} }}}}"
    assert parse(text, name="t.tpl").render({}) == gotpl.Template(text, functions=sprig).render({})
