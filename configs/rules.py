"""Which settings exist, and of what kind is each?

One table, in the shape of the file. A name that is not here is a fault. Nomad's settings that drover has
no use for are accepted with a warning, so that an existing configuration still starts; those that would
promise something drover does not do are refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


class Kind(Enum):
    TEXT = auto()
    PATH = auto()  # an absolute path
    FILE = auto()  # a path, taken as it is
    BOOL = auto()
    INT = auto()  # whole, not negative
    PORT = auto()
    NUMBER = auto()  # not negative
    SPAN = auto()  # a duration, not negative
    SIZE = auto()  # of data, in bytes: "100GB", or a number of them
    PORTS = auto()  # "22,80,8500-8600"
    CORES = auto()  # "0-2,7"
    CIDR = auto()
    NETWORKS = auto()  # a list of CIDRs
    NAMES = auto()  # a list of texts
    LEVEL = auto()
    SECRET = auto()
    TEXTS = auto()  # a block or object of texts
    DATA = auto()  # a block or object of anything
    IGNORED = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One setting. instead: what to do about a refused one. is_unused: read and checked, and nothing asks for it
    yet; to set it is told of."""

    kind: Kind
    instead: str = ""
    is_unused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A block. is_labelled: the label is one level of names (`plugin "docker"`). each: of a labelled one whose names
    the operator chooses, what is below each of them."""

    rules: "Mapping[str, Rule | Section]" = field(default_factory=dict)
    is_labelled: bool = False
    each: "Section | None" = None
    refused_if: tuple[str, ...] = ()  # switches that, when true, ask for something drover does not have
    is_ignored: bool = False


def _rules(kind: Kind, names: str) -> dict[str, "Rule | Section"]:
    return {name: Rule(kind=kind) for name in names.split()}


def _unused(kind: Kind, names: str) -> dict[str, "Rule | Section"]:
    return {name: Rule(kind=kind, is_unused=True) for name in names.split()}


_PLUGIN_RAW_EXEC = Section(
    rules={
        "config": Section(rules=_rules(Kind.BOOL, "enabled") | _rules(Kind.IGNORED, "no_cgroups")),
        "args": Rule(kind=Kind.IGNORED),
    }
)
_PLUGIN_DOCKER = Section(
    rules={
        "config": Section(
            rules=_rules(Kind.DATA, "allow_caps allow_devices allow_privileged allow_runtimes endpoint volumes")
            | _unused(
                Kind.DATA,
                "auth disable_log_collection extra_labels gc image_pull_timeout infra_image infra_image_pull_timeout"
                " logging nvidia_runtime pids_limit pull_activity_timeout tls windows_allow_insecure_container_admin",
            )
        ),
        "args": Rule(kind=Kind.IGNORED),
    }
)

_SCHEDULER = Section(
    rules={
        **_rules(Kind.TEXT, "scheduler_algorithm"),
        **_rules(Kind.BOOL, "memory_oversubscription_enabled reject_job_registration"),
        **_rules(Kind.IGNORED, "pause_eval_broker"),
        "preemption_config": Section(
            rules=_rules(
                Kind.BOOL,
                "system_scheduler_enabled sysbatch_scheduler_enabled batch_scheduler_enabled service_scheduler_enabled",
            )
        ),
    }
)

_SERVER = Section(
    rules={
        **_rules(Kind.BOOL, "enabled"),
        **_rules(Kind.SPAN, "heartbeat_grace min_heartbeat_ttl lease_ttl agent_down_after lost_after rebalance_interval job_gc_threshold node_gc_threshold"),
        **_rules(Kind.NUMBER, "max_heartbeats_per_second"),
        "brake": Section(
            rules={
                **_rules(Kind.NUMBER, "cluster_percent datacenter_percent lost_nodes_per_second"),
                **_rules(Kind.INT, "nodes_min lost_nodes_burst flaps_max"),
                **_rules(Kind.SPAN, "window hold"),
            }
        ),
        "default_scheduler_config": _SCHEDULER,
        **_rules(
            Kind.IGNORED,
            "acl_token_gc_threshold authoritative_region batch_eval_gc_threshold bootstrap_expect"
            " csi_plugin_gc_threshold csi_volume_claim_gc_threshold data_dir"
            " deployment_gc_threshold enable_event_broker enabled_schedulers encrypt eval_gc_threshold"
            " event_buffer_size failover_heartbeat_ttl job_gc_interval license_path"
            " non_voting_server num_schedulers plan_rejection_tracker protocol_version"
            " raft_boltdb raft_multiplier raft_protocol redundancy_zone rejoin_after_leave retry_interval"
            " retry_join retry_max search server_join start_join upgrade_version"
            " deployment_query_rate_limit job_default_priority job_max_priority job_max_source_size job_tracked_versions"
            " oidc_issuer raft_snapshot_interval raft_snapshot_threshold raft_trailing_logs root_key_gc_interval"
            " root_key_gc_threshold root_key_rotation_threshold start_timeout variables_rekey_gc_interval",
        ),
    }
)

_CLIENT = Section(
    rules={
        **_rules(Kind.BOOL, "enabled disable_remote_exec"),
        **_rules(Kind.TEXT, "node_class network_interface virtual_datacenter"),
        **_rules(Kind.TEXTS, "meta options"),
        **_rules(Kind.PORT, "min_dynamic_port max_dynamic_port"),
        **_rules(Kind.INT, "cpu_total_compute memory_total_mb disk_total_mb"),
        **_unused(Kind.INT, "gc_max_allocs gc_parallel_destroys"),
        **_unused(Kind.NUMBER, "gc_disk_usage_threshold gc_inode_usage_threshold"),
        **_rules(Kind.PATH, "alloc_dir"),
        **_unused(Kind.PATH, "state_dir"),
        **_rules(Kind.SPAN, "max_kill_timeout"),
        **_unused(Kind.SPAN, "gc_interval"),
        "reserved": Section(
            rules={
                **_rules(Kind.INT, "cpu memory disk"),
                "reserved_ports": Rule(kind=Kind.PORTS),
                "cores": Rule(kind=Kind.CORES),
                **_rules(Kind.IGNORED, "iops"),
            }
        ),
        "reservable_cores": Rule(kind=Kind.CORES),
        "artifact": Section(
            rules={
                **_rules(Kind.SPAN, "http_read_timeout git_timeout"),
                **_rules(Kind.SIZE, "http_max_size decompression_size_limit"),
                **_rules(Kind.INT, "decompression_file_count_limit"),
                **_rules(
                    Kind.IGNORED,
                    "disable_artifact_inspection disable_filesystem_isolation filesystem_isolation_extra_paths gcs_timeout hg_timeout"
                    " s3_timeout set_environment_variables",
                ),
            }
        ),
        "host_volume": Section(
            is_labelled=True, each=Section(rules=_rules(Kind.PATH, "path") | _rules(Kind.BOOL, "read_only"))
        ),
        "host_network": Section(
            is_labelled=True,
            each=Section(
                rules={
                    "cidr": Rule(kind=Kind.CIDR),
                    "interface": Rule(kind=Kind.TEXT),
                    "reserved_ports": Rule(kind=Kind.PORTS),
                }
            ),
        ),
        **_rules(
            Kind.IGNORED,
            "bind_wildcard_default_host_network bridge_network_hairpin_mode bridge_network_name"
            " bridge_network_subnet cgroup_parent chroot_env cni_config_dir cni_path drain_on_shutdown"
            " max_dynamic_user min_dynamic_user network_speed no_host_uuid node_pool"
            " retry_interval retry_join retry_max server_join servers start_join"
            " stats template disk_free_mb"
            " bridge_network_subnet_ipv6 common_plugin_dir cpu_disable_dmidecode fingerprint gc_volumes_on_client_gc"
            " host_volume_plugin_dir host_volumes_dir node_max_allocs nomad_service_discovery preferred_address_family users",
        ),
    }
)

_CONSUL = Section(
    rules={
        **_rules(Kind.TEXT, "address home_datacenter kv_path"),
        **_rules(Kind.SECRET, "token"),
        **_rules(Kind.FILE, "token_file ca_file cert_file key_file"),
        **_rules(Kind.BOOL, "ssl verify_ssl"),
        **_rules(
            Kind.IGNORED,
            "allow_unauthenticated auth auto_advertise checks_use_advertise client_auto_join"
            " client_failures_before_critical client_failures_before_warning client_http_check_name"
            " client_service_name enabled grpc_address grpc_ca_file name namespace server_auto_join"
            " server_failures_before_critical server_failures_before_warning server_http_check_name"
            " server_rpc_check_name server_serf_check_name server_service_name service_identity share_ssl"
            " tags task_identity timeout use_identity",
        ),
    }
)

_VAULT = Section(
    rules={
        **_rules(Kind.BOOL, "enabled tls_skip_verify allow_unauthenticated"),
        **_rules(Kind.TEXT, "name address namespace create_from_role tls_server_name role_id approle_mount"),
        **_rules(Kind.SECRET, "token"),
        **_rules(Kind.FILE, "token_file secret_id_file ca_file ca_path cert_file key_file"),
        **_rules(Kind.SPAN, "task_token_ttl timeout"),
        **{
            name: Rule(kind=Kind.REFUSED, instead="tasks get tokens that drover makes; see docs/vault.md")
            for name in ("default_identity", "jwt_auth_backend_path")
        },
    }
)

_TELEMETRY = Section(
    rules={
        **_rules(Kind.BOOL, "prometheus_metrics publish_allocation_metrics publish_node_metrics disable_hostname use_node_name"),
        **_rules(Kind.SPAN, "collection_interval"),
        **_rules(
            Kind.IGNORED,
            "circonus_api_app circonus_api_token circonus_api_url circonus_broker_id circonus_broker_select_tag"
            " circonus_check_display_name circonus_check_force_metric_activation circonus_check_id"
            " circonus_check_instance_id circonus_check_search_tag circonus_check_tags circonus_submission_interval"
            " circonus_submission_url datadog_address datadog_tags disable_allocation_hook_metrics"
            " disable_dispatched_job_summary_metrics disable_quota_utilization_metrics disable_rpc_rate_metrics_labels"
            " filter_default in_memory_collection_interval in_memory_retention_period include_alloc_metadata_in_metrics"
            " allowed_metadata_keys_in_metrics prefix_filter statsd_address statsite_address",
        ),
    }
)

AGENT = Section(
    rules={
        **_rules(Kind.TEXT, "name region datacenter bind_addr log_file syslog_facility"),
        "data_dir": Rule(kind=Kind.PATH),
        "log_level": Rule(kind=Kind.LEVEL),
        **_rules(Kind.BOOL, "log_json log_include_location enable_syslog disable_update_check"),  # drover never asks for updates
        **_rules(Kind.INT, "log_rotate_bytes log_rotate_max_files"),
        **_rules(Kind.SPAN, "log_rotate_duration"),
        **_unused(Kind.BOOL, "enable_debug leave_on_terminate leave_on_interrupt"),
        "addresses": Section(rules=_rules(Kind.TEXT, "http") | _rules(Kind.IGNORED, "rpc serf")),
        "advertise": Section(rules=_rules(Kind.TEXT, "http") | _rules(Kind.IGNORED, "rpc serf")),
        "ports": Section(rules=_rules(Kind.PORT, "http") | _rules(Kind.IGNORED, "rpc serf")),
        "plugin": Section(rules={"raw_exec": _PLUGIN_RAW_EXEC, "docker": _PLUGIN_DOCKER}, is_labelled=True),
        "server": _SERVER,
        "client": _CLIENT,
        "consul": _CONSUL,
        "telemetry": _TELEMETRY,
        "vault": _VAULT,
        "acl": Section(
            rules={
                **_rules(Kind.BOOL, "enabled"),
                **_rules(Kind.NETWORKS, "open_to"),
                **_rules(
                    Kind.IGNORED,
                    "token_ttl policy_ttl role_ttl replication_token token_min_expiration_ttl token_max_expiration_ttl",
                ),
            }
        ),
        "tls": Section(
            rules={
                **_rules(Kind.BOOL, "http verify_https_client verify_server_hostname"),
                **_rules(Kind.FILE, "ca_file cert_file key_file"),
                **_rules(Kind.IGNORED, "rpc rpc_upgrade_mode tls_cipher_suites tls_min_version tls_prefer_server_cipher_suites"),
            }
        ),
        "limits": Section(
            rules={
                **_rules(Kind.INT, "http_max_conns_per_client"),
                **_rules(Kind.SPAN, "https_handshake_timeout http_header_timeout http_stall_timeout"),
                **_rules(Kind.IGNORED, "rpc_handshake_timeout rpc_max_conns_per_client"),
            }
        ),
        "http_hosts": Rule(kind=Kind.NAMES),
        **{name: Section(is_ignored=True) for name in ("audit", "autopilot", "sentinel")},
        **_rules(
            Kind.IGNORED,
            "client_introduction disable_anonymous_signature eventlog http_api_response_headers keyring"
            " plugin_dir reporting rpc ui users",
        ),
    }
)

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")
