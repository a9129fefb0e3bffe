"""What consul-template's functions answer: each text with what it renders, or the words of its refusal."""

import json
from datetime import UTC, datetime

import pytest

from template import TemplateFault, parse
from template.functions import KNOWN

NOW = datetime(2024, 3, 9, 7, 5, 4, 123456, tzinfo=UTC)
DATA = {
    "map": {"b": [1, 2.5, "<x>"], "a": None, "c": {"d": True}},
    "list": ["b", "a", "b"],
    "raw": "line one\n\nline two\n",
}


def said(text: str) -> str:
    return parse(text, name="t").render(DATA, now=lambda: NOW)


RENDERED = {
    "texts": [
        ('{{"aBc é ß" | toUpper}}|{{"ABC É" | toLower}}|{{"hello wOrld-x it" | toTitle}}', "ABC É ß|abc é|Hello WOrld-X It"),
        ('{{trimSpace "\\t a \\n"}}|{{trim "xy" "xyaxy"}}|{{"a.json" | trimSuffix ".json"}}|{{trimPrefix "a" "ab"}}', "a|a|a|b"),
        ('{{"a-b-c" | replaceAll "-" "+"}} {{"a,b" | split "," | join "|"}} {{split "," "" | len}} {{split "" "ab"}}', "a+b+c a|b 0 [a b]"),
        ('{{splitToMap "," ":" "a:1,b:2,c" | toJSON}}', '{"a":"1","b":"2","c":""}'),
        ("{{indent 2 .raw}}", "  line one\n\n  line two\n"),
        ('{{"foo.bar" | regexMatch "^foo\\\\.\\\\w+$"}} {{"web-01" | regexReplaceAll "(\\\\w+)-(\\\\d+)" "$2/${1}$$"}} {{"baac" | regexReplaceAll "a*" "x"}}', "true 01/web$ xbxcx"),
        ('{{base64Encode "a?b>"}} {{base64Decode "YT9iPg=="}} {{base64URLEncode "a?b>?"}} {{base64URLDecode "YT9iPj8="}}', "YT9iPg== a?b> YT9iPj8= a?b>?"),
        ('{{md5sum "a"}} {{sha256Hex "a" | sprig_trunc 8}} {{hmacSHA256Hex "m" "k" | sprig_trunc 8}}', "0cc175b9c0f1b6a831c399e269772661 ca978112 b60090e3"),
    ],
    "numbers": [
        ('{{parseInt "-7"}} {{parseInt ""}} {{parseUint "7"}} {{parseFloat "1.50"}} {{parseBool "T"}} {{parseBool ""}}', "-7 0 7 1.5 true false"),
        ("{{add 1 2}} {{7 | subtract 2}} {{multiply 2 1.5}} {{divide 2 7}} {{divide 2 -7}} {{divide 2.0 7}} {{modulo 5 -12}}", "3 5 3 3 -3 3.5 -2"),
        ("{{minimum 3 2}} {{maximum 3 2}} {{add 1 9223372036854775807}}", "2 3 -9223372036854775808"),
        ('{{range loop 3}}{{.}}{{end}} {{range $i, $n := loop 2 4}}{{$i}}{{$n}} {{end}}{{range loop "2"}}{{.}}{{end}}', "012 02 13 01"),
    ],
    "documents": [
        ("{{toJSON .map}}", '{"a":null,"b":[1,2.5,"\\u003cx\\u003e"],"c":{"d":true}}'),
        ("{{toUnescapedJSON .map.b}}", '[1,2.5,"<x>"]'),
        ("{{toJSONPretty .map.c}}|{{toJSONPretty .missing}}", '{\n  "d": true\n}|null'),
        ("{{toYAML .map}}", "a: null\nb:\n- 1\n- 2.5\n- <x>\nc:\n  d: true"),
        ("{{toYAML (sprig_dict `k` `yes` `n` `12` `t` .raw `e` ``)}}", 'e: ""\nk: "yes"\n"n": "12"\nt: |\n  line one\n\n  line two'),
        ("{{toTOML .map}}", 'b = [1, 2.5, "<x>"]\n\n[c]\n  d = true'),
        ('{{with parseJSON `{"a": [1, 2], "b": {"c": "d"}, "n": 1000000}`}}{{index .a 1}} {{.b.c}} {{.n}}{{end}}', "2 d 1e+06"),
        ("{{range $k, $v := parseYAML `{b: 1, a: [yes, 2024-01-01]}`}}{{$k}}={{$v}} {{end}}", "a=[true 2024-01-01] b=1 "),
        ('{{parseJSON "" | len}} {{parseYAML "" | len}} {{1.0 | toJSON}} {{0.0000001 | toJSON}} {{1e21 | toJSON}}', "0 0 1 1e-7 1e+21"),
    ],
    "groups": [
        ('{{in .list "a"}} {{.list | contains "z"}} {{"abc" | contains "b"}} {{in 1 1}}', "true false true false"),
        ("{{$w := sprig_list `a` `z`}}{{containsAll $w .list}} {{containsAny $w .list}} {{containsNone $w .list}} {{containsNotAll $w .list}}", "false true false true"),
        ('{{explodeMap (sprig_dict "a/b" 1 "a/c" 2 "d" 3) | toJSON}}', '{"a":{"b":1,"c":2},"d":3}'),
        ("{{$a := sprig_dict `x` 1 `y` 2}}{{$b := sprig_dict `x` 9 `z` 3}}{{$b | mergeMap $a | toJSON}} {{$b | mergeMapWithOverride $a | toJSON}}", '{"x":9,"y":2,"z":3} {"x":1,"y":2,"z":3}'),
        ('{{scratch.Set "a" 1}}{{scratch.SetX "a" 2}}{{scratch.Get "a"}}{{scratch.Key "a"}}{{scratch.Key "b"}}{{scratch.Get "b"}}', "1truefalse<no value>"),
        ('{{scratch.MapSet "m" "b" 1}}{{scratch.MapSet "m" "a" 2}}{{scratch.MapSetX "m" "a" 3}}{{scratch.MapValues "m"}}{{scratch.MapValues "n"}}', "[2 1][]"),
    ],
    "moments": [
        ('{{timestamp}} {{timestamp "unix"}} {{timestamp "2006-01-02 15:04:05.000 MST"}}', "2024-03-09T07:05:04Z 1709967904 2024-03-09 07:05:04.123 UTC"),
        ('{{timestamp "Monday Mon January Jan 2 _2 02 1 06 3PM 03pm 4 5 .999 -0700 -07:00 002"}}', "Saturday Sat March Mar 9  9 09 3 24 7AM 07am 5 4 .123 +0000 +00:00 069"),
        ('{{sprig_now | sprig_date "2006"}} {{sprig_now.Unix}} {{sprig_now.Format "15:04"}} {{sprig_dateInZone "15:04" sprig_now "Europe/Berlin"}}', "2024 1709967904 07:05 08:05"),
    ],
    "sprig": [
        ('{{"x" | sprig_default "d"}} {{"" | sprig_default "d"}} {{sprig_coalesce "" 0 "c"}} {{true | sprig_ternary "y" "n"}} {{sprig_empty 0}}', "x d c y true"),
        ("{{sprig_list 1 2 3 | sprig_last}} {{sprig_first .list}} {{sprig_uniq .list}} {{sprig_sortAlpha .list}} {{sprig_rest .list}} {{sprig_has `a` .list}}", "3 b [b a] [a b b] [a b] true"),
        ("{{sprig_append .list `z`}} {{sprig_without .list `b`}} {{sprig_reverse .list}} {{sprig_until 3}} {{sprig_untilStep 0 6 2}}", "[b a b z] [a] [b a b] [0 1 2] [0 2 4]"),
        ('{{sprig_quote "a" 1}} {{sprig_squote "a"}} {{sprig_cat "a" 1 "b"}} {{sprig_repeat 3 "ab"}} {{sprig_nospace " a b "}} {{sprig_trunc 2 "abc"}} {{sprig_trunc -2 "abc"}}', '"a" "1" \'a\' a 1 b ababab ab ab bc'),
        ("{{sprig_indent 2 `a\nb`}}|{{sprig_nindent 1 `a`}}|{{sprig_snakecase `HttpServer`}} {{sprig_camelcase `http_server`}} {{sprig_kebabcase `httpServer`}}", "  a\n  b|\n a|http_server HttpServer http-server"),
        ('{{$d := sprig_dict "a" 1 "b" 2}}{{sprig_get $d "a"}} {{sprig_hasKey $d "z"}} {{sprig_keys $d}} {{sprig_values $d}} {{sprig_set $d "c" 3 | sprig_toJson}} {{sprig_omit $d "a"}}', '1 false [a b] [1 2] {"a":1,"b":2,"c":3} map[b:2 c:3]'),
        ('{{sprig_regexSplit "a*" "abaabaccadaaae" 5 | toJSON}} {{sprig_toDecimal "0777"}} {{sprig_base "/a/b.txt"}} {{sprig_dir "/a/b"}} {{sprig_ext "b.txt"}}', '["","b","b","c","cadaaae"] 511 b.txt /a .txt'),
        ('{{$d := sprig_dict "a" 1}}{{$_ := sprig_set $d "b" 2}}{{$d}} {{$_ := sprig_set .map.c "e" 1}}{{.map.c}}', "map[a:1 b:2] map[d:true]"),
        ('{{sprig_add 1 "2" 3}} {{sprig_sub 5 2}} {{sprig_mul 2 3}} {{sprig_div 7 2}} {{sprig_mod 7 2}} {{sprig_max 1 3 2}} {{sprig_int "12"}} {{sprig_round 2.567 1}}', "6 3 6 3 1 3 12 2.6"),
        ('{{(sprig_split "-" "a-b")._1}} {{sprig_splitList "-" "a-b"}} {{sprig_join "+" (sprig_list 1 2)}} {{sprig_b64enc "a"}} {{sprig_sha1sum "a" | sprig_trunc 4}}', "b [a b] 1+2 YQ== 86f7"),
        ('{{sprig_regexFind "[0-9]+" "a12b3"}} {{sprig_regexFindAll "[0-9]" "a12b3" 2}} {{sprig_regexReplaceAll "a(.)" "ab" "${1}a"}} {{sprig_regexSplit "," "a,b,c" 2}}', "12 [1 2] ba [a b,c]"),
        ('{{sprig_dig "c" "d" "none" .map}} {{sprig_dig "c" "x" "none" .map}} {{sprig_kindOf .list}} {{sprig_typeOf 1.5}} {{sprig_plural "one" "many" 2}}', "true none slice float64 many"),
    ],
}  # fmt: skip
CASES = [(kind, text, rendered) for kind, cases in RENDERED.items() for text, rendered in cases]


@pytest.mark.parametrize(("kind", "text", "rendered"), CASES, ids=[f"{kind}: {text}" for kind, text, _ in CASES])
def test_it_answers_as_consul_template_does(kind: str, text: str, rendered: str) -> None:
    assert said(text) == rendered


REFUSED = [
    ('{{parseInt "x"}}', "parseInt: invalid syntax"),
    ('{{parseInt "9223372036854775808"}}', "parseInt: value out of range"),
    ('{{parseUint "-1"}}', "parseUint: invalid syntax"),
    ('{{parseBool "yes"}}', "parseBool: invalid syntax"),
    ('{{parseFloat "1x"}}', "parseFloat: invalid syntax"),
    ("{{divide 0 1}}", "integer divide by zero"),
    ('{{add "1" 2}}', "add: unknown type string"),
    ('{{parseJSON "{]"}}', "parseJSON: no JSON at line 1, column 2"),
    ('{{parseYAML "a: [b"}}', "parseYAML: no YAML at line 2, column 1"),
    ('{{base64Decode "!"}}', "illegal base64 data"),
    ('{{regexMatch "(" "a"}}', "bad regular expression"),
    ('{{join "," (sprig_list 1)}}', "expected a list of strings, found a int in it"),
    ('{{indent -1 "a"}}', "must be a positive integer"),
    ('{{explodeMap (sprig_dict "a" 1 "a/b" 2)}}', "a key is the beginning of another"),
    ('{{sprig_fail "stop here"}}', "stop here"),
    ('{{timestamp "a" "b"}}', "expected 0 or 1, but got 2"),
    ("{{toTOML 1}}", "toTOML"),
    ('{{key "x"}}', "there is nothing to look up here"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text for text, _ in REFUSED])
def test_it_refuses_in_words(text: str, words: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        said(text)
    assert words in caught.value.words


@pytest.mark.parametrize("value", [DATA, {"f": [1.5, -2, 1e300, 5e-324], "deep": [[[{}]]], "é": 'q"\\\n\x00\x7f\u2028'}])
def test_json_that_is_written_is_read_again(value: object) -> None:
    for name in ("toJSON", "toJSONPretty", "toUnescapedJSON", "sprig_toRawJson"):
        assert json.loads(parse(f"{{{{{name} .}}}}", name="t").render(value)) == value


def test_every_function_refuses_wrong_arguments_in_words() -> None:
    words = ""
    for name in sorted(KNOWN):
        for arguments in ("", "1", "nil", "`a`", "`a` `b` `c` `d`", "1.5 true", ".list .map", ". . .", ".missing"):
            try:
                said(f"{{{{{name} {arguments}}}}}")
            except TemplateFault as fault:
                words = fault.words
            assert not words.endswith(("TypeError", "ValueError", "KeyError", "IndexError"))
