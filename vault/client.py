"""What can be asked of Vault, and what does it answer?

One method a question; what comes back is typed here. Each takes the token that it asks with, so that one client serves
the agent and all of its tasks. Raises everywhere: VaultUnavailable (ask again later), VaultRefused (tell the user).

A path of `secret` and `secrets` is consul-template's: on a mount of KV's second version `data/` or `metadata/` is put
into it where it is missing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl

import msgspec

from model.errors import VaultRefused, VaultUnavailable
from model.secret import Secret
from template import lookups
from vault import kv
from vault.transport import THREADS_MAX, Endpoint, NotTrusted, Request, Response, TooSlow, Transport

__all__ = ["Endpoint", "Health", "State", "TaskToken", "TokenFacts", "VaultClient", "Wrapped"]

log = logging.getLogger("drover.vault")

T = TypeVar("T")

# Tries at revoking a token that came too late, and the pause before each, doubled.
_UNDO_TRIES, _UNDO_S = 6, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskToken:
    """A token that was issued. ttl_s: until it ends unless it is renewed; 0: never."""

    secret: Secret
    accessor: str
    ttl_s: float
    renewable: bool
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """What can be unwrapped once into a token. accessor: of the token within. ttl_s: until nobody can."""

    secret: Secret
    accessor: str
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What Vault knows of a token. ttl_s: left; 0 if it never ends. creation_ttl_s: of a fresh or renewed one.
    period_s: 0 unless it can be renewed for ever. max_ttl_s: explicit; 0: none. role: that it was made by."""

    accessor: str
    ttl_s: float
    renewable: bool
    policies: tuple[str, ...]
    creation_ttl_s: float
    is_endless: bool
    is_orphan: bool
    display_name: str
    period_s: float = 0.0
    max_ttl_s: float = 0.0
    role: str = ""


class State(StrEnum):
    ACTIVE = "active"
    STANDBY = "standby"
    PERFORMANCE_STANDBY = "performance standby"
    RECOVERY = "disaster recovery secondary"
    SEALED = "sealed"
    UNINITIALISED = "uninitialised"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    SLOW = "slow"


# Those that serve; a standby passes calls on, or names the active one.
USABLE = frozenset({State.ACTIVE, State.STANDBY, State.PERFORMANCE_STANDBY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """message: why it is not usable. time_s: Vault's clock, seconds since 1970; 0 if it did not say. took_s: the answer."""

    state: State
    version: str = ""
    cluster_name: str = ""
    message: str = ""
    time_s: int = 0
    took_s: float = 0.0

    @property
    def is_usable(self) -> bool:
        return self.state in USABLE


class VaultClient:
    def __init__(self, endpoint: Endpoint, threads_max: int = THREADS_MAX) -> None:
        self.endpoint = endpoint
        self._transport = Transport(endpoint, threads_max)
        self._mounts = kv.Mounts()
        self._undoing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await asyncio.gather(*self._undoing, return_exceptions=True)

    def close(self) -> None:
        for task in self._undoing:
            task.cancel()
        self._transport.close()

    @property
    def contact_age_s(self) -> float | None:
        """Since Vault last answered something of use; None: it never did."""
        contact_s = self._transport.contact_s
        return None if contact_s is None else time.monotonic() - contact_s

    # ---- secrets

    async def read(
        self, token: Secret, path: str, arguments: Sequence[str] = (), namespace: str = ""
    ) -> lookups.Secret | None:
        """What is at a path, for a template's `secret`; None: nothing. arguments: ("k=v", …) are written to it, and
        what Vault answers to that is read. `path?version=2` asks as Vault's own clients do."""
        path, _, question = path.strip("/").partition("?")
        mount = await self._mount(token, path, namespace)
        path = kv.data_path(mount, path)
        if not arguments:
            request = Request(method="GET", path=path, token=token, query=dict(parse_qsl(question)))
        else:
            given = dict(_argument(one) for one in arguments)
            body: dict[str, object] = {"data": given} if mount is not None and mount.version == 2 else dict(given)
            request = Request(
                method="PUT", path=path, token=token, body=body, is_idempotent=False, hidden=tuple(filter(None, given.values()))
            )
        response = await self._call(request, namespace)
        if response.status == 404 or not response.body:
            return None
        found = _decoded(response, _Envelope, request)
        if found.data is None and found.auth is None and found.wrap_info is None:
            return None
        return lookups.Secret(
            data=found.data or {},
            request_id=found.request_id,
            lease_id=found.lease_id,
            lease_duration=found.lease_duration,
            renewable=found.renewable,
            warnings=tuple(found.warnings or ()),
            auth=_shown(found.auth),
            wrap_info=_shown(found.wrap_info),
        )

    async def list(self, token: Secret, path: str, namespace: str = "") -> tuple[str, ...] | None:
        """The names below a path, for a template's `secrets`; those that end in / have more below. None: nothing there."""
        path = path.strip("/")
        path = kv.list_path(await self._mount(token, path, namespace), path)
        request = Request(method="LIST", path=path, token=token)
        response = await self._call(request, namespace)
        if response.status == 404:
            return None
        found = _decoded(response, _Envelope, request).data or {}
        keys = found.get("keys")
        return tuple(str(key) for key in keys) if isinstance(keys, Sequence) and not isinstance(keys, str) else None

    async def renew_lease(self, token: Secret, lease_id: str, namespace: str = "") -> tuple[float, bool]:
        """Seconds that a dynamic secret lives on, and whether it can be renewed again."""
        body = {"lease_id": lease_id}
        request = Request(method="PUT", path="sys/leases/renew", token=token, body=body)
        found = _decoded(await self._found(request, namespace), _Envelope, request)
        return float(found.lease_duration), found.renewable

    async def _mount(self, token: Secret, path: str, namespace: str) -> kv.Mount | None:
        """None: nobody says what is mounted there (an old Vault, no right to know): the path is taken as it is."""
        where = namespace or self.endpoint.namespace
        known = self._mounts.find(where, path, time.monotonic())
        if known is not None:
            return known
        request = Request(method="GET", path=f"sys/internal/ui/mounts/{path}", token=token)
        try:
            response = await self._call(request, namespace)
        except VaultRefused:
            return None
        if response.status == 404:
            return None
        found = _decoded(response, _MountAnswer, request).data
        mount = kv.Mount(path=found.path, version=2 if (found.options or {}).get("version") == "2" else 1)
        self._mounts.keep(where, mount, time.monotonic())
        return mount

    # ---- tokens

    async def create_token(
        self,
        token: Secret,
        *,
        policies: Sequence[str],
        role: str = "",
        display_name: str,
        metadata: Mapping[str, str],
        ttl_s: float,
        namespace: str = "",
    ) -> TaskToken:
        """A token with these policies. role: made by that role; without one it outlives the token that asks for it
        (an orphan), unless that is not allowed. ttl_s: 0: as Vault sees fit."""
        made = await self._created(token, _wanted(policies, display_name, metadata, ttl_s), role, namespace, 0.0)
        return _token(made.auth)

    async def create_wrapped(
        self,
        token: Secret,
        *,
        policies: Sequence[str],
        role: str = "",
        display_name: str,
        metadata: Mapping[str, str],
        ttl_s: float,
        wrap_ttl_s: float,
        namespace: str = "",
    ) -> Wrapped:
        """As create_token, for somebody else to unwrap within wrap_ttl_s seconds."""
        made = await self._created(token, _wanted(policies, display_name, metadata, ttl_s), role, namespace, wrap_ttl_s)
        if made.wrap_info is None:
            raise VaultUnavailable("Vault did not wrap the token (a proxy drops X-Vault-Wrap-TTL?)")
        info = made.wrap_info
        return Wrapped(secret=Secret(info.token), accessor=info.wrapped_accessor, ttl_s=float(info.ttl))

    async def _created(
        self, token: Secret, body: Mapping[str, object], role: str, namespace: str, wrap_ttl_s: float
    ) -> "_Envelope":
        paths = (f"auth/token/create/{role}",) if role else ("auth/token/create-orphan", "auth/token/create")
        for path in paths:
            request = Request(
                method="POST", path=path, token=token, body=body, wrap_ttl_s=wrap_ttl_s, is_idempotent=False
            )
            try:
                return await self._made(request, namespace)
            except VaultRefused:
                if path == paths[-1]:
                    raise
        raise AssertionError("one of the two returned or raised")

    async def unwrap(self, wrapping: Secret, namespace: str = "") -> TaskToken:
        """The token within. VaultRefused: it was unwrapped before, or not in time."""
        request = Request(method="POST", path="sys/wrapping/unwrap", token=wrapping, is_idempotent=False)
        return _token((await self._made(request, namespace)).auth)

    async def _made(self, request: Request, namespace: str) -> "_Envelope":
        """What holds a new token; one that comes when nobody waits for it any more is revoked."""

        def late(response: Response) -> None:
            if response.status < 300:
                undoing = asyncio.get_running_loop().create_task(self._undo(request, response, namespace), name="late token")
                self._undoing.add(undoing)
                undoing.add_done_callback(self._undoing.discard)

        return _decoded(await self._found(request, namespace, late), _Envelope, request)

    async def _undo(self, request: Request, response: Response, namespace: str) -> None:
        pause_s = _UNDO_S
        for _ in range(_UNDO_TRIES):
            try:
                found = _decoded(response, _Envelope, request)
                if found.auth is not None:
                    await self.revoke_self(Secret(found.auth.client_token), namespace)
                elif found.wrap_info is not None and request.token is not None:
                    await self.revoke_accessor(request.token, found.wrap_info.wrapped_accessor, namespace)
                log.info("%s was answered too late: the token of it is revoked", request)
                return
            except VaultUnavailable:
                await asyncio.sleep(pause_s)
                pause_s *= 2
            except VaultRefused as error:
                log.warning("%s was answered too late, and the token of it is not revoked: %s", request, error)
                return
        log.warning("%s was answered too late, and the token of it is not revoked: Vault does not answer", request)

    async def renew_self(self, token: Secret, increment_s: float = 0.0, namespace: str = "") -> float:
        """Seconds that the token lives from now on; 0: it never ends."""
        body = {"increment": f"{round(increment_s)}s"} if increment_s else {}
        request = Request(method="POST", path="auth/token/renew-self", token=token, body=body)
        return _token(_decoded(await self._found(request, namespace), _Envelope, request).auth).ttl_s

    async def revoke_self(self, token: Secret, namespace: str = "") -> None:
        await self._found(Request(method="POST", path="auth/token/revoke-self", token=token), namespace)

    async def revoke_accessor(self, token: Secret, accessor: str, namespace: str = "") -> None:
        """Ends the token with this accessor, its leases and children. One that has ended already is no fault."""
        request = Request(method="POST", path="auth/token/revoke-accessor", token=token, body={"accessor": accessor})
        try:
            await self._call(request, namespace)
        except VaultRefused as error:
            if "invalid accessor" not in str(error):
                raise

    async def lookup_self(self, token: Secret, namespace: str = "") -> TokenFacts:
        request = Request(method="GET", path="auth/token/lookup-self", token=token)
        found = _decoded(await self._found(request, namespace), _LookupAnswer, request).data
        return TokenFacts(
            accessor=found.accessor,
            ttl_s=float(found.ttl),
            renewable=found.renewable,
            policies=tuple(found.policies or ()),
            creation_ttl_s=float(found.creation_ttl),
            is_endless=found.expire_time is None,
            is_orphan=found.orphan,
            display_name=found.display_name,
            period_s=float(found.period),
            max_ttl_s=float(found.explicit_max_ttl),
            role=found.role,
        )

    async def capabilities(
        self, token: Secret, paths: Sequence[str], namespace: str = ""
    ) -> Mapping[str, tuple[str, ...]]:
        """What the token may do at each path ("create", "update", …; "deny"; "root": everything)."""
        request = Request(method="POST", path="sys/capabilities-self", token=token, body={"paths": list(paths)})
        response = await self._found(request, namespace)
        found = _decoded(response, dict[str, Any], request)
        # Vault answers at the top, newer ones under `data` as well.
        inner = found.get("data")
        found |= inner if isinstance(inner, dict) else {}
        return {path: _texts(found.get(path)) for path in paths}

    async def login_approle(self, role_id: str, secret_id: Secret, mount: str = "approle", namespace: str = "") -> TaskToken:
        body = {"role_id": role_id} | ({"secret_id": secret_id.reveal()} if secret_id else {})
        hidden = (secret_id.reveal(),)
        path = f"auth/{mount.strip('/')}/login"
        request = Request(method="POST", path=path, body=body, is_idempotent=False, hidden=hidden)
        return _token((await self._made(request, namespace)).auth)

    # ---- Vault itself

    async def health(self) -> Health:
        """How Vault is. Never raises."""
        began_s = time.monotonic()
        try:
            # Without a namespace: only the root one answers this.
            response = await self._transport.ask(Request(method="GET", path="sys/health"))
            found = msgspec.json.decode(response.body, type=_HealthAnswer)
        except TooSlow as error:
            return Health(state=State.SLOW, message=str(error), took_s=time.monotonic() - began_s)
        except NotTrusted as error:
            return Health(state=State.UNTRUSTED, message=str(error))
        except (VaultUnavailable, VaultRefused) as error:
            return Health(state=State.UNREACHABLE, message=str(error))
        except msgspec.DecodeError:
            where = self.endpoint.address
            return Health(state=State.UNREACHABLE, message=f"what answers at {where} is not Vault (status {response.status})")
        state = _state(response.status, found)
        return Health(
            state=state,
            version=found.version,
            cluster_name=found.cluster_name,
            message="" if state in USABLE else _NOT_USABLE.get(state, ""),
            time_s=found.server_time_utc,
            took_s=time.monotonic() - began_s,
        )

    # ----

    async def _call(self, request: Request, namespace: str, late: Callable[[Response], None] | None = None) -> Response:
        """2xx or 404."""
        return await self._transport.call(replace(request, namespace=namespace or self.endpoint.namespace), late)

    async def _found(self, request: Request, namespace: str, late: Callable[[Response], None] | None = None) -> Response:
        """2xx. Raises VaultRefused for 404: nothing is mounted there, or there is no such role."""
        response = await self._call(request, namespace, late)
        if response.status == 404:
            raise VaultRefused(f"Vault refused {request}: there is nothing of that name (404)")
        return response


# ---- Vault's documents, as far as they are read


class _Auth(msgspec.Struct, frozen=True, kw_only=True):
    client_token: str
    accessor: str = ""
    lease_duration: int = 0
    renewable: bool = False
    token_policies: list[str] | None = None
    policies: list[str] | None = None
    metadata: dict[str, str] | None = None


class _WrapInfo(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    ttl: int = 0
    accessor: str = ""
    creation_time: str = ""
    creation_path: str = ""
    wrapped_accessor: str = ""


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str = ""
    lease_id: str = ""
    lease_duration: int = 0
    renewable: bool = False
    data: dict[str, Any] | None = None
    warnings: list[str] | None = None
    auth: _Auth | None = None
    wrap_info: _WrapInfo | None = None


class _MountFacts(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    options: dict[str, str] | None = None


class _MountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    data: _MountFacts


class _LookupFacts(msgspec.Struct, frozen=True, kw_only=True):
    accessor: str = ""
    ttl: int = 0
    renewable: bool = False
    policies: list[str] | None = None
    creation_ttl: int = 0
    expire_time: str | None = None
    orphan: bool = False
    display_name: str = ""
    period: int = 0
    explicit_max_ttl: int = 0
    role: str = ""


class _LookupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    data: _LookupFacts


class _HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    initialized: bool
    sealed: bool
    standby: bool = False
    performance_standby: bool = False
    version: str = ""
    cluster_name: str = ""
    server_time_utc: int = 0


_NOT_USABLE = {
    State.SEALED: "Vault is sealed: an operator has to unseal it (`vault operator unseal`)",
    State.UNINITIALISED: "Vault was never initialised (`vault operator init`)",
    State.RECOVERY: "this Vault is a disaster recovery secondary: it serves nothing until it is promoted",
}


def _state(status: int, found: _HealthAnswer) -> State:
    if not found.initialized:
        return State.UNINITIALISED
    if found.sealed:
        return State.SEALED
    if status == 472:
        return State.RECOVERY
    if found.performance_standby:
        return State.PERFORMANCE_STANDBY
    return State.STANDBY if found.standby else State.ACTIVE


def _decoded(response: Response, kind: type[T], request: Request) -> T:
    try:
        return msgspec.json.decode(response.body or b"{}", type=kind)
    except msgspec.DecodeError as error:
        # Its path is told, never its text: that may hold a secret.
        raise VaultUnavailable(f"Vault answered {request} with what is not Vault's: {error}") from None


def _token(auth: _Auth | None) -> TaskToken:
    if auth is None:
        raise VaultUnavailable("Vault answered without the token that was asked for")
    return TaskToken(
        secret=Secret(auth.client_token),
        accessor=auth.accessor,
        ttl_s=float(auth.lease_duration),
        renewable=auth.renewable,
        policies=tuple(auth.policies or ()),
    )


def _wanted(policies: Sequence[str], display_name: str, metadata: Mapping[str, str], ttl_s: float) -> dict[str, object]:
    wanted: dict[str, object] = {"policies": list(policies), "display_name": display_name, "meta": dict(metadata)}
    return wanted | ({"ttl": f"{round(ttl_s)}s"} if ttl_s else {})


def _argument(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise VaultRefused("what is written to a path in Vault has the form name=value")
    return name.strip(), value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _shown(part: _Auth | _WrapInfo | None) -> object:
    """For templates, by the names that consul-template gives the fields."""
    if part is None:
        return None
    return {"".join(word.capitalize() for word in name.split("_")): value for name, value in msgspec.structs.asdict(part).items()}
