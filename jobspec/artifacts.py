"""What does an artifact's `source` mean? go-getter's language, as far as drover fetches it.

    [kind::]address[//subdirectory][?option=value…]      options of the block count as written into the address

Known: http and https, git (also as `github.com/owner/repo`, `git@host:path`), and files of the machine. What go-getter
knows besides is refused by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


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
        """For people: without a password, and without the query, which may hold a signature."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) or self.url


# The longest first: `.tar.gz` is no `.gz`.
ARCHIVES = ("tar.gz", "tar.bz2", "tar.xz", "tgz", "tbz2", "txz", "tar", "zip", "gz", "bz2", "xz")
_UNKNOWN_ARCHIVES = ("tar.zst", "tzst", "zst", "rar", "7z")
_ELSEWHERE = {"s3": "S3", "gcs": "Google Cloud Storage", "hg": "Mercurial", "smb": "SMB"}
# What go-getter takes for these without being told.
_BUCKETS = re.compile(r"(?:[\w.-]+\.)?(?:s3[\w.-]*\.amazonaws\.com|storage\.googleapis\.com)/|www\.googleapis\.com/storage/")
_FORGES = re.compile(r"(?P<repository>(?:github\.com|gitlab\.com|bitbucket\.org)/[\w.-]+/[\w.-]+?)(?:\.git)?(?P<rest>/.*)?")
_SCP = re.compile(r"(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]+):(?P<path>[^/\d:][^:]*)")
_OPTIONS = ("checksum", "archive", "filename", "ref", "depth", "sshkey")


def source_of(text: str, options: Mapping[str, str]) -> Source:
    """Raises BadSource."""
    kind, _, address = text.strip().rpartition("::")
    if kind in _ELSEWHERE or urlsplit(address).scheme in _ELSEWHERE or _BUCKETS.match(address):
        name = _ELSEWHERE.get(kind) or _ELSEWHERE.get(urlsplit(address).scheme) or "a bucket of a cloud"
        raise BadSource(f"{name} is not supported by drover yet (offer the file over https)")
    if kind not in ("", "http", "https", "git", "file"):
        raise BadSource(f'"{kind[:20]}::" is no kind of source (expected http, git or file)')
    if not kind:
        kind, address = _detected(address)
    address, subdirectory = _split(address)
    parts = urlsplit(address)
    given = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(options)
    found = {name: given.pop(name, "") for name in _OPTIONS}
    url = urlunsplit(parts._replace(query=urlencode(given)))
    return Source(
        kind=_kind(kind, parts.scheme),
        url=parts.path if kind == "file" or parts.scheme == "file" else url,
        subdirectory=subdirectory,
        checksum=found["checksum"],
        archive=_archive(found["archive"], parts.path),
        filename=_filename(found["filename"]),
        ref=_ref(found["ref"]),
        depth=_depth(found["depth"]),
        ssh_key=found["sshkey"],
    )


def _detected(address: str) -> tuple[str, str]:
    """Of an address without a kind: which, and what it is in full."""
    if forge := _FORGES.fullmatch(address.partition("?")[0]):
        query = address.partition("?")[2]
        below = (forge["rest"] or "").strip("/")
        url = f"https://{forge['repository']}.git" + (f"//{below}" if below else "")
        return "git", url + (f"?{query}" if query else "")
    if "://" not in address and (scp := _SCP.fullmatch(address)):
        return "git", f"ssh://{scp['user'] or 'git'}@{scp['host']}/{scp['path']}"
    return "", address


def _kind(kind: str, scheme: str) -> Kind:
    if kind == "git" or scheme == "git":
        return Kind.GIT
    if kind == "file" or scheme == "file" or not scheme:
        return Kind.FILE
    if scheme in ("http", "https"):
        return Kind.HTTP
    raise BadSource(f'"{scheme[:20]}://" is not supported by drover (expected http, https, git or file)')


def _split(address: str) -> tuple[str, str]:
    """`https://host/a.zip//below?x` is a.zip, and of it what is `below`."""
    front, question, query = address.partition("?")
    begin = front.find("://") + 3 if "://" in front else 0
    path, double, below = front[begin:].partition("//")
    if ".." in below.split("/"):
        raise BadSource(f'"{below[:80]}" leads out of what is fetched')
    return front[:begin] + path + question + query, below if double else ""


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
    if name and ("/" in name or name in (".", "..")):
        raise BadSource(f'"{name[:80]}" is no name of a file')
    return name


def _ref(ref: str) -> str:
    if ref.startswith("-"):
        raise BadSource(f'"{ref[:80]}" is no branch, tag or commit')
    return ref


def _depth(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise BadSource(f'depth must be a number, found "{text[:20]}"')
    return int(text or 0)
