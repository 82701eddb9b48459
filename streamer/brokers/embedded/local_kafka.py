"""Runs Apache Kafka on this machine: one node, or several.

Each JVM runs in a separate process session, so that Ctrl-C does not stop it before the pipeline has drained. A watcher
process on a pipe from this process kills the JVM when this process ends, in whatever way.
"""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from streamer.brokers.embedded.jars import (
    INSTEAD,
    KAFKA,
    LOG4J,
    SMALL_JVM,
    Progress,
    classpath,
    find_java,
    install,
    kafka_uuid,
)
from streamer.errors import LocalKafkaError
from streamer.settings import Settings

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 10
CHOSEN_PORTS = range(20_000, 32_000)
REPLICAS = 3  # of every topic, where there are as many nodes

# The shell becomes the JVM; its child, the watcher, reads the pipe. After "killed" the JVM is gone, but the work folder
# is still needed; after "stopped" the watcher exits. At the end of the pipe the parent is gone: the watcher kills the
# JVM and deletes the work folder.
_WATCHER = """
exec 3<&0
{
  jvm=$$
  while read -r line <&3; do
    [ "$line" = stopped ] && exit
    jvm=
  done
  [ -z "$jvm" ] || kill -9 "$jvm"
  sleep 1
  rm -rf -- "$0"
} </dev/null >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"""

_SERVER = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
transaction.partition.verification.enable={verification}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=10000
log.segment.delete.delay.ms=1000
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
"""


class LocalKafka:
    """A running Kafka: one node, or several that can each be killed and started again."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self.address = ",".join(node.address for node in nodes)
        """The bootstrap servers, host:port[,host:port]."""

    @property
    def pid(self) -> int:
        """The process id of the first node's JVM."""
        return self.nodes[0].pid

    @property
    def log(self) -> Path:
        """The first node's log file."""
        return self.nodes[0].log

    def rss_bytes(self) -> int:
        """The resident memory of all JVMs."""
        import psutil  # noqa: PLC0415 - only needed here

        return sum(int(psutil.Process(node.pid).memory_info().rss) for node in self.nodes if node.runs)


@asynccontextmanager
async def local_kafka(
    settings: Settings,
    *,
    port: int = 0,
    log_dirs: Path | None = None,
    nodes: int = 1,
    verification: bool = False,
    progress: Progress | None = None,
) -> AsyncIterator[LocalKafka]:
    """Run Kafka on loopback for the duration of the block.

    Args:
        settings: only `cache` is read.
        port: of the first node; 0, like the other nodes, takes a free one.
        log_dirs: the data folder of a single node; unless given, a temporary folder that is removed at the end.
        nodes: how many. Each is broker and controller; topics have min(nodes, 3) replicas, and with three nodes or more
            one may be down.
        verification: `transaction.partition.verification.enable`; true, Kafka's default, adds tens of milliseconds to a
            transaction.
        progress: called on the event loop while jars are downloaded and the nodes start.

    Raises:
        LocalKafkaError: port in use, cache not writable or full, no download, a JVM died; the message says what to do.
    """
    if nodes > 1 and log_dirs is not None:
        raise LocalKafkaError("the records of several nodes are not kept: leave log_dirs out, or start one node")
    java, ports = find_java(), _free_ports(port, 2 * nodes)
    cancelled, loop = threading.Event(), asyncio.get_running_loop()

    def report(what: str, fraction: float | None = None) -> None:
        if progress and not cancelled.is_set():
            loop.call_soon_threadsafe(progress, what, fraction)

    try:
        home = await asyncio.to_thread(install, java, settings.cache.expanduser(), report, cancelled)
    finally:
        cancelled.set()
    if progress:
        progress(f"starting Apache Kafka {KAFKA}" + (f" on {nodes} nodes" if nodes > 1 else ""), None)
    with _work_folder() as work, ExitStack() as stack:
        started = [_node(i, java, home, work, ports, log_dirs, verification) for i in range(nodes)]
        for node in started:
            stack.callback(node.stop)
            node.launch()
        try:
            all_nodes = frozenset(range(1, nodes + 1))
            await asyncio.gather(*(node.ready(all_nodes) for node in started))
            yield LocalKafka(started)
        finally:
            for node in started:
                if nodes > 1:  # their records are not kept, and with SIGTERM they would wait for one another
                    node.kill()
                await asyncio.shield(asyncio.to_thread(node.stop))


def _node(
    i: int, java: Path, home: Path, work: Path, ports: Sequence[int], log_dirs: Path | None, verification: bool
) -> Node:
    """Prepare the i-th node's folder and files; `ports` are those of all brokers, then those of all controllers."""
    nodes = len(ports) // 2
    folder = work if nodes == 1 else work / f"node-{i + 1}"
    folder.mkdir(exist_ok=True)
    data, properties, log4j = log_dirs or folder / "data", folder / "server.properties", folder / "log4j2.properties"
    properties.write_text(
        _SERVER.format(
            node=i + 1, host=HOST, port=ports[i], controller_port=ports[nodes + i], data=data,
            voters=",".join(f"{n + 1}@{HOST}:{controller}" for n, controller in enumerate(ports[nodes:])),
            replicas=min(nodes, REPLICAS), in_sync=2 if nodes >= REPLICAS else 1,
            verification=str(verification).lower(),
        )
    )  # fmt: skip
    log4j.write_text(LOG4J)
    _format(home, data, i + 1, work / "cluster.id")
    logging_options = (f"-Dlog4j2.configurationFile={log4j}", f"-Djava.io.tmpdir={folder}")
    command = (str(java), *SMALL_JVM, *logging_options, "-cp", classpath(home), "kafka.Kafka", str(properties))
    return Node(i + 1, command, work, ports[i], folder / "kafka.log")


class Node:
    """One JVM, which can be started again after `kill`; `stop` and `kill` are idempotent.

    Args:
        number: its node.id.
        command: the JVM's command line.
        work: the temporary folder of all nodes, deleted when this process ends.
        port: of its broker.
        log: the file for its output.
    """

    def __init__(self, number: int, command: Sequence[str], work: Path, port: int, log: Path) -> None:
        self.address, self.log = f"{HOST}:{port}", log
        self._number, self._command, self._work, self._port = number, command, work, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The JVM's process id, 0 before `launch`."""
        return self._process.pid if self._process else 0

    @property
    def runs(self) -> bool:
        """Whether the JVM is alive."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the JVM and its watcher, without waiting for the broker."""
        before = self._process
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell expansion of it
                ["/bin/sh", "-c", _WATCHER, str(self._work), *self._command],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        if before:
            _notify_watcher(before, "stopped")

    async def start(self) -> None:
        """Start the node again after `kill`, with the records it had; returns when the broker is registered.

        Raises:
            LocalKafkaError: the JVM died or did not answer; the message contains the end of its log.
        """
        if not self.runs:
            self.launch()
        await self.ready(frozenset((self._number,)))

    async def ready(self, members: frozenset[int]) -> None:
        """Wait until this node's broker answers and counts the nodes `members` as alive."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _alive_nodes(self._port) >= members:
                    if not self.runs:
                        raise LocalKafkaError(self._exit_message())
                    await asyncio.sleep(0.02)
        except TimeoutError:
            seconds = f"Kafka did not answer within {START_SECONDS} s of its start"
            raise LocalKafkaError(f"{seconds}; its last words:\n{self._log_tail()}") from None

    def kill(self) -> None:
        """Send SIGKILL; the records are kept for `start`."""
        if self._process and self.runs:
            self._process.kill()
            self._process.wait()
            _notify_watcher(self._process, "killed")

    def stop(self) -> None:
        """Send SIGTERM, after STOP_SECONDS SIGKILL, and let the watcher exit."""
        if self._process and self.runs:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process and self._process.stdin and not self._process.stdin.closed:
            _notify_watcher(self._process, "stopped")

    def _exit_message(self) -> str:
        tail = self._log_tail()
        if "Address already in use" in tail:
            return f"port {self._port} or its controller's was taken while Kafka started on it; start again"
        code = self._process.returncode if self._process else None
        return f"Kafka ended with code {code} while starting; its last words:\n{tail}"

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        messages = [line for line in lines if line.strip() and not line.startswith(("\t", " "))]
        return "\n".join(f"  {line[:300]}" for line in messages[-8:]) or "  (none)"


def _notify_watcher(process: subprocess.Popen[bytes], word: str) -> None:
    """Send "killed" or "stopped" to a JVM's watcher, see `_WATCHER`."""
    if process.stdin is None:
        return
    try:
        process.stdin.write(f"{word}\n".encode())
        process.stdin.flush()
        if word == "stopped":
            process.stdin.close()
    except BrokenPipeError:  # the watcher has been killed from outside
        pass


def _format(home: Path, data: Path, node: int, cluster: Path) -> None:
    """Format a data folder as Kafka's StorageTool does, unless it is formatted.

    The file `cluster` contains the cluster id that all nodes share.
    """
    meta = data / "meta.properties"
    try:
        if not meta.exists():
            if not cluster.exists():
                cluster.write_text(kafka_uuid())
            data.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / "bootstrap.checkpoint", data / "bootstrap.checkpoint")
            ids = f"cluster.id={cluster.read_text()}\nnode.id={node}\ndirectory.id={kafka_uuid()}\n"
            meta.write_text(f"version=1\n{ids}")
    except OSError as error:
        raise LocalKafkaError(f"cannot keep Kafka's records in {data}: {error.strerror}") from None


@contextmanager
def _work_folder() -> Iterator[Path]:
    try:
        work = Path(tempfile.mkdtemp(prefix="affectstream-kafka-"))
    except OSError as error:
        raise LocalKafkaError(f"no temporary folder for Kafka: {error.strerror}; set TMPDIR") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _free_ports(first: int, count: int) -> list[int]:
    """Return `count` free ports; the first is `first`, unless that is 0.

    They are below the ports that operating systems give to outgoing connections, which could take one while its node
    starts or is down.
    """
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe, port in zip(probes, (first, *[0] * (count - 1)), strict=True):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            while True:
                try:
                    probe.bind((HOST, port or random.choice(CHOSEN_PORTS)))  # noqa: S311 - not a secret
                    break
                except OSError as error:
                    if port == 0 and error.errno == errno.EADDRINUSE:
                        continue
                    problem = f"port {port} on {HOST} cannot be used: {error.strerror}"
                    raise LocalKafkaError(f"{problem}; choose another (0 takes a free one), {INSTEAD}") from None
        return [int(probe.getsockname()[1]) for probe in probes]


async def _alive_nodes(port: int) -> frozenset[int]:
    """The nodes that a broker counts as alive, by a Metadata request (key 3, version 0); empty without an answer."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(struct.pack(">ihhihi", 14, 3, 0, 1, -1, 0))
                _, _, count = struct.unpack(">iii", await reader.readexactly(12))
                nodes = set()
                for _ in range(count):
                    node, length = struct.unpack(">ih", await reader.readexactly(6))
                    await reader.readexactly(length + 4)
                    nodes.add(node)
                return frozenset(nodes)
            finally:
                writer.close()
    except (OSError, TimeoutError, EOFError, struct.error):
        return frozenset()
