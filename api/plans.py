"""How does a forecast look to Nomad's clients?"""

from collections.abc import Iterable
from typing import Any

import msgspec

from api.shapes import metrics_document
from leader.planning import Forecast
from leader.view import View

# Go's zero time: no periodic launch comes.
_NEVER = "0001-01-01T00:00:00Z"


def plan_document(view: View, found: Forecast, warnings: Iterable[str]) -> dict[str, Any]:
    """The answer to a plan, in Nomad's shape."""
    index = view.api_index(found.job_modify_index) if found.job_modify_index is not None else 0
    return {
        "Annotations": {
            "DesiredTGUpdates": {group: msgspec.to_builtins(counts) for group, counts in found.updates.items()},
            "PreemptedAllocs": None,
        },
        "FailedTGAllocs": metrics_document(found.failed),
        "JobModifyIndex": index,
        "CreatedEvals": None,
        "Diff": found.diff,
        "NextPeriodicLaunch": _NEVER,
        "Warnings": "\n".join(warnings),
        "Index": index,
    }
