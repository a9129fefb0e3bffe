"""Which blocks does a body hold once its `dynamic` blocks are written out?"""

from collections.abc import Iterator
from typing import Protocol

from jobspec.evaluate import EvaluationFault, Scope, entries, evaluate
from jobspec.syntax.tree import Block, Body, Reference
from jobspec.values import ConversionFault, to_list, to_text

# As Nomad's `range`: more blocks than this out of one `dynamic` are a mistake.
_REPEATS_MAX = 1024


class Refuse(Protocol):
    """Notes a fault at an offset."""

    def __call__(self, at: int, message: str) -> None: ...


def expand(body: Body, scope: Scope, refuse: Refuse) -> Iterator[tuple[Block, Scope]]:
    """The body's blocks, each with the scope its expressions are read in."""
    for block in body.blocks:
        if block.kind != "dynamic":
            yield block, scope
            continue
        try:
            yield from _expand(block, scope, refuse)
        except EvaluationFault as fault:
            refuse(fault.at, str(fault))


def _expand(block: Block, scope: Scope, refuse: Refuse) -> Iterator[tuple[Block, Scope]]:
    if len(block.labels) != 1:
        refuse(
            block.at, f"a dynamic block has one label, the kind of block it makes, found {len(block.labels)}"
        )
        return
    settings = block.body.settings
    contents = [inner for inner in block.body.blocks if inner.kind == "content"]
    is_usable = len(contents) == 1 and "for_each" in settings
    if "for_each" not in settings:
        refuse(block.at, 'a dynamic block needs "for_each"')
    if len(contents) != 1:
        refuse(block.at, f"a dynamic block needs one content block, found {len(contents)}")
    for name, setting in settings.items():
        if name not in ("for_each", "iterator", "labels"):
            refuse(
                setting.at,
                f'unknown argument "{name}" in a dynamic block (known: for_each, iterator, labels)',
            )
    for inner in block.body.blocks:
        if inner.kind != "content":
            refuse(inner.at, f'unknown block "{inner.kind}" in a dynamic block (known: content)')
    if not is_usable:
        return
    iterator = block.labels[0]
    if "iterator" in settings:
        named = settings["iterator"].value
        if not isinstance(named, Reference) or named.steps:
            raise EvaluationFault(named.at, "iterator is a name, without quotes")
        iterator = named.root
    for_each = settings["for_each"].value
    collection = evaluate(for_each, scope)
    scope.budget.spend_value(for_each.at, collection)
    pairs = entries(collection, for_each.at, "for_each")
    if len(pairs) > _REPEATS_MAX:
        raise EvaluationFault(for_each.at, f"for_each makes {len(pairs)} blocks (at most {_REPEATS_MAX})")
    # A block costs a hundredfold of a loop's round: the mapper fills in every field of it.
    scope.budget.spend(for_each.at, 100 * len(pairs))
    for key, value in pairs:
        inner_scope = scope.with_names({iterator: {"key": key, "value": value}})
        labels = _labels(block, inner_scope)
        made = Block(block.at, block.labels[0], labels, (block.at,) * len(labels), contents[0].body)
        yield made, inner_scope


def _labels(block: Block, scope: Scope) -> tuple[str, ...]:
    setting = block.body.settings.get("labels")
    if setting is None:
        return ()
    try:
        return tuple(to_text(label) for label in to_list(evaluate(setting.value, scope)))
    except ConversionFault as fault:
        raise EvaluationFault(setting.value.at, f"labels: {fault}") from None
