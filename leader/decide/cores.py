"""Which cores of a node does an alloc get for itself?"""

from collections.abc import Container

from model.alloc import TaskCores
from model.job import TaskGroup
from model.node import Node


def free_cores(node: Node, used: Container[int]) -> list[int]:
    """Ids of the cores that a task may still have to itself, lowest first. used: those that some task has."""
    kept = node.reserved.cores
    return [core for core in sorted(node.resources.reservable_cores) if core not in used and core not in kept]


def assign_cores(group: TaskGroup, node: Node, used: Container[int]) -> tuple[TaskCores, ...]:
    """The cores of each task that asks for some. That there are enough has been seen before."""
    free = free_cores(node, used)
    given: list[TaskCores] = []
    for task in group.tasks:
        count = task.resources.cores
        if count:
            given.append(TaskCores(task=task.name, ids=tuple(free[:count])))
            del free[:count]
    return tuple(given)
