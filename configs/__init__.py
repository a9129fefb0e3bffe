"""Agent configuration: typed settings out of HCL or JSON files, the environment and the command line.

Read with drover's own HCL2 parser, in which an agent's file is only literals, plus the quoted names of
older files; pyhcl would give no line to name in a fault (docs/design/002-hcl2-parser.md).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.settings import (
    DEV_DIR_PREFIX,
    Acl,
    Addresses,
    Advertise,
    AgentConfig,
    Artifact,
    Client,
    Consul,
    Docker,
    HostNetwork,
    HostVolume,
    Limits,
    Plugins,
    Ports,
    RawExec,
    Reserved,
    Server,
    Telemetry,
    Tls,
    Vault,
)
from model.errors import ConfigError

__all__ = [
    "DEV_DIR_PREFIX",
    "Acl",
    "Addresses",
    "Advertise",
    "AgentConfig",
    "Artifact",
    "Client",
    "ConfigError",
    "Consul",
    "Docker",
    "HostNetwork",
    "HostVolume",
    "Limits",
    "Plugins",
    "Ports",
    "RawExec",
    "Reserved",
    "Server",
    "Tls",
    "Telemetry",
    "Vault",
    "load",
]


def load(
    paths: Sequence[Path],
    *,
    dev: bool,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> AgentConfig:
    """The configuration an agent starts with.

    paths: the files and directories of -config, later ones win. overrides: command line flags by their path
    in the file ({"ports.http": 4700, "client.meta": {…}}); None means not given. environ: os.environ unless
    given. With dev and no data_dir a temporary directory is made, and is the caller's to remove.
    Raises ConfigError with every fault found.
    """
    import os

    from configs.loading import load_config

    return load_config(
        paths, dev=dev, overrides=overrides, environ=os.environ if environ is None else environ
    )
