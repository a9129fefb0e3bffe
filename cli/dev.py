"""What does `drover agent -dev` leave behind? Nothing, whatever it ran beside.

    keys       drover-dev/<node id> instead of `drover`: on a Consul that a production drover uses, too, it
               sees and moves nothing of that one's; removed at the start and at the end, and with them what its
               periodic jobs showed in the catalog
    data_dir   a temporary one is removed at the end, its tasks' cgroups and containers with it
    a kill     leaves all that; the next -dev start of the same user removes what no process holds any more

An operator who names `consul { kv_path = … }` or a data_dir keeps those.
"""

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.data_dir import DataDir, remove_data_dir
from agent.drivers.cgroup import remove_hierarchy
from agent.local import clear
from catalog.keys import DEV_ROOT
from catalog.kv import Kv
from catalog.services import LocalAgent, OutsideNode
from checks.registration import META_NODE
from configs import DEV_DIR_PREFIX, AgentConfig
from leader.watched import node_name
from model.errors import ConfigError, StoreRefused, StoreUnavailable
from model.node import NodeId

log = logging.getLogger("drover")


@contextmanager
def ephemeral(config: AgentConfig) -> Iterator[None]:
    """Around a -dev agent's whole life: removes its temporary data_dir and the empty cgroup at its end."""
    try:
        yield
    finally:
        if config.is_data_dir_temporary:
            remove_data_dir(config.data_dir)
        if config.is_dev:
            remove_hierarchy()


def kv_root(config: AgentConfig, node_id: NodeId) -> str:
    """Below which key this agent keeps its state."""
    if config.is_dev and not config.consul.is_kv_path_named:
        return f"{DEV_ROOT}/{node_id}"
    return config.consul.kv_path


async def forget(kv: Kv, local: LocalAgent, node_id: NodeId) -> None:
    """Removes what a -dev agent of this id has, or had, in Consul. One that is out of reach keeps it."""
    root = f"{DEV_ROOT}/{node_id}"
    with suppress(StoreUnavailable, StoreRefused):
        await kv.remove_tree(f"{root}/", timeout_s=5.0)
        for service_id in await local.services(META_NODE, node_id):
            await local.deregister(service_id)
        await OutsideNode(local.client, node_name(root), root).drop_all()


async def clear_killed(config: AgentConfig, kv: Kv, local: LocalAgent) -> None:
    """Ends and removes what killed -dev agents left: of this user, in a data_dir that was temporary and that no
    process has locked. One that is just being made has no lock file yet, and is let be."""
    for path in _temporary():
        if path == config.data_dir:
            continue
        try:
            with DataDir(path) as data:
                await clear(config, data)
                await forget(kv, local, data.node_id())
                remove_data_dir(path)
        except ConfigError:
            continue  # held: another -dev agent runs
        except Exception as error:  # whatever is broken there keeps nobody from starting
            log.warning("%s: what a -dev agent left is left as it is: %s", path, error)
        else:
            log.info("%s: removed what a killed -dev agent left", path)


def _temporary() -> list[Path]:
    found = Path(tempfile.gettempdir()).glob(f"{DEV_DIR_PREFIX}*")
    return sorted(path for path in found if _is_ours(path) and (path / "lock").exists())


def _is_ours(path: Path) -> bool:
    """Made by us with mkdtemp: anybody may put names into the common temporary directory."""
    try:
        found = path.lstat()
    except OSError:
        return False
    is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o022 == 0
    return is_private and found.st_uid == os.geteuid()
