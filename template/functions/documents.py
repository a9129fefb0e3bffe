"""consul-template's functions that read and write documents: JSON, YAML and TOML, as Go's libraries do."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec

from template.budget import TEXT_MAX, spend
from template.faults import Refusal
from template.formats import decimal, positional
from template.values import LEVELS_MAX, Methods, bounded, go_type, is_map, is_nil, is_slice, items, to_bytes

_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
_LINES = str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029"})


def to_json(value: object) -> str:
    return encoded(value).translate(_HTML)


def to_json_pretty(value: object) -> str:
    return encoded(value, indent="  ").translate(_HTML)


def to_unescaped_json(value: object) -> str:
    return encoded(value)


def to_unescaped_json_pretty(value: object) -> str:
    return encoded(value, indent="  ")


def encoded(value: object, *, indent: str = "") -> str:
    """JSON with keys in order; < > & as they are."""
    bounded(value)
    parts: list[str] = []
    _Writer(parts.append, indent).value(value, "\n")
    return "".join(parts)


class _Writer:
    def __init__(self, write: Callable[[str], None], indent: str) -> None:
        self._put, self._indent, self._length = write, indent, 0

    def _write(self, text: str) -> None:
        self._length += len(text)
        if self._length > TEXT_MAX:
            raise Refusal(f"a document of more than {TEXT_MAX} characters")
        self._put(text)

    def value(self, value: object, line: str) -> None:
        """line: a line break and the indentation of where the value stands."""
        if isinstance(value, str):
            self._write(json_text(value))
        elif is_nil(value):
            self._write("null")
        elif isinstance(value, bool):
            self._write("true" if value else "false")
        elif isinstance(value, int):
            self._write(str(value))
        elif isinstance(value, float):
            self._write(json_number(value))
        elif is_map(value) or isinstance(value, msgspec.Struct):
            self._all("{}", line, [(json_text(str(key)), one) for key, one in items(value)])
        elif is_slice(value):
            self._all("[]", line, [(None, one) for one in value])
        elif isinstance(value, Methods):
            self._write("{}")
        else:
            raise Refusal(f"json: unsupported type: {go_type(value)}")

    def _all(self, signs: str, line: str, parts: list[tuple[str | None, object]]) -> None:
        if not parts:
            self._write(signs)
            return
        inner = line + self._indent
        for number, (key, value) in enumerate(parts):
            self._write("," if number else signs[0])
            if self._indent:
                self._write(inner)
            if key is not None:
                self._write(key + (": " if self._indent else ":"))
            self.value(value, inner)
        self._write((line if self._indent else "") + signs[1])


def json_text(text: str) -> str:
    if not text.isascii():
        text = to_bytes(text).decode("utf-8", "replace")
    return json.dumps(text, ensure_ascii=False).translate(_LINES)


def json_number(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        raise Refusal("json: unsupported value")
    sign, digits, exponent = decimal(value)
    if value and (exponent < -6 or exponent >= 21):
        part = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{part}e{exponent:+d}"
    return sign + positional(digits, exponent)


def parse_json(text: str) -> object:
    """Numbers are floats, as Go reads them without a type."""
    if not text:
        return {}
    try:
        found: object = json.loads(searchable(text), parse_int=_float, parse_float=_float, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"parseJSON: no JSON{_position(error)}") from None
    bounded(found)
    return found


def searchable(text: str) -> str:
    return text if text.isascii() else to_bytes(text).decode("utf-8", "replace")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError
    return value


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _position(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f" at line {error.lineno}, column {error.colno}"
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"


@cache
def _yaml() -> tuple[Any, Any, Any]:
    """(the module, a loader without moments, a dumper that writes as Go's)."""
    import yaml

    loader_base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(loader_base):  # type: ignore[misc, valid-type]  # whichever there is
        yaml_implicit_resolvers = {
            sign: [(tag, form) for tag, form in known if tag != "tag:yaml.org,2002:timestamp"]
            for sign, known in loader_base.yaml_implicit_resolvers.items()
        }

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        if "\n" in value:
            return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|")
        is_plain = dumper.resolve(yaml.ScalarNode, value, (True, False)) == "tag:yaml.org,2002:str"
        is_plain = is_plain and value not in ("", "y", "Y", "n", "N")  # truth values to Go
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if is_plain else '"')

    Dumper.add_representer(str, text)
    return yaml, Loader, Dumper


def to_yaml(value: object) -> str:
    spend(8 * bounded(value))
    yaml, _, dumper = _yaml()
    try:
        text: str = yaml.dump(_bare(value), Dumper=dumper, allow_unicode=True, width=2**31, sort_keys=False)
    except (yaml.YAMLError, RecursionError):
        raise Refusal("toYAML: the value cannot be written as YAML") from None
    return text.removesuffix("...\n").strip()


def _bare(value: object) -> object:
    """The same of plain dicts, lists and texts; keys in order."""
    if isinstance(value, str):
        return searchable(value)
    if is_nil(value) or isinstance(value, bool | int | float):
        return None if is_nil(value) else value
    if is_map(value) or isinstance(value, msgspec.Struct):
        # Go's YAML writes the names of a struct's fields in lower case.
        lowered = isinstance(value, msgspec.Struct)
        return {key.lower() if lowered and isinstance(key, str) else key: _bare(one) for key, one in items(value)}
    if is_slice(value):
        return [_bare(one) for one in value]
    raise Refusal(f"cannot be encoded: {go_type(value)}")


def parse_yaml(text: str) -> object:
    if not text:
        return {}
    yaml, loader, _ = _yaml()
    text = searchable(text)
    spend(len(text) // 16)
    try:
        _flat(yaml.parse(text, Loader=loader))
        found: object = yaml.load(text, Loader=loader)
    except Refusal:
        raise
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise Refusal(f"parseYAML: no YAML{_position(error)}") from None
    bounded(found)
    return _known(found)


def _flat(events: Iterable[Any]) -> None:
    """Raises Refusal for a document of many levels: libyaml's loader ends the process on 5,000 of them."""
    level = 0
    for event in events:
        level += type(event).__name__.endswith("StartEvent") - type(event).__name__.endswith("EndEvent")
        if level > LEVELS_MAX + 2:  # the stream and the document are levels too
            raise Refusal(f"parseYAML: a document of more than {LEVELS_MAX} levels")


def _known(value: object) -> object:
    """Of what YAML can say, what templates know: sets and bytes become what Go has for them."""
    if isinstance(value, dict):
        return {_key(key): _known(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    if isinstance(value, set):
        return {_key(one): None for one in value}
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value


def _key(key: object) -> object:
    if isinstance(key, bytes):
        return key.decode("utf-8", "surrogateescape")
    if key is None or isinstance(key, str | int | float):
        return "" if key is None else key
    raise Refusal("parseYAML: a key that is no text and no number")


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(value: object) -> str:
    """A map or a struct. Simple values first, then tables, each under its whole name."""
    bounded(value)
    if not (is_map(value) or isinstance(value, msgspec.Struct)):
        raise Refusal("toTOML: only a map can be the whole of a document")
    lines: list[str] = []
    _table(lines, (), value)
    return "\n".join(lines).strip()


def _table(lines: list[str], path: tuple[str, ...], value: object) -> None:
    parts = [(str(key), one) for key, one in items(value) if not is_nil(one)]
    tables = [(key, one) for key, one in parts if _is_table(one) or _is_tables(one)]
    depth = "  " * len(path)
    for key, one in parts:
        if not (_is_table(one) or _is_tables(one)):
            lines.append(f"{depth}{_toml_key(key)} = {_toml(one)}")
    for key, one in tables:
        name = (*path, _toml_key(key))
        if _is_table(one):
            lines += [*([""] if not path else []), f"{depth}[{'.'.join(name)}]"]
            _table(lines, name, one)
            continue
        for element in one:  # type: ignore[attr-defined]  # a list of tables
            lines += [*([""] if not path else []), f"{depth}[[{'.'.join(name)}]]"]
            _table(lines, name, element)


def _is_table(value: object) -> bool:
    return is_map(value) or isinstance(value, msgspec.Struct)


def _is_tables(value: object) -> bool:
    return is_slice(value) and len(value) > 0 and all(_is_table(one) for one in value)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_text(key)


def _toml_text(text: str) -> str:
    shown = json.dumps(searchable(text), ensure_ascii=False)
    return shown.replace("\x7f", "\\u007f")


def _toml(value: object) -> str:
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return "nan" if value != value else "inf" if value > 0 else "-inf"
        shown = positional(*decimal(value)[1:])
        return ("-" if value < 0 else "") + (shown if "." in shown else shown + ".0")
    if _is_table(value):
        return "{" + ", ".join(f"{_toml_key(str(k))} = {_toml(v)}" for k, v in items(value) if not is_nil(v)) + "}"
    if is_slice(value):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    raise Refusal(f"toTOML: unsupported type {go_type(value)}")


DOCUMENTS: Mapping[str, Callable[..., object]] = {
    "toJSON": to_json,
    "toJSONPretty": to_json_pretty,
    "toUnescapedJSON": to_unescaped_json,
    "toUnescapedJSONPretty": to_unescaped_json_pretty,
    "toYAML": to_yaml,
    "toTOML": to_toml,
    "parseJSON": parse_json,
    "parseYAML": parse_yaml,
}
