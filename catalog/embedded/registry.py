"""Which nodes, services and checks are registered, and with which index does a read of them answer?

Consul keeps an index per table and one per service name, and both show through: a service's own index
moves when one of its instances, their checks, or any node-level check or node record beside it moves;
a service that does not exist answers with the index at which the last service vanished. Writing a check
moves the table's index even when nothing changed in it (measured on 1.8.7, as is all of this).
Names are compared without case, as Consul's own index does. Pure state, no clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from catalog.embedded.answers import Refused
from catalog.embedded.records import Check, Node, Service, ServiceEntry, is_same
from catalog.embedded.watches import Kind, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySnapshot:
    nodes: dict[str, Node]
    services: dict[str, dict[str, Service]]
    checks: dict[str, dict[str, Check]]
    service_indexes: dict[str, int]
    indexes: "TableIndexes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableIndexes:
    """Of the last change of each table; `extinction`: when a service name last lost its last instance."""

    nodes: int = 0
    services: int = 0
    checks: int = 0
    extinction: int = 0


class Registry:
    """The catalog of one datacenter. Keys of the dicts are lower-case node and service names."""

    def __init__(self) -> None:
        self.indexes = TableIndexes()
        self.touched: dict[Topic, None] = {}  # topics changed since the caller last looked
        self._nodes: dict[str, Node] = {}
        self._services: dict[str, dict[str, Service]] = {}  # node: id: instance
        self._checks: dict[str, dict[str, Check]] = {}  # node: id: check
        self._service_indexes: dict[str, int] = {}
        self._instances: dict[str, dict[tuple[str, str], None]] = {}  # service name: (node, id)

    # Reads

    def nodes(self) -> list[Node]:
        return [self._nodes[name] for name in sorted(self._nodes)]

    def node(self, name: str) -> Node | None:
        return self._nodes.get(name.lower())

    def services_of(self, node: str) -> dict[str, Service]:
        """Instances on `node` by id, sorted."""
        return dict(sorted(self._services.get(node.lower(), {}).items()))

    def instances(self, service: str) -> list[tuple[Node, Service]]:
        """All instances of a service, sorted by node and id."""
        return [
            (self._nodes[node], self._services[node][id])
            for node, id in sorted(self._instances.get(service.lower(), ()))
        ]

    def entries(self, service: str) -> list[ServiceEntry]:
        """Instances with the checks that count for them: their node's, then their own."""
        return [
            ServiceEntry(node=node, service=instance, checks=tuple(self._checks_for(node.node, instance.id)))
            for node, instance in self.instances(service)
        ]

    def checks_of(self, node: str) -> list[Check]:
        return [check for _, check in sorted(self._checks.get(node.lower(), {}).items())]

    def check(self, node: str, check_id: str) -> Check | None:
        return self._checks.get(node.lower(), {}).get(check_id)

    def checks_in(self, state: str) -> list[Check]:
        """All checks in a state, or in `any`."""
        return [
            check
            for node in sorted(self._checks)
            for check in self.checks_of(node)
            if state in ("any", check.status)
        ]

    def checks_for_service(self, service: str) -> list[Check]:
        wanted = service.lower()
        nodes = dict.fromkeys(node for node, _ in sorted(self._instances.get(wanted, ())))
        return [
            check for node in nodes for check in self.checks_of(node) if check.service_name.lower() == wanted
        ]

    def service_tags(self, keep: Iterable[str] | None = None) -> dict[str, list[str]]:
        """Every service's name with all tags that any instance has; on the nodes `keep` if given."""
        nodes = self._services if keep is None else [name.lower() for name in keep]
        tags: dict[str, dict[str, None]] = {}
        for node in nodes:
            for service in self._services.get(node, {}).values():
                tags.setdefault(service.service, {}).update(dict.fromkeys(service.tags))
        return {name: sorted(tags[name]) for name in sorted(tags)}

    def service_index(self, service: str, *, with_checks: bool) -> int:
        """The index of a read of one service, there or not."""
        own = self._service_indexes.get(service.lower())
        if own is not None:
            return own
        tables = self.indexes
        if tables.extinction:
            return tables.extinction
        return max(tables.nodes, tables.services, tables.checks if with_checks else 0)

    # Writes

    def put_node(self, index: int, node: Node) -> None:
        key = node.node.lower()
        old = self._nodes.get(key)
        if is_same(old, node):
            return
        self._nodes[key] = msgspec.structs.replace(
            node, create_index=old.create_index if old else index, modify_index=index
        )
        self.indexes = replace(self.indexes, nodes=index)
        self._touch_node(index, key)
        self._touch(Topic(Kind.NODES))

    def put_service(self, index: int, node: str, service: Service) -> None:
        key = node.lower()
        if key not in self._nodes:
            raise Refused(500, "failed inserting service: missing node registration")
        old = self._services.get(key, {}).get(service.id)
        if is_same(old, service):
            return
        if old and old.service.lower() != service.service.lower():
            self._drop_service(index, key, service.id)
        self._services.setdefault(key, {})[service.id] = msgspec.structs.replace(
            service, create_index=old.create_index if old else index, modify_index=index
        )
        self._instances.setdefault(service.service.lower(), {})[(key, service.id)] = None
        self.indexes = replace(self.indexes, services=index)
        self._touch_service(index, key, service.service)

    def put_check(self, index: int, check: Check) -> Check:
        """Stores the check, with the name and tags of its service; returns it as stored."""
        key = check.node.lower()
        if key not in self._nodes:
            raise Refused(500, "failed inserting check: Missing node registration")
        service: Service | None = None
        if check.service_id:
            service = self._services.get(key, {}).get(check.service_id)
            if service is None:
                raise Refused(
                    500, f'failed inserting check: Missing service registration on node "{check.node}"'
                )
            check = msgspec.structs.replace(check, service_name=service.service, service_tags=service.tags)
        old = self._checks.get(key, {}).get(check.check_id)
        self.indexes = replace(self.indexes, checks=index)
        if old and is_same(old, check):
            return old
        stored = msgspec.structs.replace(
            check, create_index=old.create_index if old else index, modify_index=index
        )
        self._checks.setdefault(key, {})[check.check_id] = stored
        self._touch_check(index, key, stored, old)
        return stored

    def drop_check(self, index: int, node: str, check_id: str) -> bool:
        """False when there is no such check."""
        key = node.lower()
        old = self._checks.get(key, {}).pop(check_id, None)
        if old is None:
            return False
        self.indexes = replace(self.indexes, checks=index)
        if not old.service_id:
            self.indexes = replace(self.indexes, services=index)
        self._touch_check(index, key, old, None)
        return True

    def drop_service(self, index: int, node: str, service_id: str) -> list[str]:
        """Removes an instance and its checks; returns the ids of these checks."""
        key = node.lower()
        if service_id not in self._services.get(key, {}):
            return []
        doomed = [check.check_id for check in self.checks_of(key) if check.service_id == service_id]
        for check_id in doomed:
            self.drop_check(index, key, check_id)
        self._drop_service(index, key, service_id)
        return doomed

    def drop_node(self, index: int, node: str) -> None:
        key = node.lower()
        if key not in self._nodes:
            return
        for service_id in list(self.services_of(key)):
            self.drop_service(index, key, service_id)
        for check in self.checks_of(key):
            self.drop_check(index, key, check.check_id)
        del self._nodes[key]
        self._services.pop(key, None)
        self._checks.pop(key, None)
        self.indexes = replace(self.indexes, nodes=index)
        self._touch(Topic(Kind.NODES))
        self._touch(Topic(Kind.NODE, key))

    def snapshot(self) -> RegistrySnapshot:
        return RegistrySnapshot(
            nodes=dict(self._nodes),
            services={node: dict(services) for node, services in self._services.items()},
            checks={node: dict(checks) for node, checks in self._checks.items()},
            service_indexes=dict(self._service_indexes),
            indexes=self.indexes,
        )

    @classmethod
    def restored(cls, snapshot: RegistrySnapshot) -> "Registry":
        registry = cls()
        registry.indexes = snapshot.indexes
        registry._nodes = dict(snapshot.nodes)
        registry._services = {node: dict(services) for node, services in snapshot.services.items()}
        registry._checks = {node: dict(checks) for node, checks in snapshot.checks.items()}
        registry._service_indexes = dict(snapshot.service_indexes)
        for node, services in registry._services.items():
            for service in services.values():
                registry._instances.setdefault(service.service.lower(), {})[(node, service.id)] = None
        return registry

    # Indexes

    def _checks_for(self, node: str, service_id: str) -> list[Check]:
        checks = self.checks_of(node)
        own = [check for check in checks if check.service_id == service_id]
        return [check for check in checks if not check.service_id] + own

    def _drop_service(self, index: int, key: str, service_id: str) -> None:
        service = self._services[key].pop(service_id)
        name = service.service.lower()
        self._instances[name].pop((key, service_id), None)
        self.indexes = replace(self.indexes, services=index)
        self._touch_service(index, key, service.service)
        if not self._instances[name]:
            del self._instances[name]
            del self._service_indexes[name]
            self.indexes = replace(self.indexes, extinction=index)

    def _touch_service(self, index: int, node: str, service: str) -> None:
        self._service_indexes[service.lower()] = index
        self._touch(Topic(Kind.SERVICES))
        self._touch(Topic(Kind.SERVICE, service.lower()))
        self._touch(Topic(Kind.NODE, node))

    def _touch_node(self, index: int, node: str) -> None:
        """A change of the node or of a check of its own is a change of every service on it."""
        for service in self._services.get(node, {}).values():
            self._service_indexes[service.service.lower()] = index
            self._touch(Topic(Kind.SERVICE, service.service.lower()))
        self._touch(Topic(Kind.NODE, node))

    def _touch_check(self, index: int, node: str, check: Check, old: Check | None) -> None:
        if check.service_id:
            if check.service_name.lower() in self._service_indexes:
                self._service_indexes[check.service_name.lower()] = index
            self._touch(Topic(Kind.SERVICE, check.service_name.lower()))
            self._touch(Topic(Kind.SERVICE_CHECKS, check.service_name.lower()))
        else:
            self._touch_node(index, node)
        self._touch(Topic(Kind.NODE_CHECKS, node))
        for state in dict.fromkeys(("any", check.status, old.status if old else check.status)):
            self._touch(Topic(Kind.STATE_CHECKS, state))

    def _touch(self, topic: Topic) -> None:
        self.touched[topic] = None
