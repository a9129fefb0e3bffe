"""What does every test get: async tests without a plugin, and real components on demand.

An `async def` test runs on a loop of its own and fails when it leaves a task behind. A fixture value
with `is_entered_by_test = True` is an async context manager that is entered around the test.
A missing real component skips what needs it, and fails it where CI=true says that all must be there.
"""

import asyncio
import inspect
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest

from tests.components import ComponentMissing, docker
from tests.components.consul import ConsulServer

T = TypeVar("T")

# Files of more than a minute: first, or at the end of a run one process would be left alone with one of them.
_LONG = ("test_schemathesis", "test_mutations", "test_python_nomad", "test_rollout", "test_lifecycle", "test_vault", "test_ui")

# Ignored in a shell's background job, and then by all processes that a test starts.
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async def` tests; the others are pytest's own business."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    with asyncio.Runner() as runner:
        runner.run(_run_alone(pyfuncitem.obj, arguments))
    return True


async def _run_alone(test: Callable[..., Coroutine[Any, Any, None]], arguments: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        for value in arguments.values():
            if getattr(value, "is_entered_by_test", False):
                await stack.enter_async_context(value)
        await test(**arguments)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        pytest.fail(f"the test left tasks behind: {sorted(task.get_name() for task in left)}")


def or_skip(get: Callable[[], T]) -> T:
    """The component, or a skipped test where it is missing (a failed one under CI=true)."""
    try:
        return get()
    except ComponentMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing component: {missing}")
        pytest.skip(f"missing component: {missing}")


@pytest.fixture(scope="session")
def real_consul() -> Iterator[ConsulServer]:
    """One real Consul server for the whole run: leave nothing in it that another test could trip over."""
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="session")
def real_consul_client(real_consul: ConsulServer) -> Iterator[ConsulServer]:
    """A real client agent joined to `real_consul`."""
    with or_skip(lambda: ConsulServer.client(real_consul).__enter__()) as agent:
        yield agent


@pytest.fixture(scope="session")
def docker_image() -> str:
    """A Docker Engine answers, and has this image: a static busybox."""
    or_skip(docker.engine)
    return docker.IMAGE
