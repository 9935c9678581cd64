"""TLS by the BCP 195 profiles of PS3.15 B.9 and B.12: 1.2 or newer, forward secrecy, authenticated ciphers."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from node.domain.errors import SetupError

# RFC 9325 4.2: of TLS 1.2 only ephemeral key agreement with AEAD; TLS 1.3 has nothing else.
_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!PSK"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """Files in PEM format."""

    certificate: Path
    key: Path
    # A client must show a certificate that one of these authorities signed; None: clients need none.
    client_ca: Path | None = None


def server_context(identity: ServerIdentity) -> ssl.SSLContext:
    """Make the context of a socket that listens.

    Raises
    ------
    SetupError
        A file is missing or is not what it should be.
    """
    files = (identity.certificate, identity.key, identity.client_ca)
    context = _context(ssl.PROTOCOL_TLS_SERVER, files, "Mend receiver.tls in the configuration.")
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _bear(context, identity.certificate, identity.key)
    if identity.client_ca is not None:
        _trust(context, identity.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdentity:
    """Files in PEM format."""

    # Authorities of which one must have signed the server's certificate, or that certificate itself.
    ca: Path
    # Ours, where the server asks for one.
    certificate: Path | None = None
    key: Path | None = None


def client_context(identity: ClientIdentity) -> ssl.SSLContext:
    """Make the context of a socket that connects; the server's certificate is checked, and the name in it.

    Raises
    ------
    SetupError
        A file is missing or is not what it should be.
    """
    files = (identity.ca, identity.certificate, identity.key)
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files, "Mend the destination's tls keys in the configuration.")
    _trust(context, identity.ca)
    if identity.certificate is not None and identity.key is not None:
        _bear(context, identity.certificate, identity.key)
    return context


def _context(protocol: int, files: Iterable[Path | None], remedy: str) -> ssl.SSLContext:
    """Make a context by the profiles, and refuse files that are not there."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    for file in files:
        if file is not None and not file.is_file():
            raise SetupError(f"TLS: {file} is not there.", remedy)
    return context


def _bear(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # A password would be asked for on the terminal of a service: an encrypted key is an error.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SetupError(
            f"TLS: {certificate} and {key} are no certificate with its key ({_words(error)}).",
            "Give the certificate (chain) and its unencrypted private key as PEM files.",
        ) from error


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise SetupError(f"TLS: {ca} holds no certificate authority ({_words(error)}).", "Give a PEM file.") from error


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__)
