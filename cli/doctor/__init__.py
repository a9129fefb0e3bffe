"""`drover doctor`: is this machine, and what drover leans on, as drover needs it? And what is to be done where it is not?

    consul.py    the local Consul agent: reached, led, rights one by one, what it holds, how it leaves
    machine.py   kernel, cgroups, namespaces, data_dir, ports, clock
    docker.py    the engine
    names.py     Consul DNS, and whether the machine's own resolver asks it
    fleet.py     other agents and their clocks; Vault, as the running agent sees it

Runs with the agent's own configuration, whether the agent runs or not, and changes nothing. Exit code: 0 all is well, 1
warnings, 2 something has to be done.
"""

import argparse
import asyncio
import shutil

import configs
from cli.client import is_data, print_data
from cli.configured import config_paths
from configs import AgentConfig
from model.errors import ConfigError
from model.finding import Finding, Outcome, failed, worst

_CODES = {Outcome.OK: 0, Outcome.WARNING: 1, Outcome.FAILED: 2}
_MARKS = {Outcome.OK: "ok", Outcome.WARNING: "WARN", Outcome.FAILED: "FAIL"}


def run(args: argparse.Namespace) -> int:
    paths = config_paths(args.config)
    policy = ""
    try:
        config = configs.load(paths, dev=not paths, overrides={})
    except ConfigError as error:
        findings = tuple(failed("config", str(fault), "mend the agent's configuration") for fault in error.faults)
    else:
        try:
            findings, policy = asyncio.run(_look(config))
        finally:
            if config.is_data_dir_temporary:
                shutil.rmtree(config.data_dir, ignore_errors=True)
    if is_data(args):
        shown = [{"Name": f.name, "Status": f.outcome, "Text": f.text, "Remedy": f.remedy} for f in findings]
        print_data(args, {"Status": worst(findings), "Findings": shown, "Policy": policy})
    else:
        for one in findings:
            print(f"{_MARKS[one.outcome]:4}  {one.name}: {one.text}")
            if one.remedy:
                print(f"      -> {one.remedy}")
        if policy:
            print(f"\nRules that drover's Consul token lacks:\n\n{policy}", end="")
    return _CODES[worst(findings)]


async def _look(config: AgentConfig) -> tuple[tuple[Finding, ...], str]:
    from cli.doctor import consul, docker, fleet, machine, names

    found, policy = await consul.look(config)
    return (
        *found,
        *await machine.look(config),
        *await docker.look(config),
        *await names.look(config),
        *await fleet.look(config),
    ), policy
