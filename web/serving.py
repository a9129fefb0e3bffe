"""How are the web UI's files served?

They are in the wheel, below `web/static`, as the browser gets them: nothing is built, and nothing is asked of any other
host. `/ui/` and every deep link below it answer with the one page; its files are at `/ui/s/<digest>/…`, where the digest is
that of all of them, so that a browser keeps them for good and an upgrade brings new ones.
"""

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"
# What the page may do: load scripts and styles from here, ask this agent, show pictures that are part of its files or of
# them. No other page may frame it, and no form sends anything anywhere.
POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
        "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'",
    )
)  # fmt: skip
_SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
# Below it, packing costs more than it saves.
_GZIP_FROM_BYTES = 1024
_DIGEST = b"{{digest}}"


@dataclass(frozen=True, slots=True)
class File:
    """packed: with gzip; None where that saves nothing. etag: of the content."""

    body: bytes
    packed: bytes | None
    content_type: str
    etag: str


@cache
def digest() -> str:
    """Of all files."""
    found = hashlib.sha256()
    for path in sorted(path for path in STATIC.rglob("*") if path.is_file()):
        found.update(str(path.relative_to(STATIC)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


@cache
def file(name: str) -> File | None:
    """None: there is no such file."""
    path = STATIC / name
    if re.search(r"(^|/)\.", name) or path.suffix not in _TYPES or not path.is_file():
        return None
    body = path.read_bytes().replace(_DIGEST, digest().encode()) if path.suffix == ".html" else path.read_bytes()
    packed = gzip.compress(body, 6, mtime=0) if len(body) >= _GZIP_FROM_BYTES else None
    return File(body, packed, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


async def page(request: web.Request) -> web.Response:
    """The one page, for each of its addresses: asked for anew each time, and answered with 304 where it is the same."""
    return _answer(request, await asyncio.to_thread(file, "index.html"), "no-cache")


async def static(request: web.Request) -> web.Response:
    """A file of this version; of another one, for a page that was opened before an upgrade: told to load anew."""
    known = await asyncio.to_thread(file, request.match_info["name"])
    if request.match_info["digest"] != digest():
        return _answer(request, None, "")
    return _answer(request, known, "public, max-age=31536000, immutable")


async def to_page(request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("/ui/")


def _answer(request: web.Request, found: File | None, keep: str) -> web.Response:
    if found is None:
        return web.Response(status=404, text="no such file\n", headers={**_SECURITY, "Cache-Control": "no-store"})
    headers = {**_SECURITY, "Cache-Control": keep, "ETag": found.etag, "Vary": "Accept-Encoding"}
    if found.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    body = found.body
    if found.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = found.packed, "gzip"
    return web.Response(body=body, content_type=found.content_type, charset="utf-8", headers=headers)


def pages() -> list[web.RouteDef]:
    return [
        web.get("/ui", to_page),
        web.get("/ui/s/{digest:[0-9a-f]+}/{name:.+}", static),
        web.get("/ui/{path:.*}", page),
    ]
