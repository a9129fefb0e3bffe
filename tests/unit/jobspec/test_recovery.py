"""Which syntax faults of one file are told at once? All that are sure, and none that only follows from another."""

import pytest

import jobspec
from model.errors import JobspecError


def places(text: str) -> list[str]:
    """line:column of every fault."""
    with pytest.raises(JobspecError) as caught:
        jobspec.parse(text.encode(), file="x.hcl")
    assert all(fault.where for fault in caught.value.faults)
    return [fault.where.removeprefix("x.hcl:") for fault in caught.value.faults]


SEVERAL = {
    "two bad values": ("job \"x\" {\n a = 'b'\n b = 1\n c = 1 2\n}\n", ["2:6", "4:8"]),
    "in different blocks": ('job "x" {\n group "g" {\n  a = [1 2]\n }\n b = "\\q"\n}\n', ["3:10", "5:7"]),
    "a list over lines, closed": ('job "x" {\n a = [\n  "b"\n  "c",\n ]\n d = ;\n}\n', ["4:3", "6:6"]),
    "a bad block header": ('job "x" {\n group [1] {\n  a = 1\n }\n b = @\n}\n', ["2:8", "5:6"]),
    "a heredoc in between": ('job "x" {\n a = 1 <<E\n x = {\n E\n b = @\n}\n', ["2:8", "5:6"]),
    "a fault before the closing brace": ('job "x" {\n g {\n  a = @\n }\n b = @\n}\n', ["3:7", "5:6"]),
    "a one-line block": ('job "x" {\n a { b = 1, c = 2 }\n b = @\n}\n', ["2:11", "3:6"]),
    "set twice and a bad value": ('job "x" {\n a = 1\n a = 2\n b = @\n}\n', ["3:2", "4:6"]),
    "a comment after the fault": ('job "x" {\n a = @\n # b = @\n c = @\n}\n', ["2:6", "4:6"]),
}


@pytest.mark.parametrize(("text", "expected"), SEVERAL.values(), ids=SEVERAL.keys())
def test_every_sure_fault_is_told(text: str, expected: list[str]) -> None:
    assert places(text) == expected


SINGLE = {
    "a string over two lines": ('job "x" {\n a = "b\nc"\n d = 1\n}\n', ["2:6"]),
    "a list that is not closed": ('job "x" {\n a = ["b"\n c = 1\n d = @\n}\n', ["3:2"]),
    "a heredoc that is not closed": ('job "x" {\n a = <<E\n b = @\n}\n', ["2:6"]),
    "a brace too few": ('job "x" {\n g {\n  a = 1\n}\n', ["5:1"]),
    "a brace too many": ('job "x" {\n}\n}\n}\n', ["3:1"]),
    "a brace too many after a fault": ('job "x" {\n a = @\n}\n}\n', ["2:6"]),
    "a brace too few after a fault": ('job "x" {\n g {\n a = @\n}\n', ["3:6"]),
    "mismatched brackets": ('job "x" {\n a = [1)\n b = @\n}\n', ["2:8"]),
    "no HCL at all": ("<html>\n<body>\n</body>\n", ["1:1"]),
    "YAML": ("version: 3\nservices:\n  web:\n    image: x\n", ["1:1"]),
}


@pytest.mark.parametrize(("text", "expected"), SINGLE.values(), ids=SINGLE.keys())
def test_what_follows_from_a_fault_is_not_told(text: str, expected: list[str]) -> None:
    assert places(text) == expected


def test_no_more_are_told_than_anyone_mends_at_a_time() -> None:
    assert len(places('job "x" {\n' + "".join(f" a{number} = @\n" for number in range(100)) + "}\n")) == 20
