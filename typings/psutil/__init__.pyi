"""The calls of psutil that drover uses."""

from typing import Literal

class _Frequency:
    current: float
    min: float
    max: float

class _Memory:
    total: int
    available: int
    used: int
    free: int

class _CpuTimes(tuple[float, ...]):
    user: float
    system: float
    idle: float

class _Disk:
    total: int
    used: int
    free: int
    percent: float

class _Partition:
    device: str
    mountpoint: str

def cpu_count(logical: bool = ...) -> int | None: ...
def cpu_freq() -> _Frequency | None: ...
def virtual_memory() -> _Memory: ...
def cpu_times(percpu: Literal[True]) -> list[_CpuTimes]: ...
def disk_usage(path: str) -> _Disk: ...
def disk_partitions(all: bool = ...) -> list[_Partition]: ...
def boot_time() -> float: ...

class _Family:
    name: str

class _Address:
    family: _Family
    address: str
    netmask: str | None

class _Interface:
    isup: bool
    flags: str

def net_if_stats() -> dict[str, _Interface]: ...
def net_if_addrs() -> dict[str, list[_Address]]: ...
