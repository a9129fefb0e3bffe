"""Is it what was asked for? `sha256:…` and its kin, bare digits, or a file of checksums elsewhere."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.artifacts.work import Work
from agent.drivers.base import StartFailed
from jobspec.artifacts import CHECKSUM_DIGITS, checksum_fault, without_secrets

_CHUNK_BYTES = 1 << 20
# `digest  name`, `digest *name`, `SHA256 (name) = digest`, or the digest alone.
_GNU = re.compile(r"(?P<digest>[0-9a-fA-F]{32,128})(?:\s+[* ]?(?P<name>.+))?")
_BSD = re.compile(r"(?P<kind>\w+)\s*\((?P<name>.+)\)\s*=\s*(?P<digest>[0-9a-fA-F]{32,128})")

FILE_BYTES_MAX = 4 << 20


async def expected(checksum: str, name: str, text_of: Callable[[str], Awaitable[str]]) -> tuple[str, str]:
    """(kind, digits) of a checksum; text_of: what a file of checksums says, by its URL. name: of what is checked.
    Raises StartFailed."""
    if checksum.startswith("file:"):
        url = checksum.removeprefix("file:")
        checksum = _listed(await text_of(url), name)
        if not checksum:
            raise StartFailed(f"{without_secrets(url)} has no checksum of {name}")
    if reason := checksum_fault(checksum):
        raise StartFailed(f"checksum: {reason}")
    kind, _, digits = checksum.rpartition(":")
    kind = kind or next(one for one, count in CHECKSUM_DIGITS.items() if count == len(digits))
    return kind, digits.lower()


def _listed(text: str, name: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        found = _BSD.fullmatch(line) or _GNU.fullmatch(line)
        if found and Path(found["name"] or "").name == name:
            return found["digest"]
    alone = _GNU.fullmatch(lines[0]) if len(lines) == 1 else None
    return alone["digest"] if alone and not alone["name"] else ""


def check(path: Path, kind: str, digits: str, work: Work) -> None:
    """Blocks. Raises StartFailed."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            work.go_on()
            digest.update(chunk)
    if digest.hexdigest() != digits:
        raise StartFailed(f"Checksums did not match: expected {kind}:{digits}, got {digest.hexdigest()}")
