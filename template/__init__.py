"""What does a template say? Go's text/template with consul-template's functions.

    parse(text, name=…) ─> Template ─┬─ reads()            what it looks up, without rendering it
                                     └─ render(lookups=…)  what it says, or Missing: fetch these and render again

A text is not trusted: it reaches no attribute of a Python object, and length, steps and depth of a rendering are bounded.
Whatever is wrong with it is a TemplateFault with its place.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from template.budget import CURRENT, Budget
from template.faults import Missing, Refusal, TemplateFault
from template.functions import KNOWN, functions
from template.lookups import (
    Check,
    Instance,
    Interface,
    Lookups,
    Machine,
    MachineService,
    MachineWithServices,
    Nowhere,
    Pair,
    Read,
    Secret,
    Snippet,
    Weights,
    What,
)
from template.parser import parse_text
from template.reads import Open, Reads, reads_of
from template.render import OnMissingKey, Rendering
from template.scanner import Source
from template.values import NO_VALUE, Function, StringMap

# Twice what Consul takes as a value, and so what a job can hold; it takes some seconds to parse.
TEXT_LENGTH_MAX: Final = 1024 * 1024


def _now() -> datetime:
    return datetime.now(UTC)


class Template:
    """A parsed template; it may be rendered any number of times."""

    def __init__(self, source: Source, left: str, right: str) -> None:
        self._source, self._delimiters = source, (left, right)
        self._parsed = parse_text(source, left, right, KNOWN)
        self._constants: frozenset[str] | None = None

    def reads(self, *, allowed: frozenset[str] = frozenset()) -> Reads:
        """allowed: of the functions that are refused otherwise, those that the rendering will have."""
        return reads_of(self._source, (self._parsed.body, *self._parsed.definitions.values()), allowed)

    def render(
        self,
        data: object = NO_VALUE,
        *,
        lookups: Lookups | None = None,
        on_missing_key: OnMissingKey = "zero",
        allowed: frozenset[str] = frozenset(),
        extra: Mapping[str, Callable[..., object]] | None = None,
        now: Callable[[], datetime] = _now,
    ) -> str:
        """The text. Bytes that are no UTF-8 are surrogates in it: encode it with `surrogateescape`.

        data: the dot, of the values that template/values.py lists. on_missing_key: "zero" is what consul-template
        does, "default" what Go does (`<no value>`), "error" is error_on_missing_key. allowed: may hold
        "executeTemplate". extra: further functions, or ones that are refused otherwise; they are called by their annotations.

        Raises TemplateFault, or Missing with all that this pass came to need: render again once it is there.
        """
        budget = Budget(self._constant_texts)
        known = functions(lookups or Nowhere(), now)
        templates = dict(self._parsed.definitions)
        known.update(extra or {})
        templates[self._source.name] = templates.get(self._source.name, self._parsed.body)
        rendering = Rendering(self._source, templates, known, on_missing_key, budget)
        if "executeTemplate" in allowed:
            known["executeTemplate"] = rendering.execute_template
        outer = CURRENT.set(budget)
        try:
            text = rendering.run(self._parsed.body, data)
        except TemplateFault:
            # What is missing may well have caused it.
            if not budget.missing:
                raise
            text = ""
        finally:
            CURRENT.reset(outer)
        if budget.missing:
            raise Missing(budget.missing)
        return text

    def _constant_texts(self) -> frozenset[str]:
        if self._constants is None:
            reads = self.reads()
            self._constants = reads.messages | {read.name for read in reads.all}
        return self._constants


def parse(text: str, *, name: str, left: str = "{{", right: str = "}}") -> Template:
    """Raises TemplateFault. left, right: delimiters, as a template block sets them; empty ones are the usual."""
    if len(text) > TEXT_LENGTH_MAX:
        raise TemplateFault(name, 1, 1, f"a template of more than {TEXT_LENGTH_MAX} characters")
    return Template(Source(name, text), left or "{{", right or "}}")


__all__ = [
    "Check",
    "Function",
    "Instance",
    "Interface",
    "Lookups",
    "Machine",
    "MachineService",
    "MachineWithServices",
    "Missing",
    "Open",
    "Pair",
    "Read",
    "Reads",
    "Refusal",
    "Secret",
    "Snippet",
    "StringMap",
    "Template",
    "TemplateFault",
    "Weights",
    "What",
    "parse",
]
