"""`drover namespace list|status|inspect|apply|delete`."""

import argparse
from pathlib import Path
from typing import Any

from cli.client import Api, fields, is_data, print_data, segment, table
from cli.failure import CommandFailed, fail

# What a specification file may hold, and its names in the API.
_SETTINGS = {
    "name": "Name",
    "description": "Description",
    "meta": "Meta",
    "capabilities": "Capabilities",
    "virtual_datacenters": "VirtualDatacenters",
}
_CAPABILITIES = {"enabled_task_drivers": "EnabledTaskDrivers", "disabled_task_drivers": "DisabledTaskDrivers"}


def list_all(args: argparse.Namespace) -> int:
    try:
        found = Api(args).get("/v1/namespaces")
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    print(table([("Name", "Description"), *((one["Name"], one["Description"]) for one in found)]))
    return 0


def status(args: argparse.Namespace) -> int:
    try:
        found = _find(Api(args), args.name)
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    capabilities = found["Capabilities"] or {}
    rows = [
        ("Name", found["Name"]),
        ("Description", found["Description"] or "<none>"),
        ("Virtual Datacenters", ", ".join(found["VirtualDatacenters"]) or "any"),
        ("EnabledDrivers", ",".join(capabilities.get("EnabledTaskDrivers") or ["*"])),
        ("DisabledDrivers", ",".join(capabilities.get("DisabledTaskDrivers") or [])),
    ]
    print(fields(rows))
    if found["Meta"]:
        print("\nMetadata")
        print(fields(sorted(found["Meta"].items())))
    return 0


def inspect(args: argparse.Namespace) -> int:
    try:
        return print_data(args, _find(Api(args), args.name))
    except CommandFailed as error:
        return fail(error)


def apply(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        spec = _read(args.input, is_json=args.json) if _is_file(args.input) else _known(api, args.input)
        if args.description is not None:
            spec["Description"] = args.description
        if args.virtual_datacenter is not None:
            spec["VirtualDatacenters"] = [one for one in args.virtual_datacenter.split(",") if one]
        api.put(f"/v1/namespace/{segment(spec['Name'])}", spec)
    except CommandFailed as error:
        return fail(error)
    print(f'Successfully applied namespace "{spec["Name"]}"!')
    return 0


def delete(args: argparse.Namespace) -> int:
    try:
        Api(args).call("DELETE", f"/v1/namespace/{segment(args.name)}")
    except CommandFailed as error:
        return fail(error)
    print(f'Successfully deleted namespace "{args.name}"!')
    return 0


def _find(api: Api, prefix: str) -> dict[str, Any]:
    found = api.get("/v1/namespaces", prefix=prefix)
    exact = [one for one in found if one["Name"] == prefix] or found
    if not exact:
        raise CommandFailed(f"No namespaces with prefix or ID {prefix!r} found")
    if len(exact) > 1:
        raise CommandFailed(f"Prefix {prefix!r} matched several namespaces: {', '.join(one['Name'] for one in exact)}")
    one: dict[str, Any] = exact[0]
    return one


def _known(api: Api, name: str) -> dict[str, Any]:
    """The namespace as it is, or a new one: what is not said of it stays."""
    known = [one for one in api.get("/v1/namespaces", prefix=name) if one["Name"] == name]
    return known[0] if known else {"Name": name}


def _is_file(name: str) -> bool:
    return "/" in name or name.endswith((".hcl", ".json")) or Path(name).is_file()


def _read(name: str, *, is_json: bool) -> dict[str, Any]:
    """A specification in HCL or JSON, in the API's names. Raises CommandFailed."""
    import json

    import hcl

    try:
        text = Path(name).read_text()
        given = json.loads(text) if is_json or name.endswith(".json") else hcl.loads(text)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{name}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(given, dict):
        raise CommandFailed(f"{name}: expected the settings of a namespace")
    spec = _renamed(given, _SETTINGS, name)
    if not isinstance(spec.get("Name"), str):
        raise CommandFailed(f'{name}: name is missing (as name = "web")')
    if isinstance(spec.get("Capabilities"), dict):
        spec["Capabilities"] = _renamed(spec["Capabilities"], _CAPABILITIES, f"{name}: capabilities")
    return spec


def _renamed(given: dict[str, Any], names: dict[str, str], where: str) -> dict[str, Any]:
    """In a JSON specification the API's own names are as good."""
    known = {**names, **{name: name for name in names.values()}}
    if unknown := sorted(given.keys() - known.keys()):
        raise CommandFailed(f"{where}: unknown setting {unknown[0]!r} (known: {', '.join(names)})")
    return {known[key]: value for key, value in given.items()}
