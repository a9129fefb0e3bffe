"""A Vault for tests: exactly the HTTP endpoints that drover uses and its tests set up with, over real sockets.

    with Double() as vault:
        vault.policy("app", 'path "secret/data/app" { capabilities = ["read"] }')
        vault.put("secret/data/app", {"data": {"password": "x"}})
        ... drover speaks to vault.address, with vault.root ...
        vault.seal(); vault.slow_s = 10; vault.advance(3600); vault.failing = 503

Kept to the published API: test_double.py checks each endpoint against the documented samples. Not a Vault: nothing is
encrypted or kept, namespaces are noted and not told apart, and of each engine there is what is needed here.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.vault import policies
from tests.vault.engines import Answer, Database, Engine, Kv1, Kv2, Lease
from tests.vault.tokens import TTL_S_MAX, Refused, Token, Tokens, random_id, span_s, timestamp

_DENIED = "1 error occurred:\n\t* permission denied\n\n"
_SUDO = ("sys/seal", "auth/token/accessors", "auth/token/revoke-orphan")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that came in. display_name: of the token; empty for none or an unknown one."""

    method: str
    path: str
    display_name: str
    namespace: str
    wrap_ttl: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class Wrapped:
    document: dict[str, Any]
    ends_s: float


@dataclass(slots=True)
class Role:
    """Of AppRole."""

    role_id: str
    settings: dict[str, Any]
    secret_ids: set[str] = field(default_factory=set)


class Double:
    """tls: for https. slow_s: how long each answer takes. failing: a status that all answers have. standby_of: address of
    the active one; then everything but health is redirected there."""

    version = "1.15.2"
    cluster_name = "vault-cluster-double"

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._tls = tls
        self._turn = threading.RLock()
        self._closed = threading.Event()
        self._ahead_s = 0.0
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.double = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.slow_s = 0.0
        self.failing = 0
        self.standby_of = ""
        self.is_sealed = False
        self.is_initialised = True
        self.calls: list[Call] = []
        self.leases: dict[str, Lease] = {}
        self.tokens = Tokens(self.now_s, self._ended)
        self.root = self.tokens.root().id
        self.unseal_key = random_id(44)
        self.policies: dict[str, dict[str, frozenset[str]]] = {"default": policies.parse(policies.DEFAULT)}
        self.mounts: dict[str, Engine] = {"secret/": Kv2(self.now_s), "kv/": Kv1()}
        self.mounts["database/"] = Database(self.now_s, "database/", self.leases)
        self.approles: dict[str, dict[str, Role]] = {"approle": {}}
        self._wrapped: dict[str, Wrapped] = {}

    @property
    def address(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its port answers no more."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.cut()

    def reopened(self) -> "Double":
        """After close(): the same Vault on the same port, with all that it held."""
        other = Double(self._tls, self.port)
        held = "root unseal_key policies mounts approles leases tokens is_sealed _wrapped _ahead_s"
        for name in held.split():
            setattr(other, name, getattr(self, name))
        return other

    # ---- what tests do with it

    def now_s(self) -> float:
        return time.time() + self._ahead_s

    def advance(self, span_s: float) -> None:
        """Its clock, not ours."""
        with self._turn:
            self._ahead_s += span_s
            self._expire()

    def seal(self) -> None:
        self.is_sealed = True

    def unseal(self) -> None:
        self.is_sealed = False

    def policy(self, name: str, text: str) -> None:
        self.policies[name] = policies.parse(text)

    def put(self, path: str, data: Mapping[str, Any]) -> None:
        """As an operator writes it."""
        mount, rest = self._mount(path)
        self.mounts[mount].write(rest, data)

    def database_role(self, name: str, ttl_s: int, ttl_s_max: int = TTL_S_MAX) -> None:
        database = self.mounts["database/"]
        assert isinstance(database, Database)
        database.roles[name] = (ttl_s, ttl_s_max)

    # ---- requests

    def answer(self, method: str, target: str, headers: Mapping[str, str], raw: bytes) -> tuple[int, dict[str, Any] | None, str]:
        """Status, document, and where a redirect leads."""
        if self.slow_s:
            self._closed.wait(self.slow_s)
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        path = unquote(url.path).removeprefix("/v1/").strip("/")
        method = "LIST" if method == "GET" and query.get("list") == "true" else "POST" if method == "PUT" else method
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return 400, {"errors": ["error parsing JSON"]}, ""
        with self._turn:
            token = self.tokens.find(headers.get("X-Vault-Token") or "")
            self.calls.append(
                Call(
                    method,
                    path,
                    token.display_name if token else "",
                    headers.get("X-Vault-Namespace") or "",
                    headers.get("X-Vault-Wrap-TTL") or "",
                    body,
                )
            )
            if self.failing:
                return self.failing, {"errors": ["internal error" if self.failing == 500 else "service unavailable"]}, ""
            try:
                if path == "sys/health":
                    return self._health(query)
                if path in ("sys/seal-status", "sys/unseal"):
                    return 200, self._seal_status(body if path == "sys/unseal" else {}), ""
                if self.is_sealed or not self.is_initialised:
                    raise Refused(503, "Vault is sealed")
                if self.standby_of:
                    return 307, None, f"{self.standby_of}{target}"
                found = self._routed(method, path, query, body, token, headers)
            except Refused as refused:
                return refused.status, {"errors": refused.errors}, ""
            if found.status == 204:
                return 204, None, ""
            document = _envelope(found)
            wrap_ttl_s = span_s(headers.get("X-Vault-Wrap-TTL"))
            return found.status, self._wrap(document, wrap_ttl_s, path) if wrap_ttl_s else document, ""

    def _routed(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any], token: Token | None, headers: Mapping[str, str]
    ) -> Answer:
        if path == "sys/wrapping/unwrap":
            return self._unwrap(body.get("token") or headers.get("X-Vault-Token") or "")
        if path.startswith("auth/") and path.endswith("/login"):
            return self._login(path.split("/")[1], body)
        if token is None:
            raise Refused(403, "permission denied") if headers.get("X-Vault-Token") else Refused(400, "missing client token")
        if path.startswith("sys/internal/ui/mounts/"):
            return self._ui_mount(path.removeprefix("sys/internal/ui/mounts/"), token)
        self._permit(method, path, token)
        if path.startswith("auth/token/"):
            return self._token(method, path.removeprefix("auth/token/"), body, token)
        if path.startswith("auth/"):
            return self._approle(method, *path.removeprefix("auth/").split("/"), body=body)
        if path.startswith("sys/"):
            return self._sys(method, path.removeprefix("sys/"), body, token)
        mount, rest = self._mount(path)
        engine = self.mounts[mount]
        match method:
            case "GET":
                return engine.read(rest, query, token)
            case "LIST":
                return engine.listed(rest)
            case "POST":
                return engine.write(rest, body)
            case "DELETE":
                return engine.delete(rest)
        raise Refused(405, "unsupported operation")

    # ---- what may be done

    def _capabilities(self, token: Token, path: str) -> frozenset[str]:
        if "root" in token.policies:
            return frozenset({"root"})
        return policies.capabilities([self.policies[name] for name in token.policies if name in self.policies], path)

    def _permit(self, method: str, path: str, token: Token) -> None:
        allowed = self._capabilities(token, path)
        if "root" in allowed:
            return
        needed = {"GET": "read", "LIST": "list", "DELETE": "delete", "POST": "update"}[method]
        if method == "LIST":
            allowed |= self._capabilities(token, f"{path}/") - {"deny"}
            allowed = allowed - {"deny"} if len(allowed) > 1 else allowed
        if method == "POST" and not path.startswith(("auth/", "sys/")):
            mount, rest = self._mount(path)
            needed = "create" if self.mounts[mount].has(rest) is False else "update"
        is_sudo = path.startswith(_SUDO)
        if needed not in allowed or (is_sudo and "sudo" not in allowed):
            raise Refused(403, _DENIED)

    def _mount(self, path: str) -> tuple[str, str]:
        for mount in self.mounts:
            if f"{path}/".startswith(mount):
                return mount, path.removeprefix(mount.rstrip("/")).strip("/")
        raise Refused(404, f'no handler for route "{path}". route entry not found.')

    # ---- tokens

    def _token(self, method: str, path: str, body: Mapping[str, Any], token: Token) -> Answer:
        verb, _, name = path.partition("/")
        match method, verb:
            case "POST", "create" | "create-orphan":
                allowed = self._capabilities(token, f"auth/token/{path}")
                made, warnings = self.tokens.create(
                    token, body, role_name=name, is_orphan=verb == "create-orphan", is_sudo=bool(allowed & {"root", "sudo"}), known=self.policies
                )
                return Answer(auth=made.auth(self.now_s()), warnings=warnings or None)
            case "GET", "lookup-self":
                return Answer(data=self.tokens.facts(token))
            case "POST", "lookup":
                found = self.tokens.find(body.get("token", ""))
                if found is None:
                    raise Refused(403, "bad token")
                return Answer(data=self.tokens.facts(found))
            case "POST", "lookup-accessor":
                return Answer(data=self.tokens.facts(self.tokens.by_accessor(body.get("accessor", "")), is_shown=False))
            case "POST", "renew-self":
                self.tokens.renew(token, body.get("increment"))
                return Answer(auth=token.auth(self.now_s()))
            case "POST", "revoke-self":
                self.tokens.revoke(token)
                return Answer(status=204)
            case "POST", "revoke-accessor":
                self.tokens.revoke(self.tokens.by_accessor(body.get("accessor", "")))
                return Answer(status=204)
            case "POST", "roles":
                self.tokens.roles[name] = dict(body)
                return Answer(status=204)
            case "GET", "roles":
                if name not in self.tokens.roles:
                    raise Refused(404)
                return Answer(data=_token_role(name, self.tokens.roles[name]))
        raise Refused(404, "unsupported path")

    def _ended(self, token: Token) -> None:
        for lease in [one for one in self.leases.values() if one.token is token]:
            del self.leases[lease.id]

    def _expire(self) -> None:
        self.tokens.expire()
        for lease in [one for one in self.leases.values() if one.ends_s <= self.now_s()]:
            del self.leases[lease.id]

    # ---- AppRole

    def _approle(self, method: str, mount: str, *rest: str, body: Mapping[str, Any]) -> Answer:
        if mount not in self.approles or not rest or rest[0] != "role" or len(rest) < 2:
            raise Refused(404, "unsupported path")
        roles, name, verb = self.approles[mount], rest[1], "/".join(rest[2:])
        if method == "POST" and not verb:
            roles[name] = Role(role_id=random_id(36), settings=dict(body))
            return Answer(status=204)
        if name not in roles:
            raise Refused(404)
        role = roles[name]
        if method == "GET" and verb == "role-id":
            return Answer(data={"role_id": role.role_id})
        if method == "POST" and verb == "secret-id":
            made = random_id(36)
            role.secret_ids.add(made)
            data = {"secret_id": made, "secret_id_accessor": random_id(36), "secret_id_num_uses": 0, "secret_id_ttl": 0}
            return Answer(data=data)
        raise Refused(404, "unsupported path")

    def _login(self, mount: str, body: Mapping[str, Any]) -> Answer:
        if mount not in self.approles:
            raise Refused(404, f'no handler for route "auth/{mount}/login". route entry not found.')
        for name, role in self.approles[mount].items():
            if role.role_id == body.get("role_id"):
                if role.settings.get("bind_secret_id", True) and body.get("secret_id") not in role.secret_ids:
                    raise Refused(400, "invalid secret id")
                return Answer(auth=self._logged_in(mount, name, role).auth(self.now_s()))
        raise Refused(400, "invalid role or secret ID")

    def _logged_in(self, mount: str, name: str, role: Role) -> Token:
        settings, now_s = role.settings, self.now_s()
        period_s = span_s(settings.get("token_period"))
        ttl_s = period_s or span_s(settings.get("token_ttl")) or TTL_S_MAX
        return self.tokens.add(
            Token(
                policies=sorted({"default", *(settings.get("token_policies") or [])}),
                made_s=int(now_s),
                ttl_s=ttl_s,
                ends_s=now_s + ttl_s,
                explicit_max_ttl_s=span_s(settings.get("token_max_ttl")),
                period_s=period_s,
                meta={"role_name": name},
                display_name=mount,
                path=f"auth/{mount}/login",
            )
        )

    # ---- sys

    def _sys(self, method: str, path: str, body: Mapping[str, Any], token: Token) -> Answer:
        part, _, rest = path.partition("/")
        match method, part:
            case "POST", "capabilities-self":
                found = {one: sorted(self._capabilities(token, one.strip("/"))) for one in body.get("paths") or []}
                single = next(iter(found.values()), ["deny"])
                return Answer(data=found | {"capabilities": single})
            case "POST", "seal":
                self.is_sealed = True
                return Answer(status=204)
            case "POST", "policies":
                self.policy(rest.removeprefix("acl/"), str(body.get("policy", "")))
                return Answer(status=204)
            case "POST", "mounts":
                self.mounts[f"{rest}/"] = self._engine(f"{rest}/", body)
                return Answer(status=204)
            case "DELETE", "mounts":
                self.mounts.pop(f"{rest}/", None)
                return Answer(status=204)
            case "POST", "auth":
                self.approles[rest] = {}
                return Answer(status=204)
            case "POST", "leases":
                return self._lease(rest, body)
        raise Refused(404, "unsupported path")

    def _engine(self, mount: str, body: Mapping[str, Any]) -> Engine:
        match body.get("type"), (body.get("options") or {}).get("version", "1"):
            case "kv", "2":
                return Kv2(self.now_s)
            case "kv", _:
                return Kv1()
            case "database", _:
                return Database(self.now_s, mount, self.leases)
        raise Refused(400, f"plugin not found in the catalog: {body.get('type')}")

    def _lease(self, verb: str, body: Mapping[str, Any]) -> Answer:
        self._expire()
        lease = self.leases.get(str(body.get("lease_id", "")))
        if lease is None:
            raise Refused(400, "lease not found" if verb == "renew" else "invalid lease")
        now_s = self.now_s()
        match verb:
            case "renew":
                wanted_s = span_s(body.get("increment")) or lease.ttl_s
                lease.ends_s = min(now_s + wanted_s, lease.issued_s + lease.ttl_s_max)
                return Answer(lease_id=lease.id, renewable=True, lease_duration=max(0, round(lease.ends_s - now_s)))
            case "lookup":
                data = {
                    "id": lease.id,
                    "issue_time": timestamp(lease.issued_s),
                    "expire_time": timestamp(lease.ends_s),
                    "last_renewal_time": None,
                    "renewable": True,
                    "ttl": round(lease.ends_s - now_s),
                }
                return Answer(data=data)
            case "revoke":
                del self.leases[lease.id]
                return Answer(status=204)
        raise Refused(404, "unsupported path")

    def _ui_mount(self, path: str, token: Token) -> Answer:
        try:
            mount, _ = self._mount(path)
        except Refused:
            mount = ""
        held = [self.policies[name] for name in token.policies if name in self.policies]
        if not mount or ("root" not in token.policies and not policies.touches(held, mount)):
            raise Refused(
                403, f'preflight capability check returned 403, please ensure client\'s policies grant access to path "{path}/"'
            )
        engine = self.mounts[mount]
        return Answer(
            data={
                "accessor": f"{engine.kind}_{mount.strip('/')}",
                "config": {"default_lease_ttl": 0, "force_no_cache": False, "max_lease_ttl": 0},
                "description": "",
                "external_entropy_access": False,
                "local": False,
                "options": engine.options,
                "path": mount,
                "seal_wrap": False,
                "type": engine.kind,
                "uuid": random_id(36),
            }
        )

    def _health(self, query: Mapping[str, str]) -> tuple[int, dict[str, Any], str]:
        is_standby = bool(self.standby_of)
        status = 501 if not self.is_initialised else 503 if self.is_sealed else 429 if is_standby else 200
        if is_standby and query.get("standbyok") == "true" and status == 429:
            status = 200
        document = {
            "initialized": self.is_initialised,
            "sealed": self.is_sealed or not self.is_initialised,
            "standby": is_standby or self.is_sealed,
            "performance_standby": False,
            "replication_performance_mode": "disabled",
            "replication_dr_mode": "disabled",
            "server_time_utc": int(self.now_s()),
            "version": self.version,
        }
        if not self.is_sealed:
            document |= {"cluster_name": self.cluster_name, "cluster_id": "00af5aa8-c87d-b5fc-e82e-97cd8dfaf731"}
        return status, document, ""

    def _seal_status(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body.get("key") == self.unseal_key:
            self.is_sealed = False
        return {
            "type": "shamir",
            "initialized": self.is_initialised,
            "sealed": self.is_sealed,
            "t": 1,
            "n": 1,
            "progress": 0,
            "nonce": "",
            "version": self.version,
        }

    # ---- wrapping

    def _wrap(self, document: dict[str, Any], ttl_s: int, path: str) -> dict[str, Any]:
        token_id = f"hvs.{random_id()}"
        self._wrapped[token_id] = Wrapped(document, self.now_s() + ttl_s)
        info = {
            "token": token_id,
            "accessor": random_id(),
            "ttl": ttl_s,
            "creation_time": timestamp(self.now_s()),
            "creation_path": path,
            "wrapped_accessor": (document["auth"] or {}).get("accessor", ""),
        }
        return _envelope(Answer()) | {"data": None, "wrap_info": info}

    def _unwrap(self, token_id: str) -> Answer:
        held = self._wrapped.pop(token_id, None)
        if held is None or held.ends_s <= self.now_s():
            raise Refused(400, "wrapping token is not valid or does not exist")
        document = held.document
        return Answer(
            data=document["data"],
            auth=document["auth"],
            lease_id=document["lease_id"],
            lease_duration=document["lease_duration"],
            renewable=document["renewable"],
            warnings=document["warnings"],
        )


def _envelope(found: Answer) -> dict[str, Any]:
    document = {
        "request_id": random_id(36),
        "lease_id": found.lease_id,
        "renewable": found.renewable,
        "lease_duration": found.lease_duration,
        "data": found.data,
        "wrap_info": None,
        "warnings": found.warnings,
        "auth": found.auth,
    }
    if found.data is not None and "capabilities" in found.data:
        document |= found.data  # at the top as well, as Vault has it
    return document


def _token_role(name: str, role: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "allowed_entity_aliases": [],
        "allowed_policies": role.get("allowed_policies") or [],
        "disallowed_policies": role.get("disallowed_policies") or [],
        "explicit_max_ttl": 0,
        "name": name,
        "orphan": bool(role.get("orphan", False)),
        "path_suffix": role.get("path_suffix", ""),
        "period": 0,
        "renewable": bool(role.get("renewable", True)),
        "token_explicit_max_ttl": span_s(role.get("token_explicit_max_ttl")),
        "token_period": span_s(role.get("token_period")),
        "token_type": role.get("token_type", "default-service"),
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    double: Double

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Ends what is open: a Vault that died answers nobody any more."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up, or that does not trust us: its own test tells."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 30

    def _any(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(size) if size else b""
        try:
            status, document, location = self.server.double.answer(self.command, self.path, self.headers, raw)
        except Exception as error:  # a bug of the double: seen by the test as a 500 with its name
            status, document, location = 500, {"errors": [f"the double broke: {error!r}"]}, ""
        if self.server.double._closed.is_set():
            self.close_connection = True
            return
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        if document is not None:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _any

    def log_message(self, *_: object) -> None:
        """Nothing: `calls` has it."""


