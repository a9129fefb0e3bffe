"""What do references in a job stand for at run time?"""

import pytest

from jobspec.interpolate import interpolate, interpolate_document, interpolate_strings, resolve_target

VALUES = {
    "NOMAD_PORT_http": "25000",
    "HOME": "/root",
    "attr.kernel.name": "linux",
    "meta.rack": "r1",
    "node.unique.name": "n1",
    "empty": "",
}

TEXTS = {
    "environment": ("http://x:${NOMAD_PORT_http}/", "http://x:25000/"),
    "in brackets": ('${env["HOME"]}/x', "/root/x"),
    "with a dot": ("${env.HOME}", "/root"),
    "attribute": ("${attr.kernel.name}", "linux"),
    "meta in brackets": ('${meta["rack"]}', "r1"),
    "node": ("${node.unique.name}", "n1"),
    "white space": ("${ NOMAD_PORT_http }", "25000"),
    "several": ("${HOME}${HOME}", "/root/root"),
    "empty value": ("[${empty}]", "[]"),
    "unknown stays as written": ("${ NOMAD_X }-${env[\"X\"]}", "${ NOMAD_X }-${env[\"X\"]}"),
    "shell stays as written": ("$HOME ${HOME:-x} $(x) ${", "$HOME ${HOME:-x} $(x) ${"),
    "nothing": ("plain", "plain"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS.keys())
def test_known_references_are_replaced_and_others_stay(text: str, expected: str) -> None:
    assert interpolate(text, VALUES) == expected


def test_a_replacement_is_not_looked_into_again() -> None:
    assert interpolate("${a}", {"a": "${b}", "b": "x"}) == "${b}"


def test_a_document_is_interpolated_to_its_leaves_and_keys() -> None:
    document = {"args": ["-p", "${NOMAD_PORT_http}", 5, True, None], "${HOME}": ({"k": "${meta.rack}"},)}
    assert interpolate_document(document, VALUES) == {
        "args": ["-p", "25000", 5, True, None],
        "/root": [{"k": "r1"}],
    }
    assert interpolate_strings({"A_${HOME}": "${HOME}"}, VALUES) == {"A_/root": "/root"}


TARGETS = {
    "literal": ("linux", "linux"),
    "reference": ("${attr.kernel.name}", "linux"),
    "reference in brackets": ('${meta["rack"]}', "r1"),
    "unset": ("${meta.zone}", None),
    "partly unset": ("x-${meta.zone}", None),
    "within a text": ("x-${meta.rack}", "x-r1"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("target", "expected"), TARGETS.values(), ids=TARGETS.keys())
def test_a_constraints_target_is_a_text_or_missing(target: str, expected: str | None) -> None:
    assert resolve_target(target, VALUES) == expected
