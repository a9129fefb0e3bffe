"""What does validation refuse, and under which path?"""

import json
import time

import msgspec
import pytest

import jobspec
from jobspec.advice import NODE_NAMES
from leader.decide.constraints import resolve
from model.errors import Fault
from model.job import Constraint, Job
from model.node import Node, NodeId
from tests.unit.jobspec.builders import job_text, messages_of

UPSTREAMS = ("vault-1, 10.0.0.7:8200", "http://[fd00::1]:8200\nfd00::1", "https://vault.example.com", "active.vault.service.consul:8200", "")
BAD_UPSTREAMS = ("http://[bad", "http://a[b]c", "http://[10.0.0.1]:8200", "10.0.0.1:99999", "v:0", "unix:///run/vault", "${meta.vault}:8200")


@pytest.mark.parametrize("upstreams", UPSTREAMS)
def test_upstreams_that_can_be_read_are_taken(upstreams: str) -> None:
    meta = f"meta {{\n drover_upstreams = {json.dumps(upstreams)}\n}}"
    assert faults(job_text(job=meta, group=meta, task=meta)) == []


@pytest.mark.parametrize("upstream", BAD_UPSTREAMS)
def test_an_upstream_that_cannot_be_read_is_refused_wherever_it_stands(upstream: str) -> None:
    meta = f"meta {{\n drover_upstreams = {json.dumps('vault, ' + upstream).replace('${', '$${')}\n}}"
    words = f'must be services, host:port or URLs, parted by commas, found "{upstream}"'
    paths = [f"{path}.meta.drover_upstreams: {words}" for path in ("job.web", GROUP, TASK)]
    assert sorted(faults(job_text(job=meta, group=meta, task=meta))) == sorted(paths)


def test_upstreams_without_end_are_refused() -> None:
    assert faults(job_text(job=f'meta {{\n drover_upstreams = "{",".join(["v"] * 100)}"\n}}')) == []
    many = job_text(job=f'meta {{\n drover_upstreams = "{",".join(["v"] * 101)}"\n}}')
    assert faults(many) == ["job.web.meta.drover_upstreams: names 101 upstreams (at most 100)"]


PORT = 'network {\n port "http" {}\n}\n'


def faults(text: bytes) -> list[str]:
    """path: message of every fault of validation alone."""
    job = jobspec.canonicalize(jobspec.parse(text, file="web.hcl"))
    return [str(fault) for fault in jobspec.validate(job)]


def service(body: str) -> bytes:
    return job_text(group=PORT + f"service {{\n{body}\n}}")


def check(body: str) -> bytes:
    return service(f'port = "http"\ncheck {{\n{body}\n}}')


def test_a_sound_job_has_no_faults() -> None:
    http = 'type = "http"\npath = "/"\ninterval = "1s"\ntimeout = "1s"'
    assert faults(check(http)) == []


GROUP = "job.web.group.cache"
TASK = f"{GROUP}.task.redis"
CHECK = f"{GROUP}.service[0].check[0]"
TIMES = 'interval = "10s"\ntimeout = "2s"\n'

REFUSED = {
    "no datacenter": (job_text(job="").replace(b'datacenters = ["dc1"]', b""), "job.web.datacenters: at least one"),
    "empty datacenter": (job_text().replace(b'["dc1"]', b'[""]'), "job.web.datacenters: a datacenter's name"),
    "priority": (job_text(job="priority = 101"), "job.web.priority: must be between 1 and 100, found 101"),
    "space in the ID": (job_text(job='id = "a b"'), "cannot hold a space"),
    "line break in the ID": (job_text(job='id = "a\\nb"'), "a job's ID cannot hold a control character"),
    "a long ID": (job_text(job=f'id = "{"a" * 513}"'), "job.id: a job's ID has 512 bytes at most, found 513"),
    "a long ID of a parent": (
        job_text(job=f'id = "{"ü" * 241}"\ntype = "batch"\nperiodic {{\n cron = "@daily"\n}}'),
        "job.id: a job's ID has 480 bytes at most, so that its children's can be longer, found 482",
    ),
    "too many crons": (
        job_text(job='type = "batch"\nperiodic {\n crons = [' + '"@daily",' * 101 + "]\n}"),
        "job.web.periodic.crons: at most 100 of them, found 101",
    ),
    "a payload's file with a name that no file has": (
        job_text(task='dispatch_payload {\n file = "in/' + "ü" * 128 + '"\n}'),
        f"{TASK}.dispatch_payload.file: a file's name has 255 bytes at most",
    ),
    "no groups": (b'job "web" {\n datacenters = ["a"]\n}', "job.web: a job needs at least one group"),
    "no tasks": (job_text(job='group "empty" {}'), "job.web.group.empty: a group needs at least one task"),
    "two groups of a name": (job_text(job='group "cache" {}'), f'{GROUP}: there are two groups named "cache"'),
    "two tasks of a name": (job_text(group='task "redis" {}'), f'{TASK}: there are two tasks named "redis"'),
    "a mistyped count": (job_text(group="count = 1000000"), "job.web: asks for 1000000 instances in all (at most 50000)"),
    "negative count": (job_text(group="count = -1"), f"{GROUP}.count: must not be negative, found -1"),
    "count of a system job": (job_text(job='type = "system"', group="count = 5"), f"{GROUP}.count: a system job runs once"),
    "no driver": (job_text(driver=""), f"{TASK}.driver: a driver is needed"),
    "no command": (job_text(config=""), f'{TASK}.config: the raw_exec driver needs "command"'),
    "no image": (job_text(driver="docker"), f'{TASK}.config: the docker driver needs "image"'),
    "arguments that are no list": (job_text(config='command = "x"\nargs = "a"'), f"{TASK}.config.args: must be a list"),
    "slash in a task's name": (job_text(group='task "a/b" {}'), "cannot hold a slash"),
    "negative kill_timeout": (job_text(task='kill_timeout = "-1s"'), f"{TASK}.kill_timeout: must not be negative"),
    "little memory": (job_text(task="resources { memory = 1 }"), f"{TASK}.resources.memory: must be at least 10 MB, found 1"),
    "no cpu": (job_text(task="resources { cpu = 0 }"), f"{TASK}.resources.cpu: must be at least 1 MHz"),
    "memory_max below memory": (job_text(task="resources { memory_max = 200 }"), f"{TASK}.resources.memory_max: (200 MB)"),
    "logs larger than the disk": (job_text(task="logs { max_file_size = 100 }"), f"{TASK}.logs: log files of 1000 MB"),
    "a port of a name that is no port's": (service('port = "${db}"'), f'{GROUP}.service[0].port: there is no port labelled "${{db}}"'),
    "a script without a script": (
        job_text(task='template {\n data = "x"\n destination = "y"\n change_mode = "script"\n}'),
        f"{TASK}.template[0].change_script: ",
    ),
    "template without destination": (
        job_text(task='template {\n data = "x"\n}'),
        f"{TASK}.template[0]: a destination is needed",
    ),
    "template into a directory": (
        job_text(task='template {\n data = "x"\n destination = "local/"\n}'),
        f"{TASK}.template[0].destination: must name a file",
    ),
    "template that leads out": (
        job_text(task='template {\n data = "x"\n destination = "${NOMAD_ALLOC_DIR}/../../y"\n}'),
        f"{TASK}.template[0].destination: must not lead out of the allocation's directory",
    ),
    "template from outside": (
        job_text(task='template {\n source = "../../x"\n destination = "y"\n}'),
        f"{TASK}.template[0].source: must not lead out",
    ),
    "template with two texts": (
        job_text(task='template {\n source = "x"\n data = "x"\n destination = "y"\n}'),
        f"{TASK}.template[0]: either source or data",
    ),
    "template signal": (
        job_text(task='template {\n data = "x"\n destination = "y"\n change_mode = "signal"\n change_signal = "SIGNONE"\n}'),
        f'{TASK}.template[0].change_signal: there is no signal "SIGNONE"',
    ),
    "template script": (
        job_text(task='template {\n data = "x"\n destination = "y"\n change_mode = "script"\n change_script {}\n}'),
        f"{TASK}.template[0].change_script.command: a command is needed",
    ),
    "template perms": (
        job_text(task='template {\n data = "x"\n destination = "y"\n perms = "rw"\n}'),
        f"{TASK}.template[0].perms: must be octal",
    ),
    "template wait": (
        job_text(task='template {\n data = "x"\n destination = "y"\n wait {\n min = "2s"\n max = "1s"\n }\n}'),
        f"{TASK}.template[0].wait: min must not be larger than max",
    ),
    **{
        f"distinct_property {value}": (
            job_text(group=f'constraint {{\n distinct_property = "${{meta.rack}}"\n value = "{value}"\n}}'),
            f'{GROUP}.constraint[0].value: must be a whole number of at least 1 with distinct_property, found "{value}"',
        )
        for value in ("0", "00", "-1", "many")
    },
    "no log files": (job_text(task="logs { max_files = 0 }"), f"{TASK}.logs.max_files: must be at least 1"),
    "unknown hook": (
        job_text(task='lifecycle { hook = "prestop" }'),
        f'{TASK}.lifecycle.hook: must be prestart, poststart or poststop, found "prestop"',
    ),
    "two leaders": (job_text(group='task "a" { leader = true }', task="leader = true"), "only one task can be the leader"),
    "restart that does not fit": (
        job_text(group='restart {\n attempts = 10\n interval = "10s"\n}'),
        f"{GROUP}.restart: 10 attempts with a delay of 15s do not fit in an interval of 10s",
    ),
    "restart interval": (job_text(group='restart {\n attempts = 0\n interval = "1s"\n}'), f"{GROUP}.restart.interval: must be at least 5s, found 1s"),
    "restart mode": (job_text(group='restart { mode = "never" }'), f"{GROUP}.restart.mode: must be fail or delay"),
    "ambiguous restart": (job_text(group='restart {\n attempts = 0\n mode = "delay"\n}'), "is ambiguous"),
    "reschedule delay": (job_text(group='reschedule { delay = "1s" }'), f"{GROUP}.reschedule.delay: must be at least 5s"),
    "reschedule function": (job_text(group='reschedule { delay_function = "cubic" }'), "must be constant, exponential or fibonacci"),
    "reschedule that does not fit": (
        job_text(group='reschedule {\n attempts = 5\n interval = "1m"\n unlimited = false\n}'),
        "5 attempts do not fit in an interval of 1m0s",
    ),
    "update deadlines": (job_text(group='update { healthy_deadline = "20m" }'), "healthy_deadline (20m0s) must be less than progress_deadline (10m0s)"),
    "update parallel": (job_text(group="update { max_parallel = -1 }"), f"{GROUP}.update.max_parallel: must not be negative"),
    "promotion without canaries": (job_text(group="update { auto_promote = true }"), "needs canary to be at least 1"),
    "update of a batch job": (job_text(job='type = "batch"', group="update {}"), "a batch job cannot have an update block"),
    "migrate of a system job": (job_text(job='type = "system"', group="migrate {}"), "a system job cannot have a migrate block"),
    "affinity of a system job": (job_text(job='type = "system"\naffinity {\n attribute = "a"\n value = "b"\n}'), "a system job cannot have an affinity"),
    "constraint operator": (job_text(job='constraint {\n attribute = "a"\n operator = "~="\n}'), 'job.web.constraint[0].operator: unknown operator "~="'),
    "constraint pattern": (job_text(job='constraint {\n attribute = "a"\n regexp = "("\n}'), "bad regular expression"),
    "constraint version": (job_text(job='constraint {\n attribute = "a"\n version = "newest"\n}'), '"newest" is no version rule'),
    "constraint without attribute": (job_text(job='constraint { value = "x" }'), "job.web.constraint[0]: an attribute is needed"),
    "distinct_hosts in a task": (job_text(task="constraint { distinct_hosts = true }"), "cannot be used in a task"),
    "affinity weight": (job_text(job='affinity {\n attribute = "a"\n value = "b"\n weight = 101\n}'), "must be between -100 and 100 and not 0, found 101"),
    "spread percentages": (
        job_text(job='spread {\n attribute = "a"\n target "x" { percent = 70 }\n target "y" { percent = 60 }\n}'),
        "job.web.spread[0]: the targets' percentages add up to 130",
    ),
    "port out of range": (job_text(group='network {\n port "a" { static = 70000 }\n}'), f"{GROUP}.network[0].port.a.static: must be between 1 and 65535, found 70000"),
    "two ports of a label": (job_text(group='network {\n port "a" {}\n port "a" {}\n}'), 'two ports labelled "a"'),
    "one static port twice": (job_text(group='network {\n port "a" { static = 80 }\n port "b" { static = 80 }\n}'), 'port 80 is already taken by "a"'),
    "undefined port": (service('port = "htp"'), f'{GROUP}.service[0].port: there is no port labelled "htp" (did you mean "http"?)'),
    "undefined port of a check": (check('type = "tcp"\nport = "db"\n' + TIMES), f'{CHECK}.port: there is no port labelled "db" (known: http)'),
    "service name": (service('name = "my service"'), '"my service" is no DNS label (letters, digits and dashes, at most 63, no dash at either end); "my-service" would be one'),
    "service name of nothing": (service('name = "__"'), "no dash at either end)"),
    "service name from a job's": (service('name = "${NOMAD_JOB_NAME}_x"'), "cannot become a DNS label"),
    "driver's address of a group": (service('address_mode = "driver"'), f'{GROUP}.service[0].address_mode: "driver" is for a task\'s service'),
    "driver's address of a process": (
        job_text(task='service {\n address_mode = "driver"\n}'),
        'service[0].address_mode: "driver" needs a task with an address of its own, which raw_exec does not give',
    ),
    "deregister soon": (check('type = "tcp"\nport = "http"\nderegister_critical_service_after = "30s"\n' + TIMES), f"{CHECK}.deregister_critical_service_after: Consul waits a minute at least, found 30s"),
    "two services": (job_text(group='service { name = "a" }\nservice { name = "a" }'), 'two services "a"'),
    "address mode": (service('address_mode = "bridge"'), f"{GROUP}.service[0].address_mode: must be auto"),
    "check type": (check('type = "ping"\n' + TIMES), f'{CHECK}.type: a check\'s type is one of http, tcp, grpc, script, ttl, found "ping"'),
    "no check type": (check(TIMES), f"{CHECK}: a check's type is one of"),
    "short interval": (check('type = "tcp"\ninterval = "500ms"\ntimeout = "2s"'), f"{CHECK}.interval: must be at least 1s, found 500ms"),
    "no timeout": (check('type = "tcp"\ninterval = "1s"'), f'{CHECK}: a check needs "timeout"'),
    "http without a path": (check('type = "http"\n' + TIMES), f"{CHECK}: an http check needs a path"),
    "script without a command": (check('type = "script"\ntask = "redis"\n' + TIMES), f"{CHECK}: a script check needs a command"),
    "script without a task": (check('type = "script"\ncommand = "x"\n' + TIMES), "names the task it runs in"),
    "script in an unknown task": (check('type = "script"\ncommand = "x"\ntask = "reds"\n' + TIMES), 'the group has no task "reds" (did you mean "redis"?)'),
    "check without a port": (service('check {\n type = "tcp"\n' + TIMES + "}"), "a tcp check needs a port"),
    "initial status": (check('type = "tcp"\ninitial_status = "fine"\n' + TIMES), "must be passing, warning or critical"),
    "check_restart": (check('type = "tcp"\ncheck_restart { limit = -1 }\n' + TIMES), f"{CHECK}.check_restart.limit: must not be negative"),
    "scaling": (job_text(group="count = 5\nscaling {\n max = 3\n}"), f"{GROUP}.scaling: min (5) must be between 0 and max (3)"),
    "cpu and cores": (job_text(task="resources {\n cpu = 500\n cores = 2\n}"), f"{TASK}.resources.cores: either cpu or cores can be asked for, not both"),
    "no cores": (job_text(task="resources { cores = -1 }"), f"{TASK}.resources.cores: must not be negative"),
    "volume type": (job_text(group='volume "v" {\n type = "nfs"\n source = "v"\n}'), f'{GROUP}.volume.v.type: must be host or csi, found "nfs"'),
    "volume without a source": (job_text(group='volume "v" { type = "host" }'), f"{GROUP}.volume.v.source: is needed"),
    "access mode of a host volume": (
        job_text(group='volume "v" {\n type = "host"\n source = "v"\n access_mode = "single-node-writer"\n}'),
        f"{GROUP}.volume.v.access_mode: a host volume cannot have one",
    ),
    "mount options of a host volume": (
        job_text(group='volume "v" {\n type = "host"\n source = "v"\n mount_options { fs_type = "ext4" }\n}'),
        f"{GROUP}.volume.v.mount_options: a host volume cannot have any",
    ),
    "per_alloc of a system job": (
        job_text(job='type = "system"', group='volume "v" {\n type = "host"\n source = "v"\n per_alloc = true\n}'),
        f"{GROUP}.volume.v.per_alloc: a system job cannot have",
    ),
    "per_alloc with canaries": (
        job_text(group='update { canary = 1 }\nvolume "v" {\n type = "host"\n source = "v"\n per_alloc = true\n}'),
        f"{GROUP}.volume.v.per_alloc: cannot be had with canaries",
    ),
    "mount of no volume": (
        job_text(group='volume "data" {\n type = "host"\n source = "v"\n}', task='volume_mount {\n volume = "dta"\n destination = "/d"\n}'),
        f'{TASK}.volume_mount[0].volume: the group has no volume "dta" (did you mean "data"?)',
    ),
    "mount to nowhere": (job_text(task='volume_mount { volume = "v" }'), f"{TASK}.volume_mount[0].destination: is needed"),
    "propagation mode": (
        job_text(task='volume_mount {\n volume = "v"\n destination = "/d"\n propagation_mode = "shared"\n}'),
        f'{TASK}.volume_mount[0].propagation_mode: must be one of private, host-to-task, bidirectional, found "shared"',
    ),
    "vault without policies": (job_text(task="vault {}"), f"{TASK}.vault: at least one policy is needed, or a role that has some"),
    "vault with root": (job_text(task='vault { policies = ["root"] }'), f'{TASK}.vault.policies: no task gets "root"'),
    "vault with a signal that is none": (
        job_text(task='vault {\n policies = ["p"]\n change_mode = "signal"\n change_signal = "SIGNO"\n}'),
        f"{TASK}.vault.change_signal: ",
    ),
    "small disk": (job_text(group="ephemeral_disk { size = 1 }"), f"{GROUP}.ephemeral_disk.size: must be at least 10 MB"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_nomad_refuses_is_refused(text: bytes, expected: str) -> None:
    assert any(expected in fault for fault in faults(text)), faults(text)


UNSUPPORTED = {
    "multiregion": (job_text(job="multiregion {}"), "multiregion", "job.web.multiregion"),
    "connect": (service("connect { native = true }"), "connect", f"{GROUP}.service[0].connect"),
    "sticky volume": (job_text(group='volume "v" {\n type = "host"\n source = "v"\n sticky = true\n}'), "a sticky volume", f"{GROUP}.volume.v"),
    "csi volume": (job_text(group='volume "v" { type = "csi" }'), "a CSI volume", f"{GROUP}.volume.v"),
    "selinux_label": (job_text(task='volume_mount { selinux_label = "Z" }'), "selinux_label", f"{TASK}.volume_mount[0].selinux_label"),
    "csi_plugin": (job_text(task='csi_plugin { id = "p" }'), "csi_plugin", f"{TASK}.csi_plugin"),
    "device": (job_text(task='resources {\n device "gpu" {}\n}'), "device", f"{TASK}.resources.device"),
    "vault cluster": (job_text(task='vault {\n policies = ["p"]\n cluster = "b"\n}'), "a Vault cluster", f"{TASK}.vault.cluster"),
    "bridge": (job_text(group='network { mode = "bridge" }'), 'network mode "bridge"', f"{GROUP}.network[0].mode"),
    "cni": (job_text(group='network { mode = "cni/x" }'), "a CNI network", f"{GROUP}.network[0].mode"),
    "expose": (check('type = "http"\npath = "/"\nexpose = true\n' + TIMES), "a check with expose", f"{CHECK}.expose"),
    "driver": (job_text(driver="mock_driver"), 'the driver "mock_driver"', f"{TASK}.driver"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "feature", "path"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_what_drover_lacks_is_refused_by_name(text: bytes, feature: str, path: str) -> None:
    expected = f"{path}: {feature} is not supported by drover yet ("
    assert any(fault.startswith(expected) for fault in faults(text)), faults(text)


ACCEPTED = {
    "affinity and spread": 'affinity {\n attribute = "a"\n value = "b"\n}\nspread { attribute = "c" }',
    "scaling": "scaling {\n max = 3\n policy {}\n}",
    "update": "update {\n canary = 1\n auto_promote = true\n}",
    "migrate and reschedule": "migrate {}\nreschedule { attempts = 2 }",
    "delays": 'shutdown_delay = "5s"\nstop_after_client_disconnect = "1h"',
    "disk": "ephemeral_disk {\n size = 500\n sticky = true\n}",
    "interpolated names": 'service {\n name = "x-${NOMAD_ALLOC_INDEX}"\n port = "${NOMAD_META_port}"\n}',
    "a port number": 'service {\n port = "9090"\n}',
}


@pytest.mark.parametrize("group", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_used_only_later_is_accepted(group: str) -> None:
    assert faults(job_text(group=group)) == []


def test_all_faults_come_at_once_each_with_its_line() -> None:
    text = job_text(
        job="priority = 0", group='count = -1\nrestart { mode = "x" }', task="resources { memory = 1 }"
    )
    assert [message.split(": ")[0] for message in messages_of(text)] == [
        "web.hcl:4:3",
        "web.hcl:6:5",
        "web.hcl:7:11",
        "web.hcl:13:19",
    ]


def test_a_path_whose_part_is_not_in_the_file_points_at_what_is_around_it() -> None:
    assert messages_of(job_text(driver="docker", config=""))[0].startswith(
        "web.hcl:9:7: job.web.group.cache.task.redis.config: "
    )


def test_the_second_of_two_is_the_one_pointed_at() -> None:
    text = job_text().replace(b"\n}\n", b'\n  group "cache" {\n  }\n}\n')
    assert messages_of(text)[0].startswith("web.hcl:15:3: job.web.group.cache: ")


WARNINGS = {
    "old network": (
        job_text(task="resources {\n network {\n mbits = 10\n}\n}"),
        "write the network block in the group",
    ),
    "static port": (
        job_text(group='count = 2\nnetwork {\n port "a" { static = 80 }\n}'),
        "each need a node of their own",
    ),
    "mount of raw_exec": (
        job_text(group='volume "v" {\n type = "host"\n source = "v"\n}', task='volume_mount {\n volume = "v"\n destination = "/d"\n}'),
        "raw_exec cannot mount volumes",
    ),
    "no main task": (job_text(task='lifecycle { hook = "prestart" }'), "there is no main task"),
    "sidecar after the end": (
        job_text(task='lifecycle {\n hook = "poststop"\n sidecar = true\n}'),
        f"{TASK}.lifecycle.sidecar: has no effect on a poststop task",
    ),
    **{
        f"{kind} on {text}": (
            job_text(**{where: f'{kind} {{\n attribute = "{text}"\n {more}\n}}'}),
            f'{path}.{kind}[0].attribute: {expected}',
        )
        for where, path in (("job", "job.web"), ("group", GROUP), ("task", TASK))
        for kind, more in (("constraint", 'value = "x"'), ("affinity", 'value = "x"'), ("spread", ""))
        if (where, kind) != ("task", "spread")
        for text, expected in (
            ("${node.foo}", 'no node has a value for "${node.foo}" (known: node.unique.id, '),
            ("${env.HOME}", 'no node has a value for "${env.HOME}" (known: node.unique.id, '),
            ("rack ${meta.rack}", '"rack ${meta.rack}" is compared as it is written: '),
        )
    },
    "value of an unknown name": (
        job_text(job='constraint {\n attribute = "${meta.rack}"\n value = "${node.foo}"\n}'),
        'job.web.constraint[0].value: no node has a value for "${node.foo}"',
    ),
    "slow check": (check('type = "tcp"\ninterval = "1s"\ntimeout = "5s"'), "longer than the interval"),
}


@pytest.mark.parametrize(("text", "expected"), WARNINGS.values(), ids=WARNINGS.keys())
def test_what_is_probably_not_meant_is_a_warning(text: bytes, expected: str) -> None:
    job = jobspec.canonicalize(jobspec.parse(text, file="web.hcl"))
    assert jobspec.validate(job) == ()
    assert any(expected in warning for warning in jobspec.warnings(job))


def test_what_placement_knows_of_a_node_is_not_warned_of_and_an_unterminated_reference_is() -> None:
    def warnings(target: str) -> tuple[str, ...]:
        job = jobspec.canonicalize(jobspec.parse(job_text(), file="web.hcl"))
        return jobspec.warnings(msgspec.structs.replace(job, constraints=(Constraint(ltarget=target, operand="is_set"),)))

    node = Node(id=NodeId("n1"), name="n1", virtual_datacenter="edge", node_class="big", attributes={"a": "1"}, meta={"a": "1"})
    for name in (*NODE_NAMES, "attr.a", "meta.a"):
        assert resolve(f"${{{name}}}", node) is not None
        assert warnings(f"${{{name}}}") == ()
    assert warnings("${attr.kernel.name") == (
        'job.web.constraint[0].attribute: "${attr.kernel.name" is compared as it is written:'
        " only a whole ${name} stands for a node's value",
    )


def test_a_name_is_warned_of_as_it_will_be_and_not_for_what_only_the_node_knows() -> None:
    def warnings(name: str, task: str = "redis") -> list[str]:
        text = job_text(task=f'service {{\n name = "{name}"\n}}').replace(b'"redis"', f'"{task}"'.encode())
        return list(jobspec.warnings(jobspec.canonicalize(jobspec.parse(text, file="web.hcl"))))

    assert warnings("${NOMAD_TASK_NAME}-${NOMAD_ALLOC_INDEX}") == []
    assert warnings("${NOMAD_TASK_NAME}", task="re_dis") == [
        'job.web.group.cache.task.re_dis.service[0].name: "re_dis" cannot be looked up in DNS'
    ]


def test_validation_is_pure_and_takes_bare_models() -> None:
    job = Job(id="x", name="x")
    assert jobspec.validate(job) == jobspec.validate(job)
    assert all(isinstance(fault, Fault) and fault.where == "" for fault in jobspec.validate(job))


def test_a_large_job_is_validated_quickly() -> None:
    tasks = "\n".join(
        f'task "t{n}" {{\n driver = "raw_exec"\n config {{ command = "x" }}\n}}' for n in range(500)
    )
    started = time.perf_counter()
    assert faults(job_text(group=tasks)) == []
    assert time.perf_counter() - started < 2


BATCH = 'type = "batch"\n'
COMPLETION = 'completion {\n completions = 2\n restart_policy = "never"\n}\n'
PROBABLY_NOT_MEANT = {
    "a deadline below a second": (
        job_text(job=BATCH + 'periodic {\n cron = "@daily"\n starting_deadline = "200ms"\n}'),
        "job.web.periodic.starting_deadline: below a second, which is the finest that runs are timed by: it counts as 1s",
    ),
    "a year that is over": (
        job_text(job=BATCH + 'periodic {\n cron = "0 0 1 1 * 2020"\n}'),
        'job.web.periodic.cron: "0 0 1 1 * 2020" names no moment of the next 50 years: nothing starts by it',
    ),
    "restart beside completion": (
        job_text(job=BATCH, group=COMPLETION + "restart {\n attempts = 7\n}"),
        f"{GROUP}.restart: attempts and delay have no effect beside completion, whose backoff_limit and backoff_* say how often and when",
    ),
    "reschedule beside completion": (
        job_text(job=BATCH, group=COMPLETION + "reschedule {\n attempts = 7\n}"),
        f"{GROUP}.reschedule: has no effect beside completion, whose backoff_limit and backoff_* say how often and when",
    ),
}


@pytest.mark.parametrize(("text", "warning"), PROBABLY_NOT_MEANT.values(), ids=PROBABLY_NOT_MEANT.keys())
def test_what_of_batch_work_was_probably_not_meant_is_told(text: bytes, warning: str) -> None:
    job = jobspec.canonicalize(jobspec.parse(text, file="web.hcl"))
    assert jobspec.warnings(job) == (warning,)


def test_a_completion_block_alone_is_no_reason_for_a_warning() -> None:
    job = jobspec.canonicalize(jobspec.parse(job_text(job=BATCH, group=COMPLETION), file="web.hcl"))
    assert jobspec.warnings(job) == ()


def test_an_empty_missed_run_is_the_default() -> None:
    text = job_text(job=BATCH + 'periodic {\n cron = "@daily"\n missed_run = ""\n}')
    job = jobspec.canonicalize(jobspec.parse(text, file="web.hcl"))
    assert (job.periodic is not None and job.periodic.missed_run, jobspec.validate(job)) == ("once", ())
