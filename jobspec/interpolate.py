"""What do `${NOMAD_PORT_http}`, `${attr.kernel.name}` and `${env["HOME"]}` stand for at run time?

Pure: texts and mappings in, texts out. The agent calls it for a task's config, env and services, the
leader for constraints. What nobody knows stays as written, as Nomad leaves it: a shell may want it.

values: {name: text}; plain names are the task's environment, `attr.x`, `meta.x` and `node.x` the node's.
"""

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_BRACKETS = re.compile(r"""(\w+)\[\s*["']?([^"'\]]*)["']?\s*\]""")


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """The text with every known reference replaced; replacements are not looked into again."""
    if "${" not in text:
        return text

    def replacement(match: re.Match[str]) -> str:
        value = _lookup(match[1].strip(), values)
        return match[0] if value is None else value

    return _REFERENCE.sub(replacement, text)


def without_references(text: str) -> str:
    """What of a text is known before anything runs."""
    return with_references_as("", text)


def with_references_as(stand_in: str, text: str) -> str:
    return _REFERENCE.sub(stand_in, text)


def interpolate_document(document: Any, values: Mapping[str, str]) -> Any:
    """A driver's config or any nested document with its strings, keys too, interpolated; lists stay lists."""
    if isinstance(document, str):
        return interpolate(document, values)
    if isinstance(document, Mapping):
        return {
            interpolate(key, values) if isinstance(key, str) else key: interpolate_document(item, values)
            for key, item in document.items()
        }
    if isinstance(document, list | tuple):
        return [interpolate_document(item, values) for item in document]
    return document


def interpolate_strings(texts: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """A map of strings (env, meta) with keys and values interpolated."""
    return {interpolate(key, values): interpolate(text, values) for key, text in texts.items()}


def resolve_target(target: str, values: Mapping[str, str]) -> str | None:
    """One side of a constraint: a literal as it is, a whole reference looked up. None: the node has no such value.

    A text that only contains references is interpolated; an unknown one in it makes it unresolved.
    """
    if "${" not in target:
        return target
    whole = _REFERENCE.fullmatch(target.strip())
    if whole:
        return _lookup(whole[1].strip(), values)
    if any(_lookup(match[1].strip(), values) is None for match in _REFERENCE.finditer(target)):
        return None
    return interpolate(target, values)


def _lookup(name: str, values: Mapping[str, str]) -> str | None:
    """`env["X"]` and `env.X` are the plain X; `meta["x"]` is `meta.x`."""
    bracketed = _BRACKETS.fullmatch(name)
    if bracketed:
        name = f"{bracketed[1]}.{bracketed[2]}"
    value = values.get(name)
    if value is None and name.startswith("env."):
        value = values.get(name[4:])
    return value
