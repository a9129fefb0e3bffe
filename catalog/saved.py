"""What does a file with drover's whole state look like?

    gzip of   {"Format": "drover-snapshot", "Version": 1, "Root": …, "Index": …, "CreatedAt": …}\n
              Consul's own listing of every key below the root, as its KV API answers it\n
              {"SHA256": of all before}\n

One consistent listing, so one moment of Consul's; its bytes pass through as they come and nobody needs to hold them
all. The last line is missing from a file that was cut off, and wrong in one that was changed.
"""

import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from catalog.kv import Entry
from model.errors import DroverError
from model.wire import Document, decode, encode

FORMAT = "drover-snapshot"
VERSION = 1
# Fast: a snapshot of 100,000 allocs is some 200 MB of JSON, and shrinks tenfold at any level.
_LEVEL = 1


class SnapshotFault(DroverError):
    """The file is no snapshot, or not a whole one: told in one line."""


class Head(Document):
    """index: Consul's. root: below which the keys were. created_at: RFC 3339."""

    format: str = FORMAT
    version: int = VERSION
    root: str = ""
    index: int = 0
    created_at: str = ""


class _Tail(msgspec.Struct, rename={"sha256": "SHA256"}):
    sha256: str


_decode_entries = msgspec.json.Decoder(tuple[Entry, ...]).decode


async def packed(root: str, index: int, listing: AsyncIterator[bytes], now: datetime) -> AsyncIterator[bytes]:
    """The file, piece by piece, from the pieces of Consul's answer."""
    head = Head(root=root, index=index, created_at=now.astimezone(UTC).isoformat())
    deflate, digest = zlib.compressobj(_LEVEL, wbits=31), hashlib.sha256()

    def pack(data: bytes) -> bytes:
        digest.update(data)
        return deflate.compress(data)

    yield pack(encode(head) + b"\n")
    async for piece in listing:
        if data := pack(piece):
            yield data
    yield pack(b"\n")
    yield deflate.compress(encode(_Tail(digest.hexdigest())) + b"\n") + deflate.flush()


class Saved:
    """A snapshot that was read: `get` and `list` as catalog.kv.Kv has them, so that a leader's store can load it."""

    def __init__(self, head: Head, entries: tuple[Entry, ...]) -> None:
        self.head = head
        self.entries = entries
        self._by_key = {entry.key: entry for entry in entries}

    async def get(self, key: str, *, timeout_s: float = 0.0) -> Entry | None:
        return self._by_key.get(key)

    async def list(self, prefix: str, *, timeout_s: float = 0.0) -> "SavedListing":
        return SavedListing(tuple(entry for entry in self.entries if entry.key.startswith(prefix)), self.head.index)


class SavedListing(msgspec.Struct, frozen=True):
    entries: tuple[Entry, ...]
    index: int


def read(path: Path) -> Saved:
    """Raises SnapshotFault, also for a file that cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotFault(f"{path}: {error.strerror}") from error
    return parse(data, str(path))


def parse(packed_data: bytes, path: str) -> Saved:
    """path: what it is called in a fault. Raises SnapshotFault."""
    try:
        data = gzip.decompress(packed_data)
    except gzip.BadGzipFile as error:
        raise SnapshotFault(f"{path}: no snapshot of drover (not gzip)") from error
    except (EOFError, zlib.error) as error:
        raise SnapshotFault(f"{path}: the file is cut off or damaged") from error
    head_end, body_end = data.find(b"\n"), data.rstrip(b"\n").rfind(b"\n")
    try:
        head = decode(data[:head_end], Head)
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotFault(f"{path}: no snapshot of drover") from error
    if head_end < 0 or head.format != FORMAT:
        raise SnapshotFault(f"{path}: no snapshot of drover")
    if head.version != VERSION:
        raise SnapshotFault(f"{path}: a snapshot of format {head.version}, and this drover reads format {VERSION}")
    try:
        tail = msgspec.json.decode(data[body_end + 1 :], type=_Tail)
        entries = _decode_entries(data[head_end + 1 : body_end])
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotFault(f"{path}: the file is cut off or damaged") from error
    if tail.sha256 != hashlib.sha256(data[: body_end + 1]).hexdigest():
        raise SnapshotFault(f"{path}: the file was changed (its SHA-256 is another)")
    return Saved(head, entries)
