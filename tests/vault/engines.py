"""What do the secrets engines of the test double hold: KV of both versions, and one that issues credentials on leases?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.vault.tokens import TTL_S_MAX, Refused, Token, random_id, span_s, timestamp


@dataclass(slots=True, kw_only=True)
class Answer:
    """status 204: no document. lease_id: empty unless it was issued on a lease."""

    data: dict[str, Any] | None = None
    status: int = 200
    lease_id: str = ""
    lease_duration: int = 0
    renewable: bool = False
    auth: dict[str, Any] | None = None
    warnings: list[str] | None = None


class Engine(Protocol):
    kind: str
    options: dict[str, str] | None

    def has(self, path: str) -> bool | None:
        """Whether a write would replace something; None: it does not tell, so that each write is an update."""

    def read(self, path: str, query: Mapping[str, str], token: Token) -> Answer: ...
    def listed(self, path: str) -> Answer: ...
    def write(self, path: str, body: Mapping[str, Any]) -> Answer: ...
    def delete(self, path: str) -> Answer: ...


def names(paths: list[str], below: str) -> Answer:
    """As LIST answers; 404 for nothing."""
    prefix = f"{below}/" if below else ""
    found = set()
    for path in paths:
        if path.startswith(prefix):
            head, slash, _ = path[len(prefix) :].partition("/")
            found.add(head + slash)
    if not found:
        raise Refused(404)
    return Answer(data={"keys": sorted(found)})


@dataclass(slots=True)
class Kv1:
    kind: str = "kv"
    options: dict[str, str] | None = field(default_factory=lambda: {"version": "1"})
    held: dict[str, dict[str, Any]] = field(default_factory=dict)

    def has(self, path: str) -> bool | None:
        return path in self.held

    def read(self, path: str, query: Mapping[str, str], token: Token) -> Answer:
        if path not in self.held:
            raise Refused(404)
        data = self.held[path]
        return Answer(data=data, lease_duration=span_s(data.get("ttl")) or TTL_S_MAX)

    def listed(self, path: str) -> Answer:
        return names(list(self.held), path)

    def write(self, path: str, body: Mapping[str, Any]) -> Answer:
        if not body:
            raise Refused(400, "missing data fields")
        self.held[path] = dict(body)
        return Answer(status=204)

    def delete(self, path: str) -> Answer:
        self.held.pop(path, None)
        return Answer(status=204)


@dataclass(slots=True)
class Kv2:
    now_s: Callable[[], float]
    kind: str = "kv"
    options: dict[str, str] | None = field(default_factory=lambda: {"version": "2"})
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # versions, the first is 1

    def has(self, path: str) -> bool | None:
        part, _, name = path.partition("/")
        return name in self.held if part in ("data", "metadata") else None

    def read(self, path: str, query: Mapping[str, str], token: Token) -> Answer:
        part, _, name = path.partition("/")
        versions = self.held.get(name)
        if part not in ("data", "metadata") or not versions:
            raise Refused(404)
        if part == "metadata":
            return Answer(data=self._metadata(versions))
        number = int(query.get("version") or 0) or len(versions)
        if not 1 <= number <= len(versions):
            raise Refused(404)
        version = versions[number - 1]
        is_deleted = bool(version["metadata"]["deletion_time"])
        return Answer(data=version | {"data": None}, status=404) if is_deleted else Answer(data=version)

    def listed(self, path: str) -> Answer:
        part, _, name = path.partition("/")
        if part != "metadata":
            raise Refused(404)
        return names(list(self.held), name.strip("/"))

    def write(self, path: str, body: Mapping[str, Any]) -> Answer:
        part, _, name = path.partition("/")
        if part != "data":
            raise Refused(404)
        if not isinstance(body.get("data"), dict):
            raise Refused(400, "no data provided")
        versions = self.held.get(name, [])
        cas = (body.get("options") or {}).get("cas")
        if cas is not None and int(cas) != len(versions):
            raise Refused(400, "check-and-set parameter did not match the current version")
        metadata = {
            "created_time": timestamp(self.now_s()),
            "custom_metadata": None,
            "deletion_time": "",
            "destroyed": False,
            "version": len(versions) + 1,
        }
        self.held[name] = [*versions, {"data": dict(body["data"]), "metadata": metadata}]
        return Answer(data=metadata)

    def delete(self, path: str) -> Answer:
        part, _, name = path.partition("/")
        if part == "metadata":
            self.held.pop(name, None)
        elif self.held.get(name):
            self.held[name][-1]["metadata"]["deletion_time"] = timestamp(self.now_s())
        return Answer(status=204)

    def _metadata(self, versions: list[dict[str, Any]]) -> dict[str, Any]:
        shown = ("created_time", "deletion_time", "destroyed")
        return {
            "cas_required": False,
            "created_time": versions[0]["metadata"]["created_time"],
            "current_version": len(versions),
            "custom_metadata": None,
            "delete_version_after": "0s",
            "max_versions": 0,
            "oldest_version": 0,
            "updated_time": versions[-1]["metadata"]["created_time"],
            "versions": {str(n): {k: v["metadata"][k] for k in shown} for n, v in enumerate(versions, 1)},
        }


@dataclass(slots=True, kw_only=True)
class Lease:
    id: str
    token: Token
    issued_s: float
    ends_s: float
    ttl_s: int
    ttl_s_max: int


@dataclass(slots=True)
class Database:
    """`<mount>/creds/<role>` issues a new user on a lease at each read, as the database engine does."""

    now_s: Callable[[], float]
    mount: str
    leases: dict[str, Lease]
    kind: str = "database"
    options: dict[str, str] | None = None
    roles: dict[str, tuple[int, int]] = field(default_factory=dict)  # ttl, max ttl

    def has(self, path: str) -> bool | None:
        return None

    def read(self, path: str, query: Mapping[str, str], token: Token) -> Answer:
        part, _, role = path.partition("/")
        if part != "creds":
            raise Refused(404)
        if role not in self.roles:
            raise Refused(400, f"unknown role: {role}")
        ttl_s, ttl_s_max = self.roles[role]
        now_s = self.now_s()
        lease = Lease(
            id=f"{self.mount}creds/{role}/{random_id()}", token=token, issued_s=now_s, ends_s=now_s + ttl_s, ttl_s=ttl_s, ttl_s_max=ttl_s_max
        )
        self.leases[lease.id] = lease
        data = {"username": f"v-token-{role}-{random_id(20)}-{int(now_s)}", "password": f"A1a-{random_id(16)}"}
        return Answer(data=data, lease_id=lease.id, lease_duration=ttl_s, renewable=True)

    def listed(self, path: str) -> Answer:
        if path != "roles" or not self.roles:
            raise Refused(404)
        return Answer(data={"keys": sorted(self.roles)})

    def write(self, path: str, body: Mapping[str, Any]) -> Answer:
        part, _, role = path.partition("/")
        if part != "roles":
            raise Refused(404)
        ttl_s = span_s(body.get("default_ttl")) or TTL_S_MAX
        self.roles[role] = (ttl_s, span_s(body.get("max_ttl")) or TTL_S_MAX)
        return Answer(status=204)

    def delete(self, path: str) -> Answer:
        self.roles.pop(path.partition("/")[2], None)
        return Answer(status=204)
