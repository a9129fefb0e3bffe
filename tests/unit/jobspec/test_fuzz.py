"""Whatever the input: a job, or JobspecError, and soon."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jobspec
from model.errors import Fault, JobspecError
from tests.unit.jobspec.builders import job_text

# Far above what any of these takes (milliseconds), far below what a user would call hanging.
# Seconds of process time for 10 MB: some 4 on a slow machine; what grows faster than the file takes minutes.
BUDGET_S = 15.0

PIECES = [
    'job "x" {', "}", "{", "[", "]", "(", ")", "=", ":", "=>", ",", ".", "...", "?", "!", "-", "+", "*", "/", "%", "<", "&&",
    "\n", " ", "\t", "\r\n", '"', "\\", "${", "%{", "~}", "$${", "<<EOT\n", "<<-EOT\n", "\nEOT\n", "#", "//", "/*", "*/",
    "group", "task", "count", "datacenters", "dynamic", "content", "for_each", "variable", "locals", "var.x", "local.y",
    "for", "in", "if", "else", "endif", "endfor", "true", "null", "0", "1.5", "1e9", "upper(", "merge(", '"30s"', '"a"', "a",
    "\ufeff", "\u200b", "é", "\0", "\ud7ff",
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

FIELDS = [
    "ID", "Name", "Type", "Priority", "Datacenters", "TaskGroups", "Update", "Constraints", "Affinities", "Spreads", "Meta",
    "Tasks", "Count", "Networks", "DynamicPorts", "Services", "Checks", "CheckRestart", "Config", "Resources", "Devices",
    "RestartPolicy", "ReschedulePolicy", "Volumes", "Scaling", "Templates", "Lifecycle", "Periodic", "Vault", "Interval",
    "Migrate", "Reschedule", "EphemeralDisk", "LogConfig", "Artifacts", "Header", "Payload", "Job",
]  # fmt: skip

job_shapes = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=20,
)


def survive(text: bytes) -> None:
    """Read as HCL2 (or JSON) and as HCL1."""
    for is_hcl1 in (False, True):
        started = time.process_time()
        faults = refusal(lambda is_hcl1=is_hcl1: jobspec.read_job(text, file="x.hcl", is_hcl1=is_hcl1))
        assert faults is None or faults
        assert all("\n" not in str(fault) and len(str(fault)) < 1500 for fault in faults or ())
        assert time.process_time() - started < BUDGET_S


def refusal(read: Callable[[], object]) -> tuple[Fault, ...] | None:
    """The faults of a refusal; None when there was none."""
    try:
        read()
    except JobspecError as error:
        return error.faults
    return None


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_any_jumble_of_pieces_is_a_job_or_refused(pieces: list[str]) -> None:
    survive("".join(pieces).encode())


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["top", "job", "group", "task", "config"])
)
def test_any_jumble_within_a_sound_job_is_a_job_or_refused(pieces: list[str], place: str) -> None:
    survive(job_text(**{place: "".join(pieces).replace("{", "{{").replace("}", "}}").format()}))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_job(data: bytes) -> None:
    survive(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_sound_job_with_a_piece_cut_out_is_a_job_or_refused(data: st.DataObject) -> None:
    text = job_text(
        group='network {\n port "a" { to = 80 }\n}\nservice {\n port = "a"\n check {\n type = "tcp"\n interval = "5s"\n timeout = "1s"\n}\n}',
        task='env {\n A = "${NOMAD_X}-${1 + 2}"\n B = <<-EOT\n x %{ if true }y%{ endif }\n EOT\n}',
    )
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    survive(text[:start] + text[end:])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(job_shapes)
def test_any_document_is_a_job_or_refused(document: Any) -> None:
    def read() -> None:
        job = jobspec.canonicalize(document)
        jobspec.validate(job)
        jobspec.warnings(job)

    assert refusal(read) != ()


BIG = 5_000_000
MONSTERS = {
    "5 MB string": b'job "x" { datacenters = ["' + b"x" * BIG + b'"] }',
    "5 MB of escapes": b'job "x" { datacenters = ["' + b"\\n" * (BIG // 2) + b'"] }',
    "5 MB of dollars": b'job "x" { datacenters = ["' + b"$" * BIG + b'"] }',
    "5 MB name": b"a" * BIG,
    "5 MB number": b"a = " + b"1" * BIG,
    "5 MB of spaces": b" " * BIG,
    "5 MB of newlines": b"\n" * BIG,
    "unclosed string": b'a = "' + b"x" * BIG,
    "unclosed heredoc": b"a = <<E\n" + b"x\n" * (BIG // 2),
    "unclosed comments": b"/*" * (BIG // 2),
    "deep blocks": b"a {\n" * 100_000,
    "deep lists": b"a = " + b"[" * BIG,
    "deep parentheses": b"a = " + b"(" * 1_000_000,
    "deep interpolations": b"a = " + b'"${' * 100_000,
    "deep conditionals": b"a = " + b"x ? " * 100_000,
    "many indexes": b"a = b" + b"[0]" * 100_000,
    "many signs": b"a = " + b"-" * BIG,
    "deep JSON": b'{"job":' * 100_000,
    "millions of lines": b'job "x" {\n meta {\n a = <<A\n' + b"\n" * (BIG - 100) + b"A\n }\n}",
    "endless faults": b'job "x" {\n' + b"".join(b"a%d = 1\n" % number for number in range(BIG // 12)) + b"}",
    "10 MB of numbers": b'job "x" {\n meta {\n a = [' + b"1," * (BIG - 100) + b"]\n}\n}",
    "10 MB of sums": b'job "x" {\n priority = 1' + b"+1" * (BIG - 100) + b"\n}",
    "10 MB of interpolations": b'job "x" {\n datacenters = ["' + b"${1}" * (BIG // 2 - 100) + b'"]\n}',
    "10 MB of directives": b'job "x" {\n datacenters = ["' + b"%{if true}" * (BIG // 5 - 100) + b'"]\n}',
    "10 MB of groups": b'job "x" {\n' + b'group "a" {\n}\n' * (BIG // 7 - 100) + b"}",
    "10 MB of faults": b'job "x" {\n' + b"a = @\n" * (BIG // 3 - 100) + b"}",
    "10 MB of JSON": b'{"job": {"x": {"meta": {"a": [' + b"1," * (BIG - 100) + b"1]}}}}",
    "groups in plenty": b'job "x" {\n' + b'group "a" {\n}\n' * 24_000 + b"}",
    "many arguments": b'job "x" {\n' + b"".join(b"a%d = 1\n" % n for n in range(20_000)) + b"}",
}  # fmt: skip


@pytest.mark.parametrize("text", MONSTERS.values(), ids=MONSTERS.keys())
def test_a_monstrous_file_is_answered_soon(text: bytes) -> None:
    survive(text)


def test_a_deep_caller_gets_an_answer_too() -> None:
    def dig(depth: int) -> None:
        if depth:
            dig(depth - 1)
        else:
            survive(b"a = " + b'["${' * 60)

    for depth in (100, 400, 700, 850):
        dig(depth)
