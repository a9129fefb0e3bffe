"""Which tokens are there, in the test double: who made them, what may they do, when do they end?"""

import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Vault's defaults: 32 days.
TTL_S_MAX = 2_764_800
_LETTERS = string.ascii_letters + string.digits


class Refused(Exception):
    """An answer other than success. errors: as in the document."""

    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status, *errors)
        self.status, self.errors = status, list(errors)


def span_s(value: object) -> int:
    """"1h", "90s", "60", 60 as seconds."""
    text = str(value or 0)
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:])
    try:
        return int(text[:-1]) * unit if unit else int(text)
    except ValueError:
        raise Refused(400, f"error parsing duration {text!r}") from None


def random_id(size: int = 24) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(size))


@dataclass(slots=True, kw_only=True)
class Token:
    id: str = field(default_factory=lambda: f"hvs.{random_id()}")
    accessor: str = field(default_factory=random_id)
    policies: list[str]
    parent: str = ""  # id; empty: an orphan
    made_s: int
    ttl_s: int  # when made; 0: for ever
    ends_s: float | None
    explicit_max_ttl_s: int = 0
    period_s: int = 0
    renewable: bool = True
    meta: dict[str, str] = field(default_factory=dict)
    display_name: str = "token"
    path: str = "auth/token/create"
    role: str = ""
    num_uses: int = 0

    def auth(self, now_s: float) -> dict[str, Any]:
        return {
            "client_token": self.id,
            "accessor": self.accessor,
            "policies": self.policies,
            "token_policies": self.policies,
            "metadata": self.meta or None,
            "lease_duration": 0 if self.ends_s is None else max(0, round(self.ends_s - now_s)),
            "renewable": self.renewable,
            "entity_id": "",
            "token_type": "service",
            "orphan": not self.parent,
            "mfa_requirement": None,
            "num_uses": self.num_uses,
        }


@dataclass(slots=True)
class Tokens:
    """now_s: the double's clock. gone: is told of each token that ended, however it did."""

    now_s: Callable[[], float]
    gone: Callable[[Token], None]
    by_id: dict[str, Token] = field(default_factory=dict)
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)

    def root(self) -> Token:
        return self.add(Token(policies=["root"], made_s=int(self.now_s()), ttl_s=0, ends_s=None, renewable=False, path="auth/token/root", display_name="root"))

    def add(self, token: Token) -> Token:
        self.by_id[token.id] = token
        return token

    def find(self, token_id: str) -> Token | None:
        self.expire()
        return self.by_id.get(token_id)

    def by_accessor(self, accessor: str) -> Token:
        self.expire()
        for token in self.by_id.values():
            if token.accessor == accessor:
                return token
        raise Refused(400, "invalid accessor")

    def expire(self) -> None:
        for token in [t for t in self.by_id.values() if t.ends_s is not None and t.ends_s <= self.now_s()]:
            self.revoke(token)

    def revoke(self, token: Token) -> None:
        """With all that it made."""
        self.by_id.pop(token.id, None)
        self.gone(token)
        for child in [t for t in self.by_id.values() if t.parent == token.id]:
            self.revoke(child)

    def create(
        self, parent: Token, body: Mapping[str, Any], *, role_name: str, is_orphan: bool, is_sudo: bool, known: Mapping[str, object]
    ) -> tuple[Token, list[str]]:
        """The token, and warnings. known: the policies that exist."""
        role = self._role(role_name)
        policies = self._policies(parent, body, role)
        explicit_s = span_s(body.get("explicit_max_ttl")) or span_s(role.get("token_explicit_max_ttl"))
        if body.get("period") and not is_sudo:
            raise Refused(400, "root or sudo privileges required to create periodic token")
        if body.get("no_parent") and not is_sudo:
            raise Refused(400, "root or sudo privileges required to create orphan token")
        period_s = span_s(role.get("token_period")) or span_s(body.get("period"))
        ttl_s = period_s or span_s(body.get("ttl")) or (0 if "root" in policies else TTL_S_MAX)
        ttl_s = min(ttl_s, *(limit for limit in (explicit_s, TTL_S_MAX) if limit)) if ttl_s else 0
        now_s = self.now_s()
        display = "".join(c if c.isalnum() else "-" for c in str(body.get("display_name", "")))
        token = Token(
            policies=policies,
            parent="" if is_orphan or body.get("no_parent") or role.get("orphan") else parent.id,
            made_s=int(now_s),
            ttl_s=ttl_s,
            ends_s=now_s + ttl_s if ttl_s else None,
            explicit_max_ttl_s=explicit_s,
            period_s=period_s,
            renewable=bool(body.get("renewable", True)) and bool(role.get("renewable", True)) and ttl_s > 0,
            meta={str(k): str(v) for k, v in (body.get("meta") or {}).items()},
            display_name=f"token-{display}".rstrip("-"),
            path=f"auth/token/create{'-orphan' if is_orphan else f'/{role_name}' if role_name else ''}",
            role=role_name,
            num_uses=int(body.get("num_uses") or 0),
        )
        warnings = [f'Policy "{name}" does not exist' for name in policies if name not in known and name != "root"]
        return self.add(token), warnings

    def renew(self, token: Token, increment: object) -> None:
        if not token.renewable or token.ends_s is None:
            raise Refused(400, "lease is not renewable")
        now_s = self.now_s()
        wanted_s = token.period_s or span_s(increment) or token.ttl_s
        ends_s = now_s + min(wanted_s, TTL_S_MAX)
        if not token.period_s:
            ends_s = min(ends_s, token.made_s + TTL_S_MAX)
        if token.explicit_max_ttl_s:
            ends_s = min(ends_s, token.made_s + token.explicit_max_ttl_s)
        token.ends_s = ends_s

    def facts(self, token: Token, *, is_shown: bool = True) -> dict[str, Any]:
        """What the lookup endpoints answer."""
        now_s = self.now_s()
        found: dict[str, Any] = {
            "accessor": token.accessor,
            "creation_time": token.made_s,
            "creation_ttl": token.ttl_s,
            "display_name": token.display_name,
            "entity_id": "",
            "expire_time": None if token.ends_s is None else timestamp(token.ends_s),
            "explicit_max_ttl": token.explicit_max_ttl_s,
            "id": token.id if is_shown else "",
            "meta": token.meta or None,
            "num_uses": token.num_uses,
            "orphan": not token.parent,
            "path": token.path,
            "policies": token.policies,
            "ttl": 0 if token.ends_s is None else max(0, round(token.ends_s - now_s)),
            "type": "service",
        }
        if token.ends_s is not None:
            found |= {"issue_time": timestamp(token.made_s), "renewable": token.renewable}
        if token.period_s:
            found["period"] = token.period_s
        if token.role:
            found["role"] = token.role
        return found

    def _role(self, name: str) -> dict[str, Any]:
        if not name:
            return {}
        if name not in self.roles:
            raise Refused(400, f"unknown role {name}")
        return self.roles[name]

    def _policies(self, parent: Token, body: Mapping[str, Any], role: Mapping[str, Any]) -> list[str]:
        wanted = list(body.get("policies") or [])
        allowed = list(role.get("allowed_policies") or [])
        is_root = "root" in parent.policies
        if role:
            wanted = wanted or allowed or parent.policies
            if allowed and not set(wanted) <= {*allowed, "default"}:
                raise Refused(400, f"token policies ({_go(wanted)}) must be subset of the role's allowed policies ({_go(allowed)})")
            banned = set(role.get("disallowed_policies") or [])
            if set(wanted) & banned or (not allowed and "root" in wanted and not is_root):
                raise Refused(400, f"token policies ({_go(wanted)}) are disallowed by the role")
        else:
            wanted = wanted or parent.policies
            if not is_root and not set(wanted) <= {*parent.policies, "default"}:
                raise Refused(400, "child policies must be subset of parent")
        if "root" in wanted:
            return ["root"]
        default = [] if body.get("no_default_policy") or role.get("token_no_default_policy") else ["default"]
        return sorted({*wanted, *default})


def timestamp(moment_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _go(names: list[str]) -> str:
    return "[" + " ".join(f'"{name}"' for name in names) + "]"


def children(tokens: Tokens, token: Token) -> Iterator[Token]:
    return (one for one in tokens.by_id.values() if one.parent == token.id)
