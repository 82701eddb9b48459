"""`streamer schema` and `streamer graph`: documents other teams read, held to the topology they describe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.__main__ import main
from streamer.topology.asyncapi import asyncapi, asyncapi_json, field_meanings
from streamer.topology.mermaid import mermaid
from streamer.topology.reading import load_topology
from streamer.topology.topology import Topology
from tests.streamer.payload_examples import EXAMPLES

CHECKOUT = Path(__file__).parents[2]
BEYOND_DRAFT_07 = {"prefixItems", "contentEncoding", "$defs", "unevaluatedProperties", "dependentRequired"}


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology(CHECKOUT / "topology.yaml")


@pytest.fixture(scope="module")
def document(topology: Topology) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(asyncapi_json(topology))
    return told


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def resolved(document: dict[str, Any], reference: str) -> Any:
    """What a `#/a/b` reference points at.

    Raises:
        KeyError: nothing.
    """
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def fits(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether a decoded value is what a schema says, for the few words of JSON Schema these documents use."""
    if "$ref" in schema:
        return fits(value, resolved(document, schema["$ref"]), document)
    if "anyOf" in schema:
        return any(fits(value, choice, document) for choice in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            rest = schema.get("additionalProperties", {})
            return (
                isinstance(value, dict)
                and set(schema.get("required", ())) <= set(value)
                and all(fits(v, properties.get(k, rest), document) for k, v in value.items())
            )
        case "array":
            items = schema.get("items", {})
            each = items if isinstance(items, list) else [items] * len(value)
            return isinstance(value, list) and all(fits(v, s, document) for v, s in zip(value, each, strict=True))
        case "string":
            return isinstance(value, bytes if schema.get("format") == "binary" else str)
        case "number":
            return isinstance(value, int | float)
        case None:
            return True
        case kind:
            return isinstance(value, kinds[kind])


def test_every_topic_is_a_channel_with_its_partitions_and_retention(
    document: dict[str, Any], topology: Topology
) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert list(document["channels"]) == list(topology.topics)
    frames = document["channels"]["video_frames"]["bindings"]["kafka"]
    assert (frames["partitions"], frames["topicConfiguration"]["retention.ms"]) == (4, 60_000)
    assert document["channels"]["consents"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]


def test_the_application_receives_what_comes_from_outside_and_sends_the_rest(document: dict[str, Any]) -> None:
    actions = {op["channel"]["$ref"]: op["action"] for op in document["operations"].values()}
    assert actions["#/channels/video_frames"] == "receive"
    assert actions["#/channels/affect_events"] == "send"
    assert len(actions) == len(document["channels"])


def test_messages_say_their_content_type_headers_and_key(document: dict[str, Any]) -> None:
    message = document["components"]["messages"]["affect_events"]
    assert message["contentType"] == "application/msgpack"
    assert message["headers"]["properties"]["schema"]["const"] == "AffectEvent/1"
    assert re.fullmatch(message["headers"]["properties"]["traceparent"]["pattern"], f"00-{'a' * 32}-{'b' * 16}-01")
    assert "`session_id`" in message["bindings"]["kafka"]["key"]["description"]
    item = document["components"]["messages"]["catalogue_items"]
    assert "`item_id`" in item["bindings"]["kafka"]["key"]["description"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = [node["$ref"] for node in nodes(document) if "$ref" in node]
    assert references
    for reference in references:
        assert resolved(document, reference)


def test_schemas_use_words_that_asyncapi_knows(document: dict[str, Any]) -> None:
    for node in nodes(document["components"]["schemas"]):
        assert not set(node) & BEYOND_DRAFT_07
    assert document["components"]["schemas"]["Observation"]["properties"]["box"]["anyOf"][0]["additionalItems"] is False


def test_bytes_are_messagepack_bin_and_not_base64_text(document: dict[str, Any]) -> None:
    data = document["components"]["schemas"]["VideoFrame"]["properties"]["data"]
    says = "the JPEG, at most 512 KiB (Bytes: MessagePack bin.)"
    assert data == {"type": "string", "format": "binary", "description": says}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_the_examples_are_what_the_schemas_say(example: msgspec.Struct, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"].get(type(example).__name__)
    if schema is None:
        assert type(example).__name__ == "Tick", "every payload but a tick travels on a topic"
        return
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(example))
    assert fits(decoded, schema, document)
    for name in schema["required"]:
        assert not fits({k: v for k, v in decoded.items() if k != name}, schema, document)


def test_every_field_says_what_it_means(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, kind in schema["properties"].items():
            assert len(kind.get("description", "")) > 3, f"{name}.{field}: say it in a comment beside the field"


class Silent(msgspec.Struct):
    """A payload that keeps a meaning to itself."""

    said: int  # how often
    unsaid: int


def test_a_field_without_a_comment_has_no_meaning() -> None:
    assert field_meanings(Silent) == {"said": "how often"}


def test_the_document_is_the_same_each_time(topology: Topology) -> None:
    assert asyncapi_json(topology) == asyncapi_json(load_topology(topology.source))
    assert asyncapi(topology)["info"]["title"] == "affect"


def test_the_picture_shows_every_operator_with_what_it_reads_and_writes(topology: Topology) -> None:
    picture = mermaid(topology)
    assert picture.startswith("flowchart LR\n")
    for line in (
        "video_frames --> sense_face",
        "consents -.-> sense_face",
        "sense_text --> observations",
        "observations --> fuse_affect",
        "fuse_affect -->|final| affect_events",
        "fuse_affect -->|provisional| affect_live",
        "rank_items --> ranked_items",
    ):
        assert f"  {line}\n" in picture
    assert "dead_letters" not in picture


def test_the_readme_shows_the_picture_as_it_is(topology: Topology) -> None:
    readme = CHECKOUT / "README.md"
    blocks = re.findall(r"```mermaid\n(.*?)```", readme.read_text(), re.DOTALL)
    assert mermaid(topology) in blocks, "put the output of `streamer graph` into README.md, between ```mermaid and ```"


def test_the_commands_print_both(capsys: pytest.CaptureFixture[str], topology: Topology) -> None:
    path = ["--topology", str(topology.source)]
    assert main(["schema", *path]) == 0
    assert json.loads(capsys.readouterr().out)["asyncapi"] == "3.0.0"
    assert main(["graph", *path]) == 0
    assert capsys.readouterr().out == mermaid(topology)
