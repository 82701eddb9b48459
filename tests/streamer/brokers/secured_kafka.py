"""A real Kafka on loopback with TLS, client certificates, users and ACLs; with certificates that are made for it.

Users `admin` (may do everything), `affect` and `platform`, each with the password `<name>-secret`, by SASL PLAIN.
SCRAM-SHA-512 is offered, and nobody has a password for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from streamer.brokers.embedded import local_kafka
from streamer.brokers.embedded.jars import LOG4J, SMALL_JVM, classpath, find_java, install
from streamer.settings import load_settings

LISTENERS = ("PLAINTEXT", "SSL", "MTLS", "SASL_PLAINTEXT", "SASL_SSL", "OTHER")
_JAAS = "org.apache.kafka.common.security.plain.PlainLoginModule required "
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_USERS = " ".join(f'user_{name}="{name}-secret"' for name in ("admin", "affect", "platform"))


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """Where each listener is, and the files of the authority, a client, and somebody else's authority."""

    ports: dict[str, int]
    authority: Path
    client: Path
    client_key: Path
    stranger: Path
    authorizer_log: Path

    def at(self, listener: str, host: str = "127.0.0.1") -> str:
        """The address of a listener."""
        return f"{host}:{self.ports[listener]}"


def _pem(key: trustme.Blob) -> bytes:
    """A key as Kafka's Java wants it: PKCS 8."""
    loaded = serialization.load_pem_private_key(key.bytes(), None)
    kind = serialization.PrivateFormat.PKCS8
    return loaded.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())


def _certificates(folder: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
    server, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("client")
    (folder / "client.pem").write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    (folder / "client.key").write_bytes(_pem(client.private_key_pem))
    other = authority.issue_cert("elsewhere.example")
    for name, made in (("keystore", server), ("other", other)):
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(_pem(made.private_key_pem) + chain)


def _properties(folder: Path, ports: dict[str, int], controller: int) -> str:
    protocol, named = {"MTLS": "SSL", "OTHER": "SSL"}, list(ports)
    listeners = ",".join(f"{name}://127.0.0.1:{ports[name]}" for name in named)
    lines = [
        "process.roles=broker,controller", "node.id=1", f"controller.quorum.voters=1@127.0.0.1:{controller}",
        f"listeners={listeners},CONTROLLER://127.0.0.1:{controller}", f"advertised.listeners={listeners}",
        "controller.listener.names=CONTROLLER", "inter.broker.listener.name=PLAINTEXT",
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT," + ",".join(f"{n}:{protocol.get(n, n)}" for n in named),
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
        *(f"listener.name.{name}.plain.sasl.jaas.config={_JAAS}{_USERS};" for name in ("sasl_plaintext", "sasl_ssl")),
        *(f"listener.name.{name}.scram-sha-512.sasl.jaas.config={_SCRAM}" for name in ("sasl_plaintext", "sasl_ssl")),
        "ssl.keystore.type=PEM", f"ssl.keystore.location={folder / 'keystore.pem'}",
        "ssl.truststore.type=PEM", f"ssl.truststore.location={folder / 'authority.pem'}",
        "listener.name.mtls.ssl.client.auth=required",
        "listener.name.other.ssl.keystore.type=PEM",
        f"listener.name.other.ssl.keystore.location={folder / 'other.pem'}",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:admin;User:ANONYMOUS", f"log.dirs={folder / 'data'}", "auto.create.topics.enable=false",
        "offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
        "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
        "transaction.state.log.num.partitions=4", "group.initial.rebalance.delay.ms=0",
        "share.coordinator.state.topic.replication.factor=1", "share.coordinator.state.topic.min.isr=1",
        "log.index.size.max.bytes=1048576", "log.cleaner.dedupe.buffer.size=4194304",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """Start it in a folder; it is stopped when the block ends."""
    _certificates(folder)
    found = local_kafka._free_ports(0, len(LISTENERS) + 1)  # noqa: SLF001 - the embedded Kafka's own way
    ports = dict(zip(LISTENERS, found, strict=False))
    (folder / "server.properties").write_text(_properties(folder, ports, found[-1]))
    (folder / "log4j2.properties").write_text(LOG4J + _AUTHORIZER_LOG.format(path=folder / "authorizer.log"))
    java = find_java()
    home = install(java, load_settings().cache.expanduser(), lambda *_: None, threading.Event())
    local_kafka._format(home, folder / "data", 1, folder / "cluster.id")  # noqa: SLF001 - the same
    options = (*SMALL_JVM, f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", classpath(home))
    command = (str(java), *options, "kafka.Kafka", str(folder / "server.properties"))
    node = local_kafka.Node(1, command, folder, ports["PLAINTEXT"], folder / "kafka.log")
    try:
        node.launch()
        asyncio.run(node.ready(frozenset({1})))
        names = ("authority.pem", "client.pem", "client.key", "stranger.pem", "authorizer.log")
        yield SecuredKafka(ports, *(folder / name for name in names))
    finally:
        node.kill()
        node.stop()


_AUTHORIZER_LOG = """
logger.a.name=kafka.authorizer.logger
logger.a.level=info
logger.a.additivity=false
logger.a.appenderRef.file.ref=file
appender.file.type=File
appender.file.name=file
appender.file.fileName={path}
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%m%n
"""
