"""The embedded Kafka: starting, errors of the start, and that it leaves no process and no file behind."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from streamer.broker import TopicSpec
from streamer.brokers.embedded.jars import KAFKA
from streamer.brokers.embedded.local_kafka import LocalKafka, local_kafka
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import LocalKafkaError
from streamer.event_time import SystemClock
from streamer.settings import Settings, load_settings
from tests.streamer.brokers.broker_steps import outgoing, read

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.socket()) as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        yield int(squatter.getsockname()[1])


def processes_of(folder: Path) -> list[int]:
    """Every process, the watcher included, that names a broker's work folder on its command line."""
    alive = (p for p in psutil.process_iter(["cmdline", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE)
    return [p.pid for p in alive if any(str(folder) in argument for argument in p.info["cmdline"] or ())]


def files_with_something_in(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size]


def copy_of_the_jars(cache: Path) -> Path:
    """Another cache, filled by hard links."""
    home = load_settings().cache.expanduser() / f"kafka-{KAFKA}"
    return Path(shutil.copytree(home, cache / home.name, copy_function=lambda a, b: Path(b).hardlink_to(a)))


async def wait_until(what: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.05)


async def refusal(settings: Settings, port: int = 0, log_dirs: Path | None = None) -> str:
    with pytest.raises(LocalKafkaError) as refused:
        async with local_kafka(settings, port=port, log_dirs=log_dirs):
            pytest.fail("it started")
    assert refused.value.exit_code == 69
    return str(refused.value)


@pytest.mark.kafka
def test_it_listens_on_loopback_only(kafka: LocalKafka) -> None:
    listening = {c.laddr.ip for c in psutil.Process(kafka.pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


@pytest.mark.kafka
def test_it_stays_small(kafka: LocalKafka) -> None:
    assert 50e6 < kafka.rss_bytes() < 450e6


@pytest.mark.kafka
async def test_it_warns_of_nothing_while_it_starts(kafka: LocalKafka) -> None:
    levels = [line.split()[1] for line in kafka.log.read_text().splitlines() if line[:2].isdigit()]
    assert "ERROR" not in levels
    assert "FATAL" not in levels


@pytest.mark.kafka
async def test_a_clean_stop_leaves_no_process_and_no_file(kafka: LocalKafka) -> None:
    del kafka  # its jars are there now
    reported: list[str] = []
    async with local_kafka(load_settings(), progress=lambda what, _: reported.append(what)) as running:
        work = running.log.parent
        assert running.pid in processes_of(work)
    assert reported == [f"starting Apache Kafka {KAFKA}"]
    await wait_until(lambda: not processes_of(work))
    assert not work.exists()


@pytest.mark.kafka
async def test_a_given_folder_is_kept_and_taken_up_again(kafka: LocalKafka, tmp_path: Path) -> None:
    del kafka
    records = tmp_path / "a new" / "folder"
    async with local_kafka(load_settings(), log_dirs=records):
        pass
    cluster = (records / "meta.properties").read_text()
    assert (records / "__cluster_metadata-0").is_dir()
    async with local_kafka(load_settings(), log_dirs=records):
        assert (records / "meta.properties").read_text() == cluster


def on_disk(folder: Path, marker: bytes) -> bool:
    """Whether any file contains the marker; files that are deleted meanwhile do not count."""
    for path in folder.rglob("*.*"):
        try:
            if path.is_file() and marker in path.read_bytes():
                return True
        except FileNotFoundError:
            continue
    return False


@pytest.mark.kafka
async def test_a_record_is_off_the_disk_when_retention_segment_check_and_delay_are_over(
    kafka: LocalKafka, unique: str
) -> None:
    # media: 60 s + 10 s + 10 s + 1 s, under the 90 s promised; here with a shorter retention and segment
    retention_ms, segment_ms, check_ms, delay_ms, slack_ms = 5000, 2000, 10_000, 1000, 3000
    broker, clock, folder = KafkaBroker(load_settings(), kafka.address), SystemClock(), kafka.log.parent / "data"
    await broker.ensure_topics([TopicSpec(unique, 1, retention_ms, segment_ms)])
    producer = broker.producer()
    await producer.start()
    marker = f"face of {unique}".encode()
    await producer.send(outgoing(unique, [marker]))
    sent_ms = clock.perf_ms()
    assert on_disk(folder, marker)
    while on_disk(folder, marker):
        await producer.send(outgoing(unique, [b"later records keep coming"]))
        await clock.sleep_ms(250)
        assert clock.perf_ms() - sent_ms < retention_ms + segment_ms + check_ms + delay_ms + slack_ms
    assert clock.perf_ms() - sent_ms >= retention_ms
    await producer.stop()
    await broker.close()


PARENT = """
import asyncio, sys
from streamer.brokers.embedded.local_kafka import local_kafka
from streamer.settings import load_settings

async def main():
    async with local_kafka(load_settings()) as running:
        {then}
        print(running.pid, running.log.parent, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def parent(kafka: LocalKafka, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs a broker, in a group of its own as a shell would start it, and then does something."""
    del kafka
    script = PARENT.replace("{then}", getattr(request, "param", "pass"))
    with subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


async def printed_by(parent: subprocess.Popen[str]) -> tuple[int, Path]:
    assert parent.stdout
    pid, work = (await asyncio.to_thread(parent.stdout.readline)).split()
    return int(pid), Path(work)


@pytest.mark.kafka
async def test_a_parent_killed_outright_takes_the_broker_and_its_records_along(parent: subprocess.Popen[str]) -> None:
    pid, work = await printed_by(parent)
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGKILL)
    await wait_until(lambda: not processes_of(work))
    await wait_until(lambda: not work.exists())


@pytest.mark.kafka
@pytest.mark.parametrize("parent", ["running.nodes[0].kill()"], indirect=True)
async def test_the_records_of_a_killed_node_are_deleted_with_its_parent_too(parent: subprocess.Popen[str]) -> None:
    pid, work = await printed_by(parent)
    assert not psutil.pid_exists(pid)
    assert (work / "data" / "meta.properties").exists()
    parent.send_signal(signal.SIGKILL)
    await wait_until(lambda: not processes_of(work))
    await wait_until(lambda: not work.exists())


@pytest.mark.kafka
async def test_three_nodes_keep_every_record_while_any_one_of_them_is_killed_and_started_again(
    kafka: LocalKafka, unique: str
) -> None:
    del kafka
    setting = "transaction.partition.verification.enable"
    async with local_kafka(load_settings(), nodes=3, verification=True) as running:
        work = running.log.parent.parent
        broker = KafkaBroker(load_settings(), running.address)
        await broker.ensure_topics([TopicSpec(unique, 3)])
        assert await broker.broker_settings([setting]) == {str(n): {setting: "true"} for n in (1, 2, 3)}
        sent = set()
        for round_, node in enumerate(running.nodes[:2]):  # the second one while the first has only come back
            listening = {c.laddr.ip for c in psutil.Process(node.pid).net_connections() if c.status == "LISTEN"}
            assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
            node.kill()
            assert not node.runs
            producer = broker.producer()
            await producer.start()
            for partition in range(3):  # whoever led it
                sent.add(value := f"{round_} {partition}".encode())
                await producer.send(outgoing(unique, [value], partition=partition))
            await producer.stop()
            await node.start()
        reader = broker.consumer([unique], group=None)
        await reader.start()
        assert {m.value for m in await read(reader, len(sent))} == sent
        await reader.stop()
        await broker.close()
    assert processes_of(work) == []
    assert not work.exists()


async def test_a_data_folder_for_several_nodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalKafkaError, match="leave log_dirs out"):
        async with local_kafka(load_settings(), nodes=3, log_dirs=tmp_path):
            pytest.fail("it started")


@pytest.mark.kafka
async def test_ctrl_c_reaches_the_parent_only_and_the_broker_stops_after_it(parent: subprocess.Popen[str]) -> None:
    pid, work = await printed_by(parent)
    assert psutil.Process(pid).terminal() is None
    assert parent.pid not in {p.pid for p in psutil.Process(pid).children()}
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    await asyncio.to_thread(parent.wait, 20)
    await wait_until(lambda: not processes_of(work))
    assert not work.exists()


async def test_a_port_in_use_is_named_with_the_way_out_before_anything_is_downloaded(
    taken_port: int, tmp_path: Path
) -> None:
    message = await refusal(load_settings(cache=tmp_path), port=taken_port)
    assert f"port {taken_port}" in message
    assert "in use" in message
    assert "choose another" in message


async def test_a_cache_that_cannot_be_written_is_named_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    message = await refusal(load_settings(cache=tmp_path / "file" / "cache"))
    assert str(tmp_path / "file" / "cache") in message
    assert "STREAMER_CACHE" in message
    assert "STREAMER_BROKERS" in message


async def test_no_room_for_the_jars_is_found_before_they_are_downloaded(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        message = await refusal(load_settings(cache=tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"in {tmp_path}: File too large" in message
    assert "STREAMER_CACHE" in message
    assert files_with_something_in(tmp_path) == []


async def test_without_a_connection_to_maven_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    message = await refusal(load_settings(cache=tmp_path))
    assert "Maven Central" in message
    assert "STREAMER_BROKERS" in message
    assert files_with_something_in(tmp_path) == []


@pytest.mark.kafka
async def test_a_damaged_cache_is_filled_again_not_started_from(kafka: LocalKafka, tmp_path: Path) -> None:
    del kafka
    jar = next(copy_of_the_jars(tmp_path).glob("kafka-clients-*.jar"))
    jar.unlink()
    jar.write_bytes(b"half a jar")
    reported: list[str] = []
    with pytest.MonkeyPatch.context() as offline:
        offline.setenv("https_proxy", "http://127.0.0.1:9")
        with pytest.raises(LocalKafkaError, match="cannot download"):
            async with local_kafka(load_settings(cache=tmp_path), progress=lambda what, _: reported.append(what)):
                pytest.fail("it started")
    assert reported == [f"looking up what Apache Kafka {KAFKA} needs"]


@pytest.mark.kafka
async def test_the_error_of_a_broker_that_dies_at_its_start_contains_its_log(kafka: LocalKafka, tmp_path: Path) -> None:
    del kafka
    (tmp_path / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=99\n")
    message = await refusal(load_settings(), log_dirs=tmp_path)
    assert "while starting" in message
    assert "node id" in message


HOLDER = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, 2); print(flush=True); time.sleep(99)"
)


@pytest.mark.kafka
async def test_two_first_starts_at_once_wait_for_one_another(kafka: LocalKafka, tmp_path: Path) -> None:
    del kafka
    lock = tmp_path / f".kafka-{KAFKA}.lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:  # noqa: S603, ASYNC220 - our own command
        assert holder.stdout
        await asyncio.to_thread(holder.stdout.readline)
        reported: list[str] = []

        async def start() -> None:
            async with local_kafka(load_settings(cache=tmp_path), progress=lambda what, _: reported.append(what)):
                pass

        starting = asyncio.create_task(start())
        await wait_until(lambda: bool(reported))
        copy_of_the_jars(tmp_path)
        holder.kill()
        await starting
    waiting, starting_it = (
        f"waiting for another process that downloads Apache Kafka {KAFKA}",
        f"starting Apache Kafka {KAFKA}",
    )
    assert reported == [waiting, starting_it]


@pytest.mark.kafka
async def test_a_start_that_is_cancelled_leaves_nothing(
    kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del kafka
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def start() -> None:
        async with local_kafka(load_settings()):
            pytest.fail("it was to be cancelled before")

    clock = SystemClock()
    starting = asyncio.create_task(start())
    await wait_until(lambda: bool(processes_of(tmp_path)))
    starting.cancel()
    start_ms = clock.perf_ms()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await wait_until(lambda: not processes_of(tmp_path))
    assert clock.perf_ms() - start_ms < 10_000
    assert files_with_something_in(tmp_path) == []
