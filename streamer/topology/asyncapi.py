"""A topology's wire contract as an AsyncAPI 3 document, for teams in other languages.

The JSON Schemas come from the payload structs themselves (msgspec), brought to JSON Schema draft 07, which AsyncAPI's
own schema object extends; what a field means is the comment beside it in the code. Values travel as MessagePack maps:
`bytes` fields are MessagePack `bin`, not base64 text.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, get_args

import msgspec

from streamer.payloads import MODALITY_MARK, SCHEMA_HEADER, TRACE_HEADER, schema_name
from streamer.topology.topology import Topic, Topology

CONTENT_TYPE = "application/msgpack"
CONTRACT_VERSION = "1.0.0"
_BINDING_VERSION = "0.5.0"
_FIELD = re.compile(r"^    (\w+): (?!ClassVar)[^#\n]+  # (.+)$", re.MULTILINE)
_TRACEPARENT = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
_DESCRIPTION = """\
Topics of a Kafka on which affect is sensed and items are re-ranked. Every value is a MessagePack map with named fields;
unknown fields are ignored and missing ones take their default. Numbers are finite. Times are Unix milliseconds, UTC.
Topics use LogAppendTime. Keys are UTF-8 and partitioned by Kafka's murmur2: librdkafka needs
`partitioner=murmur2_random`, or joins break silently. Affect events are estimates of expression.
"""


def asyncapi_json(topology: Topology) -> str:
    """A topology to its AsyncAPI document as indented JSON, the same for the same topology."""
    return json.dumps(asyncapi(topology), indent=2, ensure_ascii=False) + "\n"


def asyncapi(topology: Topology) -> dict[str, Any]:
    """A topology to its AsyncAPI document as plain values.

    Channels are topics; operations are seen from this application: it receives what is `external: in`, and sends the
    rest.
    """
    topics = topology.topics.values()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": topology.app, "version": CONTRACT_VERSION, "description": _DESCRIPTION},
        "defaultContentType": CONTENT_TYPE,
        "channels": {topic.name: _channel(topic, topology) for topic in topics},
        "operations": dict(_operation(topic) for topic in topics),
        "components": {
            "messages": {topic.name: _message(topic) for topic in topics},
            "schemas": _schemas(topology),
        },
    }


def _channel(topic: Topic, topology: Topology) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": ["compact"] if topic.compact else ["delete"]}
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "description": inspect.cleandoc(topic.type.__doc__ or ""),
        "messages": {topic.payload: {"$ref": f"#/components/messages/{topic.name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topology.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _operation(topic: Topic) -> tuple[str, dict[str, Any]]:
    action = "receive" if topic.external == "in" else "send"
    channel = f"#/channels/{topic.name}"
    message = {"$ref": f"{channel}/messages/{topic.payload}"}
    return f"{action}_{topic.name}", {"action": action, "channel": {"$ref": channel}, "messages": [message]}


def _message(topic: Topic) -> dict[str, Any]:
    return {
        "name": topic.payload,
        "contentType": CONTENT_TYPE,
        "headers": {
            "type": "object",
            "properties": {
                SCHEMA_HEADER: {
                    "type": "string",
                    "const": schema_name(topic.type),
                    "description": "Payload and major version; missing means major 1, a higher one is refused.",
                },
                TRACE_HEADER: {"type": "string", "pattern": _TRACEPARENT, "description": "W3C trace context."},
            },
        },
        "payload": {"$ref": f"#/components/schemas/{topic.payload}"},
        "bindings": {"kafka": {"key": _key(topic), "bindingVersion": _BINDING_VERSION}},
    }


def _key(topic: Topic) -> dict[str, Any]:
    return {"type": "string", "description": f"The payload's `{topic.key}`, as UTF-8."}


def _schemas(topology: Topology) -> dict[str, Any]:
    kinds = {topic.payload: topic.type for topic in topology.topics.values()}
    _, schemas = msgspec.json.schema_components(list(kinds.values()), ref_template="#/components/schemas/{name}")
    names = sorted(topology.modalities)
    structs = {kind.__name__: kind for kind in _structs(kinds.values())}
    return {name: _described(_draft_07(schema, names), structs[name]) for name, schema in sorted(schemas.items())}


def _structs(kinds: Iterable[Any]) -> set[type[msgspec.Struct]]:
    """The structs among types, and those within them."""
    found: set[type[msgspec.Struct]] = set()
    todo = list(kinds)
    while todo:
        kind = todo.pop()
        todo += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
            found.add(kind)
            todo += [field.type for field in msgspec.structs.fields(kind)]
    return found


def _described(schema: dict[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    """A struct's schema with what each field means. What a field refers to keeps its own description beside."""
    meanings, unset = field_meanings(struct), getattr(struct, "UNSET_IF_ZERO", ())
    for name, field in schema["properties"].items():
        meaning = meanings.get(name, "")
        if name in unset and not any(zero in meaning for zero in ('""', "0", "empty")):
            meaning = "; ".join(filter(None, (meaning, "its zero value means not set")))
        if not meaning:
            continue
        if "$ref" in field:  # draft 07 ignores what stands beside a reference
            schema["properties"][name] = {"allOf": [field], "description": meaning}
        else:
            field["description"] = f"{meaning} ({field['description']})" if "description" in field else meaning
    return schema


def field_meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Those fields of a struct that have a comment beside them in the code, each to that comment."""
    found: dict[str, str] = {}
    for kind in reversed(struct.__mro__):
        if kind not in (object, msgspec.Struct):
            with suppress(OSError, TypeError):  # of a base that is not written in Python
                found |= dict(_FIELD.findall(inspect.getsource(kind)))
    return {name: found[name] for name in struct.__struct_fields__ if name in found}


def _draft_07(schema: Any, modalities: Sequence[str]) -> Any:
    """JSON Schema 2020-12 as msgspec writes it to draft 07; bytes and modalities as what they are on the wire."""
    if isinstance(schema, list):
        return [_draft_07(inner, modalities) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if MODALITY_MARK in schema:
        return {"enum": list(modalities)}
    if schema.get("contentEncoding") == "base64":
        return {"type": "string", "format": "binary", "description": "Bytes: MessagePack bin."}
    converted = {key: _draft_07(inner, modalities) for key, inner in schema.items()}
    if "prefixItems" in converted:
        converted["items"] = converted.pop("prefixItems")
        converted["additionalItems"] = False
    if isinstance(converted.get("description"), str):
        converted["description"] = inspect.cleandoc(converted["description"])
    return converted
