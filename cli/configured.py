"""Which configuration does a command read that works on this machine without its agent?"""

from collections.abc import Sequence
from pathlib import Path

# Where packages and the Ansible role put the agent's.
DEFAULT_CONFIG = Path("/etc/drover.d")


def config_paths(named: Sequence[str]) -> list[Path]:
    """What -config names, else the usual place; empty where neither is there."""
    return [Path(path) for path in named] or ([DEFAULT_CONFIG] if DEFAULT_CONFIG.exists() else [])
