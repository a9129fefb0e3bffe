"""Consul's limits, values that are too large, and what a refused transaction means."""

import base64
import json
import random
import zlib
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.kv import (
    COMPRESS_ABOVE,
    TXN_BYTES_MAX,
    TXN_OPS_MAX,
    VALUE_BYTES_MAX,
    Kv,
    Op,
    Verb,
    create,
    cut,
    delete,
    delete_at,
    next_index,
    pack,
    put,
    replace,
    unpack,
)
from catalog.transport import Endpoint, HttpTransport
from model.errors import StoreRefused, WriteConflict
from tests import clock
from tests.components.consul import ConsulServer
from tests.embedded import Embedded

FENCE = Op(Verb.CHECK_SESSION, "drover/state/leader", session="0" * 36)


def wire_bytes(ops: Sequence[Op]) -> int:
    """The body that Consul would count, as Kv.commit encodes it."""
    return len(msgspec.json.encode([{"KV": op} for op in ops]))


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not shrink."""
    return random.Random(seed).randbytes(size)


# -- cut

keys = st.text("abcdefghij/-%", min_size=1, max_size=200)
values = st.integers(0, 60_000).map(lambda size: b"x" * size)
ops = st.builds(lambda key, value: Op(Verb.SET, key, value), keys, values) | st.builds(delete, keys)
steps = st.lists(st.lists(ops, min_size=1, max_size=5), max_size=80)


@given(steps=steps, reserve=st.lists(ops, max_size=3))
def test_a_cut_plan_keeps_its_order_divides_no_step_and_is_legal_everywhere(
    steps: list[list[Op]], reserve: list[Op]
) -> None:
    transactions = cut(steps, reserve=reserve)
    assert [op for transaction in transactions for op in transaction] == [op for step in steps for op in step]
    assert all(transactions)
    for transaction in transactions:
        whole = [*reserve, *transaction]
        assert len(whole) <= TXN_OPS_MAX
        assert wire_bytes(whole) <= TXN_BYTES_MAX
    ends, position = set(), 0
    for transaction in transactions:
        position += len(transaction)
        ends.add(position)
    position = 0
    for step in steps:
        assert not any(position < end < position + len(step) for end in ends)
        position += len(step)


@given(op=st.builds(
    lambda key, value, index, verb: Op(verb, key, value, index),
    st.text(max_size=80), st.binary(max_size=400), st.integers(0, 2**63), st.sampled_from(Verb),
))
def test_the_reckoned_size_of_an_operation_is_never_below_the_real_one(op: Op) -> None:
    assert op.size >= wire_bytes([op]) - 1


@pytest.mark.parametrize(
    ("count", "reserve", "sizes"),
    [(64, 0, [64]), (65, 0, [64, 1]), (63, 1, [63]), (64, 1, [63, 1]), (0, 1, []), (200, 2, [62, 62, 62, 14])],
)
def test_so_many_operations_make_such_transactions(count: int, reserve: int, sizes: list[int]) -> None:
    cut_up = cut([[delete(f"k{number}")] for number in range(count)], reserve=[FENCE] * reserve)
    assert [len(transaction) for transaction in cut_up] == sizes


def test_a_step_that_is_too_large_alone_is_refused_with_its_size_and_the_limit() -> None:
    with pytest.raises(StoreRefused, match=r"65 operations and \d+ bytes \(limit 64 and \d+\)"):
        cut([[delete(f"k{number}") for number in range(65)]])
    with pytest.raises(StoreRefused, match=r"2 operations"):
        cut([[Op(Verb.SET, "a", b"x" * 250_000), Op(Verb.SET, "b", b"x" * 250_000)]])


@pytest.mark.consul
async def test_a_full_transaction_of_largest_values_is_still_taken_by_a_real_consul(real_consul: ConsulServer) -> None:
    transport = HttpTransport(Endpoint(address=real_consul.http_addr))
    try:
        kv = Kv(transport)
        for transaction in cut([[put(f"test-kv/{n:04}", noise(9_000, n))] for n in range(100)]):
            await kv.commit(transaction)
        await kv.commit([put("test-kv/largest", noise(largest()))])
        entry = await kv.get("test-kv/largest")
        assert entry is not None
        assert entry.value == noise(largest())
        with pytest.raises(StoreRefused, match=r"413"):
            await kv.commit([Op(Verb.SET, "test-kv/over", noise(TXN_BYTES_MAX * 3 // 4))])
    finally:
        await transport.request("DELETE", "/v1/kv/test-kv/", params={"recurse": ""})
        await transport.close()


def largest() -> int:
    """The size of the largest value that pack() lets pass uncompressed."""
    low, high = 0, VALUE_BYTES_MAX
    while low < high:
        middle = (low + high + 1) // 2
        try:
            pack(noise(middle), "test-kv/largest")
            low = middle
        except StoreRefused:
            high = middle - 1
    return low


# -- values


@pytest.mark.parametrize("size", [0, 1, COMPRESS_ABOVE - 1, COMPRESS_ABOVE])
def test_a_small_value_is_stored_as_it_is(size: int) -> None:
    assert pack(b"{" * size, "k") == b"{" * size


def test_a_large_value_is_deflated_and_comes_back() -> None:
    value = json.dumps({"Data": "hello world " * 50_000}).encode()
    packed = pack(value, "k")
    assert len(packed) < len(value) // 10
    assert zlib.decompress(packed) == unpack(packed) == value


@given(st.integers(COMPRESS_ABOVE - 3, COMPRESS_ABOVE + 3), st.sampled_from((b"{", b"[", b'"x')))
def test_any_document_around_the_limit_comes_back(size: int, first: bytes) -> None:
    value = first + b"y" * size
    assert unpack(pack(value, "k")) == value


def test_a_value_too_large_even_deflated_is_refused_with_its_size_and_the_limit() -> None:
    value = base64.b64encode(noise(600_000))
    with pytest.raises(StoreRefused) as refused:
        pack(value, "drover/state/jobs/default/web")
    size = len(zlib.compress(value, 6))
    assert str(refused.value) == (
        f"drover/state/jobs/default/web: {size} bytes do not fit into Consul (limit about 393216 bytes a value)"
    )


def test_whatever_is_not_too_large_fits_a_transaction_with_a_fence_and_an_evaluation() -> None:
    value = noise(largest())
    assert len(cut([[put("test-kv/largest", value)]], reserve=[])) == 1
    assert wire_bytes([put("test-kv/largest", value)]) <= TXN_BYTES_MAX - 512


# -- conflicts


def test_a_refused_transaction_names_the_key_that_lost() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv = Kv(consul.wire())
            first = await kv.commit([create("a", b"1"), create("b", b"1")])
            with pytest.raises(WriteConflict, match=r"^b: "):
                await kv.commit([put("a", b"2"), create("b", b"2")])
            with pytest.raises(WriteConflict, match=r"^a: "):
                await kv.commit([replace("a", b"2", first["a"].modify_index + 1)])
            with pytest.raises(WriteConflict, match=r"^b: "):
                await kv.commit([delete_at("b", first["b"].modify_index + 5)])
            assert (await kv.read_many(["a", "b"]))["a"].value == b"1"  # all or nothing
            written = await kv.commit([replace("a", b"3", first["a"].modify_index), delete("b")])
            assert list(written) == ["a"]
            assert written["a"].create_index == first["a"].create_index
            assert written["a"].modify_index > first["a"].modify_index

    clock.run(story())


def test_reading_many_leaves_out_what_is_missing_and_takes_more_than_one_transaction() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv = Kv(consul.wire())
            names = [f"k/{number:03}" for number in range(150)]
            for transaction in cut([[put(name, name.encode())] for name in names]):
                await kv.commit(transaction)
            found = await kv.read_many([*names, "k/none", "z"])
            assert {key: entry.value.decode() for key, entry in found.items()} == {name: name for name in names}
            assert await kv.keys("k/") == tuple(names)
            assert await kv.keys("none/") == ()
            assert await kv.get("none") is None
            assert (await kv.list("none/")).entries == ()

    clock.run(story())


@pytest.mark.parametrize(("asked", "got", "next_"), [(0, 5, 5), (5, 5, 5), (5, 9, 9), (9, 5, 0), (0, 0, 1), (1, 0, 0)])
def test_an_index_that_went_back_means_read_everything_again(asked: int, got: int, next_: int) -> None:
    assert next_index(asked, got) == next_
