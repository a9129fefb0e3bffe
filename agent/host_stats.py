"""What does this machine use just now?

Counters and levels as the kernel has them; a rate is the caller's to make of two looks. Reading takes about
1 ms, so nobody reads unless asked.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds since the boot. total: with what is neither of the three."""

    user_s: float
    system_s: float
    idle_s: float
    total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    device: str
    mountpoint: str
    size_bytes: int
    used_bytes: int
    available_bytes: int
    used_percent: float
    inodes_used_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStats:
    """cpus: in the kernel's order. alloc_dir: the file system that holds the allocs' files; one of `disks` or not."""

    cpus: tuple[CpuTimes, ...]
    memory_total_bytes: int
    memory_available_bytes: int
    memory_used_bytes: int
    memory_free_bytes: int
    disks: tuple[DiskUsage, ...]
    alloc_dir: DiskUsage
    uptime_s: int


def cpus() -> tuple[CpuTimes, ...]:
    return tuple(_times(times) for times in psutil.cpu_times(percpu=True))


def read(alloc_dir: Path) -> HostStats:
    """Blocks: a file system may be slow to answer. Raises OSError when alloc_dir is not there."""
    memory = psutil.virtual_memory()
    partitions = psutil.disk_partitions(all=False)
    disks = [disk for p in partitions if (disk := _disk(p.device, p.mountpoint)) is not None]
    return HostStats(
        cpus=cpus(),
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        memory_used_bytes=memory.used,
        memory_free_bytes=memory.free,
        disks=tuple(disks),
        alloc_dir=_of_alloc_dir(alloc_dir, disks),
        uptime_s=round(time.time() - psutil.boot_time()),
    )


def _times(times: "psutil._CpuTimes") -> CpuTimes:
    # guest time is part of user time already
    total_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return CpuTimes(user_s=times.user, system_s=times.system, idle_s=times.idle, total_s=total_s)


def _disk(device: str, mountpoint: str) -> DiskUsage | None:
    """None for one that cannot be looked at."""
    try:
        return _usage(device, mountpoint)
    except OSError:
        return None


def _of_alloc_dir(path: Path, disks: list[DiskUsage]) -> DiskUsage:
    holders = [disk for disk in disks if path.is_relative_to(disk.mountpoint)]
    nearest = max(holders, key=lambda disk: len(disk.mountpoint), default=None)
    if nearest is not None and Path(nearest.mountpoint).stat().st_dev == path.stat().st_dev:
        return nearest
    return _usage("", str(path))


def _usage(device: str, mountpoint: str) -> DiskUsage:
    usage, found = psutil.disk_usage(mountpoint), os.statvfs(mountpoint)
    return DiskUsage(
        device=device,
        mountpoint=mountpoint,
        size_bytes=usage.total,
        used_bytes=usage.used,
        available_bytes=usage.free,
        used_percent=usage.percent,
        inodes_used_percent=100.0 * (1 - found.f_ffree / found.f_files) if found.f_files else 0.0,
    )
