"""One expression evaluated by itself, with the functions a job file has."""

from typing import Any

import pytest

from jobspec.evaluate import EvaluationFault, Scope, evaluate
from jobspec.functions import FUNCTIONS, PRICES
from jobspec.syntax.parser import parse_expression
from jobspec.syntax.source import Source

Examples = dict[str, list[tuple[str, Any]]]


def value_of(expression: str) -> Any:
    return evaluate(parse_expression(Source(expression, "x.hcl")), Scope(functions=FUNCTIONS, prices=PRICES))


def fault_of(expression: str) -> str:
    with pytest.raises(EvaluationFault) as caught:
        value_of(expression)
    return str(caught.value)


def each(examples: Examples) -> Any:
    """Every example of a table as a test case of its own."""
    cases = [case for cases in examples.values() for case in cases]
    return pytest.mark.parametrize(("expression", "expected"), cases, ids=[case[0][:60] for case in cases])
