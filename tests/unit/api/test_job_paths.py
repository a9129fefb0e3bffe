"""Which job does a path name? Ids may hold slashes, and be the very words that paths end in."""

import pytest
from aiohttp import web

from api.routes import OF_JOB, ROUTES

WORDS = sorted({route.path.rpartition("}/")[2] for route in OF_JOB} - {"periodic/force"})


def job_of(method: str, path: str) -> tuple[str, str]:
    """The id, and the path as the route has it; both empty where there is no such route."""
    app = web.Application()
    for route in ROUTES:
        app.add_routes(route.registered())
    for resource in app.router.resources():
        for known in resource:
            found = resource._match(path) if isinstance(resource, web.DynamicResource) else None
            if known.method == method and found is not None:
                return found["id"], resource.canonical
    return "", ""


@pytest.mark.parametrize("word", WORDS)
def test_a_job_may_be_named_as_what_a_path_ends_in(word: str) -> None:
    assert job_of("GET", f"/v1/job/{word}") == (word, "/v1/job/{id}")
    assert job_of("DELETE", f"/v1/job/{word}") == (word, "/v1/job/{id}")
    assert job_of("DELETE", f"/v1/job/a/{word}") == ("", "")


def test_an_id_with_slashes_is_one_id() -> None:
    assert job_of("GET", "/v1/job/team/web/versions") == ("team/web", "/v1/job/{id}/versions")
    assert job_of("GET", "/v1/job/team/web") == ("team/web", "/v1/job/{id}")
    assert job_of("GET", "/v1/job/versions/versions") == ("versions", "/v1/job/{id}/versions")
