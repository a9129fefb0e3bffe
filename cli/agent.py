"""`drover agent`: configuration, logging, signals; process.py puts together what runs.

SIGTERM and SIGINT end drover and leave the tasks running, save for `-dev`.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

import configs
from cli import dev
from cli.main import VERSION
from cli.process import Running, process
from configs import AgentConfig, log_lines
from model.errors import ConfigError, Fault

log = logging.getLogger("drover")


def run(args: argparse.Namespace) -> int:
    try:
        config = configs.load([Path(p) for p in args.config], dev=args.dev, overrides=_overrides(args))
        log_lines.set_up(config)
    except ConfigError as error:
        return _refused(error)
    for warning in config.warnings:
        log.warning("config: %s", warning)
    try:
        with dev.ephemeral(config):
            return uvloop.run(_until_signalled(config))
    except ConfigError as error:
        return _refused(error)


def validate(args: argparse.Namespace) -> int:
    """`config validate`: nothing is started or touched."""
    try:
        config = configs.load([Path(p) for p in args.files], dev=args.dev, overrides={})
    except ConfigError as error:
        return _refused(error)
    for warning in config.warnings:
        sys.stderr.write(f"Warning: {warning}\n")
    print("Configuration is valid!")
    return 0


def _refused(error: ConfigError) -> int:
    for fault in error.faults:
        sys.stderr.write(f"{fault}\n")
    return 1


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    switches = ("consul_ssl", "consul_verify_ssl", "vault_enabled", "vault_tls_skip_verify")
    values = ["consul_token", "consul_ca_file", "consul_cert_file", "consul_key_file", "vault_address", "vault_token", "vault_create_from_role", "vault_namespace", "vault_ca_file", "vault_ca_path", "vault_cert_file", "vault_key_file", "vault_tls_server_name"]
    chosen = {
        **{name.replace("_", ".", 1): getattr(args, name) or None for name in (*switches, *values)},
        "region": args.region,
        "log_json": args.log_json or None,
        "acl.enabled": args.acl_enabled or None,
        "client.node_class": args.node_class,
        "client.meta": _meta(args.meta) or None,
        "client.network_interface": args.network_interface,
        "client.cpu_total_compute": args.cpu_total_compute,
        "data_dir": args.data_dir,
        "bind_addr": args.bind,
        "name": args.node,
        "datacenter": args.dc,
        "log_level": args.log_level,
        "server.enabled": args.server or None,
        "client.enabled": args.client or None,
        "client.alloc_dir": args.alloc_dir,
        "client.state_dir": args.state_dir,
        "consul.address": args.consul_address,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _meta(pairs: Sequence[str]) -> dict[str, str]:
    """Raises ConfigError."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError((Fault(message=f"expected KEY=VALUE, found {pair[:80]!r}", where="-meta"),))
        found[key] = value
    return found


def _renew(running: Running) -> None:
    """SIGHUP: certificates and keys are read again."""
    try:
        running.tls.renew()
    except ConfigError as error:
        log.error("TLS files are as before: %s", error)
    else:
        log.info("TLS files read again")


async def _until_signalled(config: AgentConfig) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        # As a shell's background job starts: the tasks would ignore it too.
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    async with process(config) as running:
        loop.add_signal_handler(signal.SIGHUP, _renew, running)
        print(
            f"==> drover v{VERSION} agent started: API on {running.url}, "
            f"{running.consul_kind} Consul at {running.consul_address}",
            flush=True,
        )
        async with asyncio.TaskGroup() as tasks:
            logged_in = tasks.create_task(running.log_in(), name="vault")
            leading = tasks.create_task(running.lead(), name="server")
            tending = tasks.create_task(running.tend(), name="client")
            await stopped.wait()
            log.info("stopping")
            if running.presence is not None:
                # Whoever leads next places nothing here.
                await running.presence.leave()
            # Handed over first, so that another candidate takes over at once, and so that in -dev nobody
            # places anew what is about to be stopped.
            leading.cancel()
            await asyncio.wait([leading])
            if config.is_dev and running.host is not None:
                await running.host.agent.stop_all()
            tending.cancel()
            await asyncio.wait([tending])
            logged_in.cancel()  # last: the tasks' own tokens may need it until then
    return 0
