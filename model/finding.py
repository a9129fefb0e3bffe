"""What somebody who looks things over has found: `drover doctor`, `drover vault check`."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """In the order of how bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """remedy: what to do; empty where all is well."""

    name: str
    outcome: Outcome
    text: str
    remedy: str = ""


def ok(name: str, text: str) -> Finding:
    return Finding(name=name, outcome=Outcome.OK, text=text)


def warning(name: str, text: str, remedy: str) -> Finding:
    return Finding(name=name, outcome=Outcome.WARNING, text=text, remedy=remedy)


def failed(name: str, text: str, remedy: str) -> Finding:
    return Finding(name=name, outcome=Outcome.FAILED, text=text, remedy=remedy)


def worst(findings: tuple[Finding, ...]) -> Outcome:
    return max((one.outcome for one in findings), key=list(Outcome).index, default=Outcome.OK)
