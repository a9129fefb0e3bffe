"""How does an agent prove who it is, and whom does it believe?

Two contexts of `tls {}`: the API's own, and the one for calls to other agents' APIs. Both are kept for the process' life;
renew() puts the files as they are by then into them, so that the next connection uses them and open ones live on.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from configs.settings import Consul, Tls
from model.errors import ConfigError, Fault


@dataclass(slots=True)
class Contexts:
    """server: None where the API is in the clear. peers, leaders: None without tls {}. leaders: for calls to who leads, where its name is verified. consul: None where Consul is spoken to in the clear."""

    tls: Tls
    consul_settings: Consul
    server: ssl.SSLContext | None = None
    peers: ssl.SSLContext | None = None
    leaders: ssl.SSLContext | None = None
    consul: ssl.SSLContext | None = None

    def renew(self) -> None:
        """Reads all files again. Raises ConfigError, and then nothing has changed."""
        fresh = contexts(self.tls, self.consul_settings)  # the whole of it is tried before any of it is used
        for context, found in ((self.server, fresh.server), (self.peers, fresh.peers), (self.leaders, fresh.leaders)):
            if context is not None and found is not None:
                _load(context, self.tls.ca_file, self.tls.cert_file, self.tls.key_file)
        if self.consul is not None:
            _load(self.consul, self.consul_settings.ca_file, self.consul_settings.cert_file, self.consul_settings.key_file)


def contexts(tls: Tls, consul: Consul) -> Contexts:
    """Raises ConfigError for files that cannot be used."""
    made = Contexts(tls, consul)
    if tls.http or tls.ca_file is not None:
        try:
            if tls.http:
                made.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                _load(made.server, tls.ca_file, tls.cert_file, tls.key_file)
                if tls.verify_https_client:
                    made.server.verify_mode = ssl.CERT_REQUIRED
            made.peers, made.leaders = (_calling(tls) for _ in range(2))
            # Without a CA of its own anybody's certificate would do, so the name has to be right. Nomad's certificates
            # name roles (server.global.nomad), not machines: there the CA is the proof.
            made.peers.check_hostname = tls.ca_file is None
            made.leaders.check_hostname = made.peers.check_hostname or tls.verify_server_hostname
        except (OSError, ssl.SSLError) as error:
            raise ConfigError((Fault(path="tls", message=f"files cannot be used: {_words(error)}"),)) from error
    if consul.ssl:
        try:
            made.consul = ssl.create_default_context(cafile=consul.ca_file)
            if not consul.verify_ssl:
                made.consul.check_hostname = False
                made.consul.verify_mode = ssl.CERT_NONE
            _load(made.consul, None, consul.cert_file, consul.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError((Fault(path="consul", message=f"TLS files cannot be used: {_words(error)}"),)) from error
    return made


def _calling(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    _load(context, None, tls.cert_file, tls.key_file)
    return context


def _load(context: ssl.SSLContext, ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> None:
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    if cert_file is not None:
        # A key with a passphrase would ask for it on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
