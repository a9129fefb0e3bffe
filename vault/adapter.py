"""How does hvac's HTTP session trust Vault?

By a context of the standard library's: the system's CAs (requests would bring its own list), or the configured ones, and
the server name that Nomad's `tls_server_name` gives. Imported in the client's threads only: hvac takes a quarter of a
second to load, which an agent without Vault is spared.
"""

import ssl
from typing import Any

from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter
from urllib3 import disable_warnings
from urllib3.exceptions import InsecureRequestWarning

from vault.transport import Endpoint


def adapter(endpoint: Endpoint) -> RawAdapter:
    """For one thread. Raises OSError for files that cannot be used."""
    # GET with ?list=true instead of the method LIST, which not every balancer lets through. Redirects: vault/transport.py.
    made = RawAdapter(base_uri=endpoint.address, allow_redirects=False, strict_http=True, verify=endpoint.is_verified)
    if not endpoint.is_verified:
        disable_warnings(InsecureRequestWarning)  # it was asked for, and would be said at each request
    made.session.trust_env = False  # no proxy, no netrc, no other CA than what the agent's configuration says
    if endpoint.address.startswith("https:"):
        made.session.mount("https://", _Trusting(_context(endpoint), endpoint.server_name))
    return made


def files_state(endpoint: Endpoint) -> tuple[object, ...]:
    """Another one when a certificate was renewed in place. Raises OSError for one that is gone."""
    files = (endpoint.ca_file, endpoint.ca_path, endpoint.cert_file, endpoint.key_file)
    return tuple((found.st_mtime_ns, found.st_ino) for found in (file.stat() for file in files if file is not None))


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=endpoint.ca_file, capath=endpoint.ca_path)
    if not endpoint.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if endpoint.cert_file is not None:
        # A key with a passphrase would ask for it on the terminal.
        context.load_cert_chain(endpoint.cert_file, endpoint.key_file, password=lambda: "")
    return context


class _Trusting(HTTPAdapter):
    """Connections with a context of ours; requests' own way with certificates is left out."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._tls: dict[str, Any] = {"ssl_context": context}
        if server_name:
            self._tls["server_hostname"] = server_name
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **(kwargs | self._tls))

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context has it all."""
