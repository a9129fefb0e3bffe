"""A fleet for each file, and the wheels that are rolled out on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible import image
from tests.ansible.fleet import Fleet, wheel
from tests.components import docker
from tests.conftest import or_skip


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ansible")


@pytest.fixture(scope="session")
def first(home: Path) -> Path:
    image.wheels()
    return wheel("0.1.1", home)


@pytest.fixture(scope="session")
def second(home: Path) -> Path:
    return wheel("0.1.2", home)


@pytest.fixture(scope="module")
def fleet(home: Path) -> Iterator[Fleet]:
    or_skip(docker.engine)
    or_skip(image.image)
    with Fleet(home) as found:
        yield found
