"""Is it what was asked for? `sha256:…` and its kin, bare digits, or a file of checksums elsewhere."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.drivers.base import StartFailed

_BY_LENGTH = {32: "md5", 40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
_CHUNK_BYTES = 1 << 20
# `digest  name`, `digest *name`, `SHA256 (name) = digest`, or the digest alone.
_GNU = re.compile(r"(?P<digest>[0-9a-fA-F]{32,128})(?:\s+[* ]?(?P<name>.+))?")
_BSD = re.compile(r"(?P<kind>\w+)\s*\((?P<name>.+)\)\s*=\s*(?P<digest>[0-9a-fA-F]{32,128})")

FILE_BYTES_MAX = 4 << 20


async def expected(checksum: str, name: str, text_of: Callable[[str], Awaitable[str]]) -> tuple[str, str]:
    """(kind, digits) of a checksum; text_of: what a file of checksums says, by its URL. name: of what is checked.
    Raises StartFailed."""
    kind, _, digits = checksum.rpartition(":") if not checksum.startswith("file:") else ("file", "", "")
    if kind == "file":
        url = checksum.removeprefix("file:")
        digits = _listed(await text_of(url), name)
        kind = ""
        if not digits:
            raise StartFailed(f"{url} has no checksum of {name}")
    kind = kind.lower() or _BY_LENGTH.get(len(digits), "")
    if kind not in _BY_LENGTH.values():
        raise StartFailed(f'"{checksum[:40]}" is no checksum (expected md5, sha1, sha256, sha384 or sha512)')
    return kind, digits.lower()


def _listed(text: str, name: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        found = _BSD.fullmatch(line) or _GNU.fullmatch(line)
        if found and Path(found["name"] or "").name == name:
            return found["digest"]
    alone = _GNU.fullmatch(lines[0]) if len(lines) == 1 else None
    return alone["digest"] if alone and not alone["name"] else ""


def check(path: Path, kind: str, digits: str) -> None:
    """Blocks. Raises StartFailed."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != digits:
        raise StartFailed(f"Checksums did not match: expected {kind}:{digits}, got {digest.hexdigest()}")
