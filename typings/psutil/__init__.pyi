"""The calls of psutil that drover uses."""

class _Frequency:
    current: float
    min: float
    max: float

class _Memory:
    total: int
    available: int

def cpu_count(logical: bool = ...) -> int | None: ...
def cpu_freq() -> _Frequency | None: ...
def virtual_memory() -> _Memory: ...

class _Family:
    name: str

class _Address:
    family: _Family
    address: str

def net_if_addrs() -> dict[str, list[_Address]]: ...
