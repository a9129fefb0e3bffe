"""What does one value of a docker option mean to the engine, and is it one?

Plain functions from the text or block of a job file to a part of the engine's document. Each raises TaskRefused with what was
expected: the engine would tell some faults only once a container is there, and others never.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from model.errors import TaskRefused

# The kernel's, with the engine's names for them.
_ULIMITS = frozenset(
    (
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
        *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
    )
)
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_CFS_PERIOD_US = (1_000, 1_000_000)  # the kernel's bounds


def ulimit(name: str, text: str) -> dict[str, Any]:
    """`soft` or `soft:hard`; -1 is no limit."""
    if name not in _ULIMITS:
        raise TaskRefused(f"config: ulimit: there is no limit {name[:60]!r} (there are {', '.join(sorted(_ULIMITS))})")
    soft, colon, hard = text.partition(":")
    try:
        limits = int(soft), int(hard if colon else soft)
    except ValueError:
        raise TaskRefused(f"config: ulimit: {name}: {text[:60]!r} is not soft or soft:hard, in whole numbers") from None
    if min(limits) < -1 or (limits[1] != -1 and not -1 < limits[0] <= limits[1]):
        raise TaskRefused(f"config: ulimit: {name}: the soft limit of {text[:60]!r} is beyond the hard one")
    return {"Name": name, "Soft": limits[0], "Hard": limits[1]}


def device(block: Mapping[str, Any]) -> dict[str, str]:
    host = str(block.get("host_path") or "")
    inside = str(block.get("container_path") or host)
    rights = str(block.get("cgroup_permissions") or "rwm")
    if not host.startswith("/") or not inside.startswith("/"):
        raise TaskRefused(f"config: devices: {host or inside!r} is no absolute path")
    if not set(rights) <= set("rwm") or len(set(rights)) != len(rights):
        raise TaskRefused(f"config: devices: cgroup_permissions are of r, w and m, found {rights[:60]!r}")
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": rights}


def extra_host(text: str) -> str:
    """`name:address`, or `name:host-gateway`."""
    name, colon, address = text.partition(":")
    if not colon or not _HOST_NAME.fullmatch(name) or not (address == "host-gateway" or _is_address(address)):
        raise TaskRefused(f"config: extra_hosts: {text[:100]!r} is not name:address")
    return text


def dns_server(text: str) -> str:
    if not _is_address(text):
        raise TaskRefused(f"config: dns_servers: {text[:60]!r} is no IP address")
    return text


def address(option: str, text: str) -> str:
    if text and not _is_address(text):
        raise TaskRefused(f"config: {option}: {text[:60]!r} is no IP address")
    return text


def mac_address(text: str) -> str:
    if text and not _MAC.fullmatch(text):
        raise TaskRefused(f"config: mac_address: {text[:60]!r} is not six bytes as 02:42:ac:11:00:02")
    return text


def capability(text: str) -> str:
    """In capitals, without the kernel's prefix."""
    name = text.upper().removeprefix("CAP_")
    if not re.fullmatch(r"[A-Z_]+", name):
        raise TaskRefused(f"config: {text[:60]!r} is the name of no capability")
    return name


def cfs_period_us(given: int) -> int:
    low, high = _CFS_PERIOD_US
    if given and not low <= given <= high:
        raise TaskRefused(f"config: cpu_cfs_period: {given} is not between {low} and {high} microseconds")
    return given or 100_000


def target(option: str, path: str) -> str:
    """Where in the container something is mounted."""
    if not path.startswith("/") or path.strip("/") == "":
        raise TaskRefused(f"config: {option}: the target {path[:100]!r} is no absolute path below /")
    return path


def tmpfs_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """size in bytes, 0: half of the machine's memory. mode: a number, 511 for 0777."""
    size, mode = _number("tmpfs_options.size", block.get("size") or 0), block.get("mode")
    return {"SizeBytes": size, "Mode": 0o1777 if mode in (None, "") else _number("tmpfs_options.mode", mode)}


def bind_options(block: Mapping[str, Any]) -> dict[str, Any]:
    propagation = str(block.get("propagation") or "rprivate")
    if propagation not in _PROPAGATIONS:
        raise TaskRefused(f"config: mounts: propagation is one of {', '.join(_PROPAGATIONS)}, found {propagation[:60]!r}")
    return {"Propagation": propagation}


def volume_options(block: Mapping[str, Any], driver: Mapping[str, Any]) -> dict[str, Any]:
    """driver: its driver_config block."""
    made: dict[str, Any] = {"NoCopy": str(block.get("no_copy", False)).lower() in ("true", "1")}
    if labels := _texts(block.get("labels")):
        made["Labels"] = labels
    if driver:
        made["DriverConfig"] = {"Name": str(driver.get("name") or "local"), "Options": _texts(driver.get("options"))}
    return made


def _texts(value: Any) -> dict[str, str]:
    blocks = [value] if isinstance(value, Mapping) else value or []
    return {str(name): str(one) for block in blocks for name, one in block.items()}


def _number(option: str, value: Any) -> int:
    try:
        found = int(value)
    except (TypeError, ValueError):
        raise TaskRefused(f"config: mounts: {option}: {str(value)[:60]!r} is no whole number") from None
    if found < 0:
        raise TaskRefused(f"config: mounts: {option} must not be negative, found {found}")
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
