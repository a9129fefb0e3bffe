"""What does one rendering get to know, and which answers did it use?

It answers from what is at hand, in the thread that renders; what is not is Missing, and asked for by who renders.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import psutil

from agent.fingerprint import default_address
from agent.task_files import TaskFiles
from agent.templates.watching import Watch
from model.errors import TaskRefused
from template import (
    Interface,
    Missing,
    Read,
    Refusal,
)

NO_VAULT = "the task has no vault block, and so no access to Vault"
HIDDEN = "this part of Consul's KV is drover's own, and not for templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a task's templates look. env: the task's variables; values: these and the node's facts, for paths.

    watches: by what was asked for so far. is_hidden: what no template may see.
    """

    env: Mapping[str, str]
    values: Mapping[str, str]
    files: TaskFiles
    watches: Mapping[Read, Watch]
    is_hidden: Callable[[Read], bool]
    has_vault: bool


class Answers:
    """template.Lookups of one rendering. constants: whose names may be shown.

    used: {read: the version of its answer, 0 for none yet}. file_digests: what was in the files that it read.
    """

    def __init__(self, source: Source, constants: frozenset[Read]) -> None:
        self._source, self._constants = source, constants
        self.used: dict[Read, int] = {}
        self.file_digests: dict[Read, bytes] = {}

    def env(self, name: str) -> str | None:
        return self._source.env.get(name)

    def file(self, read: Read) -> str | None:
        try:
            data = self._source.files.read(self._source.files.parts(read.name, self._source.values))
        except TaskRefused as error:
            raise Refusal(str(error) if read in self._constants else "a file that cannot be read") from None
        self.file_digests[read] = digest(data)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def interfaces(self, read: Read) -> Sequence[Interface]:
        return interfaces()

    def _vault(self, read: Read) -> Any:
        if not self._source.has_vault:
            raise Refusal(NO_VAULT)
        return self._watched(read)

    def _watched(self, read: Read) -> Any:
        if self._source.is_hidden(read):
            raise Refusal(HIDDEN)
        watch = self._source.watches.get(read)
        # The version first: with a newer value it is only looked at once more.
        self.used[read] = version = watch.version if watch is not None else 0
        if watch is None or version == 0:
            raise Missing([read])
        return watch.value

    # A watch holds what its kind of Read has: catalog/lookups.py and agent/secrets.py see to that.
    key = pairs = service = services = node = nodes = datacenters = _watched
    secret = secrets = _vault


def digest(data: bytes | None) -> bytes:
    """Tells contents apart without keeping them; empty: there is no such file."""
    return b"" if data is None else blake2b(data, digest_size=16).digest()


def interfaces() -> tuple[Interface, ...]:
    """The machine's addresses, for `sockaddr`."""
    states, default, found = psutil.net_if_stats(), default_address(), list[Interface]()
    for name, addresses in psutil.net_if_addrs().items():
        state = states.get(name)
        flags = tuple(state.flags.split(",")) if state is not None and state.flags else ()
        if state is not None and not state.isup:
            flags = (*flags, "down")
        for one in addresses:
            if one.family.name not in ("AF_INET", "AF_INET6"):
                continue
            address = one.address.partition("%")[0]
            found.append(
                Interface(name=name, network=f"{address}/{_prefix(one.netmask)}", flags=flags, is_default=address == default)
            )
    return tuple(found)


def _prefix(netmask: str | None) -> int:
    """255.255.255.0 and ffff:ffff:: as lengths; without a mask it is one address."""
    if netmask is None:
        return 32
    if ":" in netmask:
        return sum(bin(int(part, 16)).count("1") for part in netmask.split(":") if part)
    return sum(bin(int(part)).count("1") for part in netmask.split("."))
