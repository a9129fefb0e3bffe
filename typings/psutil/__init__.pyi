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
