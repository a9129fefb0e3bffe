"""Can what `drover_upstreams` says be read?"""

from collections.abc import Iterator, Mapping

from model.errors import Fault
from model.upstreams import UPSTREAMS_MAX, UPSTREAMS_META, address_of, upstreams_of


def upstream_faults(meta: Mapping[str, str], path: str) -> Iterator[Fault]:
    """Of the meta of a job, group or task."""
    where = f"{path}.meta.{UPSTREAMS_META}"
    upstreams = upstreams_of(meta)
    if len(upstreams) > UPSTREAMS_MAX:
        yield Fault(path=where, message=f"names {len(upstreams)} upstreams (at most {UPSTREAMS_MAX})")
    for one in upstreams[:UPSTREAMS_MAX]:
        if address_of(one) is None:
            yield Fault(path=where, message=f'must be services, host:port or URLs, parted by commas, found "{one[:60]}"')
