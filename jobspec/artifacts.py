"""What does an artifact's `source` mean? go-getter's language, as far as drover fetches it.

    [kind::]address[//subdirectory][?option=value…]      options of the block count as written into the address

Known: http and https, git (also as `github.com/owner/repo`, `git@host:path`), and files of the machine. What go-getter
knows besides is refused by name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

from jobspec.interpolate import with_references_as
from jobspec.templates import escapes
from model.errors import Fault
from model.job import Artifact


class Kind(StrEnum):
    HTTP = "http"
    GIT = "git"
    FILE = "file"


class BadSource(Exception):
    """What is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """url: without the options that are drover's to use; of a file its path. subdirectory: what of it is wanted, "" all.

    checksum: `sha256:…`, `file:<url>`, or only digits. archive: how it is packed (`tar.gz`, `zip`, …), "" not at all.
    filename: what a single file is to be called. ref: branch, tag or commit; depth: 0 for all of its history. ssh_key: base64.
    """

    kind: Kind
    url: str
    subdirectory: str = ""
    checksum: str = ""
    archive: str = ""
    filename: str = ""
    ref: str = ""
    depth: int = 0
    ssh_key: str = ""

    def __repr__(self) -> str:
        return f"Source({self.kind}, {self.shown})"

    @property
    def shown(self) -> str:
        return without_secrets(self.url)


def without_secrets(url: str) -> str:
    """For people: without a password, and without the query, which may hold a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


# The longest first: `.tar.gz` is no `.gz`.
ARCHIVES = ("tar.gz", "tar.bz2", "tar.xz", "tgz", "tbz2", "txz", "tar", "zip", "gz", "bz2", "xz")
# Those that hold one file.
SINGLE = ("gz", "bz2", "xz")
_UNKNOWN_ARCHIVES = ("tar.zst", "tzst", "zst", "rar", "7z")
_ELSEWHERE = {"s3": "S3", "gcs": "Google Cloud Storage", "gs": "Google Cloud Storage", "hg": "Mercurial", "smb": "SMB"}
# What go-getter takes for these without being told.
_BUCKETS = re.compile(r"(?:[\w.-]+\.)?(?:s3[\w.-]*\.amazonaws\.com|storage\.googleapis\.com)/|www\.googleapis\.com/storage/")
_FORGES = re.compile(r"(?P<repository>(?:github\.com|gitlab\.com|bitbucket\.org)/[\w.-]+/[\w.-]+?)(?:\.git)?(?P<rest>/.*)?")
_SCP = re.compile(r"(?P<login>\w[\w.-]*@\w[\w.-]*):/?(?P<path>[^/:][^:]*)")
_KIND = re.compile(r"(?P<kind>[A-Za-z0-9]+)::(?P<address>.+)", re.DOTALL)
# What a reference may go on with to any `kind::` or `scheme://`.
_MAYBE_KIND = re.compile(r"[A-Za-z0-9+.-]*")
_SCHEMES = {Kind.HTTP: ("http", "https"), Kind.GIT: ("https", "http", "ssh", "git"), Kind.FILE: ("", "file")}
_OPTIONS = ("checksum", "archive", "filename", "ref", "depth", "sshkey")


def source_of(text: str, options: Mapping[str, str]) -> Source:
    """Raises BadSource."""
    text = text.strip()
    found = _KIND.fullmatch(text)
    kind, address = (found["kind"].lower(), found["address"]) if found else ("", text)
    if any(letter.isspace() or not letter.isprintable() for letter in address):
        raise BadSource("it holds a space or a sign that cannot be printed (written as %20 it may)")
    try:
        return _read(kind, address, options)
    except ValueError as error:  # of urllib: a bracket or a port that is none
        raise BadSource(f"it is no address: {error}") from error


def _read(kind: str, address: str, options: Mapping[str, str]) -> Source:
    if kind in _ELSEWHERE or urlsplit(address).scheme in _ELSEWHERE or _BUCKETS.match(address):
        name = _ELSEWHERE.get(kind) or _ELSEWHERE.get(urlsplit(address).scheme) or "a bucket of a cloud"
        raise BadSource(f"{name} is not supported by drover yet (offer the file over https)")
    if kind not in ("", "http", "https", "git", "file"):
        raise BadSource(f'"{kind[:20]}::" is no kind of source (expected http, git or file)')
    kind, address = _detected(kind, address)
    address, subdirectory = _split(address)
    parts = urlsplit(address)
    query, given = _query(parts.query)
    for name, value in options.items():
        if name in _OPTIONS:
            given[name] = value
        else:
            query = "&".join((*([query] if query else []), f"{quote(name)}={quote(value)}"))
    parts = parts._replace(query=query)
    source = Source(
        kind=_kind(kind, parts.scheme),
        url=parts.path if kind == "file" or parts.scheme in ("", "file") else urlunsplit(parts),
        subdirectory=subdirectory,
        checksum=given.get("checksum", ""),
        archive=_archive(given.get("archive", ""), parts.path),
        filename=_filename(given.get("filename", "")),
        ref=_ref(given.get("ref", "")),
        depth=_depth(given.get("depth", "")),
        ssh_key=given.get("sshkey", ""),
    )
    _check(source, parts.netloc)
    return source


def _detected(kind: str, address: str) -> tuple[str, str]:
    """Of an address that is not written in full: its kind, and what it is in full."""
    front, question, query = address.partition("?")
    if not kind and (forge := _FORGES.fullmatch(front)):
        below = (forge["rest"] or "").strip("/")
        return "git", f"https://{forge['repository']}.git" + (f"//{below}" if below else "") + question + query
    if kind in ("", "git") and "://" not in front and (scp := _SCP.fullmatch(front)):
        return "git", f"ssh://{scp['login']}/{scp['path']}{question}{query}"
    return kind, address


def _kind(kind: str, scheme: str) -> Kind:
    named = "http" if kind == "https" else kind
    if not named:
        named = next((one for one in (Kind.HTTP, Kind.FILE, Kind.GIT) if scheme in _SCHEMES[one]), Kind.HTTP)
    if scheme not in _SCHEMES[Kind(named)]:
        expected = ", ".join(one for one in _SCHEMES[Kind(named)] if one)
        raise BadSource(f'"{scheme[:20]}://" is not supported by drover' if scheme else f"it has to be written in full ({expected}://…)")
    return Kind(named)


def _check(source: Source, host: str) -> None:
    if source.kind is Kind.FILE:
        if host or not source.url.startswith("/"):
            raise BadSource("a file of the machine is named by an absolute path, and anything else by https://…")
    elif not host.rpartition("@")[2]:
        raise BadSource("it names no host")
    if source.kind is Kind.GIT and source.checksum:
        raise BadSource("a git repository has no checksum (name a commit with ref)")
    if reason := checksum_fault(source.checksum):
        raise BadSource(f"checksum: {reason}")


def _split(address: str) -> tuple[str, str]:
    """`https://host/a.zip//below?x` is a.zip, and of it what is `below`."""
    front, question, query = address.partition("?")
    begin = front.find("://") + 3 if "://" in front else 0
    path, double, below = front[begin:].partition("//")
    if ".." in below.split("/"):
        raise BadSource(f'"{below[:80]}" leads out of what is fetched')
    below = "/".join(name for name in below.split("/") if name not in ("", "."))
    return front[:begin] + path + question + query, below if double else ""


def _query(query: str) -> tuple[str, dict[str, str]]:
    """What goes to the other end, to the letter (it may be signed), and the options that do not."""
    sent, given = [], {}
    for one in filter(None, query.split("&")):
        name, _, value = one.partition("=")
        if name in _OPTIONS:
            given[name] = unquote_plus(value)
        else:
            sent.append(one)
    return "&".join(sent), given


def _archive(wanted: str, path: str) -> str:
    if wanted.lower() in ("false", "0", "no"):
        return ""
    if wanted:
        if wanted not in ARCHIVES:
            raise BadSource(f'"{wanted[:20]}" is no kind of archive that drover unpacks ({", ".join(ARCHIVES)})')
        return wanted
    name = path.lower()
    if any(name.endswith(f".{one}") for one in _UNKNOWN_ARCHIVES):
        raise BadSource(f"drover does not unpack .{name.rpartition('.')[2]} (expected {', '.join(ARCHIVES)}, or archive = false)")
    return next((one for one in ARCHIVES if name.endswith(f".{one}")), "")


def _filename(name: str) -> str:
    if name and ("/" in name or "\0" in name or name in (".", "..")):
        raise BadSource(f'"{name[:80]}" is no name of a file')
    return name


def _ref(ref: str) -> str:
    if ref.startswith("-"):
        raise BadSource(f'"{ref[:80]}" is no branch, tag or commit')
    return ref


def _depth(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadSource(f'depth must be a number, found "{text[:20]}"')
    return int(text or 0)


CHECKSUM_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}


def checksum_fault(text: str) -> str:
    """What is wrong with it; empty: nothing, or there is none."""
    if not text:
        return ""
    kind, _, digits = text.rpartition(":")
    if text.startswith("file:"):
        url = text.removeprefix("file:")
        return "" if re.match(r"https?://[^/]", url) else f'a file of checksums is named by file:https://…, found "{text[:40]}"'
    if not digits or not all(letter in "0123456789abcdefABCDEF" for letter in digits):
        return f'must be md5:, sha1:, sha256:, sha384: or sha512: and hexadecimal digits, or file: and a URL, found "{text[:40]}"'
    if not kind:
        return "" if len(digits) in CHECKSUM_DIGITS.values() else f"no kind of checksum has {len(digits)} digits"
    if kind not in CHECKSUM_DIGITS:
        return f'must start with {", ".join(f"{one}:" for one in CHECKSUM_DIGITS)} or file:, found "{kind[:20]}:"'
    digits_expected = CHECKSUM_DIGITS[kind]
    return "" if len(digits) == digits_expected else f"a {kind} checksum has {digits_expected} hexadecimal digits"


def reads_machine(artifact: Artifact) -> bool:
    """Whether it is a file of the machine, or could turn out to be one: its kind is only known where it is fetched."""
    text = artifact.getter_source.strip()
    known, reference, _ = text.partition("${")
    if reference and _MAYBE_KIND.fullmatch(known):
        return True
    try:
        return source_of(with_references_as("x", text), {}).kind is Kind.FILE
    except BadSource:  # refused where it is fetched, unless what it refers to mends it
        return text.lower().startswith(("file:", "/"))


def artifact_faults(artifact: Artifact, path: str) -> Iterator[Fault]:
    """All that is known to be wrong before any reference in it has been resolved."""
    source, options = artifact.getter_source, artifact.getter_options
    if not source:
        yield Fault(path=path, message="a source is needed")
    elif not source.startswith("${"):
        front, question, query = source.partition("?")
        known = "&".join(one for one in query.split("&") if "${" not in one)
        try:
            source_of(
                with_references_as("x", front) + question + known,
                {name: value for name, value in options.items() if "${" not in value and name != "checksum"},
            )
        except BadSource as error:
            yield Fault(path=f"{path}.source", message=f"{error}")
    checksum = options.get("checksum", "")
    if "${" not in checksum and (reason := checksum_fault(checksum)):
        yield Fault(path=f"{path}.options.checksum", message=reason)
    if artifact.getter_mode not in ("any", "file", "dir"):
        yield Fault(path=f"{path}.mode", message=f'must be any, file or dir, found "{artifact.getter_mode}"')
    if escapes(artifact.relative_dest):
        yield Fault(path=f"{path}.destination", message="must not lead out of the allocation's directory")
