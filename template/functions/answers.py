"""consul-template's functions that look something up: each makes a Read and gives it to the caller's Lookups."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from template.budget import shown
from template.faults import Missing, Refusal
from template.lookups import Lookups, Pair, Read, read_of

T = TypeVar("T")


class Answers:
    """The functions over one set of Lookups."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    def functions(self) -> dict[str, Callable[..., object]]:
        return {
            "env": self.env,
            "envOrDefault": self.env_or_default,
            "mustEnv": self.must_env,
            "file": self.file,
            "key": self.key,
            "keyOrDefault": self.key_or_default,
            "keyExists": self.key_exists,
            "keyExistsGet": self.key_exists_get,
            "ls": self.ls,
            "safeLs": self.ls,
            "tree": self.tree,
            "safeTree": self.tree,
            "service": self.service,
            "services": self.services,
            "node": self.node,
            "nodes": self.nodes,
            "datacenters": self.datacenters,
            "secret": self.secret,
            "secrets": self.secrets,
        }

    def env(self, name: str) -> str:
        return self._lookups.env(name) or ""

    def env_or_default(self, name: str, default: str) -> str:
        found = self._lookups.env(name)
        return default if found is None else found

    def must_env(self, name: str) -> str:
        found = self._lookups.env(name)
        if found is None:
            raise Refusal(f"mustEnv: the variable {shown(name)[:80]} is not set")
        return found

    def file(self, path: str) -> str:
        read = read_of("file", (path,))
        return self._there(read, self._lookups.file(read)) if read else ""

    def key(self, path: str) -> str:
        read = read_of("key", (path,))
        return self._there(read, self._lookups.key(read)).value if read else ""

    def key_or_default(self, path: str, default: str) -> str:
        pair = self._pair(path)
        return default if pair is None or not pair.value else pair.value

    def key_exists(self, path: str) -> bool:
        return self._pair(path) is not None

    def key_exists_get(self, path: str) -> object:
        return self._pair(path) or Pair(path=path, key=path, value="", exists=False)

    def _pair(self, path: str) -> Pair | None:
        read = read_of("key", (path,))
        return self._lookups.key(read) if read else None

    def ls(self, prefix: str) -> object:
        """What is right below the prefix."""
        return [pair for pair in self._pairs(prefix) if pair.key and "/" not in pair.key]

    def tree(self, prefix: str) -> object:
        """All below the prefix; folders are left out."""
        return [pair for pair in self._pairs(prefix) if pair.key and not pair.key.endswith("/")]

    def _pairs(self, prefix: str) -> Sequence[Pair]:
        return self._lookups.pairs(cast(Read, read_of("tree", (prefix,))))

    def service(self, name: str, *states: str) -> object:
        read = read_of("service", (name, *states))
        return list(self._lookups.service(read)) if read else []

    def services(self, *where: str) -> object:
        return list(self._lookups.services(cast(Read, read_of("services", where))))

    def node(self, *name: str) -> object:
        return self._lookups.node(cast(Read, read_of("node", name)))

    def nodes(self, *where: str) -> object:
        return list(self._lookups.nodes(cast(Read, read_of("nodes", where))))

    def datacenters(self, *_: bool) -> object:
        return list(self._lookups.datacenters(cast(Read, read_of("datacenters", ()))))

    def secret(self, path: str, *arguments: str) -> object:
        """With arguments `name=value` the path is written to, and what comes of it answered."""
        read = read_of("secret", (path, *arguments))
        if read is None:
            return None
        if any("=" not in one for one in arguments):
            raise Refusal("secret: expected arguments of the form name=value")
        return self._there(read, self._lookups.secret(read))

    def secrets(self, path: str) -> object:
        read = read_of("secrets", (path,))
        return list(self._lookups.secrets(read)) if read else []

    def _there(self, read: Read, found: T | None) -> T:
        """A template waits for what is not there, as consul-template does."""
        if found is None:
            raise Missing([read])
        return found


_REFUSED_NOMAD = "drover has no variables of its own: use key (Consul's KV) or secret (Vault)"
_REFUSED_SERVICES = "services are Consul's: use {}"
_CONNECT = "Connect is not supported"
_SPEW = "debugging output is not supported: use toJSONPretty"

# What consul-template knows and drover refuses, with what to use instead.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("nomadVar", "nomadVarList", "nomadVarListSafe", "nomadVarExists"), _REFUSED_NOMAD),
    "nomadService": _REFUSED_SERVICES.format("service"),
    "nomadServices": _REFUSED_SERVICES.format("services"),
    **dict.fromkeys(("caRoots", "caLeaf", "connect", "exportedServices", "peerings", "partitions"), _CONNECT),
    "pkiCert": "not supported: use secret with the arguments of the certificate",
    **dict.fromkeys(("spew_dump", "spew_sdump", "spew_printf", "spew_sprintf"), _SPEW),
    "plugin": "it runs a command and is not allowed",
    "writeToFile": "it writes files and is not allowed: use a template of its own for each file",
    "executeTemplate": "it renders data as a template and is not allowed here",
    **dict.fromkeys(("sprig_env", "sprig_expandenv"), "it reads the agent's own environment: use env"),
    "sprig_getHostByName": "it asks the network while rendering: use service",
    **dict.fromkeys(
        ("sprig_uuidv4", "sprig_randAlpha", "sprig_randAlphaNum", "sprig_randNumeric", "sprig_randAscii", "sprig_randInt",
         "sprig_randBytes", "sprig_shuffle", "sprig_genPrivateKey", "sprig_genCA", "sprig_genSelfSignedCert",
         "sprig_genSignedCert", "sprig_bcrypt", "sprig_htpasswd", "sprig_encryptAES"),
        "it renders something else each time, and its task would never be left alone: use secret or key",
    ),
}  # fmt: skip


def refusing(name: str) -> Callable[..., object]:
    def refused(*_: object) -> object:
        raise Refusal(REFUSED[name])

    return refused
