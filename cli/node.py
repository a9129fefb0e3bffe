"""`drover node status` and `drover node eligibility`."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cli.client import Api, ApiError, ago, fields, is_data, print_data, short, size, table
from cli.failure import CommandFailed, fail

Json = Mapping[str, Any]

_NONE = "<none>"


def status(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        wanted = own(api) if args.self else args.node
        if not wanted:
            return _list(api, args)
        return _show(api, api.find("node", "/v1/nodes", wanted)["ID"], args)
    except CommandFailed as error:
        return fail(error)


def own(api: Api) -> str:
    """The id of the node of the agent that is asked. Raises CommandFailed."""
    found = (api.get("/v1/agent/self")["stats"].get("client") or {}).get("node_id")
    if not found:
        raise CommandFailed("the agent asked runs no tasks: it has no node")
    return str(found)


def _list(api: Api, args: argparse.Namespace) -> int:
    nodes = api.listed("/v1/nodes", args, os=args.os or None)
    if is_data(args):
        return print_data(args, nodes)
    if args.quiet:
        for one in nodes:
            print(short(one["ID"], is_verbose=args.verbose))
        return 0
    if not nodes:
        print("No nodes registered")
    else:
        print(listed(nodes, _running(api) if args.allocs else None, is_verbose=args.verbose))
    return 0


def listed(nodes: Sequence[Json], running: Mapping[str, int] | None, *, is_verbose: bool) -> str:
    """Nomad's columns, and one of virtual datacenters where there are any. running: {node: allocs}, None: not shown."""
    has_virtual = any(n["VirtualDatacenter"] for n in nodes)
    head: list[object] = ["ID", "DC", "Name", "Class", "Drain", "Eligibility", "Status"]
    head += ["Virtual DC"] if has_virtual else []
    head += ["OS"] if (has_os := any("Attributes" in n for n in nodes)) else []
    head += [] if running is None else ["Running Allocs"]
    rows = [head]
    for n in nodes:
        row = [
            short(n["ID"], is_verbose=is_verbose),
            n["Datacenter"],
            n["Name"],
            n["NodeClass"] or _NONE,
            str(n["Drain"]).lower(),
            n["SchedulingEligibility"],
            n["Status"],
        ]
        row += [n["VirtualDatacenter"] or _NONE] if has_virtual else []
        row += [n["Attributes"]["os.name"] or _NONE] if has_os else []
        row += [] if running is None else [running.get(n["ID"], 0)]
        rows.append(row)
    return table(rows)


def _running(api: Api) -> Counter[str]:
    """{node: how many allocs run on it}, of every namespace."""
    allocs = api.get("/v1/allocations", namespace="*")
    return Counter(a["NodeID"] for a in allocs if a["ClientStatus"] == "running")


def _show(api: Api, node_id: str, args: argparse.Namespace) -> int:
    node = api.get(f"/v1/node/{node_id}")
    if is_data(args):
        return print_data(args, node)
    allocs = api.get(f"/v1/node/{node_id}/allocations")
    print(basics(node, allocs, is_verbose=args.verbose))
    if args.short:
        print(f"\nAllocations\n{_allocations(allocs, is_verbose=args.verbose)}")
        return 0
    if args.stats:
        print(_stats(api, node))
    if node["Events"]:
        print("\nNode Events")
        print(table([("Time", "Message"), *((e["Timestamp"], e["Message"]) for e in reversed(node["Events"]))]))
    print(f"\nAllocations\n{_allocations(allocs, is_verbose=args.verbose)}")
    print(sections(node, is_verbose=args.verbose), end="")
    return 0


def basics(node: Json, allocs: Sequence[Json], *, is_verbose: bool) -> str:
    drivers = ",".join(sorted(name for name, d in node["Drivers"].items() if d["Detected"] and d["Healthy"]))
    resources = node["NodeResources"]
    live = [a for a in allocs if a["ClientStatus"] in ("pending", "running")]
    used = {key: sum(a["Resources"][key] for a in live) for key in ("CPU", "MemoryMB", "DiskMB")}
    return fields(
        [
            ("ID", short(node["ID"], is_verbose=is_verbose)),
            ("Name", node["Name"]),
            ("Class", node["NodeClass"] or _NONE),
            ("DC", node["Datacenter"]),
            ("Virtual DC", node["VirtualDatacenter"] or _NONE),
            ("Eligibility", node["SchedulingEligibility"]),
            ("Status", node["Status"]),
            ("Driver Status", drivers or _NONE),
            ("Host Volumes", ",".join(sorted(node["HostVolumes"])) or _NONE),
            ("Host Networks", ",".join(one["Alias"] for one, _ in _networks(node)) or _NONE),
            ("Allocated CPU", f"{used['CPU']}/{resources['Cpu']['CpuShares']} MHz"),
            ("Allocated Memory", f"{used['MemoryMB']}/{resources['Memory']['MemoryMB']} MB"),
            ("Allocated Disk", f"{used['DiskMB']}/{resources['Disk']['DiskMB']} MB"),
        ]
    )


def sections(node: Json, *, is_verbose: bool) -> str:
    """What else the node is and has, each under its title; what is empty is left out."""
    parts = {"Host Volumes": _host_volumes(node), "Host Networks": _host_networks(node)} if is_verbose else {}
    parts |= {"Attributes": _pairs(node["Attributes"])} if is_verbose else {}
    parts |= {"Meta": _pairs(node["Meta"])}
    return "".join(f"\n{title}\n{text}\n" for title, text in parts.items() if text)


def _pairs(values: Mapping[str, str]) -> str:
    return fields(sorted(values.items())) if values else ""


def _host_volumes(node: Json) -> str:
    volumes = sorted(node["HostVolumes"].items())
    rows = [(name, str(one["ReadOnly"]).lower(), one["Path"]) for name, one in volumes]
    return table([("Name", "ReadOnly", "Source"), *rows]) if rows else ""


def _host_networks(node: Json) -> str:
    rows = [(one["Alias"], one["Address"], device or _NONE, one["ReservedPorts"] or _NONE) for one, device in _networks(node)]
    return table([("Name", "Address", "Interface", "ReservedPorts"), *rows]) if rows else ""


def _networks(node: Json) -> list[tuple[Json, str]]:
    """Its further host networks, each with its interface: the default one every node is on."""
    networks = node["NodeResources"]["NodeNetworks"]
    found = [(one, network["Device"]) for network in networks for one in network["Addresses"]]
    return sorted((pair for pair in found if pair[0]["Alias"] != "default"), key=lambda pair: str(pair[0]["Alias"]))


def _allocations(allocs: Sequence[Json], *, is_verbose: bool) -> str:
    if not allocs:
        return "No allocations placed"
    rows = [("ID", "Job", "Task Group", "Version", "Desired", "Status", "Created")]
    rows += [
        (
            short(a["ID"], is_verbose=is_verbose),
            a["JobID"],
            a["TaskGroup"],
            a["JobVersion"],
            a["DesiredStatus"],
            a["ClientStatus"],
            ago(a["CreateTime"]),
        )
        for a in allocs
    ]
    return table(rows)


def _stats(api: Api, node: dict[str, Any]) -> str:
    """The machine as a whole, then each of its processors and file systems."""
    try:
        stats = api.get("/v1/client/stats", node_id=node["ID"])
    except ApiError as error:
        return f"\nCouldn't retrieve stats: {error.text}"
    memory, disk = stats["Memory"], stats["AllocDirStats"]
    of_cpus = [("CPU", "User", "System", "Idle")]
    of_cpus += [(c["CPU"], *(f"{c[kind]:.2f}%" for kind in ("User", "System", "Idle"))) for c in stats["CPU"]]
    of_memory = [(name, size(memory[name])) for name in ("Total", "Available", "Used", "Free")]
    of_disks = [("Device", "MountPoint", "Size", "Used", "Available", "Used Percent", "Inodes Percent")]
    of_disks += [
        (
            d["Device"],
            d["Mountpoint"],
            *(size(d[kind]) for kind in ("Size", "Used", "Available")),
            f"{d['UsedPercent']:.2f}%",
            f"{d['InodesUsedPercent']:.2f}%",
        )
        for d in stats["DiskStats"]
    ]
    total = [
        ("CPU", "Memory", "Disk"),
        (
            f"{stats['CPUTicksConsumed']:.0f}/{node['NodeResources']['Cpu']['CpuShares']} MHz",
            f"{size(memory['Used'])}/{size(memory['Total'])}",
            f"{size(disk['Used'])}/{size(disk['Size'])}",
        ),
    ]
    parts = {
        "Host Resource Utilization": table(total),
        "CPU Stats": table(of_cpus),
        "Memory Stats": fields(of_memory),
        "Disk Stats": table(of_disks),
    }
    return "\n".join(f"\n{title}\n{text}" for title, text in parts.items())


def eligibility(args: argparse.Namespace) -> int:
    try:
        if args.enable == args.disable:
            raise CommandFailed("give one of -enable and -disable")
        if not args.self and not args.node:
            raise CommandFailed("expected a node, or -self")
        api = Api(args)
        node = {"ID": own(api)} if args.self else api.find("node", "/v1/nodes", args.node)
        wanted = "eligible" if args.enable else "ineligible"
        api.put(f"/v1/node/{node['ID']}/eligibility", {"NodeID": node["ID"], "Eligibility": wanted})
        print(f'Node "{node["ID"]}" scheduling eligibility set: {wanted}')
        return 0
    except CommandFailed as error:
        return fail(error)


def purge(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        node = api.find("node", "/v1/nodes", args.node)
        api.put(f"/v1/node/{node['ID']}/purge")
    except CommandFailed as error:
        return fail(error)
    print(f'Node "{node["Name"]}" is forgotten')
    return 0


def config(args: argparse.Namespace) -> int:
    """`node config -servers`: the candidates that the agent finds in Consul."""
    try:
        if args.update_servers:
            raise CommandFailed("leader candidates are found in Consul: there is nothing to update")
        for address in Api(args).get("/v1/agent/servers"):
            print(address)
    except CommandFailed as error:
        return fail(error)
    return 0
