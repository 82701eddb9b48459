"""A Kafka with ACLs: the rights that the topology needs suffice; one that is missing is named before anything runs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from docs.draw_security import PAGE, page_with_tables
from streamer.broker import Right
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.settings import load_settings
from streamer.topology.rights import forgetting_rights, needed_rights
from tests.shipped import TOPOLOGY
from tests.streamer.brokers.secured_kafka import SecuredKafka, secured_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120, func_only=True)]

NEEDED = needed_rights(TOPOLOGY)
CREATE = [Right("topic", name, "Create") for name in {r.name for r in NEEDED if r.resource == "topic"}]
_OPERATIONS = {"Read": "READ", "Write": "WRITE", "Create": "CREATE", "DescribeConfigs": "DESCRIBE_CONFIGS"}


class Acls:
    """The rights of the user `affect`, set by an administrator."""

    def __init__(self, secured: SecuredKafka) -> None:
        self._admin = AdminClient({"bootstrap.servers": secured.at("PLAINTEXT"), "log_level": 0})

    def allow(self, rights: Collection[Right]) -> None:
        """Allow these, and nothing else."""
        any_name: Any = None
        everything = AclBindingFilter(
            ResourceType.ANY, any_name, ResourcePatternType.ANY, any_name, any_name, AclOperation.ANY,
            AclPermissionType.ANY,
        )  # fmt: skip
        for future in self._admin.delete_acls([everything]).values():
            future.result()
        bindings = [
            AclBinding(
                ResourceType[right.resource.upper()], right.name, ResourcePatternType.LITERAL, "User:affect", "*",
                AclOperation[_OPERATIONS[right.operation]], AclPermissionType.ALLOW,
            )
            for right in rights
        ]  # fmt: skip
        for future in self._admin.create_acls(bindings).values() if bindings else ():
            future.result()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("acls")) as running:
        yield running


@pytest.fixture(scope="module")
def acls(secured: SecuredKafka) -> Acls:
    return Acls(secured)


def environment(secured: SecuredKafka) -> dict[str, str]:
    return {
        **os.environ,
        "STREAMER_BROKERS": secured.at("SASL_PLAINTEXT"), "STREAMER_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "STREAMER_SASL_USERNAME": "affect", "STREAMER_SASL_PASSWORD": "affect-secret", "STREAMER_CONTEXT": "research",
        "STREAMER_ACCEPT_LICENCES": "unsettled", "STREAMER_THREADS": "1",
    }  # fmt: skip


async def streamer(secured: SecuredKafka, *arguments: str, stop_when: str = "ready:") -> tuple[int, str]:
    """Run a command until it ends, or until it says `stop_when`; its exit code and what it said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", *arguments, env=environment(secured),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert child.stderr is not None
    said = ""
    try:
        async with asyncio.timeout(60):
            async for line in child.stderr:
                said += line.decode()
                if stop_when and line.decode().startswith(stop_when):
                    child.send_signal(signal.SIGTERM)
            return await child.wait(), said
    finally:
        with suppress(ProcessLookupError):
            child.kill()


async def test_the_least_rights_suffice_from_the_first_start_on(secured: SecuredKafka, acls: Acls) -> None:
    acls.allow([*NEEDED, *CREATE])
    code, said = await streamer(secured, "run")
    assert (code, "ready: " in said) == (0, True), said
    acls.allow(NEEDED)
    code, said = await streamer(secured, "run")
    assert (code, "ready: " in said) == (0, True), said
    assert "ERROR" not in said
    assert "Traceback" not in said


def without(*taken: Right) -> list[Right]:
    assert set(taken) <= set(NEEDED)
    return [right for right in NEEDED if right not in taken]


FIVE = [
    Right("topic", "affect_events", "Read"),
    Right("topic", "dead_letters", "Write"),
    Right("topic", "affect-rank_items-state-changelog", "Write"),
    Right("group", "affect.sense_text", "Read"),
    Right("transactional_id", "affect.fuse_affect.2", "Write"),
]


@pytest.mark.parametrize("taken", FIVE, ids=str)
async def test_a_right_that_is_missing_is_named_in_one_line_before_anything_runs(
    secured: SecuredKafka, acls: Acls, taken: Right
) -> None:
    acls.allow(without(taken))
    code, said = await streamer(secured, "run")
    assert code == 78, said
    assert re.findall(r"^  (.*): is not allowed to affect: grant it$", said, re.MULTILINE) == [str(taken)]
    assert "Traceback" not in said
    assert "no Kafka" not in said


async def lacking(secured: SecuredKafka, rights: Sequence[Right]) -> list[str]:
    chosen: dict[str, Any] = {
        "brokers": secured.at("SASL_PLAINTEXT"), "security_protocol": "SASL_PLAINTEXT", "sasl_username": "affect",
        "sasl_password": "affect-secret",
    }  # fmt: skip
    broker = KafkaBroker(load_settings(**chosen))
    try:
        await broker.require_rights(rights)
    except ValueError as error:
        return [problem.path for problem in error.problems]  # type: ignore[attr-defined]  # a ConfigurationError
    finally:
        await broker.close()
    return []


async def test_every_right_that_is_needed_is_missed_when_it_is_gone(secured: SecuredKafka, acls: Acls) -> None:
    """All topics exist by now. A topic without any right is told by each that is needed of it."""
    for taken in NEEDED:
        acls.allow(without(taken))
        found = await lacking(secured, NEEDED)
        assert str(taken) in found
        assert {name.rpartition(" ")[2] for name in found} == {taken.name}


async def test_forget_asks_for_its_rights_first_and_erases_nothing_without(secured: SecuredKafka, acls: Acls) -> None:
    rights = forgetting_rights(TOPOLOGY)
    taken = Right("topic", "affect_events", "Read")
    acls.allow([right for right in rights if right != taken])
    code, said = await streamer(secured, "forget", "somebody", "--yes")
    assert (code, str(taken) in said) == (78, True), said
    acls.allow(rights)
    code, said = await streamer(secured, "forget", "somebody", "--yes")
    assert (code, "there is nothing to forget" in said) == (0, True), said


async def judged(secured: SecuredKafka) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "check", "--kafka", env=environment(secured), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    return child.returncode or 0, said.decode()


async def test_check_judges_a_kafka_without_running(secured: SecuredKafka, acls: Acls) -> None:
    acls.allow(NEEDED)
    code, said = await judged(secured)
    assert (code, f"reached by SASL_PLAINTEXT; all {len(NEEDED)} rights are there" in said) == (0, True), said
    assert f"{len(TOPOLOGY.topics)} of {len(TOPOLOGY.topics)} topics are there" in said
    assert "video_frames: raw media stays on Kafka's disks" in said
    acls.allow(without(FIVE[1]))
    code, said = await judged(secured)
    assert (code, f"wrong: {FIVE[1]}: is not allowed to affect: grant it" in said) == (78, True), said


@pytest.mark.parametrize("after_s", [0.6, 1.2, 2.5])
async def test_a_stop_signal_before_it_is_ready_ends_it(secured: SecuredKafka, acls: Acls, after_s: float) -> None:
    acls.allow(NEEDED)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "run", env=environment(secured), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.sleep(after_s)
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 20) in (0, -signal.SIGTERM, 143)
    finally:
        with suppress(ProcessLookupError):
            child.kill()


def test_the_tables_in_the_page_are_those_of_the_topology_and_the_settings() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page_with_tables(page) == page, "python -m docs.draw_security"
