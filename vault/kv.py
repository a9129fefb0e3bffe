"""Where does KV keep what a user calls `secret/foo`?

Its second version has `secret/data/foo` for values and `secret/metadata/foo` for names; users may write either.
"""

from dataclasses import dataclass

# A mount's version hardly ever changes; this is how long a change stays unnoticed.
KEPT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """path: with a / at its end."""

    path: str
    version: int


class Mounts:
    """What Vault said about mounts, for a while."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Mount, float]] = {}

    def find(self, namespace: str, path: str, now_s: float) -> Mount | None:
        """No mount lies within another, so the one that fits is it."""
        for (where, _), (mount, until_s) in self._known.items():
            if where == namespace and now_s < until_s and f"{path}/".startswith(mount.path):
                return mount
        return None

    def keep(self, namespace: str, mount: Mount, now_s: float) -> None:
        self._known[(namespace, mount.path)] = (mount, now_s + KEPT_S)


def data_path(mount: Mount | None, path: str) -> str:
    """Where the values are."""
    return _within(mount, path, "data", ("data/", "metadata/"))


def list_path(mount: Mount | None, path: str) -> str:
    """Where the names are."""
    return _within(mount, path, "metadata", ("metadata/",))


def _within(mount: Mount | None, path: str, part: str, present: tuple[str, ...]) -> str:
    if mount is None or mount.version != 2 or not f"{path}/".startswith(mount.path):
        return path
    rest = path.removeprefix(mount.path.rstrip("/")).lstrip("/")
    if f"{rest}/".startswith(present):
        return path
    return f"{mount.path}{part}/{rest}".rstrip("/")
