"""How is a set of cores written?"""

from collections.abc import Iterable
from itertools import groupby


def cpuset(cores: Iterable[int]) -> str:
    """The kernel's list notation, as Nomad's NOMAD_CPU_CORES: `0-2,7`."""
    runs = [
        [core for _, core in run] for _, run in groupby(enumerate(sorted(cores)), key=lambda pair: pair[1] - pair[0])
    ]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
