"""What templates ask: the same answers of the embedded Consul and a real one, in the documents that templates know."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.templates.consul import ConsulReads
from agent.templates.watching import Watches
from catalog.lookups import Lookups
from catalog.transport import Endpoint, HttpTransport
from model.errors import StoreRefused
from template import Read, What
from template.lookups import read_of
from tests.contract.conftest import Api, eventually
from tests.contract.test_catalog import clean, instance


@asynccontextmanager
async def reads(api: Api) -> AsyncIterator[ConsulReads]:
    transport = HttpTransport(Endpoint(address=api.target.url.removeprefix("http://")))
    try:
        yield ConsulReads(Lookups(transport), api.target.node_name, f"{api.name}/hidden")
    finally:
        await transport.close()


def asked(function: str, *arguments: str) -> Read:
    read = read_of(function, arguments)
    assert read is not None
    return read


async def test_keys_and_what_lies_below_a_prefix(api: Api) -> None:
    for name, value in (("a", b"1"), ("b/c", b"2"), ("b/", b""), ("raw", b"\xff"), ("hidden/x", b"s")):
        await api.put(f"{api.key}/{name}", value)
    async with reads(api) as consul:
        key = await consul.ask(asked("key", f"{api.name}/a"), 0, 0.0)
        assert (key.value.value, key.value.path, key.index > 0) == ("1", f"{api.name}/a", True)  # type: ignore[attr-defined]
        raw = await consul.ask(asked("key", f"{api.name}/raw"), 0, 0.0)
        assert raw.value.value.encode("utf-8", "surrogateescape") == b"\xff"  # type: ignore[attr-defined]
        none = await consul.ask(asked("key", f"{api.name}/none"), 0, 0.0)
        assert (none.value, none.index > 0) == (None, True)
        pairs = await consul.ask(asked("tree", api.name), 0, 0.0)
        assert [(pair.key, pair.value) for pair in pairs.value] == [("a", "1"), ("b/", ""), ("b/c", "2"), ("raw", "\udcff")]  # type: ignore[attr-defined]
        empty = await consul.ask(asked("tree", f"{api.name}-none"), 0, 0.0)
        assert empty.value == ()


async def test_no_name_leads_to_another_place_of_the_api(api: Api) -> None:
    async with reads(api) as consul:
        for name in (f"x/../{api.name}/hidden/x", "../agent/self", "./x"):
            with pytest.raises(StoreRefused, match="no path can have"):
                await consul.ask(asked("key", name), 0, 0.0)
        assert consul.is_hidden(asked("key", f"/{api.name}/hidden/x"))
        assert consul.is_hidden(asked("ls", f"{api.name}/hidden"))
        assert not consul.is_hidden(asked("key", f"{api.name}/hidden-not"))


async def test_instances_by_health_and_tag(api: Api) -> None:
    await instance(api, 1, own="warning", Tags=["b", "a"], Meta={"k": "v"}, Address="10.9.9.9")
    await instance(api, 2, own="passing", Tags=["a"])
    await instance(api, 3, own="critical")
    async with reads(api) as consul:

        async def ids(*arguments: str) -> list[tuple[str, str]]:
            found = await consul.ask(asked("service", *arguments), 0, 0.0)
            return [(one.id, one.status) for one in found.value]  # type: ignore[attr-defined]

        assert await ids(api.name) == [("i2", "passing")]
        assert await ids(api.name, "any") == [("i1", "warning"), ("i2", "passing"), ("i3", "critical")]
        assert await ids(api.name, "passing,warning") == [("i1", "warning"), ("i2", "passing")]
        assert await ids(f"a.{api.name}", "any") == [("i1", "warning"), ("i2", "passing")]
        assert await ids(f"{api.name}-none") == []
        found = await consul.ask(asked("service", api.name, "any"), 0, 0.0)
        first, second, _ = found.value  # type: ignore[attr-defined]
        assert (first.address, first.node_address, first.port, first.tags) == ("10.9.9.9", "127.1.0.1", 8001, ("a", "b"))
        assert (second.address, second.node, second.node_meta, first.service_meta) == ("127.1.0.2", f"{api.name}-2", {"number": "2"}, {"k": "v"})
        services = await consul.ask(asked("services"), 0, 0.0)
        assert [one.tags for one in services.value if one.name == api.name] == [("a", "b")]  # type: ignore[attr-defined]
    await clean(api, 1, 2, 3)


async def test_nodes_and_datacenters(api: Api) -> None:
    await instance(api, 1, Tags=["t"])
    async with reads(api) as consul:
        node = await consul.ask(asked("node", f"{api.name}-1"), 0, 0.0)
        assert (node.value.node.address, [one.service for one in node.value.services]) == ("127.1.0.1", [api.name])  # type: ignore[attr-defined]
        itself = await consul.ask(asked("node"), 0, 0.0)
        assert itself.value.node.node == api.target.node_name  # type: ignore[attr-defined]
        none = await consul.ask(asked("node", f"{api.name}-none"), 0, 0.0)
        assert none.value is None
        nodes = await consul.ask(asked("nodes"), 0, 0.0)
        names = [one.node for one in nodes.value]  # type: ignore[attr-defined]
        assert names == sorted(names)
        assert {f"{api.name}-1", api.target.node_name} <= set(names)
        assert (await consul.ask(asked("datacenters"), 0, 0.0)).value == ("dc1",)
    await clean(api, 1)


async def test_a_watch_hears_of_every_kind_of_change(api: Api) -> None:
    await api.put(f"{api.key}/a", b"1")
    await instance(api, 1)
    async with reads(api) as consul, Watches(consul, rng=random.Random(1)) as watches:
        wanted = (
            asked("key", f"{api.name}/a"),
            asked("tree", f"{api.name}/a"),  # not above what is hidden, which is polled
            asked("service", api.name),
            asked("node", f"{api.name}-1"),
            Read(what=What.NODES),
            Read(what=What.SERVICES),
        )
        held = [watches.want(read, lambda: None) for read in wanted]

        async def answered() -> bool:
            return all(watch.is_answered for watch in held)

        await eventually(answered)
        before = [watch.version for watch in held]
        await asyncio.sleep(0.3)  # all of them wait at Consul by now
        await api.put(f"{api.key}/a", b"2")
        await api.put("/v1/catalog/register", _changed(api))

        async def changed() -> bool:
            return all(watch.version > old for watch, old in zip(held, before))

        await eventually(changed)
    await clean(api, 1)


def _changed(api: Api) -> dict[str, object]:
    return {
        "Node": f"{api.name}-1",
        "Address": "127.1.0.7",
        "Service": {"Service": api.name, "ID": "i2", "Port": 1, "Tags": ["new"]},
    }
