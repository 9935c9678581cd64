"""``[[destinations]]`` of the configuration, and what in them contradicts itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from node.domain.delivery import SENDER, DeliveryPlan, PeerAddress
from node.domain.routing import SegmentationEncoding
from node.sections import AETitle, Name, Port, Section

# How a destination is reached -> its keys; the first is the one that says so.
_KINDS = {
    "folder": ("folder",),
    "stow": ("stow", "token_file", "login_file", "tls_ca", "tls_certificate", "tls_key"),
    "ae_title": (
        *("ae_title", "host", "port", "calling_ae_title", "tls", "tls_ca", "tls_certificate", "tls_key", "tls_name"),
        *("commitment", "confirm"),
    ),
}
_WORDS = {"folder": "a folder", "stow": "a DICOMweb server", "ae_title": "an application entity"}
_OF_ONE_KIND = {key for keys in _KINDS.values() for key in keys}


class Destination(Section):
    """One ``[[destinations]]`` entry: a DICOM application entity, a folder, or a DICOMweb server."""

    name: Name
    ae_title: AETitle | None = None
    host: str | None = None
    port: Port | None = None
    calling_ae_title: AETitle | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_name: str | None = None
    commitment: bool = False
    confirm: Literal["find"] | None = None
    folder: Path | None = None
    stow: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None
    token_file: Path | None = None
    login_file: Path | None = None
    fail_over: Name | None = None
    fail_over_after_minutes: Annotated[float, Field(ge=0)] = 30.0
    profile: str = "generic"
    segmentation: SegmentationEncoding = "binary"

    def address(self) -> PeerAddress:
        """Give where to call; only of a destination that is an application entity."""
        if self.ae_title is None or self.host is None or self.port is None:
            raise ValueError(f"destination {self.name} is no application entity")
        return PeerAddress(name=self.name, ae_title=self.ae_title, host=self.host, port=self.port)

    def plan(self) -> DeliveryPlan:
        """Give what is to be done beside sending."""
        return DeliveryPlan(
            fail_over=self.fail_over or "",
            fail_over_after_s=self.fail_over_after_minutes * 60,
            confirm="commitment" if self.commitment else self.confirm or "",
        )


def faults_of_destinations(destinations: Sequence[Destination]) -> list[str]:
    """Name every key that is missing, that contradicts another, or that leads nowhere."""
    names = [one.name for one in destinations]
    faults = []
    for one in destinations:
        faults += [f"destinations.{one.name}{fault}" for fault in _faults(one)]
        if one.fail_over is not None and (one.fail_over == one.name or one.fail_over not in names):
            faults.append(f"destinations.{one.name}.fail_over: no other destination is called {one.fail_over!r}")
    return faults


def _faults(one: Destination) -> Iterator[str]:
    if one.name == SENDER:
        yield f": {SENDER!r} stands for whoever sent the images; give it another name"
    kind = _kind(one)
    for key in sorted(_OF_ONE_KIND - set(_KINDS[kind])):
        if getattr(one, key) not in (None, False):
            yield f".{key}: {_WORDS[kind]} has none; give one or the other"
    if kind == "ae_title":
        yield from (f".{key}: missing" for key in ("ae_title", "host", "port") if getattr(one, key) is None)
        if one.commitment and one.confirm:
            yield ".confirm: commitment is the stronger proof; give one or the other"
        if one.tls and one.tls_ca is None:
            yield ".tls_ca: missing; it says whose certificates are trusted"
        if not one.tls and (one.tls_ca or one.tls_certificate or one.tls_key or one.tls_name):
            yield ".tls: missing; without tls = true nothing is encrypted"
    if (one.tls_certificate is None) != (one.tls_key is None):
        yield ".tls_key: a certificate and its key come together"
    if kind == "stow":
        yield from _faults_of_stow(one)


def _kind(one: Destination) -> str:
    return next((kind for kind in ("folder", "stow") if getattr(one, kind) is not None), "ae_title")


def _faults_of_stow(one: Destination) -> Iterator[str]:
    if one.token_file and one.login_file:
        yield ".login_file: there is a token_file; give one or the other"
    url = urlsplit(one.stow or "")
    is_here = url.hostname in ("127.0.0.1", "::1", "localhost")
    if url.scheme == "http" and (one.token_file or one.login_file) and not is_here:
        yield ".stow: a secret would go unencrypted; use https"
    if url.scheme == "http" and (one.tls_ca or one.tls_certificate):
        yield ".stow: http is not encrypted; use https"
