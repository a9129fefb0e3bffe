"""How does the cluster place, whoever leads?

The first leader of all writes what its configuration says (`default_scheduler_config`); from then on the document in
Consul counts and no agent's configuration changes it, as with Nomad.
"""

from typing import TYPE_CHECKING

import msgspec

from catalog.kv import replace
from model.cluster import SchedulerConfiguration
from model.errors import DroverError
from model.wire import encode

if TYPE_CHECKING:
    from leader.leading import Leading


class RegistrationRejected(DroverError):
    """`reject_job_registration` is set."""


async def write(leading: "Leading", configuration: SchedulerConfiguration) -> int:
    """Returns Consul's index. Raises StoreUnavailable, WriteConflict."""
    changed = msgspec.structs.replace(configuration, epoch=leading.fenced.epoch)
    key, known = leading.keys.scheduler, leading.view.scheduler
    entry = (await leading.fenced.commit([replace(key, encode(changed), known.modify_index)]))[key]
    leading.view.put_scheduler(changed, entry.create_index, entry.modify_index)
    leading.view.wake.set()
    return entry.modify_index


def check_registration(leading: "Leading") -> None:
    """Raises RegistrationRejected."""
    if leading.view.scheduler.document.reject_job_registration:
        raise RegistrationRejected("job registration, dispatch, and scale are disabled by the scheduler configuration")
