"""Kernel, cgroups, namespaces, data_dir, ports, clock."""

import ctypes
import os
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.drivers.base import Driver
from agent.drivers.cgroup import find_hierarchy
from agent.drivers.exec import Exec
from agent.drivers.limits import LimitedCgroups
from configs import AgentConfig
from model.finding import Finding, failed, ok, warning

# What drover asks of the kernel: pidfd_open.
KERNEL_MIN = (5, 3)
_FREE_MB_MIN = 1024
# adjtimex(2): the clock is not kept in step; the call changes nothing with modes 0.
_TIME_ERROR = 5


async def look(config: AgentConfig) -> list[Finding]:
    found = [*_kernel(), *_data_dir(config.data_dir), *_port(config), *_clock()]
    if config.client.enabled:
        found += _cgroups()
        found += await _driver("exec driver", Exec(Path("/nonexistent"), os.environ))
    return found


def _kernel() -> Iterator[Finding]:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < KERNEL_MIN:
        yield failed("kernel", f"Linux {release}", "drover needs Linux 5.3 or later")
    else:
        yield ok("kernel", f"Linux {release}")


def _cgroups() -> Iterator[Finding]:
    hierarchy = find_hierarchy()
    if hierarchy is None:
        why = "the agent does not run as root" if os.geteuid() != 0 else "/sys/fs/cgroup cannot be written"
        remedy = "run the agent as root, in a unit with Delegate=yes (in a container: with a writable cgroup file system)"
        yield failed("cgroups", f"none can be made: {why}; what leaves a task's session would not be ended with it", remedy)
        return
    missing = LimitedCgroups(hierarchy).missing()
    if missing:
        remedy = "switch the controllers on (kernel command line: cgroup_enable=memory), or use docker and raw_exec"
        yield warning("cgroups", f"{hierarchy.kind} without {', '.join(missing)}: exec and java tasks cannot be limited", remedy)
    else:
        yield ok("cgroups", f"{hierarchy.kind}, with memory, cpu and pids")


async def _driver(name: str, driver: Driver) -> list[Finding]:
    info = await driver.fingerprint()
    if info.healthy:
        return [ok(name, "namespaces can be made")]
    remedy = "apt-get install bubblewrap (Debian, Ubuntu), or do without exec and java" if "bwrap" in info.health_description else "see docs/drivers.md"
    return [warning(name, info.health_description, remedy)]


def _data_dir(path: Path) -> Iterator[Finding]:
    existing = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
    mounted = mount_of(existing)
    if "noexec" in mounted.get("options", "").split(","):
        remedy = "mount it without noexec, or put data_dir elsewhere: programs that jobs bring along are run from there"
        yield failed("data_dir", f"{path} is on {mounted['where']}, which is mounted noexec", remedy)
    elif mounted.get("kind") in ("tmpfs", "ramfs"):
        remedy = "put it on a disk: after a reboot the agent knows nothing of its tasks"
        yield warning("data_dir", f"{path} is in memory ({mounted['where']})", remedy)
    else:
        yield ok("data_dir", f"{path} on {mounted.get('where', '?')} ({mounted.get('kind', '?')})")
    if not os.access(existing, os.W_OK | os.X_OK):
        yield failed("data_dir rights", f"{existing} cannot be written", "run the agent, and doctor, as the user who may")
    free_mb = shutil.disk_usage(existing).free >> 20
    if free_mb < _FREE_MB_MIN:
        yield warning("data_dir space", f"{free_mb} MB are free", "make room: logs and files of tasks lie there")


def mount_of(path: Path) -> Mapping[str, str]:
    """where, kind and options of the file system that a path is on."""
    device = os.stat(path).st_dev
    found: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        _, _, number, _, where, options, *_ = fields.split()
        is_above = os.path.commonpath([where, os.path.realpath(path)]) == where
        if number == f"{os.major(device)}:{os.minor(device)}" and is_above and len(where) >= len(found.get("where", "")):
            found = {"where": where, "kind": kind.split()[0], "options": options}
    return found


def _port(config: AgentConfig) -> Iterator[Finding]:
    """Taken by another program, where no drover answers."""
    if not config.ports.http:
        return
    host = config.http_host if config.http_host not in ("", "0.0.0.0", "::") else "127.0.0.1"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, config.ports.http))
        except OSError as error:
            if _is_drover(host, config.ports.http):
                yield ok("port", f"drover answers on {host}:{config.ports.http}")
            else:
                text = f"{host}:{config.ports.http} cannot be listened on: {error.strerror}"
                yield failed("port", text, f"end what listens there (ss -ltnp 'sport = :{config.ports.http}'), or set ports {{ http }}")
        else:
            yield ok("port", f"{host}:{config.ports.http} is free for the agent")


def _is_drover(host: str, port: int) -> bool:
    """Whether what listens there speaks HTTP, or TLS, as an agent would: it is asked for nothing that needs a token."""
    from cli.doctor.fleet import is_drover

    return is_drover(f"{host}:{port}")


class _Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 252)]


def _clock() -> Iterator[Finding]:
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(_Timex()))
    if state == _TIME_ERROR:
        yield warning("clock sync", "nothing keeps this machine's clock in step", "run chrony or systemd-timesyncd")
    elif state >= 0:
        yield ok("clock sync", "the clock is kept in step")
