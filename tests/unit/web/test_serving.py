"""How the web UI's files are served: kept for good by their digest, and with what the browser may not do."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from web import serving


@asynccontextmanager
async def served() -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    app = web.Application()
    app.add_routes(serving.pages())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("path", ["/ui/", "/ui/jobs", "/ui/job/default/a%2Fb/versions"])
async def test_every_deep_link_is_the_one_page(path: str) -> None:
    async with served() as (session, base), session.get(base + path) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        text = await answer.text()
        assert f"/ui/s/{serving.digest()}/app.js" in text
        assert "{{" not in text


async def test_the_page_may_do_nothing_but_what_it_needs() -> None:
    async with served() as (session, base), session.get(f"{base}/ui/") as answer:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "img-src": "'self' data:",
            "frame-ancestors": "'none'", "base-uri": "'none'", "form-action": "'none'",
        }  # fmt: skip
        assert (answer.headers["X-Content-Type-Options"], answer.headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


async def test_files_are_kept_for_good_and_the_page_is_asked_for_anew() -> None:
    async with served() as (session, base):
        async with session.get(f"{base}/ui/s/{serving.digest()}/app.js") as answer:
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            etag = answer.headers["ETag"]
        async with session.get(f"{base}/ui/s/{serving.digest()}/app.js", headers={"If-None-Match": etag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with session.get(f"{base}/ui/") as answer:
            assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["../serving.py", "%2e%2e/serving.py", "nothing.js", ".hidden.js", "pages", "vendor/../../serving.py"])
async def test_nothing_else_is_served(name: str) -> None:
    async with served() as (session, base), session.get(aiohttp.client.URL(f"{base}/ui/s/{serving.digest()}/{name}", encoded=True)) as answer:
        assert "import asyncio" not in (await answer.read()).decode(errors="replace")
        assert serving.file(name) is None or answer.status == 200


async def test_a_file_of_another_version_is_not_there() -> None:
    async with served() as (session, base), session.get(f"{base}/ui/s/0000/app.js") as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store")


def test_no_file_names_another_host_or_sets_html() -> None:
    own = [path for path in serving.STATIC.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg") and path.parent.name != "vendor"]
    assert len(own) > 10
    for path in own:
        text = path.read_text()
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg|\$\{)\w", text), path
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|dangerously|onclick=\"", text), path
