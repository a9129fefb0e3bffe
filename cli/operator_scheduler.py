"""`drover operator scheduler get-config|set-config`: how the whole cluster places."""

import argparse
from typing import Any

from cli.client import Api, fields, is_data, print_data
from cli.failure import CommandFailed, fail

_PATH = "/v1/operator/scheduler/configuration"

# The flags of set-config that are true or false, and what they are called in the document.
_SWITCHES = {
    "memory_oversubscription": ("MemoryOversubscriptionEnabled",),
    "reject_job_registration": ("RejectJobRegistration",),
    "preempt_system_scheduler": ("PreemptionConfig", "SystemSchedulerEnabled"),
    "preempt_sysbatch_scheduler": ("PreemptionConfig", "SysBatchSchedulerEnabled"),
    "preempt_batch_scheduler": ("PreemptionConfig", "BatchSchedulerEnabled"),
    "preempt_service_scheduler": ("PreemptionConfig", "ServiceSchedulerEnabled"),
}


def get_config(args: argparse.Namespace) -> int:
    try:
        found = Api(args).get(_PATH)
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    config = found["SchedulerConfig"]
    preempts = config["PreemptionConfig"]
    rows = [
        ("Scheduler Algorithm", config["SchedulerAlgorithm"]),
        ("Memory Oversubscription", _word(config["MemoryOversubscriptionEnabled"])),
        ("Reject Job Registration", _word(config["RejectJobRegistration"])),
        ("Preemption System Scheduler", _word(preempts["SystemSchedulerEnabled"])),
        ("Preemption Service Scheduler", _word(preempts["ServiceSchedulerEnabled"])),
        ("Preemption Batch Scheduler", _word(preempts["BatchSchedulerEnabled"])),
        ("Preemption SysBatch Scheduler", _word(preempts["SysBatchSchedulerEnabled"])),
        ("Modify Index", str(config["ModifyIndex"])),
    ]
    print(fields(rows))
    return 0


def set_config(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        config = api.get(_PATH)["SchedulerConfig"]
        index = config["ModifyIndex"] if args.check_index is None else args.check_index
        _change(config, args)
        if not api.put(_PATH, config, cas=str(index))["Updated"]:
            raise CommandFailed("it has changed since: nothing was written")
    except CommandFailed as error:
        return fail(error)
    print("Scheduler configuration updated!")
    return 0


def _change(config: dict[str, Any], args: argparse.Namespace) -> None:
    if args.scheduler_algorithm is not None:
        config["SchedulerAlgorithm"] = args.scheduler_algorithm
    for flag, (*sections, name) in _SWITCHES.items():
        if (value := getattr(args, flag)) is not None:
            section = config[sections[0]] if sections else config
            section[name] = value == "true"


def _word(is_on: bool) -> str:
    return "enabled" if is_on else "disabled"
