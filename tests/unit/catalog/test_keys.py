"""Any name is one path segment, and comes back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.keys import SENTINEL, Keys, escape, is_sentinel, last_segment, unescape
from catalog.kv import Kv, put
from catalog.transport import Endpoint, HttpTransport
from model.alloc import AllocId, EvalId
from model.job import JobId, Namespace
from model.node import NodeId
from tests.components.consul import ConsulServer

NS, JOB, NODE, ALLOC = Namespace("default"), JobId("web"), NodeId("n1"), AllocId("a1")

ODD = ("cron/a", "a//b", "/", "//", "a/", "/a", ".", "..", "...", "....", ".a", "a.", "a.b", "ä", "日本", "🐂", " ", "a b",
       "%", "%2F", "%2e", "a?b", "a#b", "a&b=c", "a+b", "a:b", "a;b", "~", "-", "_", "\t", "\n", "\x00", "\x7f", "x" * 500, SENTINEL)

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40) | st.sampled_from(ODD)


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("web", "web"),
        ("cron/a", "cron%2Fa"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "%2E%2E%2E"),
        ("a.b", "a.b"),
        ("ä b", "%C3%A4%20b"),
        ("%2F", "%252F"),
    ],
)
def test_a_name_is_escaped_so(name: str, segment: str) -> None:
    assert escape(name) == segment


@given(names)
def test_any_name_comes_back_and_is_one_segment_that_no_path_folds_away(name: str) -> None:
    segment = escape(name)
    assert unescape(segment) == name
    assert segment not in ("", ".", "..")
    assert segment.isascii()
    assert not set(segment) & set("/?# \n")


@given(names, names, names, names)
def test_different_jobs_have_different_keys_and_none_is_below_another(ns: str, job: str, ns2: str, job2: str) -> None:
    keys = Keys()
    one, two = keys.job(Namespace(ns), JobId(job)), keys.job(Namespace(ns2), JobId(job2))
    assert (one == two) == ((ns, job) == (ns2, job2))
    assert one.count("/") == two.count("/") == 4
    assert not two.startswith(one + "/")


def test_every_key_is_where_the_design_says() -> None:
    keys = Keys()
    assert {
        "leader": keys.leader,
        "epoch": keys.epoch,
        "index_base": keys.index_base,
        "job": keys.job(NS, JOB),
        "version": keys.version(NS, JOB, 7),
        "desired": keys.desired_alloc(NODE, ALLOC),
        "observed": keys.observed_alloc(NODE, ALLOC),
        "node": keys.node(NODE),
        "control": keys.control(NODE),
        "inbox": keys.inbox(NODE),
        "eval": keys.evaluation(EvalId("e1")),
    } == {
        "leader": "drover/state/leader",
        "epoch": "drover/state/epoch",
        "index_base": "drover/state/index_base",
        "job": "drover/state/jobs/default/web",
        "version": "drover/state/versions/default/web/7",
        "desired": "drover/state/desired/n1/a1",
        "observed": "drover/state/observed/n1/a1",
        "node": "drover/state/nodes/n1",
        "control": "drover/state/control/n1",
        "inbox": "drover/state/inbox/n1",
        "eval": "drover/state/evals/e1",
    }
    assert Keys(root="a/b").leader == "a/b/state/leader"


def test_prefixes_hold_their_own_keys_and_no_others() -> None:
    keys = Keys()
    assert keys.desired_alloc(NODE, ALLOC).startswith(keys.desired_of(NODE))
    assert not keys.desired_alloc(NodeId("n11"), ALLOC).startswith(keys.desired_of(NODE))
    assert not keys.version(NS, JobId("web2"), 1).startswith(keys.job_versions(NS, JOB))
    assert not keys.version(NS, JobId("web/2"), 1).startswith(keys.job_versions(NS, JOB))


def test_a_sentinel_is_told_from_every_id() -> None:
    keys = Keys()
    assert is_sentinel(keys.desired_of(NODE) + SENTINEL)
    assert not is_sentinel(keys.desired_alloc(NODE, ALLOC))
    assert last_segment(keys.desired_alloc(NODE, ALLOC)) == ALLOC


@pytest.mark.consul
async def test_a_real_consul_keeps_every_odd_name_apart_and_gives_it_back(real_consul: ConsulServer) -> None:
    keys = Keys(root="test-keys")
    transport = HttpTransport(Endpoint(address=real_consul.http_addr))
    try:
        kv = Kv(transport)
        ids = [name for name in ODD if len(name) < 300]
        for start in range(0, len(ids), 20):
            await kv.commit([put(keys.job(NS, JobId(i)), i.encode()) for i in ids[start : start + 20]])
        listed = await kv.list(keys.jobs)
        assert {unescape(last_segment(e.key)): e.value.decode() for e in listed.entries} == {i: i for i in ids}
        for name in ids:
            entry = await kv.get(keys.job(NS, JobId(name)))
            assert entry is not None
            assert entry.value.decode() == name
        many = await kv.read_many([keys.job(NS, JobId(i)) for i in ("ä", "cron/a", "~", "missing")])
        assert {unescape(last_segment(key)) for key in many} == {"ä", "cron/a", "~"}
    finally:
        await transport.request("DELETE", "/v1/kv/test-keys/", params={"recurse": ""})
        await transport.close()
