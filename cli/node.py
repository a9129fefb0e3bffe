"""`drover node status` and `drover node eligibility`."""

import argparse

from cli.client import Api, CommandFailed, ago, fail, fields, print_json, short, table


def status(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        wanted = args.node
        if args.self:
            wanted = (api.get("/v1/agent/self")["stats"].get("client") or {}).get("node_id")
            if not wanted:
                raise CommandFailed("the agent asked runs no tasks: it has no node")
        if not wanted:
            return _list(api, args)
        return _show(api, api.find("node", "/v1/nodes", wanted)["ID"], args)
    except CommandFailed as error:
        return fail(error)


def _list(api: Api, args: argparse.Namespace) -> int:
    nodes = api.get("/v1/nodes")
    if args.json:
        print_json(nodes)
    elif not nodes:
        print("No nodes registered")
    else:
        rows = [("ID", "DC", "Name", "Class", "Drain", "Eligibility", "Status")]
        rows += [
            (
                short(n["ID"], is_verbose=args.verbose),
                n["VirtualDatacenter"] or n["Datacenter"],
                n["Name"],
                n["NodeClass"] or "<none>",
                str(n["Drain"]).lower(),
                n["SchedulingEligibility"],
                n["Status"],
            )
            for n in nodes
        ]
        print(table(rows))
    return 0


def _show(api: Api, node_id: str, args: argparse.Namespace) -> int:
    node = api.get(f"/v1/node/{node_id}")
    if args.json:
        print_json(node)
        return 0
    allocs = api.get(f"/v1/node/{node_id}/allocations")
    drivers = ",".join(sorted(name for name, d in node["Drivers"].items() if d["Detected"] and d["Healthy"]))
    resources = node["NodeResources"]
    live = [a for a in allocs if a["ClientStatus"] in ("pending", "running")]
    used = {key: sum(a["Resources"][key] for a in live) for key in ("CPU", "MemoryMB", "DiskMB")}
    print(
        fields(
            [
                ("ID", node["ID"] if args.verbose else short(node["ID"], is_verbose=False)),
                ("Name", node["Name"]),
                ("Class", node["NodeClass"] or "<none>"),
                ("DC", node["Datacenter"]),
                ("Eligibility", node["SchedulingEligibility"]),
                ("Status", node["Status"]),
                ("Driver Status", drivers or "<none>"),
                ("Allocated CPU", f"{used['CPU']}/{resources['Cpu']['CpuShares']} MHz"),
                ("Allocated Memory", f"{used['MemoryMB']}/{resources['Memory']['MemoryMB']} MB"),
                ("Allocated Disk", f"{used['DiskMB']}/{resources['Disk']['DiskMB']} MB"),
            ]
        )
    )
    if node["Events"]:
        print("\nNode Events")
        print(table([("Time", "Message"), *((e["Timestamp"], e["Message"]) for e in reversed(node["Events"]))]))
    print("\nAllocations")
    if not allocs:
        print("No allocations placed")
        return 0
    rows = [("ID", "Job", "Task Group", "Version", "Desired", "Status", "Created")]
    rows += [
        (
            short(a["ID"], is_verbose=args.verbose),
            a["JobID"],
            a["TaskGroup"],
            a["JobVersion"],
            a["DesiredStatus"],
            a["ClientStatus"],
            ago(a["CreateTime"]),
        )
        for a in allocs
    ]
    print(table(rows))
    return 0


def eligibility(args: argparse.Namespace) -> int:
    try:
        if args.enable == args.disable:
            raise CommandFailed("give one of -enable and -disable")
        api = Api(args)
        node = api.find("node", "/v1/nodes", args.node)
        wanted = "eligible" if args.enable else "ineligible"
        api.put(f"/v1/node/{node['ID']}/eligibility", {"NodeID": node["ID"], "Eligibility": wanted})
        print(f'Node "{node["ID"]}" scheduling eligibility set: {wanted}')
        return 0
    except CommandFailed as error:
        return fail(error)
