"""Settings from STREAMER_* environment variables: addresses, credentials, and the choices of one deployment.

What changes results is in topology.yaml, not here.
"""

from __future__ import annotations

import difflib
import getpass
import os
import re
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamer.errors import ConfigurationError, Problem

PREFIX = "STREAMER_"
_ADDRESS = re.compile(r"(?:(?P<scheme>[A-Za-z_]+)://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(?::(?P<port>\d+))?/?")
_SECURE = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


def _address(one: str) -> str:
    """One `host:port`, without the protocol that Kafka's own files write before it.

    Raises:
        ValueError: it is no such address.
    """
    found = _ADDRESS.fullmatch(one.strip())
    if found is None:
        raise ValueError(f"{one.strip()!r} is no address: write host:port, such as kafka-1:9092")
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if scheme is not None and scheme.upper() not in _SECURE:
        raise ValueError(f"{one.strip()!r}: Kafka is not reached by {scheme}: write host:port, such as kafka-1:9092")
    if port is None:
        raise ValueError(f"{one.strip()!r} has no port: write {host}:9092, or the port that it has")
    if not 0 < int(port) < 65536:  # noqa: PLR2004 - of TCP
        raise ValueError(f"{one.strip()!r}: a port is a number from 1 to 65535")
    return f"{host}:{int(port)}"


class Settings(BaseSettings):
    """Everything that may differ between two deployments of one topology."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    brokers: str | None = Field(None, description="host:port[,host:port] of a Kafka; unset starts one on this machine")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="`PLAINTEXT` (the default), `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="`PLAIN` (the default), `SCRAM-SHA-256` or `SCRAM-SHA-512`"
    )
    sasl_username: str | None = Field(None, description="the user, with SASL")
    sasl_password: SecretStr | None = Field(None, description="the password, with SASL")
    ssl_cafile: Path | None = Field(None, description="PEM of the authority that vouches for Kafka's certificate")
    ssl_certfile: Path | None = Field(None, description="PEM of the certificate that this client shows")
    ssl_keyfile: Path | None = Field(None, description="PEM of its key, if it is not in the same file")
    ssl_key_password: SecretStr | None = Field(None, description="of an encrypted key")
    context: str | None = Field(None, description="where this is used; mandatory to run (DESIGN §9)")
    context_reference: str | None = Field(None, description="the document that allows a medical or safety use")
    accept_licences: str = Field("", description="licence states accepted, comma-separated: unsettled, non_commercial")
    embeddings: bool = Field(False, description="let embeddings onto observations")
    queue: Literal["as_declared", "all"] = Field("as_declared", description="`all` overrides every queue policy")
    threads: int = Field(2, ge=1, le=64, description="threads of one compiled model")
    models: Path | None = Field(None, description="a folder of imported models, searched beside models/")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    cache: Path = Field(Path("~/.cache/affectstream"), description="where Kafka's jars and compiled models are kept")
    worker: str | None = Field(None, description="this worker's name; static group membership when set")

    @field_validator("brokers")
    @classmethod
    def _addresses(cls, listed: str | None) -> str | None:
        return None if listed is None else ",".join(_address(one) for one in listed.split(",") if one.strip())

    @model_validator(mode="before")
    @classmethod
    def _not_empty(cls, values: dict[str, object]) -> dict[str, object]:
        if isinstance(values, dict) and str(values.get("brokers", "x")).strip(" ,") == "":
            raise ValueError("STREAMER_BROKERS is empty: say host:port, or unset it to have a Kafka started here")
        return values

    def worker_name(self) -> str:
        """This worker's name in reports; two unnamed ones, also on one machine, don't share one."""
        return self.worker or f"{getpass.getuser()}@{socket.gethostname()}-{os.getpid()}"

    def printable(self) -> dict[str, str]:
        """Every setting that was set, secrets masked."""
        return {name: str(getattr(self, name)) for name in sorted(self.model_fields_set)}


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` win.

    Raises:
        ConfigurationError: every value that is wrong, by variable, and every STREAMER_ variable that is none.
    """
    problems = [_unknown(name) for name in sorted(os.environ) if _is_unknown(name)]
    settings = None
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems += [_problem(e["loc"], e["msg"]) for e in error.errors()]
    if settings is None or problems:
        raise ConfigurationError("environment", problems)
    return settings


def _problem(place: tuple[int | str, ...], message: str) -> Problem:
    name = "_".join(map(str, place)).upper() or "BROKERS"
    return Problem(f"STREAMER_{name}", message.removeprefix("Value error, ").removeprefix("STREAMER_BROKERS "))


def _is_unknown(name: str) -> bool:
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in Settings.model_fields


def _unknown(name: str) -> Problem:
    known = [field.upper() for field in Settings.model_fields]
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), known, 1, 0.6)
    listed = f"is {PREFIX}{nearest[0]} meant?" if nearest else f"there are {', '.join(PREFIX + k for k in known)}"
    return Problem(name, f"no setting of that name; {listed}")
