"""Coverage-guided fuzzing of job files: whatever the bytes, a job or JobspecError, within time and memory.

    python -m tests.fuzz.jobspec_atheris hcl|json|document|function [CORPUS_DIR …] [libFuzzer options]

hcl, json: the bytes are a job file. document: they are a JSON API body. function: they are one expression in a
driver's config, so that functions are met soon. The corpora start from configs/jobs and from what `seeds` makes.
atheris is installed by `make fuzz` and by nothing else. A crash is written beside the corpus; it becomes a test in
tests/unit/jobspec before it is mended.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris  # type: ignore[import-not-found, unused-ignore]

with atheris.instrument_imports(include=["jobspec", "model"]):
    import jobspec
    from jobspec import (  # noqa: F401  imported here to be instrumented
        advice,
        canonical,
        functions,
        jsonbody,
        reading,
        validation,
        yaml_functions,
    )
    from model.errors import JobspecError

BUDGET_S = 5.0
MEMORY_MB = 500

_HCL = 'job "x" {\n  datacenters = ["dc1"]\n  group "g" {\n    task "t" {\n      driver = "raw_exec"\n      config {\n        command = "/bin/true"\n        v = %s\n      }\n    }\n  }\n}\n'

_EXPRESSIONS = [
    '"${NOMAD_PORT_http}-${1 + 2}"', "<<-EOT\n  %{ for x in [1, 2] ~}\n  n ${x}\n  %{ endfor ~}\n  EOT", "[for k, v in { a = 1 } : k if v > 0]",
    '{ for x in ["a", "a"] : x => 1... }', 'yamldecode("a: &x {b: 1}\\nc:\\n  <<: *x\\n")', "yamlencode({ a = [1, { b = null }] })",
    'formatdate("EEE, DD MMM YYYY hh:mm:ss ZZZ", "2018-01-02T23:12:01-08:00")', 'timeadd("2018-01-02T23:12:01Z", "1.5h")',
    'cidrsubnets("10.1.0.0/16", 4, 4, 8)', 'cidrhost("fd00::/72", -2)', 'format("%05.2f|%-5s|%[1]q|%#x", 1.5, "a", 255)',
    'regex_replace("-ab-axxb-", "a(?P<x>x*)b", "$${x}W")', 'csvdecode("a,b\\n1,2")', 'jsondecode("[1, {\\"a\\": null}]")',
    'substr("👨‍👩‍👧x", -2, 1)', 'try(local.a, can(1 / 0), convert("5", number))', "setproduct([1, 2], [\"a\"])", "merge({ a = 1 }, { b = 2 }).b",
    'parseint("zZ", 62)', "[{ n = 1 }][*].n", "flatten([[1], [[2]]])", "true ? [1] : []", 'element(split(",", "a,b"), 5)', "-(1.5e3 % 7)",
]  # fmt: skip


def seeds(kind: str) -> Iterator[bytes]:
    """What the fuzzer starts from."""
    files = [path.read_bytes() for path in sorted(Path("configs/jobs").glob("*.hcl"))]
    if kind == "function":
        yield from (text.encode() for text in _EXPRESSIONS)
    elif kind == "hcl":
        yield from files
        yield from ((_HCL % text).encode() for text in _EXPRESSIONS)
        yield b'variable "a" {\n type = list(object({ b = optional(string) }))\n default = []\n}\nlocals {\n c = var.a\n}\n'
        yield b'job "x" {\n dynamic "group" {\n for_each = ["a"]\n labels = [group.value]\n content {\n count = 1\n}\n}\n}\n'
    else:
        for data in files:
            document = jobspec.parse(data, file="seed.hcl")
            yield json.dumps(
                document if kind == "document" else {"job": {"x": {"datacenters": ["dc1"]}}}
            ).encode()
        yield b'{"job": {"x": {"group": [{"g": {"task": {"t": {"driver": "docker", "config": {"image": "${1 + 1}"}}}}}]}}}'


def _document(data: bytes) -> None:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        jobspec.warnings(jobspec.valid_job(body))


TARGETS: dict[str, Callable[[bytes], object]] = {
    "hcl": lambda data: jobspec.read_job(data, file="x.hcl", reads_files=False),
    "json": lambda data: jobspec.read_job(b"{" + data.lstrip(b"{"), file="x.json", reads_files=False),
    "document": _document,
    "function": lambda data: jobspec.read_job((_HCL.encode() % data), file="x.hcl", reads_files=False),
}


def survive(read: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def one_input(data: bytes) -> None:
        started = time.perf_counter()
        faults = None
        try:
            read(data)
        except JobspecError as error:
            faults = error.faults
        assert faults is None or faults, "a refusal without a fault"
        assert all("\n" not in str(fault) and len(str(fault)) < 1500 for fault in faults or ())
        assert time.perf_counter() - started < BUDGET_S, "it took too long"

    return one_input


def main() -> None:
    kind, *rest = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    started_from = tempfile.mkdtemp(prefix="seeds-")
    for number, data in enumerate(seeds(kind)):
        Path(started_from, str(number)).write_bytes(data)
    options = [option for option in rest if option.startswith("-")]
    corpora = [option for option in rest if not option.startswith("-")] or [
        tempfile.mkdtemp(prefix="corpus-")
    ]
    atheris.Setup(
        [
            sys.argv[0],
            *corpora,
            started_from,
            f"-rss_limit_mb={MEMORY_MB}",
            f"-timeout={BUDGET_S:.0f}",
            *options,
        ],
        survive(TARGETS[kind]),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
