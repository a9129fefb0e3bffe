"""How is python-consul2 used?

Its endpoint classes (session, agent, catalog, health, status) run over drover's own transport: they
build each request and read each answer, while connections, token, TLS, timeouts and errors are
catalog/transport.py's. The client object is put together here instead of by `consul.Consul`, which
would read CONSUL_HTTP_* by itself and override the agent's configuration. The KV's hot paths
(catalog/kv.py) decode with msgspec: ten times faster than python-consul2's item-by-item base64.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from consul import base

from catalog.transport import Response, Transport, checked
from model.errors import StoreRefused, StoreUnavailable

Params = Sequence[tuple[str, str]] | None
Callback = Callable[[base.Response], Any]


class _HTTPClient(base.HTTPClient):
    """python-consul2's four verbs on a Transport. Its `headers` only ever repeat the token and are dropped."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport = transport

    async def _call(self, method: str, callback: Callback, path: str, params: Params, data: str) -> Any:
        response = await self._transport.request(
            method, unquote(path), params=dict(params or ()), body=data.encode() if data else b""
        )
        try:
            return callback(base.Response(response.status, response.headers, response.text, response.body))
        except base.ACLPermissionDenied as error:
            raise StoreRefused(f"Consul refused {method} {path}: {error}") from error
        except base.ConsulException as error:
            raise StoreRefused(f"Consul: {method} {path}: {error}") from error
        except ValueError as error:
            raise StoreUnavailable(f"Consul: {method} {path}: not JSON: {response.text[:80]!r}") from error

    async def get(self, callback: Callback, path: str, params: Params = None, headers: object = None) -> Any:
        return await self._call("GET", callback, path, params, "")

    async def put(
        self, callback: Callback, path: str, params: Params = None, data: str = "", headers: object = None
    ) -> Any:
        return await self._call("PUT", callback, path, params, data)

    async def delete(
        self, callback: Callback, path: str, params: Params = None, data: str = "", headers: object = None
    ) -> Any:
        return await self._call("DELETE", callback, path, params, data)

    async def post(
        self, callback: Callback, path: str, params: Params = None, data: str = "", headers: object = None
    ) -> Any:
        return await self._call("POST", callback, path, params, data)


class Client:
    """One Consul agent, by python-consul2's endpoint classes."""

    # What the endpoint classes read from their owner; the transport has the token, kv the datacenter.
    token = None
    dc = None
    consistency = "default"
    scheme = "http"

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.http = _HTTPClient(transport)
        self.agent = base.Consul.Agent(self)
        self.catalog = base.Consul.Catalog(self)
        self.session = base.Consul.Session(self)
        self.status = base.Consul.Status(self)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        document: object = None,
        timeout_s: float = 10.0,
    ) -> Response:
        """A call that python-consul2 has no parameter for (several checks at once, filter, blocking health)."""
        body = b"" if document is None else json.dumps(document).encode()
        response = await self.transport.request(method, path, params=params, body=body, timeout_s=timeout_s)
        return checked(response, f"{method} {path}")
