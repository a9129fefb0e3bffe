"""Which fields does a job have, in HCL and in JSON?

One table for all three readers: the mapper (HCL -> document), the document reader (JSON bodies) and the
paths in error messages. A row is `JSON name | HCL name | type`:

    ?int        a pointer in Nomad: null when unset (without ? unset is the type's zero)
    [T] {T}     list of T, map of T
    Name        a struct (a block in HCL); [Name] a repeated block, {Name} blocks by their label
    @           as the HCL name: the block's label
    -           as the HCL name: not settable in HCL
    any         data that is passed on as it is
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_TABLE = """
Job
  Region            region            ?string
  Namespace         namespace         ?string
  ID                id                ?string
  Name              name              ?string
  Type              type              ?string
  Priority          priority          ?int
  AllAtOnce         all_at_once       ?bool
  Datacenters       datacenters       [string]
  Constraints       constraint        [Constraint]
  Affinities        affinity          [Affinity]
  TaskGroups        group             [TaskGroup]
  Update            update            UpdateStrategy
  Multiregion       multiregion       Multiregion
  Spreads           spread            [Spread]
  Periodic          periodic          PeriodicConfig
  ParameterizedJob  parameterized     ParameterizedJobConfig
  Reschedule        reschedule        ReschedulePolicy
  Migrate           migrate           MigrateStrategy
  Meta              meta              {string}
  ConsulToken       consul_token      ?string
  VaultToken        vault_token       ?string
  NodePool          node_pool         ?string
  UI                ui                JobUIConfig
  Stop              -                 ?bool
  ParentID          -                 ?string
  Dispatched        -                 bool
  Payload           -                 ?string
  ConsulNamespace   -                 ?string
  VaultNamespace    -                 ?string
  NomadTokenID      -                 ?string
  Status            -                 ?string
  StatusDescription -                 ?string
  Stable            -                 ?bool
  Version           -                 ?int
  SubmitTime        -                 ?int
  CreateIndex       -                 ?int
  ModifyIndex       -                 ?int
  JobModifyIndex    -                 ?int
Constraint
  LTarget           attribute         string
  RTarget           value             string
  Operand           operator          string
Affinity
  LTarget           attribute         string
  RTarget           value             string
  Operand           operator          string
  Weight            weight            ?int8
Spread
  Attribute         attribute         string
  Weight            weight            ?int8
  SpreadTarget      target            [SpreadTarget]
SpreadTarget
  Value             @                 string
  Percent           percent           uint8
UpdateStrategy
  Stagger           stagger           ?duration
  MaxParallel       max_parallel      ?int
  HealthCheck       health_check      ?string
  MinHealthyTime    min_healthy_time  ?duration
  HealthyDeadline   healthy_deadline  ?duration
  ProgressDeadline  progress_deadline ?duration
  Canary            canary            ?int
  AutoRevert        auto_revert       ?bool
  AutoPromote       auto_promote      ?bool
Multiregion
  Strategy          strategy          MultiregionStrategy
  Regions           region            [MultiregionRegion]
MultiregionStrategy
  MaxParallel       max_parallel      ?int
  OnFailure         on_failure        ?string
MultiregionRegion
  Name              @                 string
  Count             count             ?int
  Datacenters       datacenters       [string]
  Meta              meta              {string}
  NodePool          node_pool         string
PeriodicConfig
  Enabled           enabled           ?bool
  Spec              cron              ?string
  SpecType          -                 ?string
  ProhibitOverlap   prohibit_overlap  ?bool
  TimeZone          time_zone         ?string
  Specs             crons             [string]
ParameterizedJobConfig
  Payload           payload           string
  MetaRequired      meta_required     [string]
  MetaOptional      meta_optional     [string]
ReschedulePolicy
  Attempts          attempts          ?int
  Interval          interval          ?duration
  Delay             delay             ?duration
  DelayFunction     delay_function    ?string
  MaxDelay          max_delay         ?duration
  Unlimited         unlimited         ?bool
MigrateStrategy
  MaxParallel       max_parallel      ?int
  HealthCheck       health_check      ?string
  MinHealthyTime    min_healthy_time  ?duration
  HealthyDeadline   healthy_deadline  ?duration
RestartPolicy
  Interval          interval          ?duration
  Attempts          attempts          ?int
  Delay             delay             ?duration
  Mode              mode              ?string
  RenderTemplates   render_templates  ?bool
TaskGroup
  Name              @                 ?string
  Count             count             ?int
  Constraints       constraint        [Constraint]
  Affinities        affinity          [Affinity]
  Tasks             task              [Task]
  Spreads           spread            [Spread]
  Volumes           volume            {VolumeRequest}
  RestartPolicy     restart           RestartPolicy
  ReschedulePolicy  reschedule        ReschedulePolicy
  EphemeralDisk     ephemeral_disk    EphemeralDisk
  Update            update            UpdateStrategy
  Migrate           migrate           MigrateStrategy
  Networks          network           [NetworkResource]
  Meta              meta              {string}
  Services          service           [Service]
  ShutdownDelay     shutdown_delay    ?duration
  StopAfterClientDisconnect stop_after_client_disconnect ?duration
  Scaling           scaling           ScalingPolicy
  Consul            consul            Consul
  Disconnect        disconnect        DisconnectStrategy
  MaxClientDisconnect max_client_disconnect ?duration
  MaxRunDuration    max_run_duration  ?duration
  PreventRescheduleOnLost prevent_reschedule_on_lost ?bool
EphemeralDisk
  Sticky            sticky            ?bool
  Migrate           migrate           ?bool
  SizeMB            size              ?int
VolumeRequest
  Name              @                 string
  Type              type              string
  Source            source            string
  ReadOnly          read_only         bool
  AccessMode        access_mode       string
  AttachmentMode    attachment_mode   string
  MountOptions      mount_options     CSIMountOptions
  PerAlloc          per_alloc         bool
  Sticky            sticky            bool
CSIMountOptions
  FSType            fs_type           string
  MountFlags        mount_flags       [string]
ScalingPolicy
  ID                -                 string
  Namespace         -                 string
  Type              type              string
  Target            -                 {string}
  Policy            policy            {any}
  Enabled           enabled           ?bool
  Min               min               ?int
  Max               max               ?int
  CreateIndex       -                 int
  ModifyIndex       -                 int
Consul
  Namespace         namespace         string
  Cluster           cluster           string
  Partition         partition         string
DisconnectStrategy
  LostAfter         lost_after        ?duration
  Replace           replace           ?bool
  Reconcile         reconcile         ?string
  StopOnClientAfter stop_on_client_after ?duration
JobUIConfig
  Description       description       string
  Links             link              [JobUILink]
JobUILink
  Label             label             string
  URL               url               string
NetworkResource
  Mode              mode              string
  Device            device            string
  CIDR              cidr              string
  IP                ip                string
  DNS               dns               DNSConfig
  ReservedPorts     reserved_ports    [Port]
  DynamicPorts      port              [Port]
  MBits             mbits             ?int
  Hostname          hostname          string
  CNI               cni               CNIConfig
CNIConfig
  Args              args              {string}
DNSConfig
  Servers           servers           [string]
  Searches          searches          [string]
  Options           options           [string]
Port
  Label             @                 string
  Value             static            int
  To                to                int
  HostNetwork       host_network      string
  IgnoreCollision   ignore_collision  bool
Service
  Id                id                string
  Name              name              string
  Tags              tags              [string]
  CanaryTags        canary_tags       [string]
  EnableTagOverride enable_tag_override bool
  PortLabel         port              string
  AddressMode       address_mode      string
  Checks            check             [ServiceCheck]
  CheckRestart      check_restart     CheckRestart
  Connect           connect           ConsulConnect
  Meta              meta              {string}
  CanaryMeta        canary_meta       {string}
  TaskName          task              string
  OnUpdate          on_update         string
  Address           address           string
  TaggedAddresses   tagged_addresses  {string}
  Weights           weights           ServiceWeights
  Provider          provider          string
  Cluster           cluster           string
  Kind              kind              string
  Identity          identity          WorkloadIdentity
ServiceWeights
  Passing           passing           int
  Warning           warning           int
WorkloadIdentity
  Name              name              string
  Audience          aud               [string]
  ExtraClaims       extra_claims      [string]
  Env               env               bool
  File              file              bool
  Filepath          filepath          string
  ChangeMode        change_mode       string
  ChangeSignal      change_signal     string
  ServiceName       service_name      string
  TTL               ttl               duration
ServiceCheck
  Id                id                string
  Name              name              string
  Type              type              string
  Command           command           string
  Args              args              [string]
  Path              path              string
  Protocol          protocol          string
  PortLabel         port              string
  Expose            expose            bool
  AddressMode       address_mode      string
  Interval          interval          duration
  Timeout           timeout           duration
  InitialStatus     initial_status    string
  TLSSkipVerify     tls_skip_verify   bool
  Header            header            {[string]}
  Method            method            string
  CheckRestart      check_restart     CheckRestart
  GRPCService       grpc_service      string
  GRPCUseTLS        grpc_use_tls      bool
  TaskName          task              string
  SuccessBeforePassing success_before_passing int
  FailuresBeforeCritical failures_before_critical int
  Body              body              string
  OnUpdate          on_update         string
  Notes             notes             string
  Advertise         advertise         string
  TLSServerName     tls_server_name   string
  FailuresBeforeWarning failures_before_warning int
  DeregisterCriticalServiceAfter deregister_critical_service_after duration
CheckRestart
  Limit             limit             int
  Grace             grace             ?duration
  IgnoreWarnings    ignore_warnings   bool
  MaxParallel       max_parallel      int
ConsulConnect
  Native            native            bool
  Gateway           gateway           ConsulGateway
  SidecarService    sidecar_service   ConsulSidecarService
  SidecarTask       sidecar_task      SidecarTask
ConsulGateway
  Proxy             proxy             ConsulGatewayProxy
  Ingress           ingress           ConsulIngressConfigEntry
  Terminating       terminating       ConsulTerminatingConfigEntry
  Mesh              mesh              ConsulMeshConfigEntry
ConsulMeshConfigEntry
ConsulGatewayProxy
  ConnectTimeout    connect_timeout   ?duration
  EnvoyGatewayBindTaggedAddresses envoy_gateway_bind_tagged_addresses bool
  EnvoyGatewayBindAddresses envoy_gateway_bind_addresses {ConsulGatewayBindAddress}
  EnvoyGatewayNoDefaultBind envoy_gateway_no_default_bind bool
  EnvoyDNSDiscoveryType envoy_dns_discovery_type string
  Config            config            {any}
ConsulGatewayBindAddress
  Name              @                 string
  Address           address           string
  Port              port              int
ConsulIngressConfigEntry
  TLS               tls               ConsulGatewayTLSConfig
  Listeners         listener          [ConsulIngressListener]
ConsulGatewayTLSConfig
  Enabled           enabled           bool
  TLSMinVersion     tls_min_version   string
  TLSMaxVersion     tls_max_version   string
  CipherSuites      cipher_suites     [string]
  SDS               sds               ConsulGatewayTLSSDSConfig
ConsulGatewayTLSSDSConfig
  ClusterName       cluster_name      string
  CertResource      cert_resource     string
ConsulIngressListener
  Port              port              int
  Protocol          protocol          string
  Services          service           [ConsulIngressService]
ConsulIngressService
  Name              name              string
  Hosts             hosts             [string]
  TLS               tls               ConsulGatewayTLSConfig
  RequestHeaders    request_headers   ConsulHTTPHeaderModifiers
  ResponseHeaders   response_headers  ConsulHTTPHeaderModifiers
  MaxConnections    max_connections   ?uint32
  MaxPendingRequests max_pending_requests ?uint32
  MaxConcurrentRequests max_concurrent_requests ?uint32
ConsulHTTPHeaderModifiers
  Add               add               {string}
  Set               set               {string}
  Remove            remove            [string]
ConsulTerminatingConfigEntry
  Services          service           [ConsulLinkedService]
ConsulLinkedService
  Name              name              string
  CAFile            ca_file           string
  CertFile          cert_file         string
  KeyFile           key_file          string
  SNI               sni               string
ConsulSidecarService
  Tags              tags              [string]
  Port              port              string
  Proxy             proxy             ConsulProxy
  DisableDefaultTCPCheck disable_default_tcp_check bool
  Meta              meta              {string}
ConsulProxy
  LocalServiceAddress local_service_address string
  LocalServicePort  local_service_port int
  ExposeConfig      expose            ConsulExposeConfig
  Upstreams         upstreams         [ConsulUpstream]
  Config            config            {any}
  TransparentProxy  transparent_proxy ConsulTransparentProxy
ConsulTransparentProxy
  UID               uid               string
  OutboundPort      outbound_port     uint16
  ExcludeInboundPorts exclude_inbound_ports [string]
  ExcludeOutboundPorts exclude_outbound_ports [uint16]
  ExcludeOutboundCIDRs exclude_outbound_cidrs [string]
  ExcludeUIDs       exclude_uids      [string]
  NoDNS             no_dns            bool
ConsulExposeConfig
  Path              path              [ConsulExposePath]
ConsulExposePath
  Path              path              string
  Protocol          protocol          string
  LocalPathPort     local_path_port   int
  ListenerPort      listener_port     string
ConsulUpstream
  DestinationName   destination_name  string
  LocalBindPort     local_bind_port   int
  Datacenter        datacenter        string
  LocalBindAddress  local_bind_address string
  DestinationNamespace destination_namespace string
  DestinationPartition destination_partition string
  DestinationPeer   destination_peer  string
  DestinationType   destination_type  string
  LocalBindSocketPath local_bind_socket_path string
  LocalBindSocketMode local_bind_socket_mode string
  MeshGateway       mesh_gateway      ConsulMeshGateway
  Config            config            {any}
ConsulMeshGateway
  Mode              mode              string
SidecarTask
  Name              name              string
  Driver            driver            string
  User              user              string
  Config            config            {any}
  Env               env               {string}
  Resources         resources         Resources
  Meta              meta              {string}
  KillTimeout       kill_timeout      ?duration
  LogConfig         logs              LogConfig
  ShutdownDelay     shutdown_delay    ?duration
  KillSignal        kill_signal       string
  Identities        identity          [WorkloadIdentity]
  VolumeMounts      volume_mount      [VolumeMount]
Task
  Name              @                 string
  Driver            driver            string
  User              user              string
  Lifecycle         lifecycle         TaskLifecycle
  Config            config            {any}
  Constraints       constraint        [Constraint]
  Affinities        affinity          [Affinity]
  Env               env               {string}
  Services          service           [Service]
  Resources         resources         Resources
  RestartPolicy     restart           RestartPolicy
  Meta              meta              {string}
  KillTimeout       kill_timeout      ?duration
  LogConfig         logs              LogConfig
  Artifacts         artifact          [TaskArtifact]
  Vault             vault             Vault
  Templates         template          [Template]
  DispatchPayload   dispatch_payload  DispatchPayloadConfig
  VolumeMounts      volume_mount      [VolumeMount]
  CSIPluginConfig   csi_plugin        TaskCSIPluginConfig
  Leader            leader            bool
  ShutdownDelay     shutdown_delay    duration
  KillSignal        kill_signal       string
  Kind              kind              string
  ScalingPolicies   scaling           [TaskScaling]
  Actions           action            [Action]
  Consul            consul            Consul
  Identity          -                 WorkloadIdentity
  Identities        identity          [WorkloadIdentity]
  Schedule          schedule          TaskSchedule
  Secrets           secret            [Secret]
Action
  Name              @                 string
  Command           command           string
  Args              args              [string]
TaskSchedule
  Cron              cron              TaskScheduleCron
TaskScheduleCron
  Start             start             string
  End               end               string
  Timezone          timezone          string
Secret
  Name              @                 string
  Provider          provider          string
  Path              path              string
  Config            config            {any}
  Env               env               {string}
TaskScaling
  ID                -                 string
  Namespace         -                 string
  Type              type              string
  Target            -                 {string}
  Policy            policy            {any}
  Enabled           enabled           ?bool
  Min               min               ?int
  Max               max               ?int
  CreateIndex       -                 int
  ModifyIndex       -                 int
TaskLifecycle
  Hook              hook              string
  Sidecar           sidecar           bool
Resources
  CPU               cpu               ?int
  Cores             cores             ?int
  MemoryMB          memory            ?int
  MemoryMaxMB       memory_max        ?int
  DiskMB            disk              ?int
  Networks          network           [NetworkResource]
  Devices           device            [RequestedDevice]
  IOPS              iops              ?int
  NUMA              numa              NUMAResource
  SecretsMB         secrets           ?int
NUMAResource
  Affinity          affinity          string
  Devices           devices           [string]
RequestedDevice
  Name              @                 string
  Count             count             ?uint
  Constraints       constraint        [Constraint]
  Affinities        affinity          [Affinity]
LogConfig
  MaxFiles          max_files         ?int
  MaxFileSizeMB     max_file_size     ?int
  Disabled          disabled          ?bool
  Enabled           enabled           ?bool
TaskArtifact
  GetterSource      source            ?string
  GetterOptions     options           {string}
  GetterHeaders     headers           {string}
  GetterMode        mode              ?string
  RelativeDest      destination       ?string
  GetterInsecure    insecure          ?bool
  Chown             chown             bool
Vault
  Policies          policies          [string]
  Namespace         namespace         ?string
  Env               env               ?bool
  ChangeMode        change_mode       ?string
  ChangeSignal      change_signal     ?string
  Role              role              string
  Cluster           cluster           string
  DisableFile       disable_file      ?bool
  AllowTokenExpiration allow_token_expiration ?bool
Template
  SourcePath        source            ?string
  DestPath          destination       ?string
  EmbeddedTmpl      data              ?string
  ChangeMode        change_mode       ?string
  ChangeSignal      change_signal     ?string
  Splay             splay             ?duration
  Perms             perms             ?string
  LeftDelim         left_delimiter    ?string
  RightDelim        right_delimiter   ?string
  Envvars           env               ?bool
  VaultGrace        vault_grace       ?duration
  ChangeScript      change_script     ChangeScript
  Wait              wait              WaitConfig
  ErrMissingKey     error_on_missing_key ?bool
  Once              once              ?bool
  Uid               uid               ?int
  Gid               gid               ?int
ChangeScript
  Command           command           ?string
  Args              args              [string]
  Timeout           timeout           ?duration
  FailOnError       fail_on_error     ?bool
  RunOnFirstRender  run_on_first_render ?bool
WaitConfig
  Min               min               ?duration
  Max               max               ?duration
DispatchPayloadConfig
  File              file              string
VolumeMount
  Volume            volume            ?string
  Destination       destination       ?string
  ReadOnly          read_only         ?bool
  PropagationMode   propagation_mode  ?string
  SELinuxLabel      selinux_label     ?string
TaskCSIPluginConfig
  ID                id                string
  Type              type              string
  MountDir          mount_dir         string
  HealthTimeout     health_timeout    duration
  StagePublishBaseDir stage_publish_base_dir string
"""

# What only drover has, by the struct it belongs to, and the operators of constraints; `-nomad-strict` refuses them.
EXTENSION_OPERATORS = ("in", "not_in")
_EXTENSIONS = """
Job
  SchedulerAlgorithm scheduler_algorithm ?string
Spread
  MaxSkew           max_skew          ?int
UpdateStrategy
  OnChange          on_change         ?string
MigrateStrategy
  Surge             surge             ?bool
History
  Successful        successful        ?int
  Failed            failed            ?int
PeriodicConfig
  StartingDeadline  starting_deadline ?duration
  MissedRun         missed_run        ?string
  ExpectWithin      expect_within     ?duration
  History           history           History
ParameterizedJobConfig
  MaxRunning        max_running       ?int
  Dedupe            dedupe            ?bool
  History           history           History
TaskGroup
  Completion        completion        Completion
Completion
  Completions       completions       ?int
  Parallelism       parallelism       ?int
  BackoffLimit      backoff_limit     ?int
  BackoffBase       backoff_base      ?duration
  BackoffMax        backoff_max       ?duration
  ActiveDeadline    active_deadline   ?duration
  RestartPolicy     restart_policy    ?string
  Indexed           indexed           ?bool
  TTLAfterFinished  ttl_after_finished ?duration
"""

_ZEROS: Mapping[str, object] = {
    "string": "",
    "bool": False,
    "int": 0,
    "int8": 0,
    "uint8": 0,
    "uint16": 0,
    "uint32": 0,
    "uint": 0,
    "duration": 0,
}
INTEGER_RANGES = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "uint": (0, (1 << 64) - 1),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One row. shape: "" for one value, "list", "map"; `kind` is the element's: a scalar, "any" or a struct."""

    json: str
    hcl: str
    kind: str
    shape: str
    is_struct: bool
    zero: object
    is_extension: bool = False  # drover's own

    @property
    def is_block(self) -> bool:
        """Written with braces in HCL; maps of data may also be set with `=`."""
        return self.is_struct or self.shape == "map"


@dataclass(frozen=True, kw_only=True)
class Struct:
    """One kind of document, with its fields in Nomad's order."""

    name: str
    fields: tuple[Field, ...]

    @cached_property
    def attributes(self) -> Mapping[str, Field]:
        return {field.hcl: field for field in self.fields if not field.is_block and field.hcl not in "@-"}

    @cached_property
    def blocks(self) -> Mapping[str, Field]:
        return {field.hcl: field for field in self.fields if field.is_block and field.hcl not in "@-"}

    @cached_property
    def label(self) -> Field | None:
        return next((field for field in self.fields if field.hcl == "@"), None)

    @cached_property
    def empty(self) -> Mapping[str, object]:
        """A document with nothing set."""
        return {field.json: field.zero for field in self.fields}

    @cached_property
    def by_folded_name(self) -> Mapping[str, Field]:
        """The fields by lower-case JSON name: Go's decoder does not tell `memorymb` from `MemoryMB`."""
        return {field.json.lower(): field for field in self.fields}


def _read_tables(table: str, extensions: str) -> Mapping[str, Struct]:
    rows: dict[str, list[tuple[list[str], bool]]] = {}
    for text in (table, extensions):
        current: list[tuple[list[str], bool]] = []
        for line in text.strip("\n").splitlines():
            if line.startswith(" "):
                current.append((line.split(), text is extensions))
            else:
                current = rows.setdefault(line.strip(), [])
    return {
        name: Struct(
            name=name,
            fields=tuple(_field(*row, structs=rows, is_extension=is_own) for row, is_own in fields),
        )
        for name, fields in rows.items()
    }


def _field(json: str, hcl: str, text: str, *, structs: Mapping[str, object], is_extension: bool) -> Field:
    kind = text.lstrip("?")
    shape = {"[": "list", "{": "map"}.get(kind[0], "")
    if shape:
        kind = kind[1:-1]
    is_struct = kind in structs
    zero = None if shape or is_struct or text.startswith("?") else _ZEROS[kind]
    return Field(
        json=json, hcl=hcl, kind=kind, shape=shape, is_struct=is_struct, zero=zero, is_extension=is_extension
    )


STRUCTS: Mapping[str, Struct] = _read_tables(_TABLE, _EXTENSIONS)
JOB = STRUCTS["Job"]
