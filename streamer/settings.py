"""Settings from STREAMER_* environment variables: addresses, credentials, and the choices of one deployment.

What changes results is in topology.yaml, not here.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamer.errors import ConfigurationError, Problem


class Settings(BaseSettings):
    """Everything that may differ between two deployments of one topology."""

    model_config = SettingsConfigDict(env_prefix="STREAMER_", extra="ignore", frozen=True)

    brokers: str | None = Field(None, description="host:port[,host:port] of a Kafka; unset starts one on this machine")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
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

    def worker_name(self) -> str:
        """This worker's name in reports."""
        return self.worker or f"{getpass.getuser()}-local"

    def printable(self) -> dict[str, str]:
        """Every setting that was set, secrets masked."""
        return {name: str(getattr(self, name)) for name in sorted(self.model_fields_set)}


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` win.

    Raises:
        ConfigurationError: every value that is wrong, by variable.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [Problem(f"STREAMER_{'.'.join(map(str, e['loc'])).upper()}", e["msg"]) for e in error.errors()]
        raise ConfigurationError("environment", problems) from None
