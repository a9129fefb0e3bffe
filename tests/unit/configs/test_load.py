"""Which configuration does an agent start with, and what does it refuse to start with?"""

import os
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import configs
from configs import (
    AgentConfig,
    Artifact,
    Client,
    ConfigError,
    Consul,
    HostNetwork,
    HostVolume,
    Plugins,
    Ports,
    RawExec,
    Reserved,
    Server,
    Telemetry,
    Vault,
)
from model.cluster import PreemptionConfig, SchedulerConfiguration
from model.secret import Secret

EXAMPLES = Path(configs.__file__).parent / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path


def load(
    folder: Path,
    *texts: str | bytes,
    dev: bool = False,
    overrides: Mapping[str, Any] = {},
    environ: Mapping[str, str] = {},
    suffix: str = "hcl",
    with_base: bool = True,
) -> AgentConfig:
    """Loads a sound base and then each text as a file of its own (a.hcl, b.hcl, …)."""
    paths: list[Path] = []
    if with_base and not dev:
        base = folder / "base.hcl"
        base.write_text(f'data_dir = "{folder}/data"\nserver {{\n  enabled = true\n}}\n')
        paths.append(base)
    for name, text in zip("abcdef", texts, strict=False):
        path = folder / f"{name}.{suffix}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        paths.append(path)
    return configs.load(paths, dev=dev, overrides=overrides, environ=environ)


def refusal(folder: Path, *texts: str | bytes, **how: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, *texts, **how)
    lines = [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]
    assert not any("\n" in line for line in lines)
    return lines


def test_what_is_not_set_has_nomads_default(folder: Path) -> None:
    assert load(folder) == AgentConfig(
        name=socket.gethostname(),
        data_dir=folder / "data",
        server=Server(
            enabled=True,
            heartbeat_grace_s=10,
            min_heartbeat_ttl_s=10,
            max_heartbeats_per_second=50,
            lease_ttl_s=3,
            agent_down_after_s=300,
            lost_after_s=0,
        ),
        client=Client(enabled=False, min_dynamic_port=20000, max_dynamic_port=32000, max_kill_timeout_s=30),
        consul=Consul(address="127.0.0.1:8500", kv_path="drover"),
        ports=Ports(http=4646),
    )


def test_settings_are_read_in_their_types(folder: Path) -> None:
    config = load(
        folder,
        """
        name      = "n1"
        log_level = "debug"
        log_json  = true
        advertise { http = "10.0.0.1:4700" }
        ports { http = 4700 }
        server {
          heartbeat_grace           = "1m30s"
          max_heartbeats_per_second = 12.5
        }
        client {
          enabled = true
          meta {
            rack   = "r1"
            "a-b"  = 5
            truthy = true
          }
          reserved {
            cpu            = 100
            reserved_ports = "22,80, 8500-8502"
          }
          max_kill_timeout   = "2m"
          cpu_total_compute  = "4000"
          virtual_datacenter = "edge"
        }
        telemetry {
          prometheus_metrics  = false
          collection_interval = "5s"
        }
        """,
    )
    assert (config.name, config.log_level, config.log_json) == ("n1", "DEBUG", True)
    assert (config.advertise.http, config.ports.http) == ("10.0.0.1:4700", 4700)
    assert config.server == Server(enabled=True, heartbeat_grace_s=90.0, max_heartbeats_per_second=12.5)
    assert config.client == Client(
        enabled=True,
        meta={"rack": "r1", "a-b": "5", "truthy": "true"},
        reserved=Reserved(cpu=100, ports=(22, 80, 8500, 8501, 8502)),
        max_kill_timeout_s=120.0,
        cpu_total_compute=4000,
        virtual_datacenter="edge",
    )
    assert config.telemetry == Telemetry(prometheus_metrics=False, collection_interval_s=5.0)


def test_the_limits_of_artifacts_are_read(folder: Path) -> None:
    config = load(
        folder,
        """
        client {
          artifact {
            http_read_timeout               = "5m"
            http_max_size                   = "1.5GB"
            git_timeout                     = "90s"
            decompression_size_limit        = "2 GiB"
            decompression_file_count_limit  = 0
            disable_artifact_inspection     = true
          }
        }
        """,
    )
    assert config.client.artifact == Artifact(
        http_read_timeout_s=300.0,
        http_max_size=1_500_000_000,
        git_timeout_s=90.0,
        decompression_size_limit=2 << 30,
        decompression_file_count_limit=0,
    )
    assert any("client.artifact.disable_artifact_inspection" in warning for warning in config.warnings)


def test_host_volumes_networks_and_cores_are_read_by_their_names(folder: Path) -> None:
    config = load(
        folder,
        """
        client {
          enabled          = true
          reservable_cores = "0-2,7"
          reserved { cores = "0" }
          host_volume "data" { path = "/" }
          host_volume "certs[0]" {
            path      = "/etc"
            read_only = true
          }
          host_network "public" {
            cidr           = "203.0.113.7/24"
            reserved_ports = "22,80-81"
          }
          host_network "second" { interface = "eth1" }
        }
        """,
    )
    assert (config.client.reservable_cores, config.client.reserved.cores) == ((0, 1, 2, 7), (0,))
    assert config.client.host_volumes == {"data": HostVolume(path=Path("/")), "certs[0]": HostVolume(path=Path("/etc"), read_only=True)}
    assert config.client.host_networks == {
        "public": HostNetwork(cidr="203.0.113.0/24", reserved_ports=(22, 80, 81)),
        "second": HostNetwork(interface="eth1"),
    }
    as_json = '{"client": {"enabled": true, "host_volume": {"data": {"path": "/"}}, "host_network": [{"a": [{"interface": "lo"}]}]}}'
    config = load(folder, as_json, suffix="json")
    assert (config.client.host_volumes, config.client.host_networks) == ({"data": HostVolume(path=Path("/"))}, {"a": HostNetwork(interface="lo")})


FORMS = {
    "blocks": 'plugin "raw_exec" {\n config {\n enabled = true\n}\n}\nclient {\n meta {\n a = "b"\n}\n}',
    "one line": 'plugin "raw_exec" { config { enabled = true } }\nclient { meta { a = "b" } }',
    "objects": 'plugin = { raw_exec = { config = { enabled = true } } }\nclient = { meta = { a = "b" } }',
    "old option": 'client {\n options {\n "driver.raw_exec.enable" = "1"\n}\n meta { a = "b" }\n}',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_blocks_and_objects_mean_the_same(folder: Path, text: str) -> None:
    config = load(folder, text)
    assert config.plugins.raw_exec == RawExec(enabled=True)
    assert config.client.meta == {"a": "b"}


def test_json_means_the_same_as_hcl(folder: Path) -> None:
    text = '{"region": "eu", "client": [{"enabled": true, "meta": [{"a": "b"}]}], "plugin": [{"docker": [{"config": {"volumes": [{"enabled": true}]}}]}]}'
    config = load(folder, text, suffix="json")
    assert (config.region, config.client.enabled, config.client.meta) == ("eu", True, {"a": "b"})
    assert list(config.plugins.docker.config) == ["volumes"]


def test_docker_settings_are_kept_as_mappings(folder: Path) -> None:
    text = 'plugin "docker" {\n config {\n allow_privileged = true\n volumes {\n enabled = true\n}\n gc { image_delay = "1h" }\n}\n}'
    assert load(folder, text).plugins.docker.config == {
        "allow_privileged": True,
        "volumes": {"enabled": True},
        "gc": {"image_delay": "1h"},
    }


def test_a_later_file_overrides_and_maps_merge(folder: Path) -> None:
    config = load(
        folder,
        'region = "one"\nclient {\n meta {\n a = "1"\n b = "1"\n}\n}',
        'region = "two"\nclient {\n meta {\n b = "2"\n}\n}',
    )
    assert (config.region, config.client.meta) == ("two", {"a": "1", "b": "2"})


def test_a_directory_is_its_files_in_order_of_name(folder: Path) -> None:
    directory = folder / "conf.d"
    directory.mkdir()
    (directory / "10.hcl").write_text(
        f'data_dir = "{folder}/data"\nregion = "one"\nserver {{\n enabled = true\n}}'
    )
    (directory / "20.json").write_text('{"region": "two"}')
    (directory / "30.txt").write_text("nonsense {{{")
    assert configs.load([directory], dev=False, overrides={}, environ={}).region == "two"


def test_the_command_line_overrides_files_and_none_means_not_given(folder: Path) -> None:
    config = load(
        folder,
        "ports { http = 1 }",
        overrides={"ports.http": 2, "region": None, "client.meta": {"a": "b"}, "server.lease_ttl": "5s"},
    )
    assert (config.ports.http, config.region, config.client.meta) == (2, "global", {"a": "b"})
    assert config.server.lease_ttl_s == 5.0


def test_dev_is_both_halves_with_raw_exec_in_a_temporary_directory() -> None:
    config = configs.load([], dev=True, overrides={}, environ={})
    try:
        assert (config.server.enabled, config.client.enabled, config.bind_addr) == (True, True, "127.0.0.1")
        assert config.plugins == Plugins(raw_exec=RawExec(enabled=True))
        assert config.is_dev
        assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o711  # tasks of other users pass through
    finally:
        config.data_dir.rmdir()


@pytest.mark.parametrize("role", ["server", "client"])
def test_dev_keeps_both_halves_whatever_a_file_says(folder: Path, role: str) -> None:
    config = load(folder, f'data_dir = "{folder}/data"\n{role} {{ enabled = false }}', dev=True)
    assert (config.server.enabled, config.client.enabled) == (True, True)
    assert config.warnings == (f"{folder}/a.hcl:2: {role}.enabled = false has no effect: -dev is leader and client in one",)


def test_consuls_own_variables_count_less_than_files(folder: Path) -> None:
    environ = {"CONSUL_HTTP_ADDR": "https://consul.example:8501", "CONSUL_HTTP_TOKEN": "s3cret"}
    config = load(folder, environ=environ)
    assert (config.consul.address, config.consul.ssl, config.consul.token) == (
        "consul.example:8501",
        True,
        Secret("s3cret"),
    )
    assert load(folder, 'consul { address = "other:1" }', environ=environ).consul.address == "other:1"


ADDRESSES = {
    "127.0.0.1:8500": "127.0.0.1:8500", "http://x:1": "x:1", "host": "host:8500", "[::1]:8500": "[::1]:8500", "[::1]": "[::1]:8500",
}  # fmt: skip


@pytest.mark.parametrize(("given_address", "expected"), ADDRESSES.items())
def test_a_consul_address_is_host_and_port(folder: Path, given_address: str, expected: str) -> None:
    assert load(folder, f'consul {{ address = "{given_address}" }}').consul.address == expected


def test_no_token_is_ever_printed(folder: Path) -> None:
    config = load(folder, 'consul { token = "s3cret" }')
    assert config.consul.token.reveal() == "s3cret"
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config.consul.token)


def test_a_token_may_stand_in_a_file(folder: Path) -> None:
    (folder / "token").write_text("s3cret\n")
    assert load(folder, f'consul {{ token_file = "{folder}/token" }}').consul.token == Secret("s3cret")


def test_vaults_settings_are_nomads_and_drovers_own(folder: Path) -> None:
    text = f"""
    vault {{
      enabled               = true
      name                  = "default"
      address               = "https://vault.example:8200/"
      namespace             = "team"
      role_id               = "drover"
      secret_id_file        = "{folder}/secret-id"
      create_from_role      = "drover-tasks"
      task_token_ttl        = "1h"
      tls_server_name       = "vault"
      tls_skip_verify       = false
      allow_unauthenticated = false
      timeout               = "2s"
    }}
    """
    config = load(folder, text)
    assert config.warnings == ()
    assert config.vault == Vault(
        enabled=True,
        address="https://vault.example:8200",
        namespace="team",
        role_id="drover",
        secret_id_file=folder / "secret-id",
        create_from_role="drover-tasks",
        task_token_ttl_s=3600.0,
        tls_server_name="vault",
        allow_unauthenticated=False,
        timeout_s=2.0,
    )


def test_vaults_own_variables_count_less_than_files_and_turn_nothing_on(folder: Path) -> None:
    environ = {"VAULT_ADDR": "http://a:1", "VAULT_TOKEN": "s3cret", "VAULT_NAMESPACE": "n", "VAULT_CACERT": "/etc/passwd"}
    assert load(folder, environ=environ).vault == Vault(
        address="http://a:1", token=Secret("s3cret"), namespace="n", ca_file=Path("/etc/passwd")
    )
    text = 'vault {\n enabled = true\n address = "http://b:2"\n token_file = "/run/token"\n}'
    vault = load(folder, text, environ=environ).vault
    assert (vault.enabled, vault.address, vault.token_file) == (True, "http://b:2", Path("/run/token"))


def test_what_has_no_meaning_here_is_a_warning(folder: Path) -> None:
    text = """
    server {
      bootstrap_expect = 3
      server_join { retry_join = ["a"] }
    }
    client { servers = ["a"] }
    ports { rpc = 4647 }
    audit { enabled = false }
    autopilot { cleanup_dead_servers = true }
    """
    warnings = [line.rsplit("/", 1)[-1] for line in load(folder, text).warnings]
    assert warnings == [
        "a.hcl:3: server.bootstrap_expect has no effect in drover",
        "a.hcl:4: server.server_join has no effect in drover",
        "a.hcl:6: client.servers has no effect in drover",
        "a.hcl:7: ports.rpc has no effect in drover",
        "a.hcl:8: audit has no effect in drover",
        "a.hcl:9: autopilot has no effect in drover",
    ]


def test_what_is_read_and_used_by_nothing_is_told_if_it_asks_for_something(folder: Path) -> None:
    text = """
enable_debug = true
leave_on_terminate = false
telemetry {
  statsd_address = "127.0.0.1:8125"
}
client {
  state_dir    = "/var/lib/drover/state"
  gc_max_allocs = 10
  options {
    "driver.raw_exec.enable"  = "1"
    "driver.allowlist" = "docker"
    "env.denylist" = "A"
  }
}
plugin "docker" {
  config {
    allow_privileged = true
    gc {
      image = false
    }
  }
}
"""
    config = load(folder, text)
    assert [line.rsplit("/", 1)[-1] for line in config.warnings] == [
        "a.hcl:2: enable_debug has no effect in drover",
        "a.hcl:5: telemetry.statsd_address has no effect in drover",
        "a.hcl:8: client.state_dir has no effect in drover",
        "a.hcl:9: client.gc_max_allocs has no effect in drover",
        "a.hcl:19: plugin.docker.config.gc has no effect in drover",
        'a.hcl:10: client.options "driver.allowlist" has no effect in drover',
        'a.hcl:10: client.options "env.denylist" has no effect in drover',
    ]
    assert config.plugins.raw_exec.enabled
    assert load(folder, overrides={"client.state_dir": "/x"}).warnings == (
        "command line: client.state_dir has no effect in drover",
    )


REFUSED: Mapping[str, tuple[str | bytes, str]] = {
    "unknown setting": ("regoin = 1", 'a.hcl:1: unknown setting "regoin" (did you mean "region"?)'),
    "unknown setting in a block": ("server {\n enabeld = true\n}", 'a.hcl:2: server: unknown setting "enabeld" (did you mean "enabled"?)'),
    "unknown block": ("sever {}", 'a.hcl:1: unknown setting "sever" (did you mean "server"?)'),
    "unknown plugin": ('plugin "exec" {}', 'plugin: unknown setting "exec"'),
    "unknown docker setting": ('plugin "docker" { config { alow_privileged = true } }', 'did you mean "allow_privileged"?'),
    "log level": ('log_level = "DEBG"', 'a.hcl:1: log_level: unknown log level "DEBG" (did you mean "DEBUG"?)'),
    "duration": ('server { heartbeat_grace = "1hr" }', 'a.hcl:1: server.heartbeat_grace: unknown unit "hr" in duration "1hr" (did you mean "1h"?)'),
    "duration without unit": ("server { heartbeat_grace = 10 }", "expected a duration"),
    "size": ('client { artifact { http_max_size = "much" } }', 'expected a size (as "100GB"), found "much"'),
    "negative duration": ('server { heartbeat_grace = "-1s" }', "must not be negative"),
    "short lease": ('server { lease_ttl = "100ms" }', "server.lease_ttl: must be at least 1s"),
    "wrong type": ('server { enabled = "maybe" }', 'server.enabled: expected true or false, found "maybe"'),
    "text wanted": ("region = [1]", "region: expected a text, found a list"),
    "null": ("region = null", "region: expected a text, found null"),
    "block wanted": ("server = true", "server: expected a block: server { … }"),
    "argument wanted": ("region {}", "region: expected an argument: region = …"),
    "texts wanted": ("client { meta = 5 }", 'client.meta: expected a block of texts, found "5"'),
    "nested meta": ("client { meta { a { b = 1 } } }", "client.meta: a: expected a text, found a block"),
    "port": ("ports { http = 70000 }", "ports.http: expected a whole number of at most 65535"),
    "half a port": ("ports { http = 1.5 }", "expected a whole number"),
    "negative": ("client { memory_total_mb = -1 }", "must not be negative"),
    "dynamic ports": ("client {\n min_dynamic_port = 9\n max_dynamic_port = 8\n}", "a.hcl:2: client.min_dynamic_port: min_dynamic_port (9) must be between 1 and"),
    "reserved ports": ('client { reserved { reserved_ports = "22,x" } }', '"x" is no port or range'),
    "percentage": ("client { gc_disk_usage_threshold = 120 }", "is a percentage"),
    "relative data_dir": ('data_dir = "data"', 'data_dir: expected an absolute path, found "data"'),
    "data_dir in a file": ('data_dir = "/dev/null/x"', "data_dir: /dev/null/x is not writable"),
    "data_dir in proc": ('data_dir = "/proc/x"', "data_dir: /proc/x is not writable"),
    "unix socket": ('consul { address = "unix:///run/consul.sock" }', "consul.address: unix:// is not supported by drover yet"),
    "consul address": ('consul { address = "host:port" }', "is no address (expected host:port)"),
    "missing token file": ('consul { token_file = "/nowhere" }', "consul.token_file: cannot be read: No such file or directory"),
    "missing certificate": ('consul { ca_file = "/nowhere" }', "consul.ca_file: no such file: /nowhere"),
    "empty root": ('consul { kv_path = "/" }', "consul.kv_path: must not be empty"),
    "unknown setting of vault": ('vault { adress = "https://v:8200" }', 'a.hcl:1: vault: unknown setting "adress" (did you mean "address"?)'),
    "vault's address": ('vault {\n enabled = true\n address = "v:8200"\n}', 'a.hcl:3: vault.address: "v:8200" is no address (expected https://host:port)'),
    "vault's address with a path": ('vault {\n enabled = true\n address = "https://v:8200/v1"\n}', "a.hcl:3: vault.address"),
    "vault's address with a port that is none": ('vault {\n enabled = true\n address = "https://v:99999"\n}', "a.hcl:3: vault.address"),
    "vault's other name": ('vault { name = "second" }', 'vault.name: drover knows one Vault, called "default"'),
    "vault's missing CA": ('vault {\n enabled = true\n ca_file = "/nowhere"\n}', "a.hcl:3: vault.ca_file: no such file: /nowhere"),
    "vault's missing CAs": ('vault {\n enabled = true\n ca_path = "/etc/passwd"\n}', "a.hcl:3: vault.ca_path: no such directory"),
    "vault's certificate without a key": ('vault {\n enabled = true\n cert_file = "/etc/passwd"\n}', "a.hcl:3: vault.cert_file: needs key_file and cert_file both"),
    "vault's token twice": ('vault {\n enabled = true\n token = "a"\n token_file = "/run/t"\n}', "a.hcl:3: vault.token: is one way too many to a token of drover's own (there is token_file already)"),
    "half an AppRole": ('vault {\n enabled = true\n secret_id_file = "/run/s"\n}', "a.hcl:3: vault.secret_id_file: needs role_id"),
    "no time for vault": ('vault {\n enabled = true\n timeout = "0s"\n}', "a.hcl:3: vault.timeout: must be above 0 and at most 60 s"),
    "vault by workload identity": ('vault { default_identity { aud = ["vault.io"] } }', "vault.default_identity: default_identity is not supported by drover yet"),
    "unknown network": ('acl { open_to = ["10.0.0.0/8", "x"] }', 'acl.open_to: "x" is no block of addresses'),
    "tls without a certificate": ("tls { http = true }", "a.hcl:1: tls.http: needs cert_file and key_file"),
    "tls without a key": ('tls {\n cert_file = "/etc/passwd"\n}', "a.hcl:2: tls.cert_file: needs key_file and cert_file both"),
    "missing tls file": ('tls { ca_file = "/nowhere" }', "tls.ca_file: no such file: /nowhere"),
    "clients without a CA": ('tls {\n http = true\n cert_file = "/etc/passwd"\n key_file = "/etc/passwd"\n verify_https_client = true\n}', "a.hcl:5: tls.verify_https_client: needs http = true, and ca_file"),
    "clients without tls": ("tls { verify_https_client = true }", "a.hcl:1: tls.verify_https_client: needs http = true"),
    "negative limit": ("limits { http_max_conns_per_client = -1 }", "must not be negative"),
    "reserved cores": ('client { reserved { cores = "0,x" } }', '"x" is no core or range (expected as "0-2,7")'),
    "core out of range": ('client { reservable_cores = "0-9999" }', 'client.reservable_cores: "0-9999" is no range of cores between 0 and 8191'),
    "absent host volume": ('client {\n host_volume "v" { path = "/nowhere" }\n}', "a.hcl:2: client.host_volume.v.path: /nowhere does not exist"),
    "file as host volume": ('client { host_volume "v" { path = "/etc/passwd" } }', "client.host_volume.v.path: /etc/passwd is no directory"),
    "relative host volume": ('client { host_volume "v" { path = "srv" } }', 'client.host_volume.v.path: expected an absolute path, found "srv"'),
    "host volume of nothing": ('client {\n host_volume "v" {}\n}', "a.hcl:2: client.host_volume.v: path is needed"),
    "unknown setting of a host volume": ('client { host_volume "v" {\n path = "/"\n readonly = true\n} }', 'a.hcl:3: client.host_volume.v: unknown setting "readonly" (did you mean "read_only"?)'),
    "host volume without a name": ("client { host_volume { path = 1 } }", "a host_volume block has one label, found 0"),
    "host network of nothing": ('client { host_network "public" {} }', "client.host_network.public: cidr or interface is needed"),
    "default host network": ('client { host_network "default" { cidr = "10.0.0.0/8" } }', "client.host_network.default: is the name of the network that all nodes have"),
    "host network's block of addresses": ('client { host_network "public" { cidr = "10.0.0.0/33" } }', '"10.0.0.0/33" is no block of addresses (expected as "10.0.0.0/8")'),
    "address template": ('bind_addr = "{{ GetInterfaceIP \\"eth0\\" }}"', "are not supported by drover yet"),
    "reference": ("region = var.x", "cannot be used here"),
    "syntax": ("server {", "a.hcl:1: a block is not closed"),
    "set twice": ('region = "a"\nregion = "b"', 'a.hcl:2: "region" is set twice'),
    "label missing": ("plugin { config {} }", "a plugin block has one label, found 0"),
    "label too many": ('server "x" {}', "a server block has no label"),
    "empty": ("", "a.hcl: the file is empty"),
    "comments only": ("# nothing\n", "the file is empty"),
    "binary": (b"\x7fELF\0", "a NUL byte"),
    "not UTF-8": (b'region = "\xff"', "not UTF-8"),
    "deep": ("a = " + "[" * 5000, "nested too deeply"),
    "JSON": ('{"region": ', "expected a JSON value"),
    "JSON list": ("[]", "expected an argument or a block"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_file_is_refused_with_line_and_path(folder: Path, text: str | bytes, expected: str) -> None:
    lines = refusal(folder, text)
    assert len(lines) == 1
    assert expected in lines[0]
    assert lines[0].startswith("a.hcl")


def test_all_faults_of_all_files_come_at_once(folder: Path) -> None:
    lines = refusal(folder, 'regoin = 1\nlog_level = "x"', "ports { http = -1 }", "server {")
    assert [line.split(": ")[0] for line in lines] == ["a.hcl:1", "a.hcl:2", "b.hcl:1", "c.hcl:1"]


def test_a_data_dir_is_needed_and_one_half_of_an_agent(folder: Path) -> None:
    lines = refusal(folder, 'region = "x"', with_base=False)
    assert len(lines) == 2
    assert lines[0].startswith("neither server nor client is enabled")
    assert lines[1].startswith("data_dir is needed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_dir_that_cannot_be_written_is_refused(folder: Path) -> None:
    (folder / "data").chmod(0o500)
    assert "is not writable: Permission denied" in refusal(folder)[0]


def test_probing_the_data_dir_leaves_no_trace(folder: Path) -> None:
    config = load(folder, overrides={"data_dir": str(folder / "data" / "new" / "deep")})
    assert config.data_dir == folder / "data" / "new" / "deep"
    assert list((folder / "data").iterdir()) == []


PATHS = {
    "missing": ("none.hcl", "No such file or directory"),
    "empty directory": ("data", "holds no *.hcl or *.json"),
    "a device": ("/dev/null", "not a regular file"),
    "a name with a NUL": ("a\0b", "null byte"),
}


@pytest.mark.parametrize(("name", "expected"), PATHS.values(), ids=PATHS.keys())
def test_a_path_that_is_no_configuration_is_refused(folder: Path, name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load([folder / name], dev=False, overrides={}, environ={})
    assert expected in str(caught.value)
    assert len(caught.value.faults) == 1


def test_an_unknown_override_is_refused(folder: Path) -> None:
    assert refusal(folder, overrides={"prots.http": 1}) == ["command line: prots.http: unknown setting"]


@pytest.mark.parametrize("name", ["agent.hcl", "server.hcl", "client.hcl"])
def test_the_examples_load_without_a_warning(folder: Path, name: str) -> None:
    config = configs.load(
        [EXAMPLES / name], dev=False, overrides={"data_dir": str(folder / "data")}, environ={}
    )
    assert config.warnings == ()


PIECES = [
    "server", "client", "plugin", '"docker"', "config", "enabled", "data_dir", "ports", "http", "meta", "consul", "token",
    "{", "}", "[", "]", "=", ",", "\n", " ", "true", "1", '"a"', '"10s"', "null", '"${x}"', "<<E\n", "\nE\n", "(", ")", "é", "\0",
]  # fmt: skip


def survive(folder: Path, data: bytes, suffix: str) -> None:
    path = folder / f"fuzz.{suffix}"
    path.write_bytes(data)
    started = time.perf_counter()
    _refused_or_loaded([path], folder)
    assert time.perf_counter() - started < 5


def _refused_or_loaded(paths: Sequence[Path], folder: Path) -> None:
    try:
        configs.load(
            paths, dev=False, overrides={"data_dir": str(folder / "data"), "server.enabled": True}, environ={}
        )
    except ConfigError as error:
        lines = [str(fault) for fault in error.faults]
    else:
        lines = ["loaded"]
    assert lines
    assert not any("\n" in line for line in lines)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_jumble_is_a_configuration_or_refused(folder: Path, pieces: list[str]) -> None:
    survive(folder, "".join(pieces).encode(), "hcl")


json_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["server", "client", "meta", "plugin", "docker", "config", "ports", "http", "telemetry", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["server", "client", "plugin", "ports", "consul", "vault"]), json_documents
    )
)
def test_any_json_is_a_configuration_or_refused(folder: Path, document: dict[str, Any]) -> None:
    import json

    survive(folder, json.dumps(document).encode(), "json")


@pytest.mark.parametrize(
    "text",
    [b'region = "' + b"x" * 5_000_000 + b'"', b" " * 5_000_000, b"a {\n" * 100_000],
    ids=["string", "spaces", "deep"],
)
def test_a_monstrous_file_is_answered_soon(folder: Path, text: bytes) -> None:
    survive(folder, text, "hcl")


@pytest.mark.parametrize(
    ("written", "advertised"),
    [
        ("10.0.0.1", "10.0.0.1:4646"),
        ("10.0.0.1:4700", "10.0.0.1:4700"),
        ("host.example", "host.example:4646"),
        ("::1", "[::1]:4646"),
        ("[::1]", "[::1]:4646"),
        ("[::1]:4700", "[::1]:4700"),
    ],
)
def test_an_advertised_address_gets_the_apis_port_unless_it_has_one(
    written: str, advertised: str, folder: Path
) -> None:
    assert load(folder, f'advertise {{\n  http = "{written}"\n}}\n').advertise.http == advertised


@pytest.mark.parametrize("written", ["host:port", "host:0", "host:70000", ":4646", "http://host", "a/b", "[::1]:x"])
def test_an_advertised_address_that_is_none_is_refused(written: str, folder: Path) -> None:
    assert refusal(folder, f'advertise {{\n  http = "{written}"\n}}\n') == [
        f'a.hcl:2: advertise.http: "{written}" is no address (expected host or host:port)'
    ]


@pytest.mark.parametrize("path", ["a//b", "a/../b", "./a", "a/."])
def test_a_kv_path_that_consul_would_fold_is_refused(path: str, folder: Path) -> None:
    assert refusal(folder, f'consul {{\n  kv_path = "{path}"\n}}\n') == [
        f'a.hcl:2: consul.kv_path: "{path}" is no path of names'
    ]


def test_how_the_leader_places_is_set_by_nomads_names(folder: Path) -> None:
    assert load(folder, "client { enabled = true }").server.scheduler == SchedulerConfiguration()
    config = load(
        folder,
        """
        server {
          enabled = true
          default_scheduler_config {
            scheduler_algorithm             = "spread"
            memory_oversubscription_enabled = false
            preemption_config {
              system_scheduler_enabled  = false
              service_scheduler_enabled = true
            }
          }
        }
        """,
    )
    assert config.server.scheduler == SchedulerConfiguration(
        scheduler_algorithm="spread",
        memory_oversubscription_enabled=False,
        preemption_config=PreemptionConfig(system_scheduler_enabled=False, service_scheduler_enabled=True),
    )
    with pytest.raises(ConfigError, match='scheduler_algorithm: must be binpack or spread, found "best"'):
        load(folder, 'server {\n enabled = true\n default_scheduler_config {\n scheduler_algorithm = "best"\n}\n}')
