"""May a driver's config be written so?

The options are those of Nomad 1.1's drivers, under its names and types; what Nomad converts is taken
("true" for a flag, "512" for a number), and a text with a reference (`${…}`) is judged on the node, where
it gets its value. Checked at submit, though Nomad's clients do it: a misspelt option is told to who wrote it,
before anything is placed. A driver that is not here is not checked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobspec.suggest import did_you_mean
from model.errors import Fault


class Kind(StrEnum):
    """The value of each: what a fault says was expected."""

    TEXT = "a string"
    FLAG = "true or false"
    NUMBER = "a whole number"
    TEXTS = "a list of strings"
    TEXT_OR_TEXTS = "a list of strings "  # one string is a list of one
    MAP = "a block of strings"
    NUMBERS = "a block of numbers"
    BLOCK = "a block"  # once
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """below: what a block holds. instead: for one that drover cannot honour, what to do about it."""

    kind: Kind
    below: "Mapping[str, Option]" = field(default_factory=dict)
    instead: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """needed: without one of these it cannot start anything."""

    options: Mapping[str, Option]
    needed: tuple[str, ...]

    @property
    def supported(self) -> frozenset[str]:
        return frozenset(name for name, option in self.options.items() if not option.instead)


Options = dict[str, Option]


def _of(kind: Kind, names: str) -> Options:
    return {name: Option(kind=kind) for name in names.split()}


_MOUNT: Options = {
    **_of(Kind.TEXT, "type target source"),
    **_of(Kind.FLAG, "readonly"),
    "bind_options": Option(kind=Kind.BLOCK, below=_of(Kind.TEXT, "propagation")),
    "tmpfs_options": Option(kind=Kind.BLOCK, below=_of(Kind.NUMBER, "size mode")),
    "volume_options": Option(
        kind=Kind.BLOCK,
        below={
            **_of(Kind.FLAG, "no_copy"),
            **_of(Kind.MAP, "labels"),
            "driver_config": Option(
                kind=Kind.BLOCK, below={**_of(Kind.TEXT, "name"), **_of(Kind.MAP, "options")}
            ),
        },
    ),
}

_DOCKER: Options = {
    **_of(
        Kind.TEXT,
        "image command hostname image_pull_timeout ipc_mode ipv4_address ipv6_address mac_address network_mode"
        " pid_mode runtime userns_mode uts_mode volume_driver work_dir",
    ),
    **_of(
        Kind.FLAG,
        "advertise_ipv6_address auth_soft_fail cpu_hard_limit force_pull init interactive privileged"
        " readonly_rootfs",
    ),
    **_of(Kind.NUMBER, "cpu_cfs_period memory_hard_limit pids_limit shm_size"),
    **_of(
        Kind.TEXTS,
        "args cap_add cap_drop dns_options dns_search_domains dns_servers extra_hosts group_add network_aliases"
        " ports security_opt volumes",
    ),
    **_of(Kind.TEXT_OR_TEXTS, "entrypoint"),
    **_of(Kind.MAP, "labels storage_opt sysctl ulimit"),
    **_of(Kind.NUMBERS, "port_map"),
    "auth": Option(kind=Kind.BLOCK, below=_of(Kind.TEXT, "username password email server_address")),
    "devices": Option(
        kind=Kind.BLOCKS, below=_of(Kind.TEXT, "host_path container_path cgroup_permissions")
    ),
    "healthchecks": Option(kind=Kind.BLOCK, below=_of(Kind.FLAG, "disable")),
    "logging": Option(kind=Kind.BLOCK, below={**_of(Kind.TEXT, "type driver"), **_of(Kind.MAP, "config")}),
    "mount": Option(kind=Kind.BLOCKS, below=_MOUNT),
    "mounts": Option(kind=Kind.BLOCKS, below=_MOUNT),
    "tty": Option(kind=Kind.FLAG, instead="its output would be one stream"),
    "load": Option(kind=Kind.TEXT, instead="load the image on the nodes, or name a registry's"),
}

_ISOLATION: Options = {**_of(Kind.TEXT, "pid_mode ipc_mode"), **_of(Kind.TEXTS, "cap_add cap_drop")}

DRIVERS: Mapping[str, Driver] = {
    "raw_exec": Driver(options={**_of(Kind.TEXT, "command work_dir"), **_of(Kind.TEXTS, "args")}, needed=("command",)),
    "docker": Driver(options=_DOCKER, needed=("image",)),
    "exec": Driver(
        options={**_of(Kind.TEXT, "command work_dir"), **_of(Kind.TEXTS, "args"), **_ISOLATION}, needed=("command",)
    ),
    "java": Driver(
        options={**_of(Kind.TEXT, "class class_path jar_path"), **_of(Kind.TEXTS, "args jvm_options"), **_ISOLATION},
        needed=("jar_path", "class"),
    ),
    "qemu": Driver(
        options={
            **_of(Kind.TEXT, "image_path accelerator"),
            **_of(Kind.FLAG, "graceful_shutdown guest_agent"),
            **_of(Kind.TEXTS, "args"),
            **_of(Kind.NUMBERS, "port_map"),
        },
        needed=("image_path",),
    ),
}  # fmt: skip


def config_faults(driver: str, config: Mapping[str, Any], path: str) -> Iterator[Fault]:
    """What is wrong with a task's config; path: of the config."""
    known = DRIVERS.get(driver)
    if known is None:
        return
    if all(config.get(name) in (None, "") for name in known.needed):
        wanted = " or ".join(f'"{name}"' for name in known.needed)
        yield Fault(path=path, message=f"the {driver} driver needs {wanted}")
    yield from _block_faults(f"the {driver} driver", known.options, config, path)


def _block_faults(
    what: str, options: Mapping[str, Option], values: Mapping[str, Any], path: str
) -> Iterator[Fault]:
    for name, value in values.items():
        option = options.get(name)
        if option is None:
            message = f'{what} has no option "{name[:60]}"{did_you_mean(name, options)}'
            yield Fault(path=f"{path}.{name[:60]}", message=message)
        elif option.instead:
            message = f"{name} is not supported by drover yet ({option.instead})"
            yield Fault(path=f"{path}.{name}", message=message)
        elif value is not None:
            yield from _value_faults(option, name, value, f"{path}.{name}")


def _value_faults(option: Option, name: str, value: Any, path: str) -> Iterator[Fault]:
    if not _fits(option.kind, value):
        yield Fault(path=path, message=f"must be {option.kind.strip()}")
    elif option.below:
        blocks: Sequence[Any] = [value] if isinstance(value, Mapping) else value
        for number, block in enumerate(blocks):
            here = path if option.kind is Kind.BLOCK else f"{path}[{number}]"
            yield from _block_faults(name, option.below, block, here)


def _fits(kind: Kind, value: Any) -> bool:
    match kind:
        case Kind.TEXT:
            return _is_plain(value)
        case Kind.FLAG:
            return isinstance(value, bool) or _is_text_of(value, ("true", "false", "1", "0"))
        case Kind.NUMBER:
            return _is_number(value)
        case Kind.TEXTS:
            return isinstance(value, list | tuple) and all(map(_is_plain, value))
        case Kind.TEXT_OR_TEXTS:
            return isinstance(value, str) or _fits(Kind.TEXTS, value)
        case Kind.MAP:
            return _are_blocks(value) and all(_is_plain(item) for item in _items(value))
        case Kind.NUMBERS:
            return _are_blocks(value) and all(_is_number(item) for item in _items(value))
        case Kind.BLOCK:
            return _are_blocks(value) and (isinstance(value, Mapping) or len(value) <= 1)
        case Kind.BLOCKS:
            return _are_blocks(value)


def _is_plain(value: Any) -> bool:
    """A text, or what Nomad makes a text of."""
    return isinstance(value, str | int | float)


def _is_number(value: Any) -> bool:
    match value:
        case bool():
            return False
        case int():
            return True
        case float():
            return value.is_integer()
        case _:
            return _is_text_of(value)


def _is_text_of(value: Any, words: Sequence[str] | None = None) -> bool:
    """A text that stands for one of the words, else for a whole number, or will on the node."""
    if not isinstance(value, str):
        return False
    if "${" in value:
        return True
    return value.lower() in words if words is not None else value.removeprefix("-").isdecimal()


def _are_blocks(value: Any) -> bool:
    """HCL gives a block, and an object set with `=`, as a list of one mapping."""
    return isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value)
    )


def _items(value: Any) -> list[Any]:
    blocks = [value] if isinstance(value, Mapping) else value
    return [item for block in blocks for item in block.values() if item is not None]
