"""What do the configuration files say, setting by setting?

A file is HCL or JSON; both become the same tree of expression nodes, and those are walked along the table
in `rules.py`. A block, a block with a label, and an object set with `=` mean the same. Values are literals:
nothing in an agent's configuration is computed.

    files --parse--> bodies --walk--> {("server", "heartbeat_grace"): Given(10.0, where)}
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.rules import AGENT, Kind, Rule, Section
from configs.values import ValueFault, convert
from jobspec import read_file
from jobspec.evaluate import EvaluationFault, Scope, evaluate
from jobspec.suggest import did_you_mean
from jobspec.syntax.jsonform import parse_json
from jobspec.syntax.parser import parse_body
from jobspec.syntax.source import Source, read_text
from jobspec.syntax.tree import Body, Expression, Literal, ObjectOf, TupleOf
from jobspec.values import to_json
from model.errors import ConfigError, Fault, JobspecError

Key = tuple[str, ...]
_LITERALS = Scope(is_closed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A converted value and where it was written."""

    value: Any
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """One thing in a body: a setting (`value`) or a block (`body`, `labels`)."""

    name: str
    at: int
    labels: tuple[str, ...] = ()
    value: Expression | None = None
    body: Body | None = None


def config_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files of -config, in the order they count; of a directory *.hcl and *.json, sorted. Raises ConfigError."""
    files: list[Path] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            if not path.is_dir():
                files.append(path)
                continue
            found = sorted(item for item in path.iterdir() if item.suffix in (".hcl", ".json"))
        except (OSError, ValueError) as error:
            faults.append(
                Fault(
                    message=f"cannot be read: {getattr(error, 'strerror', None) or error}",
                    where=repr(str(path))[1:-1],
                )
            )
            continue
        if not found:
            faults.append(Fault(message="the directory holds no *.hcl or *.json", where=str(path)))
        files += found
    if faults:
        raise ConfigError(tuple(faults))
    return tuple(files)


class Reader:
    """Gathers settings over all files; a later file wins, maps merge by key.

    is_readable: no file had to be left unread, so what is missing is really missing.
    """

    def __init__(self) -> None:
        self.given: dict[Key, Given] = {}
        self.named: dict[Key, str] = {}  # blocks whose names the operator chose, also empty ones, and where they are
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self._source = Source("", "")
        self.is_readable = True

    def file(self, path: Path) -> None:
        try:
            self._source = read_text(read_file(path), str(path))
            nodes = list(self._top_nodes())
        except JobspecError as error:
            self.faults += [_without_column(fault) for fault in error.faults]
            self.is_readable = False
            return
        except RecursionError:
            self.is_readable = False
            self.faults.append(Fault(message="nested too deeply", where=str(path)))
            return
        if not any(node.name in AGENT.rules for node in nodes):
            # Whatever this is, that its settings are missing as well is no news.
            self.is_readable = False
            self._no_settings(path, nodes)
            return
        self._section(AGENT, nodes, ())

    def _no_settings(self, path: Path, nodes: Sequence[_Node]) -> None:
        if not nodes:
            self.faults.append(Fault(message="the file is empty (settings were expected)", where=str(path)))
        elif nodes[0].name == "job":
            self._refuse(nodes[0].at, (), "this is a job file (settings were expected; `drover job run` takes it)")
        else:
            self._section(AGENT, nodes[:1], ())

    def override(self, name: str, value: object, *, where: str = "command line") -> None:
        """A value from elsewhere, named by its path (`ports.http`)."""
        key = tuple(name.split("."))
        rule = _find(AGENT, key)
        if rule is None:
            self.faults.append(Fault(message="unknown setting", where=where, path=name))
            return
        self._value(rule, key, value, where)

    # ---- trees

    def _top_nodes(self) -> Iterator[_Node]:
        text = self._source.text.lstrip()
        if text.startswith("{"):
            return self._object_nodes(parse_json(self._source))
        return _body_nodes(parse_body(self._source, is_relaxed=True))

    def _object_nodes(self, value: Expression) -> Iterator[_Node]:
        """The properties of an object; a list of objects is one, in pieces (so writes HCL1's JSON)."""
        parts = value.items if isinstance(value, TupleOf) else (value,)
        for part in parts:
            if not isinstance(part, ObjectOf):
                self._refuse(part.at, (), "expected a block")
                continue
            for key, item in part.items:
                if isinstance(key, Literal):
                    yield _Node(name=str(key.value), at=key.at, value=item)

    def _inner_nodes(self, node: _Node) -> Iterator[_Node]:
        if node.body is not None:
            return _body_nodes(node.body)
        return self._object_nodes(node.value) if node.value is not None else iter(())

    # ---- walking

    def _section(self, section: Section, nodes: Sequence[_Node], key: Key) -> None:
        for node in nodes:
            here = (*key, node.name)
            rule = section.rules.get(node.name) or section.each
            if section.each is not None:
                self.named[here] = self._where(node.at)
            if rule is None:
                hint = did_you_mean(node.name, section.rules)
                self._refuse(node.at, key, f'unknown setting "{node.name[:60]}"{hint}')
            elif isinstance(rule, Section):
                self._block(rule, node, here)
            else:
                self._setting(rule, node, here)

    def _block(self, section: Section, node: _Node, key: Key) -> None:
        if node.value is not None and not isinstance(node.value, ObjectOf | TupleOf):
            self._refuse(node.at, key, f"expected a block: {node.name} {{ … }}")
            return
        if len(node.labels) > section.is_labelled or (
            section.is_labelled and node.body is not None and not node.labels
        ):
            wanted = "one label" if section.is_labelled else "no label"
            self._refuse(node.at, key, f"a {node.name} block has {wanted}, found {len(node.labels)}")
            return
        inner = list(self._inner_nodes(node))
        if section.is_ignored:
            self._ignored_section(section, node, inner, key)
        elif node.labels:  # plugin "docker" { … } is plugin { docker { … } }
            labelled = _Node(name=node.labels[0], at=node.at, value=node.value, body=node.body)
            self._section(section, [labelled], key)
        else:
            self._section(section, inner, key)

    def _ignored_section(self, section: Section, node: _Node, inner: Sequence[_Node], key: Key) -> None:
        for item in inner:
            if (
                item.name in section.refused_if
                and item.value is not None
                and self._literal(item.value, key) in (True, "true")
            ):
                self._refuse(
                    item.at, (*key, item.name), f"{node.name} is not supported by drover yet (leave it out)"
                )
                return
        self._ignore(node.at, key)

    def _setting(self, rule: Rule, node: _Node, key: Key) -> None:
        if rule.kind is Kind.IGNORED:
            self._ignore(node.at, key)
        elif rule.kind is Kind.REFUSED:
            self._refuse(node.at, key, f"{node.name} is not supported by drover yet ({rule.instead})")
        elif node.body is not None and rule.kind not in (Kind.TEXTS, Kind.DATA):
            self._refuse(node.at, key, f"expected an argument: {node.name} = …")
        else:
            value = self._data(node, key)
            if (
                rule.kind in (Kind.TEXTS, Kind.DATA)
                and isinstance(value, list)
                and all(isinstance(item, dict) for item in value)
            ):
                value = {
                    name: item for part in value for name, item in part.items()
                }  # a block in HCL1's JSON
            if value is not _BROKEN:
                self._value(rule, key, value, self._where(node.at))

    def _value(self, rule: Rule, key: Key, value: object, where: str) -> None:
        try:
            converted = convert(rule.kind, value)
        except ValueFault as fault:
            self.faults.append(Fault(message=str(fault), where=where, path=".".join(key)))
            return
        if rule.is_unused and converted not in (False, "", {}, [], ()):
            self.ignored(where, ".".join(key))
        earlier = self.given.get(key)
        if earlier is not None and isinstance(converted, Mapping) and isinstance(earlier.value, Mapping):
            converted = {**earlier.value, **converted}
        self.given[key] = Given(value=converted, where=where)

    def _data(self, node: _Node, key: Key) -> object:
        """The plain value of a setting, or of a block as a mapping."""
        if node.value is not None:
            return self._literal(node.value, key)
        if node.body is None:
            return {}
        made: dict[str, object] = {}
        for item in _body_nodes(node.body):
            value = self._data(item, (*key, item.name))
            if value is _BROKEN:
                return _BROKEN
            for label in reversed(item.labels):
                value = {label: value}
            known = made.get(item.name)
            if isinstance(known, dict) and isinstance(value, dict):
                value = known | value
            made[item.name] = value
        return made

    def _literal(self, value: Expression, key: Key) -> object:
        try:
            return to_json(evaluate(value, _LITERALS))
        except EvaluationFault as fault:
            self._refuse(fault.at, key, str(fault))
            return _BROKEN

    # ---- notes

    def _where(self, at: int) -> str:
        return f"{self._source.file}:{self._source.position(at)[0]}"

    def _refuse(self, at: int, key: Key, message: str) -> None:
        self.faults.append(Fault(message=message, where=self._where(at), path=".".join(key)[:200]))

    def _ignore(self, at: int, key: Key) -> None:
        self.ignored(self._where(at), ".".join(key))

    def ignored(self, where: str, what: str) -> None:
        """Notes that something was accepted and does nothing."""
        self.warnings.append(f"{where}: {what} has no effect in drover")


_BROKEN = object()


def _body_nodes(body: Body) -> Iterator[_Node]:
    settings = [_Node(name=item.name, at=item.at, value=item.value) for item in body.settings.values()]
    blocks = [_Node(name=item.kind, at=item.at, labels=item.labels, body=item.body) for item in body.blocks]
    return iter(sorted((*settings, *blocks), key=lambda node: node.at))


def _find(section: Section, key: Key) -> Rule | None:
    rule: Rule | Section | None = section
    for name in key:
        if not isinstance(rule, Section):
            return None
        rule = rule.rules.get(name) or rule.each
    return rule if isinstance(rule, Rule) else None


def _without_column(fault: Fault) -> Fault:
    """Configuration faults are `file:line`."""
    file, _, column = fault.where.rpartition(":")
    is_column = column.isdigit() and file.rpartition(":")[2].isdigit()
    return Fault(message=fault.message, where=file if is_column else fault.where, path=fault.path)
