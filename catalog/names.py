"""Where does a name in Consul lead?"""

import json
from urllib.parse import quote

from catalog.client import Client


async def service_addresses(client: Client, name: str) -> frozenset[tuple[str, int]]:
    """Where the instances of a service are, whatever their health. Raises StoreUnavailable, StoreRefused."""
    response = await client.call("GET", f"/v1/catalog/service/{quote(name, safe='')}")
    instances = json.loads(response.body)
    return frozenset((one["ServiceAddress"] or one["Address"], one["ServicePort"]) for one in instances)


async def query_service(client: Client, name: str) -> str:
    """The service that a prepared query asks for; empty: there is no such query. Raises StoreUnavailable, StoreRefused."""
    response = await client.call("GET", "/v1/query")
    found = {query["Name"]: query["Service"]["Service"] for query in json.loads(response.body) or ()}
    return str(found.get(name, ""))
