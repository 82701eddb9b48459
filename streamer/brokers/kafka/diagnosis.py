"""Why a Kafka can't be used: clients only say that they could not connect. One connection is tried and its error told.

What each wrong setting leads to was tried with Kafka 4.1: see tests/streamer/brokers/test_diagnosis.py.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from streamer.errors import BrokerUnreachableError, ConfigurationError, Problem, StreamerError

_PROTOCOL, _CAFILE = "STREAMER_SECURITY_PROTOCOL", "STREAMER_SSL_CAFILE"
_TLS_ALERT = 0x15  # the first byte of a TLS record that refuses what it got (RFC 8446, 5.1)
_START_IT = "start it, correct STREAMER_BROKERS, or unset it to have one started on this machine"
_CONNECTION = (
    "security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password",
)  # fmt: skip


async def diagnose(address: str, options: Mapping[str, Any], seconds: float) -> StreamerError:
    """Try the first address that answers, and return what is wrong with it or with the settings.

    Args:
        address: host:port[,host:port].
        options: of a client, see `connection_options`.
        seconds: how long each address is waited for.
    """
    found: list[StreamerError] = []
    for one in address.split(","):
        host, _, port = one.rpartition(":")
        error = await _try(host.strip("[]"), int(port), options, seconds)
        if isinstance(error, ConfigurationError):
            return error
        found.append(error)
    return found[0]


async def _try(host: str, port: int, options: Mapping[str, Any], seconds: float) -> StreamerError:
    """What happens at one address."""
    at = f"{host}:{port}"
    chosen = {name: options[name] for name in _CONNECTION if name in options}
    protocol = str(options["security_protocol"])
    try:
        await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo(host, port), seconds)
    except (socket.gaierror, TimeoutError):
        return _unreachable(at, f"the name {host} is not known here", "correct STREAMER_BROKERS")
    connection = AIOKafkaConnection(host, port, request_timeout_ms=int(seconds * 1000), **chosen)
    connected = False
    try:
        await connection.connect()
        connected = True
        await asyncio.wait_for(connection.send(MetadataRequest([])), seconds)
    except ssl.SSLCertVerificationError as error:
        return _vouching(at, error)
    except errors.SaslAuthenticationFailed:
        what = f"{at} refuses the user or the password by {options['sasl_mechanism']}: correct them, or the mechanism"
        return _wrong("STREAMER_SASL_USERNAME, STREAMER_SASL_PASSWORD", what)
    except errors.UnsupportedSaslMechanismError:
        return _wrong(
            "STREAMER_SASL_MECHANISM", f"{at} doesn't offer {options['sasl_mechanism']}: name one that it has"
        )
    except errors.IllegalSaslStateError:
        plain = protocol.removeprefix("SASL_")
        return _wrong(_PROTOCOL, f"{at} asks for no user and password: set {plain}, or name the port that does")
    except ConnectionRefusedError:
        return _unreachable(at, "nothing listens there", _START_IT)
    except TimeoutError:
        return _unreachable(at, f"no answer of a Kafka within {seconds:g} s", "correct STREAMER_BROKERS")
    except (errors.KafkaError, OSError) as error:
        return _closed(at, protocol, error, connected=connected)
    finally:
        connection.close()
    what = "it answers, but the brokers that it names don't: its advertised.listeners must be reachable from here"
    return _unreachable(at, what, "correct them there")


def _closed(at: str, protocol: str, error: Exception, *, connected: bool) -> StreamerError:
    """What a connection means that the other side closed."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError) or isinstance(error, ssl.SSLError):
        return _wrong("STREAMER_SSL_CERTFILE, STREAMER_SSL_KEYFILE", f"{at} wants a client certificate that it accepts")
    if protocol.endswith("SSL"):
        plain = protocol.replace("SASL_SSL", "SASL_PLAINTEXT").replace("SSL", "PLAINTEXT")
        return _wrong(_PROTOCOL, f"{at} doesn't speak TLS: set {plain}, or name the port that does")
    expected = getattr(cause, "expected", None)
    if isinstance(expected, int) and struct.pack(">i", expected)[0] == _TLS_ALERT:
        tls = "SASL_SSL" if protocol.startswith("SASL") else "SSL"
        return _wrong(_PROTOCOL, f"{at} speaks TLS: set {tls}, and {_CAFILE} to the certificate of its authority")
    if connected and not protocol.startswith("SASL"):
        user = "SASL_PLAINTEXT, STREAMER_SASL_MECHANISM, _USERNAME and _PASSWORD"
        return _wrong(_PROTOCOL, f"{at} asks for a user and a password: set {user}")
    return _unreachable(at, f"it closes the connection ({type(error).__name__})", "is it a Kafka?")


def _vouching(at: str, error: ssl.SSLCertVerificationError) -> StreamerError:
    why = error.verify_message.rstrip(".")
    if "ostname mismatch" in why or "IP address mismatch" in why:
        return _wrong(
            "STREAMER_BROKERS", f"the certificate of {at} is for another name ({why}): use a name that it has"
        )
    if "expired" in why or "not yet valid" in why:
        return _wrong("Kafka", f"the certificate of {at} isn't valid now ({why}): it must be renewed there")
    what = f"nobody here vouches for the certificate of {at} ({why}): set the certificate of its authority"
    return _wrong(_CAFILE, what)


def _wrong(where: str, what: str) -> ConfigurationError:
    return ConfigurationError("Kafka", [Problem(where, what)])


def _unreachable(at: str, what: str, way_out: str) -> BrokerUnreachableError:
    return BrokerUnreachableError(f"no Kafka at {at} ({what}): {way_out}")
