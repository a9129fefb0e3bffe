"""What do the functions over documents, moments, networks and secrets answer? As published for Nomad."""

import base64
from typing import Any

import pytest

from jobspec.functions import FUNCTIONS
from tests.unit.jobspec.calls import Examples, each, fault_of, value_of

EXAMPLES: Examples = {
    "bcrypt": [('length(bcrypt("hello world", 4))', 60), ('substr(bcrypt("a", 4), 0, 7)', "$2a$04$")],
    "cidrhost": [
        ('cidrhost("10.12.127.0/20", 16)', "10.12.112.16"),
        ('cidrhost("10.12.127.0/20", 268)', "10.12.113.12"),
        ('cidrhost("10.0.0.0/8", -2)', "10.255.255.254"),
        ('cidrhost("fd00:fd12:3456:7890:00a2::/72", 34)', "fd00:fd12:3456:7890::22"),
    ],
    "cidrnetmask": [('cidrnetmask("172.16.0.0/12")', "255.240.0.0")],
    "cidrsubnet": [
        ('cidrsubnet("172.16.0.0/12", 4, 2)', "172.18.0.0/16"),
        ('cidrsubnet("10.1.2.0/24", 4, 15)', "10.1.2.240/28"),
        ('cidrsubnet("fd00:fd12:3456:7890::/56", 16, 162)', "fd00:fd12:3456:7800:a200::/72"),
    ],
    "cidrsubnets": [
        (
            'cidrsubnets("10.1.0.0/16", 4, 4, 8, 4)',
            ["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24", "10.1.48.0/20"],
        ),
        (
            'cidrsubnets("fd00:fd12:3456:7890::/56", 16, 16, 16, 32)',
            [
                "fd00:fd12:3456:7800::/72",
                "fd00:fd12:3456:7800:100::/72",
                "fd00:fd12:3456:7800:200::/72",
                "fd00:fd12:3456:7800:300::/88",
            ],
        ),
        ('cidrsubnets("0.0.0.0/0", 1)', ["0.0.0.0/1"]),
        ('cidrsubnets("10.0.0.0/8")', []),
    ],
    "csvdecode": [
        (
            r'csvdecode("a,b,c\n1,2,3\n4,5,6")',
            [{"a": "1", "b": "2", "c": "3"}, {"a": "4", "b": "5", "c": "6"}],
        ),
        (r'csvdecode("a,b\r\n\"x, y\",\"q \"\"z\"\"\"\r\n")', [{"a": "x, y", "b": 'q "z"'}]),
    ],
    "formatdate": [
        ('formatdate("DD MMM YYYY hh:mm ZZZ", "2018-01-02T23:12:01Z")', "02 Jan 2018 23:12 UTC"),
        (
            'formatdate("EEEE, DD-MMM-YY hh:mm:ss ZZZ", "2018-01-02T23:12:01Z")',
            "Tuesday, 02-Jan-18 23:12:01 UTC",
        ),
        (
            'formatdate("EEE, DD MMM YYYY hh:mm:ss ZZZ", "2018-01-02T23:12:01-08:00")',
            "Tue, 02 Jan 2018 23:12:01 -0800",
        ),
        ('formatdate("MMM DD, YYYY", "2018-01-02T23:12:01Z")', "Jan 02, 2018"),
        ('formatdate("HH:mmaa", "2018-01-02T23:12:01Z")', "11:12pm"),
        ('formatdate("h\'h\'mm", "2018-01-02T23:12:01-08:00")', "23h12"),
        ("formatdate(\"H 'o''clock'\", \"2018-01-02T23:12:01-08:00\")", "11 o'clock"),
        (
            "formatdate(\"''YYYY-MM-DD'T'hh:mm:ssZ\", \"2018-01-02T03:02:01+05:30\")",
            "'2018-01-02T03:02:01+05:30",
        ),
        (
            'formatdate("M/D h:m:s HH AA Z ZZZZ ZZZZZ MMMM", "2018-01-02T00:02:01.5Z")',
            "1/2 0:2:1 12 AM Z +0000 +00:00 January",
        ),
    ],
    "jsondecode": [
        (r'jsondecode("{\"hello\": \"world\"}")', {"hello": "world"}),
        ('jsondecode("true")', True),
        ('jsondecode("[1, 1.50, null]")[0]', 1),
    ],
    "jsonencode": [
        ('jsonencode({ "hello" = "world" })', '{"hello":"world"}'),
        (
            'jsonencode({ b = "x<y>&z", a = [1, 2.5, true, null, {}, []] })',
            '{"a":[1,2.5,true,null,{},[]],"b":"x\\u003cy\\u003e\\u0026z"}',
        ),
        (
            'jsonencode([0.0000001, 100000000000000000000000, "é\\n"])',
            '[0.0000001,100000000000000000000000,"é\\n"]',
        ),
    ],
    "md5": [('md5("hello world")', "5eb63bbbe01eeed093cb22bb8f5acdc3")],
    "rsadecrypt": [],  # needs a key: below
    "sha1": [('sha1("hello world")', "2aae6c35c94fcfb415dbe95f408b9ce91ee846ed")],
    "sha256": [('sha256("hello world")', "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")],
    "sha512": [
        (
            'sha512("hello world")',
            "309ecc489c12d6eb4cc40f50c902f2b4d0ed77ee511a7c7a9bcd3ca86d4cd86f989dd35bc5ff499670da34255b45b0cfd830e81f605dcf7dc5542e93ae9cd76f",
        )
    ],
    "timeadd": [
        ('timeadd("2017-11-22T00:00:00Z", "10m")', "2017-11-22T00:10:00Z"),
        ('timeadd("2017-11-22T00:00:00Z", "-2h30m")', "2017-11-21T21:30:00Z"),
        ('timeadd("2017-11-22T00:00:00.9-03:30", "1.5h")', "2017-11-22T01:30:00-03:30"),
    ],
    "uuidv4": [("length(uuidv4())", 36), ("uuidv4() == uuidv4()", False)],
    "uuidv5": [
        ('uuidv5("dns", "www.terraform.io")', "a5008fae-b28c-5ba5-96cd-82b4c53552d6"),
        ('uuidv5("url", "https://www.terraform.io/")', "9db6f67c-dd95-5ea0-aa5b-e70e5c5f7cf5"),
        ('uuidv5("oid", "1.3.6.1.4")', "af9d40a5-7a36-5c07-b23a-851cd99fbfa5"),
        ('uuidv5("x500", "CN=Example,C=GB")', "84e09961-4aa4-57f8-95b7-03edb1073253"),
        (
            'uuidv5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.terraform.io")',
            "a5008fae-b28c-5ba5-96cd-82b4c53552d6",
        ),
    ],
    "yamldecode": [
        (r'yamldecode("{\"hello\": \"world\"}")', {"hello": "world"}),
        ('yamldecode("true")', True),
        (r'yamldecode("{a: &foo [1, 2, 3], b: *foo}")', {"a": [1, 2, 3], "b": [1, 2, 3]}),
        (r'yamldecode("a: 1\nb: 1.50\nc: \"1\"\nd: yes\ne: ~\nf: 1_000\ng: 0755\n")["g"]', 755),
        (
            r'yamldecode("[1_000, yes, Off, ~, \"on\", 0x1F, .5, 1.2.3, -]")',
            [1000, True, False, None, "on", 31, value_of("0.5"), "1.2.3", "-"],
        ),
        (
            r'yamldecode("- 2001-12-14\n- 2001-12-14T21:59:43.10-05:00\n- 2001-12-14 1:2:3\n- 2001-99-99")',
            ["2001-12-14T00:00:00Z", "2001-12-14T21:59:43-05:00", "2001-12-14T01:02:03Z", "2001-99-99"],
        ),
        (r'yamldecode("a: &x {b: 1, c: 1}\nd:\n  <<: *x\n  c: 2\n  1: z")["d"]', {"b": 1, "c": 2, "1": "z"}),
        (r'yamldecode("!!str 5")', "5"),
        (r'yamldecode("a: |\n  x\n  y\nb: >\n  x\n  y\n")', {"a": "x\ny\n", "b": "x y\n"}),
        ('yamldecode("")', None),
        ('yamldecode("---")', None),
    ],
    "yamlencode": [
        (r'yamlencode({ "a" : "b", "c" : "d" })', '"a": "b"\n"c": "d"\n'),
        ('yamlencode({ "foo" : [1, 2, 3], "bar" : "baz" })', '"bar": "baz"\n"foo":\n- 1\n- 2\n- 3\n'),
        (
            'yamlencode({ "foo" : [1, { "a" : "b", "c" : "d" }, 3], "bar" : "baz" })',
            '"bar": "baz"\n"foo":\n- 1\n- "a": "b"\n  "c": "d"\n- 3\n',
        ),
        (
            r'yamlencode({ a = "x\ny\n", b = "x\n\ny", e = [], f = {} })',
            '"a": |\n  x\n  y\n"b": |-\n  x\n\n  y\n"e": []\n"f": {}\n',
        ),
        (
            'yamlencode([true, null, 1.5, "true", "é", [1]])',
            '- true\n- null\n- 1.5\n- "true"\n- "é"\n- - 1\n',
        ),
        ("yamlencode(true)", "true\n...\n"),
        ('yamlencode("hello")', '"hello"\n'),
        (
            f'yamlencode({{ a = "{"0123456789 " * 9}" }})',
            f'"a": "{" ".join(["0123456789"] * 7)}\n  0123456789 0123456789 "\n',
        ),
    ],
}


@each(EXAMPLES)
def test_a_function_gives_nomads_answer(expression: str, expected: Any) -> None:
    assert value_of(expression) == expected


FAULTS = {
    'bcrypt("a", 32)': "between 4 and 31",
    'bcrypt("a", 31)': "computes too much",
    'bcrypt("a", 4, 4)': "1 to 2 arguments",
    f'bcrypt("{"x" * 73}", 4)': "72 bytes",
    'cidrhost("10.0.0.0/8", 99999999)': "no host number",
    'cidrhost("10.0.0.0", 1)': "no address range",
    'cidrhost("10.0.0.0/33", 1)': "no address range",
    'cidrhost("10.0.0.0/255.0.0.0", 1)': "no address range",
    'cidrsubnet("10.0.0.0/8", 2, 4)': "no subnet number 4",
    'cidrsubnet("10.0.0.0/30", 4, 0)': "cannot be extended",
    'cidrsubnet("::/0", 33, 0)': "extended by 0 to 32 bits",
    'cidrsubnets("10.0.0.0/8", 1, 1, 1)': "no room is left",
    'cidrsubnets("10.0.0.0/8", 0)': "by 1 to 32 bits",
    r'csvdecode("a,b\n1")': "row 2 has 1 columns",
    'csvdecode("a,a")': 'two columns are called "a"',
    'csvdecode("")': "header line is missing",
    'formatdate("YYY", "2018-01-02T23:12:01Z")': '"YYY" stands for no part of a date (known: YYYY, YY)',
    'formatdate("q", "2018-01-02T23:12:01Z")': "in single quotes",
    'formatdate("h\'x", "2018-01-02T23:12:01Z")': "not closed",
    'formatdate("h", "2018-01-02")': "no RFC 3339 timestamp",
    'formatdate("h", "2018-02-30T00:00:00Z")': "no RFC 3339 timestamp",
    'timeadd("2018-01-02T23:12:01Z", "1 day")': "unknown unit",
    'timeadd("9999-12-31T23:12:01Z", "1h")': "no year",
    'jsondecode("{")': "not JSON",
    'jsondecode("NaN")': "not JSON",
    'rsadecrypt("x", "")': "not base64",
    'rsadecrypt("aGVsbG8=", "nothing")': "no private key",
    'uuidv5("nowhere", "a")': "no namespace",
    'yamldecode("[")': "not YAML: line",
    r'yamldecode("a\n---\nb")': "more than one document",
    'yamldecode("*a")': "not defined",
    'yamldecode("&a [*a]")': "refers to itself",
    'yamldecode("!!set {}")': "not supported",
    'yamldecode("!!int x")': "is no int",
    'yamldecode("{[1]: 2}")': "only texts may be keys",
    'yamldecode("~: 1")': "a key cannot be null",
    'yamldecode(".inf")': "not supported",
    'yamldecode("<<: 1")': "only maps can be merged",
    r'yamldecode("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e]")': "more than 200000 values",
}


@pytest.mark.parametrize(("expression", "expected"), FAULTS.items())
def test_a_wrong_argument_is_refused(expression: str, expected: str) -> None:
    assert expected in fault_of(expression)


def test_rsadecrypt_reads_what_was_encrypted_for_the_key() -> None:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    secret = base64.b64encode(key.public_key().encrypt(b"opensesame", padding.PKCS1v15())).decode()
    assert FUNCTIONS["rsadecrypt"](secret, pem) == "opensesame"
