"""Broken submissions, a few hundred of them: each is refused with words, none is written, none is a failure."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.http import Reply, ask
from tests.cli.command import keys
from tests.components.consul import ConsulServer
from tests.e2e.drover import NS, Drover, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

SEED = 20_260_101
COUNT = 1000

BASE = {
    **web_job(
        "mutant",
        {"Limit": 3, "Grace": NS},
        Env={"A": "b"},
        Artifacts=None,
        Constraints=[{"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}],
        Resources={"CPU": 10, "MemoryMB": 16, "Networks": [{"DynamicPorts": [{"Label": "db"}]}]},
        LogConfig={"MaxFiles": 3, "MaxFileSizeMB": 1},
        Lifecycle=None,
    ),
    "Meta": {"owner": "us"},
    "Priority": 50,
    "Spreads": [{"Attribute": "${node.datacenter}", "Weight": 50}],
    "Update": {"MaxParallel": 1, "MinHealthyTime": NS},
}

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**31, 2**63, 2**64, 10**400, -(2**63) - 1, "", "x", " ", "a/b", "..", "\0", "\n", "ä", "\ud800",
    "${", "${x}", "x" * 10_000, "5s", "99999999999h", [], [None], [[]], [1, "x"], {}, {"": None}, {"x": {"y": [1]}}, [{}], [{}, {}],
)


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in the document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


def spoiled(rng: random.Random) -> dict[str, Any]:
    """The base document with one to four things in it replaced, gone, doubled or swapped."""
    document = copy.deepcopy(BASE)
    for _ in range(rng.randint(1, 4)):
        container, key = rng.choice(list(places(document)))
        match rng.randrange(5):
            case 0 if isinstance(container, dict):
                del container[key]
            case 1 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case 2 if isinstance(container, dict):
                container[rng.choice(("ID", "Name", "Count", "Unknown", "Type", ""))] = rng.choice(ODD)
            case 3:
                other, at = rng.choice(list(places(document)))
                container[key] = copy.deepcopy(other[at])
            case _:
                container[key] = copy.deepcopy(rng.choice(ODD))
    return document


def spoiled_bytes(rng: random.Random, raw: bytes) -> bytes:
    """The text with a few bytes changed, cut out or put in."""
    body = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(body))
        match rng.randrange(4):
            case 0:
                body[at] = rng.randrange(256)
            case 1:
                del body[at : at + rng.randint(1, 40)]
            case 2:
                body[at:at] = rng.choice((b"{", b"}", b"[", b'"', b",", b"null", b"-", b"1e999", b"\xff", b"\\u0000"))
            case _:
                del body[at:]
        if not body:
            return b""
    return bytes(body)


def submit(address: str, method: str, raw: bytes) -> Reply:
    return ask(address, method, "/v1/jobs", raw=raw)


def body(document: object) -> bytes:
    # No job has this index, so what happens to be right all the same is refused as well.
    return json.dumps({"Job": document, "EnforceIndex": True, "JobModifyIndex": 10**9}).encode()


@pytest.fixture
def unwritten(consul: ConsulServer, one: Drover, two: Drover) -> Iterator[None]:
    before = {k: v for k, v in keys(consul).items() if "/jobs/" in k or "/versions/" in k or "/evals/" in k}
    yield
    after = {k: v for k, v in keys(consul).items() if "/jobs/" in k or "/versions/" in k or "/evals/" in k}
    assert after.items() <= before.items()  # what tests before purged may go meanwhile


def each(count: int, make: Callable[[random.Random], bytes]) -> Iterator[tuple[int, bytes]]:
    for number in range(count):
        yield number, make(random.Random(SEED + number))


@pytest.mark.usefixtures("unwritten")
def test_no_broken_document_is_written_or_breaks_anything(one: Drover, two: Drover) -> None:
    seen = {"invalid": 0, "index": 0, "request": 0}
    for number, raw in each(COUNT, lambda rng: body(spoiled(rng))):
        reply = submit((one if number % 2 else two).address, ("PUT", "POST")[number % 3 == 0], raw)
        status, text = reply.error
        assert (status, bool(text)) in ((400, True), (500, True)), (number, raw)
        assert "internal error" not in text, (number, raw)
        # Only what is right all the same comes as far as the index that no job has.
        assert status == 400 or text.startswith("Enforcing"), (number, raw)
        seen["index" if status == 500 else "invalid" if "occurred" in text else "request"] += 1
    print(seen)
    assert min(seen.values()) > COUNT // 20


@pytest.mark.usefixtures("unwritten")
def test_no_broken_text_is_written_or_breaks_anything(one: Drover, two: Drover) -> None:
    whole = body(BASE)
    for number, raw in each(250, lambda rng: spoiled_bytes(rng, whole)):
        # Spoiled bytes may hit EnforceIndex itself: then it would be a job like any other.
        if b'"EnforceIndex": true' not in raw or b'"JobModifyIndex": 1000000000}' not in raw:
            continue
        status, text = submit((one if number % 2 else two).address, "PUT", raw).error
        assert status in (400, 500)
        assert text
        assert "internal error" not in text, (number, raw)


@pytest.mark.usefixtures("unwritten")
def test_a_broken_document_is_told_to_be_so_by_validate(one: Drover) -> None:
    for number, raw in each(250, lambda rng: body(spoiled(rng))):
        reply = ask(one.address, "PUT", "/v1/validate/job", raw=raw)
        assert reply.status in (200, 400), (number, raw)
        if reply.status == 200:
            assert bool(reply.json["ValidationErrors"]) is bool(reply.json["Error"])


@pytest.mark.usefixtures("unwritten")
def test_no_broken_job_file_breaks_the_parser(one: Drover) -> None:
    text = b"""job "web" {
  datacenters = ["dc1"]
  meta { a = "${upper("x")}-${1 + 2}" }
  group "g" {
    count = 2
    network { port "http" { to = 80 } }
    task "t" {
      driver = "raw_exec"
      config { command = "/bin/true" args = [for x in ["a", "b"] : x] }
      template { data = <<EOF
hello {{ env "x" }}
EOF
        destination = "local/x" }
    }
  }
}
"""
    for number, raw in each(250, lambda rng: spoiled_bytes(rng, text)):
        shown = raw.decode("utf-8", "replace")
        for canonical in (False, True):
            reply = ask(one.address, "PUT", "/v1/jobs/parse", body={"JobHCL": shown, "Canonicalize": canonical})
            assert reply.status in (200, 400), (number, shown)


@pytest.mark.usefixtures("unwritten")
def test_no_broken_query_breaks_anything(one: Drover, two: Drover) -> None:
    rng = random.Random(SEED)
    paths = ("/v1/jobs", "/v1/job/x", "/v1/job/x/summary", "/v1/allocations", "/v1/allocation/x", "/v1/nodes", "/v1/node/x",
             "/v1/evaluations", "/v1/client/fs/logs/x", "/v1/agent/self", "/v1/status/leader")
    names = ("index", "wait", "prefix", "namespace", "region", "pretty", "task", "type", "offset", "origin", "follow", "purge", "")
    values = ("", "x", "-1", "0", "1", "9" * 40, "1ms", "*", "%00", "%ff", "%", "..", "a/b", "ä".encode().hex(), "%F0%9F%90%82", "true")
    for number in range(250):
        query = "&".join(f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.randint(0, 4)))
        if "index" in query:
            query += "&wait=1ms"
        reply = ask((one if number % 2 else two).address, "GET", f"{rng.choice(paths)}?{query}")
        assert reply.status in (200, 400, 404) or reply.error[1] in (
            "No path to region", "alloc lookup failed: index error: prefix must have an even number of hex digits"
        ), (number, query)
