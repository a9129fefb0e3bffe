"""Which command was asked for? The `drover` command: words, flags and exit codes are Nomad's.

Flags take one dash or two, with `=` or a space. Exit codes: 0 fine, 1 error, 2 placed nothing or not all;
`job plan` has its own.
Each command's module is imported only when it is the one asked for: `drover version` loads next to nothing.
"""

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from cli import nomads_flags

_ALLOW_VAULT_CYCLE = "submit a job that Vault is reached through and that needs Vault"

VERSION = "0.1.0"

_SWITCHED = {**dict.fromkeys(("1", "t", "true"), True), **dict.fromkeys(("0", "f", "false"), False)}

Handler = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Errors in one line, exit 1 as Nomad's. Arguments are made by the first who needs them: those of all the commands that
    were not asked for are half of what `drover version` took."""

    error_code = 1

    def __init__(self, *args: Any, **how: Any) -> None:
        self._later: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        super().__init__(*args, **how)

    def add_argument(self, *args: Any, **how: Any) -> Any:
        self._later.append((args, how))

    def whole(self) -> "_Parser":
        """With its arguments."""
        later, self._later = self._later, []
        for args, how in later:
            super().add_argument(*args, **how)
        return self

    def format_help(self) -> str:
        self.whole()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}\nSee '{self.prog} -h'.\n")
        raise SystemExit(self.error_code)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """An unknown command is told with what it may have been meant as."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            near = _nearest(value, action.choices)
            hint = f" (did you mean {near!r}?)" if near else f" (known: {', '.join(action.choices)})"
            raise argparse.ArgumentError(None, f"unknown command {value!r}{hint}")
        super()._check_value(action, value)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Go's switches may have a value: -detach=true, -detach=false."""
        self.whole()
        if args is not None and not any(action.nargs == argparse.REMAINDER for action in self._actions):
            args = [word for given in args if (word := self._switch_of(given)) is not None]
        return super().parse_known_args(args, namespace)

    def _switch_of(self, word: str) -> str | None:
        """The word without a switch's value, None for one that is denied."""
        name, equals, value = word.partition("=")
        if not equals or word in self._option_string_actions or value.lower() not in _SWITCHED:
            return word
        if not isinstance(self._option_string_actions.get(name), argparse._StoreTrueAction):
            return word
        return name if _SWITCHED[value.lower()] else None

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """No flag by its first letters: allow_abbrev=False spares those with one dash (`job stop -p` would purge)."""
        return []


def _nearest(word: str, known: Iterable[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def _flag(parser: argparse.ArgumentParser, name: str, **how: object) -> None:
    how.setdefault("dest", name.replace("-", "_"))
    parser.add_argument(f"-{name}", f"--{name}", **how)  # type: ignore[arg-type]  # argparse's own keywords


def _client_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "address", metavar="URL", help="the agent's API (NOMAD_ADDR, else http://127.0.0.1:4646)")
    _flag(parser, "namespace", metavar="NAME", help="NOMAD_NAMESPACE, else default")
    _flag(parser, "region", metavar="NAME", help="NOMAD_REGION, else the agent's own")
    _flag(parser, "token", metavar="TOKEN", help="a Consul token (NOMAD_TOKEN, else CONSUL_HTTP_TOKEN)")
    _flag(parser, "ca-cert", metavar="FILE", help="who vouches for the agent's certificate (NOMAD_CACERT)")
    _flag(parser, "ca-path", metavar="DIR", help="the same, a directory of such (NOMAD_CAPATH)")
    _flag(parser, "client-cert", metavar="FILE", help="our own certificate (NOMAD_CLIENT_CERT)")
    _flag(parser, "client-key", metavar="FILE", help="its key (NOMAD_CLIENT_KEY)")
    _flag(parser, "tls-server-name", metavar="NAME", help="what the agent's certificate is for (NOMAD_TLS_SERVER_NAME)")
    _flag(parser, "tls-skip-verify", action="store_true", help="believe any certificate (NOMAD_SKIP_VERIFY)")
    _flag(parser, "no-color", action="store_true", help=argparse.SUPPRESS)
    _flag(parser, "force-color", action="store_true", help=argparse.SUPPRESS)


def _spec_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="job file in HCL or JSON; - reads standard input")
    _flag(parser, "json", action="store_true", help="FILE is a job of the JSON API, as -output prints it")
    _reading_flags(parser)


def _reading_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "var", action="append", default=[], metavar="NAME=VALUE")
    _flag(parser, "var-file", action="append", default=[], metavar="FILE")
    _flag(parser, "hcl1", action="store_true", help="FILE is in HCL's first version")
    _flag(parser, "hcl2-strict", metavar="BOOL", type=_strict, help=argparse.SUPPRESS)
    _flag(parser, "nomad-strict", action="store_true", help="refuse what only drover knows")
    _flag(parser, "allow-outside-files", action="store_true", help="file() and its kin may leave FILE's directory")


def _strict(value: str) -> bool:
    """Variables that no job file declares are always refused."""
    if not _SWITCHED.get(value.lower(), True):
        raise argparse.ArgumentTypeError("variables that are not declared are always refused")
    return True


def _shown_flags(parser: argparse.ArgumentParser) -> None:
    _data_flags(parser)
    _flag(parser, "verbose", action="store_true", help="full ids")


def _data_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "json", action="store_true", help="print the API's JSON")
    parser.add_argument("-t", "--t", dest="template", metavar="TEMPLATE", help="print what this Go template says of the API's answer")


def _monitor_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "detach", action="store_true", help="do not wait for the evaluation")
    _flag(parser, "verbose", action="store_true", help="full ids")


def _agent(sub: argparse.ArgumentParser) -> None:
    _flag(sub, "config", action="append", default=[], metavar="FILE|DIR", help="may be repeated; later ones win")
    _flag(sub, "dev", action="store_true", help="leader and client in one, nothing kept")
    _flag(sub, "data-dir", metavar="DIR")
    _flag(sub, "bind", metavar="IP")
    _flag(sub, "node", metavar="NAME")
    _flag(sub, "dc", metavar="NAME")
    _flag(sub, "log-level", metavar="LEVEL")
    _flag(sub, "server", action="store_true", help="stand for election as leader")
    _flag(sub, "client", action="store_true", help="run tasks")
    _flag(sub, "alloc-dir", metavar="DIR")
    _flag(sub, "state-dir", metavar="DIR")
    _flag(sub, "region", metavar="NAME")
    _flag(sub, "node-class", metavar="NAME")
    _flag(sub, "meta", action="append", default=[], metavar="KEY=VALUE", help="of the node (may be repeated)")
    _flag(sub, "network-interface", metavar="NAME")
    _flag(sub, "cpu-total-compute", type=int, metavar="MHZ")
    _flag(sub, "log-json", action="store_true")
    _flag(sub, "acl-enabled", action="store_true", help="Consul's ACLs decide what a caller may do")
    _flag(sub, "consul-address", metavar="HOST:PORT")
    for name in ("token", "ca-file", "cert-file", "key-file"):
        _flag(sub, f"consul-{name}", metavar=name.rpartition("-")[2].upper())
    for name in ("ssl", "verify-ssl"):
        _flag(sub, f"consul-{name}", action="store_true")
    for name in ("enabled", "tls-skip-verify"):
        _flag(sub, f"vault-{name}", action="store_true")
    for name in ("address", "token", "create-from-role", "namespace", "ca-file", "ca-path", "cert-file", "key-file", "tls-server-name"):
        _flag(sub, f"vault-{name}", metavar=name.rpartition("-")[2].upper())


def _build() -> _Parser:
    parser = _Parser(prog="drover", description="Runs Nomad jobs on a Consul fleet.", allow_abbrev=False)
    parser.add_argument("-version", "--version", "-v", action="version", version=f"drover v{VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(
        under: "argparse._SubParsersAction[_Parser]", name: str, module: str, text: str, *flags: Callable[[argparse.ArgumentParser], None]
    ) -> _Parser:
        sub = under.add_parser(name, help=text, description=text, allow_abbrev=False)
        for add in flags:
            add(sub)
        sub.add_argument("-help", action="help", help=argparse.SUPPRESS)
        sub.set_defaults(handler=module, parser=sub)
        return sub

    def group(
        name: str, text: str, under: "argparse._SubParsersAction[_Parser]" = commands
    ) -> "argparse._SubParsersAction[_Parser]":
        sub = under.add_parser(name, help=text, description=text, allow_abbrev=False)
        groups[name] = sub.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
        return groups[name]

    groups: dict[str, argparse._SubParsersAction[_Parser]] = {}
    command(commands, "agent", "cli.agent:run", "run an agent", _agent)
    command(commands, "version", "cli.main:version", "print the version")
    completing = command(commands, "completion", "cli.completion:script", "print what makes a shell complete drover's commands")
    completing.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")

    job = group("job", "submit, read and stop jobs")
    for under, name in ((job, "run"), (commands, "run")):
        run = command(under, name, "cli.job_run:run", "submit a job", _spec_flags, _client_flags, _monitor_flags)
        _flag(run, "adopt", action="store_true", help="take over what `job stop -orphan` left of a job of this id")
        _flag(run, "preserve-counts", action="store_true", help="groups that the job has already keep their counts")
        _flag(run, "consul-token", metavar="TOKEN", help="as -token: drover's tokens are Consul's (CONSUL_HTTP_TOKEN)")
        _flag(run, "check-index", type=int, metavar="N", help="only if the job's modify index is N (0: new)")
        _flag(run, "vault-token", help="shows that you have the policies the job asks for (default: VAULT_TOKEN); kept nowhere")
        _flag(run, "allow-vault-cycle", action="store_true", help=_ALLOW_VAULT_CYCLE)
        _flag(run, "policy-override", action="store_true", help="accepted and without effect: there is no Sentinel")
        _flag(run, "timeout", metavar="SPAN", help="follow the deployment for so long at most")
        _flag(run, "output", action="store_true", help="print the job's JSON instead of submitting it")
    for under, name in ((job, "plan"), (commands, "plan")):
        plan = command(under, name, "cli.job_plan:run", "tell what submitting a job would change", _spec_flags, _client_flags)
        plan.add_argument("-diff=false", "--diff=false", dest="diff", action="store_false", help="only the forecast")
        for shown in ("-diff", "-diff=true"):
            plan.add_argument(shown, f"-{shown}", dest="diff", action="store_true", default=True, help=argparse.SUPPRESS)
        _flag(plan, "verbose", action="store_true", help="also the fields of what is added or deleted as a whole")
        _flag(plan, "allow-vault-cycle", action="store_true", help=_ALLOW_VAULT_CYCLE)
        _flag(plan, "policy-override", action="store_true", help="accepted and without effect: there is no Sentinel")
        plan.error_code = 255  # 1 says that something would change
        plan.set_defaults(error_code=255)
    for under, name in ((job, "validate"), (commands, "validate")):
        command(under, name, "cli.job_file:validate", "check a job file", _spec_flags, _client_flags)
    for under, name in ((job, "init"), (commands, "init")):
        init = command(under, name, "cli.job_init:run", "write an example job file")
        init.add_argument("file", nargs="?", metavar="FILE", help="default: example.nomad.hcl")
        _flag(init, "short", action="store_true", help="without explanations")
    for under, handler, name, text in (
        (job, "cli.job_status:run", "job", "list jobs, or show one"),
        (commands, "cli.status:run", "id", "list jobs, or show whatever has this id"),
    ):
        status = command(under, "status", handler, text, _client_flags, _shown_flags, _list_flags)
        status.add_argument(name, nargs="?", metavar=name.upper())
        _flag(status, "short", action="store_true", help="of one job: only what it is, not what became of it")
        _flag(status, "evals", action="store_true", help="of one job: its evaluations as well")
    for under, name in ((job, "stop"), (commands, "stop")):
        stop = command(under, name, "cli.job_stop:run", "stop a job", _client_flags, _monitor_flags)
        stop.add_argument("job", metavar="JOB")
        _flag(stop, "purge", action="store_true", help="forget the job as well")
        _flag(stop, "orphan", action="store_true", help="leave what runs of it running; `run -adopt` takes it over")
        _flag(stop, "yes", action="store_true", help="do not ask when JOB is only the beginning of a job's id (-y)")
        stop.add_argument("-y", action="store_true", help=argparse.SUPPRESS)
    why = command(job, "why", "cli.job_why:run", "tell why not all of a job is placed", _client_flags, _shown_flags, _reading_flags)
    why.add_argument("job", metavar="JOB", nargs="?")
    _flag(why, "file", metavar="FILE", help="of the job in FILE, were it submitted")
    inspect = command(job, "inspect", "cli.job_status:inspect", "print a job's JSON", _client_flags, _data_flags)
    _flag(inspect, "version", type=int, metavar="N", help="of this version")
    inspect.add_argument("job", metavar="JOB")

    jobs_own(job, command)
    children(job, command)

    deployment = group("deployment", "look at roll-outs, and say what becomes of them")
    command(deployment, "list", "cli.deployment:list_all", "list deployments", _client_flags, _shown_flags, _list_flags)
    deployment_status = command(deployment, "status", "cli.deployment:status", "show a deployment", _client_flags, _shown_flags, _list_flags)
    deployment_status.add_argument("deployment", metavar="DEPLOYMENT", nargs="?")
    _flag(deployment_status, "monitor", action="store_true", help="stay until it ends")
    for name, handler, text in (
        ("promote", "promote", "let the canaries take over"),
        ("fail", "fail_it", "end a deployment as failed"),
        ("pause", "pause", "hold a deployment"),
        ("resume", "resume", "let a paused deployment go on"),
    ):
        sub = command(deployment, name, f"cli.deployment:{handler}", text, _client_flags, _monitor_flags)
        sub.add_argument("deployment", metavar="DEPLOYMENT")
        if name == "promote":
            _flag(sub, "group", action="append", default=[], metavar="NAME", help="only this group (may be repeated)")
            _flag(sub, "all", action="store_true", help=argparse.SUPPRESS)

    alloc = group("alloc", "look at allocations")
    alloc_status = command(alloc, "status", "cli.alloc:status", "show an allocation", _client_flags, _shown_flags, _list_flags)
    alloc_status.add_argument("alloc", metavar="ALLOC", nargs="?")
    _flag(alloc_status, "short", action="store_true", help="of one: its tasks, without what happened to them")
    _flag(alloc_status, "stats", action="store_true", help="what its tasks use just now")
    _reaching_in(alloc, commands, command)
    for name, text in (("restart", "restart an allocation's tasks"), ("signal", "send a signal to a task")):
        sub = command(alloc, name, f"cli.alloc:{name}", text, _client_flags)
        _flag(sub, "verbose", action="store_true", help=argparse.SUPPRESS)
        if name == "signal":
            _flag(sub, "s", metavar="SIGNAL", default="SIGINT")
        sub.add_argument("alloc", metavar="ALLOC")
        sub.add_argument("task", metavar="TASK", nargs="?")
        _flag(sub, "task", dest="task_flag", metavar="NAME", help=argparse.SUPPRESS)

    checked = command(alloc, "checks", "cli.alloc:checks", "tell what the checks of an allocation's services say", _client_flags, _shown_flags)
    checked.add_argument("alloc", metavar="ALLOC")
    alloc_stop = command(alloc, "stop", "cli.alloc:stop", "stop an allocation; its job gets another", _client_flags, _monitor_flags)
    alloc_stop.add_argument("alloc", metavar="ALLOC")
    released = command(
        alloc, "release", "cli.alloc:release", "take an allocation out of its job; it runs on without its services",
        _client_flags, _monitor_flags,
    )  # fmt: skip
    released.add_argument("alloc", metavar="ALLOC")

    node = group("node", "look at nodes")
    cleanup = command(
        node, "cleanup", "cli.node_cleanup:run", "list what drover left or lost on this machine, and remove it with -yes", _data_flags
    )
    _flag(cleanup, "config", action="append", default=[], metavar="PATH", help="the agent's configuration: files or directories (default: /etc/drover.d)")
    _flag(cleanup, "yes", action="store_true", help="remove what is listed")
    _flag(cleanup, "all", action="store_true", help="the last resort: stop the agent and every task of it, and remove all that it knows")

    node_status = command(node, "status", "cli.node:status", "list nodes, or show one", _client_flags, _list_flags)
    node_status.add_argument("node", metavar="NODE", nargs="?")
    _data_flags(node_status)
    _flag(node_status, "verbose", action="store_true", help="full ids; of one node also attributes, host volumes and networks")
    _flag(node_status, "self", action="store_true", help="the node of the agent asked")
    _flag(node_status, "stats", action="store_true", help="of one node: what the machine uses just now")
    _flag(node_status, "short", action="store_true", help="of one node: its allocations only")
    _flag(node_status, "quiet", action="store_true", help="of the list: ids only")
    _flag(node_status, "os", action="store_true", help="of the list: also the operating systems")
    _flag(node_status, "allocs", action="store_true", help="of the list: how many allocations run on each")
    eligibility = command(node, "eligibility", "cli.node:eligibility", "allow or refuse new work", _client_flags)
    eligibility.add_argument("node", metavar="NODE", nargs="?")
    _flag(eligibility, "self", action="store_true", help="the node of the agent asked")
    _flag(eligibility, "enable", action="store_true")
    _flag(eligibility, "disable", action="store_true")

    purge = command(node, "purge", "cli.node:purge", "forget a node that is down, with all it held", _client_flags)
    purge.add_argument("node", metavar="NODE")
    drain = command(node, "drain", "cli.node_drain:run", "empty a node, or stop doing so", _client_flags)
    drain.add_argument("node", metavar="NODE", nargs="?")
    _flag(drain, "enable", action="store_true")
    _flag(drain, "disable", action="store_true", help="call it off; the node may be used again")
    _flag(drain, "deadline", metavar="SPAN", help="after which what is left is stopped (default: 1h)")
    _flag(drain, "force", action="store_true", help="stop all at once")
    _flag(drain, "no-deadline", action="store_true", help="wait for every replacement")
    _flag(drain, "ignore-system", action="store_true", help="system jobs stay")
    _flag(drain, "keep-ineligible", action="store_true", help="with -disable: no new work yet")
    _flag(drain, "m", dest="message", metavar="TEXT", help="why; kept with the drain")
    _flag(drain, "meta", action="append", default=[], metavar="KEY=VALUE", help="kept with the drain (may be repeated)")
    _flag(drain, "self", action="store_true", help="the node of the agent asked")
    _flag(drain, "detach", action="store_true", help="do not wait until it is empty")
    _flag(drain, "verbose", action="store_true", help="full ids")
    _flag(drain, "monitor", action="store_true", help="without -enable: follow the drain that is under way")
    _flag(drain, "yes", action="store_true", help=argparse.SUPPRESS)

    meta = group("meta", "read and change what jobs may ask of a node as ${meta.key}", under=node)
    meta_apply = command(meta, "apply", "cli.node_meta:apply", "set or unset metadata of a node", _client_flags)
    _flag(meta_apply, "node-id", metavar="ID", help="default: the node of the agent asked")
    _flag(meta_apply, "unset", metavar="KEY,KEY", default="", help="keys that the node is to have no more")
    meta_apply.add_argument("pairs", metavar="KEY=VALUE", nargs="*")
    meta_read = command(meta, "read", "cli.node_meta:read", "show a node's metadata", _client_flags)
    _flag(meta_read, "node-id", metavar="ID", help="default: the node of the agent asked")
    _data_flags(meta_read)

    vault = group("vault", "how the agent gets secrets from Vault")
    command(vault, "status", "cli.vault:status", "tell how the agent sees Vault, and its own token there", _client_flags, _data_flags)
    command(
        vault, "check", "cli.vault:check", "ask Vault whether it is set up as drover needs it, and say what to do", _client_flags, _data_flags
    )

    doctor = command(
        commands, "doctor", "cli.doctor:run", "look whether this machine, Consul, Docker and Vault are as drover needs them, and say what to do",
        _data_flags,
    )  # fmt: skip
    _flag(doctor, "config", action="append", default=[], metavar="PATH", help="the agent's configuration: files or directories (default: /etc/drover.d)")

    brake = group("brake", "the halt on replacing work when many nodes fall silent at once")
    command(brake, "status", "cli.brake:status", "tell whether it is engaged, and why", _client_flags, _shown_flags)
    command(brake, "release", "cli.brake:release", "give up the nodes that are silent now", _client_flags, _shown_flags)

    simulate = command(commands, "simulate", "cli.simulate:run", "tell where jobs would run, offline", _reading_flags, _shown_flags)
    simulate.add_argument("files", metavar="FILE", nargs="+", help="job files, submitted in this order")
    _flag(simulate, "snapshot", metavar="FILE", help="a cluster's state, as `operator snapshot save` writes it")
    _flag(simulate, "nodes", type=int, metavar="N", help="so many made-up nodes (4 to 32 GHz, 8 to 64 GB)")
    _flag(simulate, "datacenters", metavar="NAMES", default="dc1", help="theirs, divided by commas (default: dc1)")
    _flag(simulate, "algorithm", choices=("binpack", "spread"), default="binpack", help="the cluster's")

    operator = group("operator", "what concerns the cluster as a whole")
    placing = group("scheduler", "how the whole cluster places", under=operator)
    command(placing, "get-config", "cli.operator_scheduler:get_config", "show it", _client_flags, _shown_flags)
    place_set = command(placing, "set-config", "cli.operator_scheduler:set_config", "change it; what is not named stays", _client_flags)
    _flag(place_set, "check-index", type=int, metavar="N", help="only if it has not changed since this modify index")
    _flag(place_set, "scheduler-algorithm", choices=("binpack", "spread"), help="where a job does not say")
    _flag(place_set, "memory-oversubscription", choices=("true", "false"), help="whether memory_max counts")
    _flag(place_set, "reject-job-registration", choices=("true", "false"), help="refuse jobs that are submitted or scaled")
    for kind in ("system", "sysbatch", "batch", "service"):
        what = f"whether {kind} jobs may push away what is of lower priority"
        _flag(place_set, f"preempt-{kind}-scheduler", choices=("true", "false"), help=what)
    lock = command(operator, "break-lock", "cli.operator_lock:break_lock", "take the leader's lock from a holder who is gone", _client_flags)
    _flag(lock, "yes", action="store_true", help="do not ask")
    _flag(lock, "force", action="store_true", help="also while the holder answers")
    leader = group("leader", "look after who leads")
    step_down = command(leader, "step-down", "cli.operator_lock:step_down", "let another candidate lead", _client_flags)
    _flag(step_down, "force", action="store_true", help="also without another candidate")
    snapshot = group("snapshot", "save drover's whole state", under=operator)
    snapshot_save = command(snapshot, "save", "cli.operator_snapshot:save", "save it to a file", _client_flags)
    snapshot_save.add_argument("file", metavar="FILE")
    restored = command(snapshot, "restore", "cli.operator_snapshot:restore", "put a saved state into an empty Consul", _client_flags)
    restored.add_argument("file", metavar="FILE")
    _flag(restored, "force", action="store_true", help="also over the jobs that are there")
    inspect_saved = command(snapshot, "inspect", "cli.operator_snapshot:inspect", "tell what a file holds")
    inspect_saved.add_argument("file", metavar="FILE")

    rebalance = command(commands, "rebalance", "cli.rebalance:run", "even allocations out over the nodes", _client_flags, _shown_flags)
    rebalance.add_argument("job", metavar="JOB", nargs="?", help="only this job; without it every service")
    _flag(rebalance, "dry-run", action="store_true", help="only say what would move")
    _flag(rebalance, "detach", action="store_true", help="do not wait until it has moved")

    server = group("server", "look at leader candidates")
    members = command(server, "members", "cli.server:members", "list leader candidates", _client_flags, _shown_flags)
    _flag(members, "detailed", action="store_true", help="with their ids and tags")
    promoted = command(server, "promote", "cli.operator_lock:promote", "make an agent a candidate for leader", _client_flags)
    demoted = command(server, "demote", "cli.operator_lock:demote", "make an agent no candidate any more", _client_flags)
    _flag(demoted, "force", action="store_true", help="also the last candidate")
    for sub in (promoted, demoted):
        sub.add_argument("node", metavar="AGENT", help="its name or id")
    _namespaces(group("namespace", "keep teams' jobs apart"), command)
    evaluation = group("eval", "look at evaluations")
    eval_status = command(evaluation, "status", "cli.eval:status", "show an evaluation", _client_flags, _shown_flags)
    eval_status.add_argument("eval", metavar="EVAL")
    _flag(eval_status, "monitor", action="store_true", help="stay until it is decided, and what it began is done")
    _acl_commands(group, command)
    system = group("system", "housekeeping")
    command(system, "gc", "cli.server:gc", "forget what has ended", _client_flags)
    _telling(commands, command, group, job, evaluation, operator, server, system)
    _habits(commands, groups, command)
    nomads_flags.add(commands)
    return parser


def _acl_commands(group: Callable[..., Any], command: Callable[..., _Parser]) -> None:
    """What Consul knows of the caller."""
    token = group("token", "the token that is sent along", under=group("acl", "tokens and policies, which Consul keeps"))
    command(token, "self", "cli.acl:token_self", "show what Consul knows of it", _client_flags, _data_flags)


def _list_flags(parser: argparse.ArgumentParser) -> None:
    _flag(parser, "filter", metavar="EXPRESSION", help='as Meta.team == "red" and Status == "running"')
    _flag(parser, "per-page", type=int, metavar="N", help="of a list: at most so many")
    _flag(parser, "page-token", metavar="TOKEN", help="of a list: where to begin, as the page before said")


def _habits(
    commands: "argparse._SubParsersAction[_Parser]", groups: "dict[str, argparse._SubParsersAction[_Parser]]", command: Callable[..., _Parser]
) -> None:
    """What Nomad's users type beside the rest."""
    job = groups["job"]
    started = command(job, "start", "cli.job_versions:start", "start a stopped job again", _client_flags, _monitor_flags)
    scalings = command(job, "scaling-events", "cli.job_versions:scaling_events", "list how a job was scaled", _client_flags, _shown_flags)
    inspected = command(commands, "inspect", "cli.job_status:inspect", "print a job's JSON", _client_flags, _data_flags)
    _flag(inspected, "version", type=int, metavar="N", help="of this version")
    _flag(started, "allow-vault-cycle", action="store_true", help=_ALLOW_VAULT_CYCLE)
    for sub in (started, scalings, inspected):
        sub.add_argument("job", metavar="JOB")
    unblocked = command(groups["deployment"], "unblock", "cli.deployment:unblock", "only for jobs of several regions", _client_flags)
    unblocked.add_argument("deployment", metavar="DEPLOYMENT")
    joined = command(groups["server"], "join", "cli.server:join", "candidates find one another in Consul", _client_flags)
    joined.add_argument("servers", metavar="ADDRESS", nargs="+")
    removed = command(groups["raft"], "remove-peer", "cli.operator_raft:remove_peer", "candidates are removed otherwise", _client_flags)
    _flag(removed, "peer-address", metavar="ADDRESS")
    _flag(removed, "peer-id", metavar="ID")
    servers = command(groups["node"], "config", "cli.node:config", "show which candidates the agent knows", _client_flags)
    _flag(servers, "servers", action="store_true", help="list them")
    _flag(servers, "update-servers", action="store_true", help="they are found in Consul: nothing to update")
    configuration = commands.add_parser("config", help="look at agent configurations", allow_abbrev=False)
    under = configuration.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    checked = command(under, "validate", "cli.agent:validate", "check configuration files")
    checked.add_argument("files", metavar="FILE|DIR", nargs="+")
    _flag(checked, "dev", action="store_true", help="as for an agent in -dev mode")
    ui = command(commands, "ui", "cli.server:ui", "print where the web UI is", _client_flags)
    ui.add_argument("what", metavar="ID", nargs="?")
    # Nomad's former names.
    for old, (of, name) in _FORMER.items():
        commands._name_parser_map[old] = groups[of]._name_parser_map[name]


_FORMER = {
    "alloc-status": ("alloc", "status"),
    "eval-status": ("eval", "status"),
    "node-status": ("node", "status"),
    "node-drain": ("node", "drain"),
    "server-members": ("server", "members"),
    "server-join": ("server", "join"),
    "server-force-leave": ("server", "force-leave"),
}


def _namespaces(namespace: "argparse._SubParsersAction[_Parser]", command: Callable[..., _Parser]) -> None:
    command(namespace, "list", "cli.namespace:list_all", "list namespaces", _client_flags, _shown_flags)
    for name, text in (("status", "show a namespace"), ("inspect", "print a namespace's JSON"), ("delete", "forget a namespace that no job uses")):
        sub = command(namespace, name, f"cli.namespace:{name}", text, _client_flags)
        sub.add_argument("name", metavar="NAMESPACE")
        if name != "delete":
            _data_flags(sub)
    applied = command(namespace, "apply", "cli.namespace:apply", "make or change a namespace", _client_flags)
    applied.add_argument("input", metavar="NAMESPACE|FILE", help="its name, or a file that describes it")
    _flag(applied, "description", metavar="TEXT")
    _flag(applied, "virtual-datacenter", metavar="NAME,NAME", help="its jobs run only there (\"\": anywhere)")
    _flag(applied, "json", action="store_true", help="FILE is in JSON")


def _telling(
    commands: "argparse._SubParsersAction[_Parser]",
    command: Callable[..., _Parser],
    group: Callable[..., "argparse._SubParsersAction[_Parser]"],
    job: "argparse._SubParsersAction[_Parser]",
    evaluation: "argparse._SubParsersAction[_Parser]",
    operator: "argparse._SubParsersAction[_Parser]",
    server: "argparse._SubParsersAction[_Parser]",
    system: "argparse._SubParsersAction[_Parser]",
) -> None:
    """What tells how the cluster and its agents are."""
    allocs = command(job, "allocs", "cli.job_status:allocs", "list a job's allocations", _client_flags, _shown_flags)
    allocs.add_argument("job", metavar="JOB")
    _flag(allocs, "all", action="store_true", help="also those of an earlier job of this id")
    evals = command(evaluation, "list", "cli.eval:list_all", "list evaluations", _client_flags, _shown_flags)
    _flag(evals, "job", metavar="JOB", help="only of this job")
    _flag(evals, "status", metavar="STATUS", help="only those")
    _list_flags(evals)
    followed = command(group("event", "follow what changes"), "stream", "cli.event:stream", "print each change as JSON", _client_flags)
    _flag(followed, "topic", action="append", metavar="TOPIC[:KEY]", help="only these: Job:web, Allocation, Node … (may be repeated)")
    _flag(followed, "index", type=int, metavar="N", help="from this index on")
    called = command(operator, "api", "cli.operator_api:call", "call an agent's API as it is", _client_flags)
    called.add_argument("path", metavar="PATH")
    called.add_argument("data", metavar="DATA", nargs="?", help="sent as the body; @FILE, or - for standard input")
    _flag(called, "H", action="append", default=[], metavar="HEADER")
    _flag(called, "X", metavar="METHOD", help="default: GET, with DATA PUT")
    _flag(called, "dryrun", action="store_true", help="only print what would be called")
    _flag(called, "filter", metavar="EXPRESSION")
    _flag(called, "verbose", action="store_true", help="also the headers, on standard error")
    measured = command(operator, "metrics", "cli.operator_api:metrics", "print what an agent measures", _client_flags)
    _flag(measured, "pretty", action="store_true", help="indented")
    _flag(measured, "format", choices=("json", "prometheus"), default="json")
    _flag(measured, "json", action="store_true", help=argparse.SUPPRESS)
    raft = group("raft", "leader candidates, as peers", under=operator)
    command(raft, "list-peers", "cli.operator_raft:list_peers", "list them", _client_flags, _shown_flags)
    autopilot = group("autopilot", "how leader candidates are looked after", under=operator)
    command(autopilot, "get-config", "cli.operator_raft:autopilot_config", "show it", _client_flags, _shown_flags)
    command(autopilot, "health", "cli.operator_raft:autopilot_health", "tell how they are", _client_flags, _shown_flags)
    command(group("license", "of Nomad Enterprise"), "get", "cli.operator_raft:license_get", "tell that there is none", _client_flags)
    command(commands, "agent-info", "cli.agent_info:info", "tell what an agent is doing", _client_flags, _shown_flags)
    check = command(commands, "check", "cli.agent_info:check", "whether an agent is well: 0 yes, 2 no, 3 not known", _client_flags)
    _flag(check, "min-peers", type=int, default=0, metavar="N", help="other candidates that a candidate must know")
    _flag(check, "min-servers", type=int, default=1, metavar="N", help="candidates that a client must know")
    left = command(server, "force-leave", "cli.agent_info:force_leave", "forget a candidate that is gone", _client_flags)
    left.add_argument("node", metavar="NAME")
    _flag(left, "prune", action="store_true", help=argparse.SUPPRESS)
    reconcile = group("reconcile", "count again", under=system)
    command(reconcile, "summaries", "cli.agent_info:reconcile_summaries", "does nothing: summaries are always counted anew", _client_flags)
    policy = group("policy", "how groups may be scaled", under=group("scaling", "what autoscalers may do"))
    policies = command(policy, "list", "cli.scaling:policy_list", "list scaling policies", _client_flags, _shown_flags)
    _flag(policies, "job", metavar="JOB", help="only of this job")
    _flag(policies, "type", metavar="TYPE", help="only of this type")
    info = command(policy, "info", "cli.scaling:policy_info", "show a scaling policy", _client_flags, _shown_flags)
    info.add_argument("policy", metavar="POLICY")
    for kind in ("volume", "plugin"):
        status = command(group(kind, "of CSI, which drover does not have"), "status", f"cli.storage:{kind}_status", "show them", _client_flags, _shown_flags)
        status.add_argument("id", metavar="ID", nargs="?")


def jobs_own(job: "argparse._SubParsersAction[_Parser]", command: Callable[..., _Parser]) -> None:
    """What is done with a job's versions."""
    history = command(job, "history", "cli.job_versions:history", "list a job's versions", _client_flags, _shown_flags)
    _flag(history, "p", action="store_true", help="with what each changed")
    _flag(history, "full", action="store_true", help="each version's whole JSON")
    _flag(history, "version", type=int, metavar="N", help="only this version")
    revert = command(job, "revert", "cli.job_versions:revert", "submit an older version again", _client_flags, _monitor_flags)
    deployments = command(job, "deployments", "cli.job_versions:deployments", "list a job's roll-outs", _client_flags, _shown_flags)
    _flag(deployments, "latest", action="store_true", help="show the newest")
    _flag(deployments, "all", action="store_true", help=argparse.SUPPRESS)
    promote = command(job, "promote", "cli.job_versions:promote", "let the canaries take over", _client_flags, _monitor_flags)
    _flag(promote, "group", action="append", default=[], metavar="NAME", help="only this group (may be repeated)")
    scale = command(job, "scale", "cli.job_versions:scale", "change a group's count", _client_flags, _monitor_flags)
    restart = command(job, "restart", "cli.job_versions:restart", "replace all of an unchanged job, as its update block says", _client_flags, _monitor_flags)
    evaluate = command(job, "eval", "cli.job_versions:evaluate", "decide about a job again", _client_flags, _monitor_flags)
    _flag(evaluate, "force-reschedule", action="store_true", help="also what waits for its next attempt, or has none")
    for sub in (history, revert, deployments, promote, scale, restart, evaluate):
        sub.add_argument("job", metavar="JOB")
    revert.add_argument("version", metavar="VERSION", type=int)
    _flag(revert, "allow-vault-cycle", action="store_true", help=_ALLOW_VAULT_CYCLE)
    scale.add_argument("group_or_count", metavar="[GROUP] COUNT")
    scale.add_argument("count", nargs="?", help=argparse.SUPPRESS)


def children(job: "argparse._SubParsersAction[_Parser]", command: Callable[..., _Parser]) -> None:
    """What starts children of a job."""
    dispatch = command(job, "dispatch", "cli.job_children:dispatch", "start an instance of a parameterized job", _client_flags, _monitor_flags)
    dispatch.add_argument("job", metavar="JOB")
    dispatch.add_argument("input", metavar="FILE", nargs="?", help="the payload; - reads standard input")
    _flag(dispatch, "meta", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    _flag(dispatch, "id-prefix-template", metavar="TEXT", help="put into the id of the instance")
    _flag(dispatch, "idempotency-token", metavar="TEXT", help="the same token is the same instance")
    periodic = job.add_parser("periodic", help="start periodic jobs", description="start periodic jobs", allow_abbrev=False)
    under = periodic.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    force = command(under, "force", "cli.job_children:force", "start a periodic job now", _client_flags, _monitor_flags)
    force.add_argument("job", metavar="JOB")


def _reaching_in(
    alloc: "argparse._SubParsersAction[_Parser]",
    commands: "argparse._SubParsersAction[_Parser]",
    command: Callable[..., _Parser],
) -> None:
    """What reaches into an allocation, and into an agent's log."""
    for under in (alloc, commands):
        logs = command(under, "logs", "cli.alloc_logs:logs", "print a task's logs", _client_flags)
        logs.add_argument("alloc", metavar="ALLOC")
        logs.add_argument("task_name", metavar="TASK", nargs="?")
        _flag(logs, "task", metavar="NAME", help="the task, where there are several")
        _flag(logs, "stderr", action="store_true")
        _flag(logs, "stdout", action="store_true", help=argparse.SUPPRESS)
        files = command(under, "fs", "cli.alloc_fs:run", "list, describe and print the files of an allocation", _client_flags)
        files.add_argument("alloc", metavar="ALLOC")
        files.add_argument("path", metavar="PATH", nargs="?", help="in the allocation's directory (default: /)")
        _flag(files, "stat", action="store_true", help="describe the file instead of printing it")
        _flag(files, "H", action="store_true", help="sizes in bytes")
        _data_flags(files)
        for sub in (logs, files):
            _flag(sub, "f", action="store_true", help="follow")
            _flag(sub, "tail", action="store_true", help="only the end")
            _flag(sub, "n", type=int, metavar="LINES", help="the last LINES lines (-tail alone: 10)")
            _flag(sub, "c", type=int, metavar="BYTES", help="the last BYTES bytes")
            _flag(sub, "job", action="store_true", help="ALLOC is a job: one of its allocations")
            _flag(sub, "verbose", action="store_true", help=argparse.SUPPRESS)
        beside = command(under, "exec", "cli.alloc_exec:run", "run a command beside a running task", _client_flags)
        _flag(beside, "task", metavar="NAME", help="the task, where there are several")
        _flag(beside, "job", action="store_true", help="ALLOC is a job: one of its allocations")
        _switch(beside, "i", default=True, text="pass this command's input on (default: true)")
        _switch(beside, "t", default=None, text="give it a terminal (default: if input and output are one)")
        _flag(beside, "e", metavar="CHARACTER", default="~", help="with a terminal: after a line break, and followed by a dot, leaves; none: nothing does")
        beside.add_argument("alloc", metavar="ALLOC")
        beside.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    monitor = command(commands, "monitor", "cli.agent_monitor:run", "print an agent's log as it is written", _client_flags)
    _flag(monitor, "log-level", metavar="LEVEL", default="INFO", help="TRACE, DEBUG, INFO, WARN or ERROR (default: INFO)")
    _flag(monitor, "node-id", metavar="ID", help="the agent of this node")
    _flag(monitor, "server-id", metavar="NAME", help="this leader candidate, or leader")
    _flag(monitor, "json", action="store_true", help="lines in JSON")


def _switch(parser: argparse.ArgumentParser, name: str, *, default: bool | None, text: str) -> None:
    """A flag that can be denied, as Go's are: -t, -t=true, -t=false."""
    for value, action in (("", "store_true"), ("=true", "store_true"), ("=false", "store_false")):
        shown = text if not value else argparse.SUPPRESS
        parser.add_argument(f"-{name}{value}", f"--{name}{value}", dest=name, action=action, default=default, help=shown)


def version(_: argparse.Namespace) -> int:
    print(f"drover v{VERSION}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the console script's entry. Never a traceback for what a user can get wrong."""
    # A terminal that lacks a character gets its number; nothing fails half way through its output.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _build()
    if "_ARGCOMPLETE" in os.environ:
        from cli import completion

        completion.complete(parser)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error_code = getattr(args, "error_code", 1)
        flags = (flag for flag in args.parser._option_string_actions if not flag.startswith("--"))
        near = _nearest(unknown[0].partition("=")[0], flags) if unknown[0].startswith("-") else None
        hint = f" (did you mean {near}?)" if near else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if getattr(args, "json", False) and getattr(args, "template", None) is not None:
        sys.stderr.write("Error: Both json and template formatting are not allowed\n")
        return int(getattr(args, "error_code", 1))
    if getattr(args, "no_color", False):
        os.environ["NO_COLOR"] = "1"
    if getattr(args, "force_color", False):
        os.environ["NOMAD_CLI_FORCE_COLOR"] = "1"
    if getattr(args, "consul_token", None) and args.handler != "cli.agent:run":
        os.environ["CONSUL_HTTP_TOKEN"] = args.consul_token
    module, _, name = args.handler.partition(":")
    handler: Handler = version if module == "cli.main" else getattr(importlib.import_module(module), name)
    try:
        code = handler(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a failure can still be told
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `drover job status | head`: the reader left, which is no error of ours.
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        _drop_output()
        sys.stderr.write(f"Error: the output cannot be written: {error.strerror}\n")
        return 1


def _drop_output() -> None:
    """What is still buffered goes nowhere, or the interpreter would fail on it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
