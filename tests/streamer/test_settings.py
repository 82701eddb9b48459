"""Settings from the environment: addresses as people write them, and what is wrong, told before a start."""

from __future__ import annotations

import pytest

from streamer.__main__ import main
from streamer.errors import ConfigurationError
from streamer.settings import load_settings


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("kafka:9092", "kafka:9092"),
        (" a:1 , b:65535 ,", "a:1,b:65535"),
        ("PLAINTEXT://kafka:9092", "kafka:9092"),
        ("SASL_SSL://a:9093,SASL_SSL://b:9093", "a:9093,b:9093"),
        ("[::1]:9092", "[::1]:9092"),
        ("10.0.0.1:09092", "10.0.0.1:9092"),
    ],
)
def test_an_address_is_taken_as_people_write_it(written: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_BROKERS", written)
    assert load_settings().brokers == read


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("http://x", "Kafka is not reached by http: write host:port"),
        ("https://kafka:9092", "Kafka is not reached by https"),
        ("kafka", "'kafka' has no port: write kafka:9092"),
        ("PLAINTEXT://host", "has no port: write host:9092"),
        ("kafka:99999", "a port is a number from 1 to 65535"),
        ("kafka:0", "a port is a number from 1 to 65535"),
        ("kafka:abc", "is no address: write host:port"),
        ("a b:9092", "is no address: write host:port"),
        ("::1:9092", "is no address: write host:port"),
        ("kafka:9092/path", "is no address"),
        ("", "is empty: say host:port, or unset it"),
        (" , ", "is empty: say host:port, or unset it"),
    ],
)
def test_what_is_no_address_is_told_before_anything_is_started(
    written: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMER_BROKERS", written)
    monkeypatch.setenv("STREAMER_CONTEXT", "demo")
    assert main(["run"]) == 78
    said = capsys.readouterr().err
    assert "STREAMER_BROKERS: " in said
    assert why in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STREAMER_BROKER", "STREAMER_BROKERS"),
        ("STREAMER_SSL_CERT", "STREAMER_SSL_CERTFILE"),
        ("STREAMER_THREAD", "STREAMER_THREADS"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_the_nearest(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigurationError, match=f"{name}: no setting of that name; is {meant} meant"):
        load_settings()


def test_a_variable_like_no_setting_is_refused_with_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_ZZZZ", "x")
    with pytest.raises(ConfigurationError, match=r"STREAMER_ZZZZ: no setting of that name; there are STREAMER_BR"):
        load_settings()


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_BROKERS", "kafka")
    monkeypatch.setenv("STREAMER_THREADS", "0")
    monkeypatch.setenv("STREAMER_QUEU", "all")
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert [problem.path for problem in raised.value.problems] == [
        "STREAMER_QUEU",
        "STREAMER_BROKERS",
        "STREAMER_THREADS",
    ]


def test_a_secret_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("STREAMER_SSL_KEY_PASSWORD", "hunter2")
    assert "hunter2" not in str(load_settings().printable())
