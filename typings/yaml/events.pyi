# Only what jobspec.yaml_functions calls.
from typing import Any

class Event:
    start_mark: Any

class NodeEvent(Event):
    anchor: str | None

class StreamStartEvent(Event): ...
class StreamEndEvent(Event): ...

class DocumentStartEvent(Event):
    def __init__(self, *, explicit: bool) -> None: ...

class DocumentEndEvent(Event):
    def __init__(self, *, explicit: bool) -> None: ...

class AliasEvent(NodeEvent):
    anchor: str

class ScalarEvent(NodeEvent):
    tag: str | None
    implicit: tuple[bool, bool]
    value: str
    style: str | None
    def __init__(
        self,
        anchor: str | None,
        tag: str | None,
        implicit: tuple[bool, bool],
        value: str,
        *,
        style: str | None = ...,
    ) -> None: ...

class CollectionStartEvent(NodeEvent):
    tag: str | None
    def __init__(
        self, anchor: str | None, tag: str | None, implicit: bool, *, flow_style: bool | None = ...
    ) -> None: ...

class SequenceStartEvent(CollectionStartEvent): ...
class MappingStartEvent(CollectionStartEvent): ...
class SequenceEndEvent(Event): ...
class MappingEndEvent(Event): ...
