"""Lookups for tests: what they hold, and what they do not hold yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from template import (
    Instance,
    Interface,
    Machine,
    MachineWithServices,
    Missing,
    Pair,
    Read,
    Secret,
    Snippet,
    What,
)


@dataclass
class Held:
    """answers: {read: answer}; what is not among them is missing. environment: complete."""

    answers: dict[Read, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    asked: list[Read] = field(default_factory=list)

    def _answer(self, read: Read) -> object:
        self.asked.append(read)
        if read not in self.answers:
            raise Missing([read])
        return self.answers[read]

    def env(self, name: str) -> str | None:
        return self.environment.get(name)

    def file(self, read: Read) -> str | None:
        return self._answer(read)  # type: ignore[return-value]

    def key(self, read: Read) -> Pair | None:
        return self._answer(read)  # type: ignore[return-value]

    def pairs(self, read: Read) -> Sequence[Pair]:
        return self._answer(read)  # type: ignore[return-value]

    def service(self, read: Read) -> Sequence[Instance]:
        return self._answer(read)  # type: ignore[return-value]

    def services(self, read: Read) -> Sequence[Snippet]:
        return self._answer(read)  # type: ignore[return-value]

    def node(self, read: Read) -> MachineWithServices | None:
        return self._answer(read)  # type: ignore[return-value]

    def nodes(self, read: Read) -> Sequence[Machine]:
        return self._answer(read)  # type: ignore[return-value]

    def datacenters(self, read: Read) -> Sequence[str]:
        return self._answer(read)  # type: ignore[return-value]

    def secret(self, read: Read) -> Secret | None:
        return self._answer(read)  # type: ignore[return-value]

    def secrets(self, read: Read) -> Sequence[str]:
        return self._answer(read)  # type: ignore[return-value]

    def interfaces(self, read: Read) -> Sequence[Interface]:
        return self._answer(read)  # type: ignore[return-value]


def key(name: str) -> Read:
    return Read(what=What.KEY, name=name)


def pair(path: str, value: str, *, below: str = "") -> Pair:
    return Pair(path=path, key=path.removeprefix(below).lstrip("/"), value=value)


def passing(name: str, **more: object) -> Read:
    return Read(what=What.SERVICE, name=name, states=("passing",), **more)  # type: ignore[arg-type]


def instance(name: str, number: int, **more: object) -> Instance:
    address = f"10.0.0.{number}"
    given = {"node": f"n{number}", "node_address": address, "address": address, "id": f"{name}-{number}", "name": name, "port": 8000 + number}
    return Instance(**(given | more))  # type: ignore[arg-type]
