"""TLS by the BCP 195 profiles of PS3.15 B.9 and B.12: 1.2 or newer, forward secrecy, authenticated ciphers."""

import ssl
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    for file in (identity.certificate, identity.key, identity.client_ca):
        if file is not None and not file.is_file():
            raise SetupError(f"TLS: {file} is not there.", "Mend receiver.tls in the configuration.")
    try:
        # A password would be asked for on the terminal of a service: an encrypted key is an error.
        context.load_cert_chain(identity.certificate, identity.key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SetupError(
            f"TLS: {identity.certificate} and {identity.key} are no certificate with its key ({_words(error)}).",
            "Give the certificate (chain) and its unencrypted private key as PEM files.",
        ) from error
    if identity.client_ca is not None:
        try:
            context.load_verify_locations(identity.client_ca)
        except (ssl.SSLError, OSError) as error:
            raise SetupError(
                f"TLS: {identity.client_ca} holds no certificate authority ({_words(error)}).", "Give a PEM file."
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__)
