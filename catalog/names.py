"""Where does a name in Consul lead?"""

import json
from urllib.parse import quote

from catalog.client import Client


async def service_instances(client: Client, name: str, datacenter: str = "") -> frozenset[tuple[str, int, frozenset[str]]]:
    """Where the instances of a service are, and their tags, whatever their health. datacenter: empty for the own one.
    Raises StoreUnavailable, StoreRefused."""
    params = {"dc": datacenter} if datacenter else None
    response = await client.call("GET", f"/v1/catalog/service/{quote(name, safe='')}", params=params)
    instances = json.loads(response.body)
    return frozenset((one["ServiceAddress"] or one["Address"], one["ServicePort"], frozenset(one["ServiceTags"] or ())) for one in instances)


async def query_services(client: Client) -> dict[str, str]:
    """The service that each prepared query asks for, by the query's name in lower case: Consul's DNS makes no difference.
    Raises StoreUnavailable, StoreRefused."""
    response = await client.call("GET", "/v1/query")
    return {query["Name"].lower(): query["Service"]["Service"] for query in json.loads(response.body) or ()}
