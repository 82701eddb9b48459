"""Why a Kafka can't be used is said as it is, with the setting to change, and never as "start it"."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.brokers.kafka import options as kafka_options
from streamer.brokers.kafka.broker import KafkaBroker
from streamer.errors import BrokerUnreachableError, ConfigurationError
from streamer.settings import Settings, load_settings
from tests.streamer.brokers.secured_kafka import SecuredKafka, secured_kafka

PROTOCOL, CAFILE = "STREAMER_SECURITY_PROTOCOL", "STREAMER_SSL_CAFILE"
WHO = "STREAMER_SASL_USERNAME, STREAMER_SASL_PASSWORD"
CERTIFICATE = "STREAMER_SSL_CERTFILE, STREAMER_SSL_KEYFILE"
AFFECT = {"sasl_username": "affect", "sasl_password": "affect-secret"}
ADMIN = {"sasl_username": "admin", "sasl_password": "admin-secret"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("secured")) as running:
        yield running


def settings_for(secured: SecuredKafka, listener: str, protocol: str, host: str = "127.0.0.1", **more: Any) -> Settings:
    files = {"authority": secured.authority, "client": secured.client, "key": secured.client_key}
    files["stranger"] = secured.stranger
    chosen = {name: files.get(value, value) if isinstance(value, str) else value for name, value in more.items()}
    return load_settings(brokers=secured.at(listener, host), security_protocol=protocol, **chosen)


async def used(settings: Settings) -> None:
    broker = KafkaBroker(settings)
    try:
        await broker.require([])
    finally:
        await broker.close()


TLS = {"ssl_cafile": "authority"}
CLIENT = {"ssl_certfile": "client", "ssl_keyfile": "key"}


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("listener", "protocol", "more"),
    [
        ("PLAINTEXT", "PLAINTEXT", {}),
        ("SSL", "SSL", TLS),
        ("MTLS", "SSL", {**TLS, **CLIENT}),
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT", AFFECT),
        ("SASL_SSL", "SASL_SSL", {**TLS, **AFFECT}),
    ],
)
async def test_right_settings_connect(
    secured: SecuredKafka, listener: str, protocol: str, more: dict[str, Any]
) -> None:
    await used(settings_for(secured, listener, protocol, **more))


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("listener", "protocol", "more", "where", "what"),
    [
        ("SSL", "PLAINTEXT", {}, PROTOCOL, "speaks TLS: set SSL, and STREAMER_SSL_CAFILE"),
        ("SASL_SSL", "SASL_PLAINTEXT", AFFECT, PROTOCOL, "speaks TLS: set SASL_SSL"),
        ("PLAINTEXT", "SSL", TLS, PROTOCOL, "doesn't speak TLS: set PLAINTEXT"),
        ("SASL_PLAINTEXT", "SASL_SSL", {**TLS, **AFFECT}, PROTOCOL, "doesn't speak TLS: set SASL_PLAINTEXT"),
        ("SASL_PLAINTEXT", "PLAINTEXT", {}, PROTOCOL, "asks for a user and a password"),
        ("PLAINTEXT", "SASL_PLAINTEXT", AFFECT, PROTOCOL, "asks for no user and password: set PLAIN"),
        ("SSL", "SASL_SSL", {**TLS, **AFFECT}, PROTOCOL, "asks for no user and password: set SSL"),
        ("SSL", "SSL", {}, CAFILE, "nobody here vouches for the certificate"),
        ("SSL", "SSL", {"ssl_cafile": "stranger"}, CAFILE, "nobody here vouches for the certificate"),
        ("MTLS", "SSL", TLS, CERTIFICATE, "wants a client certificate that it accepts"),
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT", {**AFFECT, "sasl_password": "wrong"}, WHO,
         "refuses the user or the password by PLAIN"),
        ("SASL_SSL", "SASL_SSL", {**TLS, **AFFECT, "sasl_mechanism": "SCRAM-SHA-512"}, WHO,
         "refuses the user or the password by SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT", {**AFFECT, "sasl_mechanism": "SCRAM-SHA-256"}, "STREAMER_SASL_MECHANISM",
         "doesn't offer SCRAM-SHA-256"),
    ],
)  # fmt: skip
async def test_a_wrong_setting_is_named_and_what_to_set_instead(
    secured: SecuredKafka, listener: str, protocol: str, more: dict[str, Any], where: str, what: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        await used(settings_for(secured, listener, protocol, **more))
    (problem,) = raised.value.problems
    assert problem.path == where
    assert what in problem.message
    assert secured.at(listener) in problem.message
    assert "secret" not in str(raised.value)
    assert raised.value.exit_code == 78


@pytest.mark.kafka
async def test_a_certificate_for_another_name_is_told(secured: SecuredKafka) -> None:
    with pytest.raises(ConfigurationError, match=r"STREAMER_BROKERS: the certificate of \S+ is for another name"):
        await used(settings_for(secured, "OTHER", "SSL", **TLS))


async def test_where_nothing_listens_it_says_so() -> None:
    with pytest.raises(BrokerUnreachableError, match=r"no Kafka at 127\.0\.0\.1:9 \(nothing listens there\): start it"):
        await used(load_settings(brokers="127.0.0.1:9"))


async def test_a_name_that_is_not_known_is_told() -> None:
    with pytest.raises(BrokerUnreachableError, match=r"the name no\.such\.host\.invalid is not known here"):
        await used(load_settings(brokers="no.such.host.invalid:9092"))


async def test_something_that_is_no_kafka_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_options, "CONNECT_SECONDS", 0.3)

    writers: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    with pytest.raises(BrokerUnreachableError, match=r"no answer of a Kafka within 0\.\d+ s"):
        await used(load_settings(brokers=f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    server.close()
    for writer in writers:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"ssl_cafile": "/no/such.pem"}, r"STREAMER_SSL_CAFILE: /no/such\.pem: No such file"),
        ({"ssl_certfile": "/no/such.pem"}, r"STREAMER_SSL_CERTFILE, STREAMER_SSL_KEYFILE: /no/such\.pem: No such file"),
        ({"ssl_keyfile": "/no/such.pem"}, "STREAMER_SSL_CERTFILE: is missing: STREAMER_SSL_KEYFILE is the key"),
        ({"ssl_cafile": __file__}, "STREAMER_SSL_CAFILE: .*: no PEM with what is due"),
        ({"ssl_certfile": __file__}, "STREAMER_SSL_CERTFILE, STREAMER_SSL_KEYFILE: .*: no PEM with what is due"),
        (
            {"ssl_cafile": "/x.pem", "security_protocol": "PLAINTEXT"},
            "STREAMER_SSL_CAFILE: is for TLS: set STREAMER",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(more: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        KafkaBroker(load_settings(**{"brokers": "127.0.0.1:9", "security_protocol": "SSL", **more}))


def test_a_key_of_another_certificate_and_an_encrypted_one_are_told(tmp_path: Path) -> None:
    import trustme
    from cryptography.hazmat.primitives import serialization

    one, other = trustme.CA().issue_cert("a"), trustme.CA().issue_cert("b")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "a.pem"))
    other.private_key_pem.write_to_path(str(tmp_path / "b.key"))
    loaded = serialization.load_pem_private_key(one.private_key_pem.bytes(), None)
    encrypted = serialization.BestAvailableEncryption(b"open")
    kind = serialization.PrivateFormat.PKCS8
    (tmp_path / "a.key").write_bytes(loaded.private_bytes(serialization.Encoding.PEM, kind, encrypted))
    fields: dict[str, Any] = {"brokers": "127.0.0.1:9", "security_protocol": "SSL", "ssl_certfile": tmp_path / "a.pem"}
    with pytest.raises(ConfigurationError, match="the key is not this certificate's"):
        KafkaBroker(load_settings(**fields, ssl_keyfile=tmp_path / "b.key"))
    for password in ("wrong", ""):
        with pytest.raises(ConfigurationError, match="STREAMER_SSL_KEY_PASSWORD"):
            KafkaBroker(load_settings(**fields, ssl_keyfile=tmp_path / "a.key", ssl_key_password=password))
    KafkaBroker(load_settings(**fields, ssl_keyfile=tmp_path / "a.key", ssl_key_password="open"))  # noqa: S106 - a test's
