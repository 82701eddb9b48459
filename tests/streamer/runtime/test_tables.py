"""A table's value is its key's newest record by Kafka time, in whichever partition producers have put it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from operators.payloads import Consent, Control, Item
from streamer.broker import Outgoing
from streamer.brokers.memory.broker import MemoryBroker
from streamer.event_time import ManualClock
from streamer.operator import Context
from streamer.payloads import Keyed, Refusal, encode
from streamer.runtime.emitting import Emitter
from streamer.runtime.tables import REMEMBER_DELETED_MS, Tables
from streamer.settings import load_settings
from tests.shipped import MODALITIES, TOPOLOGY

AT = 1_000_000
KEY = b"s"
PAYLOADS: dict[str, type[Keyed]] = {"consents": Consent, "controls": Control, "catalogue_items": Item}


def consent(*modalities: str) -> Consent:
    return Consent(
        session_id="s", event_time_ms=AT, user_id="u", modalities=list(modalities), disclosed_at_ms=AT, minor=False
    )


class Shelf:
    """Tables over a memory broker, and a platform that chooses partitions as it likes."""

    def __init__(self) -> None:
        self.clock = ManualClock(AT)
        self.broker = MemoryBroker(self.clock)

    async def start(self) -> None:
        """Another worker: it knows nothing yet."""
        tables: dict[str, dict[str, Any]] = {name: {} for name in PAYLOADS}
        self.context = Context("x", load_settings(), self.clock, tables=tables, modalities=MODALITIES)
        self.tables = Tables(self.broker, PAYLOADS, 4, self.context, object())
        self.loaded = await self.tables.load()

    async def put(self, payload: Keyed | bytes | None, partition: int, topic: str = "consents") -> None:
        producer = self.broker.producer()
        await producer.start()
        value = encode(payload) if isinstance(payload, Keyed) else payload
        await producer.send([Outgoing(topic, KEY, value, partition=partition)])

    def modalities(self) -> list[str] | None:
        found = self.context.table("consents").get("s")
        return None if found is None else found.modalities


@pytest.fixture
async def shelf() -> Shelf:
    made = Shelf()
    await made.broker.ensure_topics(TOPOLOGY.topic_specs())
    await made.start()
    return made


@pytest.mark.parametrize(("given", "withdrawn"), list(itertools.permutations(range(4), 2)))
@pytest.mark.parametrize("words", [consent(), None, b"\xc1"], ids=["withdrawn", "deleted", "unreadable"])
async def test_a_withdrawal_in_another_partition_counts_now_and_after_a_restart(
    shelf: Shelf, given: int, withdrawn: int, words: Consent | bytes | None
) -> None:
    await shelf.put(consent("face"), given)
    shelf.clock.set_ms(AT + 5)
    await shelf.put(words, withdrawn)
    for _ in range(2):
        await shelf.tables.refresh()
        assert not shelf.modalities()
        await shelf.start()
    shelf.clock.set_ms(AT + 10)
    await shelf.put(consent("text"), given)
    for _ in range(2):
        await shelf.tables.refresh()
        assert shelf.modalities() == ["text"]
        await shelf.start()


@pytest.mark.parametrize("order", list(itertools.permutations([(0, "face"), (1, "text"), (2, "")])))
async def test_records_of_one_moment_in_several_partitions_grant_nothing(
    shelf: Shelf, order: list[tuple[int, str]]
) -> None:
    for partition, modality in order:
        await shelf.put(consent(*filter(None, [modality])), partition)
    await shelf.tables.refresh()
    assert shelf.modalities() is None
    await shelf.put(consent("voice"), 0)  # of the same moment still
    await shelf.tables.refresh()
    assert shelf.modalities() is None
    shelf.clock.set_ms(AT + 1)
    await shelf.put(consent("voice"), 1)
    await shelf.tables.refresh()
    assert shelf.modalities() == ["voice"]


async def test_within_a_partition_the_last_one_counts_whatever_its_moment(shelf: Shelf) -> None:
    await shelf.put(consent("face"), 2)
    await shelf.put(consent("text"), 2)
    await shelf.tables.refresh()
    assert shelf.modalities() == ["text"]


async def test_an_unreadable_item_leaves_the_last_good_one_and_an_older_one_changes_nothing(shelf: Shelf) -> None:
    item = Item(item_id="s", event_time_ms=AT, text="new")
    await shelf.put(Item(item_id="s", event_time_ms=AT, text="old"), 1, "catalogue_items")
    shelf.clock.set_ms(AT + 5)
    await shelf.put(item, 0, "catalogue_items")
    await shelf.put(b"\xc1", 3, "catalogue_items")
    for _ in range(2):
        await shelf.tables.refresh()
        assert shelf.context.table("catalogue_items")["s"] == item
        await shelf.start()


async def test_a_foreign_partition_is_counted(shelf: Shelf) -> None:
    for partition in range(4):
        await shelf.put(consent("face"), partition)
    await shelf.tables.refresh()
    assert shelf.context.metrics.totals["foreign_partition"] == 3


async def test_a_key_deleted_long_ago_takes_no_memory_and_one_deleted_lately_stays_deleted(shelf: Shelf) -> None:
    for n in range(50):
        shelf.clock.set_ms(AT + n)
        await shelf.put(consent("face"), 0)
        await shelf.put(None, 1)
        await shelf.tables.refresh()
        assert not shelf.modalities()
    remembered = shelf.tables._latest  # noqa: SLF001 - memory has no other window
    assert len(remembered) == 1
    shelf.clock.set_ms(AT + REMEMBER_DELETED_MS + 1000)
    item = Item(item_id="s", event_time_ms=AT, text="another table's record lets time pass")
    await shelf.put(item, 0, "catalogue_items")
    await shelf.tables.refresh()
    assert set(remembered) == {("catalogue_items", "s")}
    await shelf.put(consent("face"), 2)
    await shelf.tables.refresh()
    assert shelf.modalities() == ["face"]


async def test_an_unreadable_record_is_one_dead_letter_and_none_again_at_the_next_start(shelf: Shelf) -> None:
    await shelf.put(consent("face"), 0)
    await shelf.put(b"\xc1", 1)
    for n in range(3):
        await shelf.start()
        refused = [record for record in shelf.loaded if isinstance(record.payload, Refusal)]
        assert len(refused) == (n == 0)
        assert not shelf.modalities()  # it closes the gate at every start all the same
        emitter = Emitter(shelf.broker.producer(), TOPOLOGY.operators["sense_text"], shelf.context)
        await emitter.start()
        await emitter.write(refused)
    await shelf.put(b"\xc1", 1)
    await shelf.start()
    assert len([record for record in shelf.loaded if isinstance(record.payload, Refusal)]) == 1
    assert len(shelf.broker.messages("dead_letters")) == 1
