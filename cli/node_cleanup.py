"""`drover node cleanup`: lists what drover left or lost on this machine, and removes it with -yes.

Without -all only what neither the journal nor the leader's wishes name. -all is the last resort on a broken node: the agent is
stopped, every task of it ended, its data removed but for its id, and the agent started again by its unit.
"""

import argparse
import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import configs
from agent.cleanup import REMOVE_FAILURES, Cleaner, Leftover, Unreadable
from agent.data_dir import DataDir
from agent.drivers.cgroup import remove_hierarchy
from agent.drivers.docker import Docker
from agent.local import docker_rules
from catalog.client import Client
from catalog.keys import Keys
from catalog.kv import Kv
from catalog.services import LocalAgent
from catalog.transport import HttpTransport
from cli import local_consul
from cli.client import is_data, print_data, table
from cli.configured import DEFAULT_CONFIG, config_paths
from cli.failure import CommandFailed, fail
from configs import AgentConfig
from model.errors import ConfigError, StoreRefused, StoreUnavailable
from model.node import NodeId

UNIT = "drover.service"
_STOP_S_MAX = 60.0
_POLL_S = 0.1


def run(args: argparse.Namespace) -> int:
    paths = config_paths(args.config)
    if not paths:
        return fail(CommandFailed(f"whose data? give the agent's configuration with -config ({DEFAULT_CONFIG} is not there)"))
    try:
        config = configs.load(paths, dev=False, overrides={})
        data = DataDir(config.data_dir, config.client.alloc_dir)
        if not (data.path / "node-id").exists():
            raise CommandFailed(f"{data.path} is no agent's data_dir: there is no node-id in it")
        was_unit = args.all and args.yes and _stopped(data)
        found, failures = asyncio.run(_clean(config, data, args))
        if was_unit:
            subprocess.run(["systemctl", "start", UNIT], check=False)
    except ConfigError as error:
        return fail(CommandFailed("\n".join(str(fault) for fault in error.faults)))
    except (CommandFailed, Unreadable) as error:
        return fail(CommandFailed(str(error)))
    _show(args, found, failures)
    return 1 if failures else 0


async def _clean(config: AgentConfig, data: DataDir, args: argparse.Namespace) -> tuple[list[Leftover], dict[str, str]]:
    async with _cleaner(config, data, everything=args.all) as cleaner:
        found = await cleaner.find()
        failures = await _remove(found) if args.yes else {}
        if args.yes and args.all:
            remove_hierarchy(cleaner.mount)
        return found, failures


async def _remove(found: list[Leftover]) -> dict[str, str]:
    """What could not be removed, and why."""
    failures: dict[str, str] = {}
    for one in found:
        try:
            await one.remove()
        except REMOVE_FAILURES as error:
            failures[one.name] = str(error)
    return failures


def _show(args: argparse.Namespace, found: list[Leftover], failures: dict[str, str]) -> None:
    def state(one: Leftover) -> str:
        return "found" if not args.yes else failures.get(one.name, "removed")

    if is_data(args):
        print_data(args, [{"Kind": one.kind, "Name": one.name, "AllocID": one.alloc, "State": state(one)} for one in found])
        return
    if not found:
        print("Nothing of drover is left here that is not in use")
        return
    print(table([("Kind", "Name", "State"), *((one.kind, one.name, state(one)) for one in found)]))
    if not args.yes:
        print("\nNothing was touched: -yes removes these")


@asynccontextmanager
async def _cleaner(config: AgentConfig, data: DataDir, *, everything: bool) -> AsyncIterator[Cleaner]:
    node_id = NodeId((data.path / "node-id").read_text().strip())
    async with AsyncExitStack() as stack:
        docker: Docker | None = Docker(
            node_id, data.run, endpoint=str(config.plugins.docker.config.get("endpoint", "")), rules=docker_rules(config.plugins.docker.config)
        )
        assert docker is not None
        stack.push_async_callback(docker.close)
        if not (await docker.fingerprint()).healthy:
            docker = None
        transport = HttpTransport(local_consul.endpoint(config))
        stack.push_async_callback(transport.close)
        local: LocalAgent | None = LocalAgent(Client(transport))
        kv: Kv | None = Kv(transport, dc=config.consul.home_datacenter)
        keys = Keys(config.consul.kv_path)
        try:
            assert kv is not None
            await kv.get(keys.leader, timeout_s=5.0)
        except (StoreUnavailable, StoreRefused):
            kv = local = None
        yield Cleaner(data=data, node_id=node_id, keys=keys, docker=docker, consul=local, kv=kv, everything=everything)


def _stopped(data: DataDir) -> bool:
    """Ends the agent of this data_dir; whether its unit has to start it again. Raises CommandFailed."""
    is_unit = subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0 if _has_systemd() else False
    if is_unit:
        subprocess.run(["systemctl", "stop", UNIT], check=False)
    give_up_s = time.monotonic() + _STOP_S_MAX
    while (pid := holder(data.path / "lock")) is not None:
        if time.monotonic() > give_up_s:
            raise CommandFailed(f"the agent (pid {pid}) holds {data.path} still: end it first")
        if not is_unit:
            os.kill(pid, 15)
        time.sleep(_POLL_S)
    return is_unit


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def holder(lock: Path) -> int | None:
    """The process that has this file locked, as the kernel lists it; None: nobody."""
    try:
        status = lock.stat()
    except FileNotFoundError:
        return None
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        # 1: POSIX  ADVISORY  WRITE 2455 fe:00:1234 0 EOF
        fields: list[Any] = line.split()
        if "->" not in fields and len(fields) > 5 and fields[5] == wanted:
            return int(fields[4])
    return None
