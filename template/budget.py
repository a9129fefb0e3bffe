"""How much may one rendering still do?

The text is not trusted, and Python cannot be interrupted: so what takes time is counted, in steps of about two
microseconds, and refused when they are used up. The budget of the rendering under way is a context variable, for functions
deep below it.
"""

from collections.abc import Callable
from contextvars import ContextVar

from template.faults import Refusal
from template.lookups import Read

# About two seconds on a busy machine. A list of 1,000 services, six fields of each, takes 25,000.
STEPS_MAX = 1_000_000
# Of what is rendered, and of any one text, in characters; a text that doubles itself would fill the memory in forty steps.
TEXT_MAX = 16 * 1024 * 1024
# Characters that a function goes through in one step, at its slowest.
CHARACTERS_A_STEP = 64


class Budget:
    """What is left; and what the pass found missing. constants: texts that stand in the template itself, which messages may
    show: any other may be a secret that it was given."""

    def __init__(self, constants: Callable[[], frozenset[str]] = frozenset) -> None:
        self.constants = constants
        self.steps, self.length, self.depth = STEPS_MAX, TEXT_MAX, 0
        self.missing: set[Read] = set()


CURRENT: ContextVar[Budget | None] = ContextVar("template_budget", default=None)


def spend(steps: int) -> None:
    """Counts what a function does beyond its arguments' length. Raises Refusal."""
    budget = CURRENT.get()
    if budget is None:
        return
    budget.steps -= steps
    if budget.steps < 0:
        raise Refusal(f"it takes more than {STEPS_MAX} steps")


def shown(text: str) -> str:
    """For a message."""
    budget = CURRENT.get()
    return text if budget is not None and text in budget.constants() else "…"
