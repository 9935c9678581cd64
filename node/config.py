"""The configuration: TOML in, frozen and validated values out.

Read once at start. Every key is documented in ``conf/node.toml``; a test keeps both equal.
"""

import difflib
import os
import tomllib
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from node.destination_section import Destination, faults_of_destinations
from node.dicom.headers import ROUTING_KEYWORDS
from node.dicom.storage import STORAGE_KEYWORDS
from node.domain.delivery import SENDER
from node.domain.errors import SetupError
from node.domain.peers import Peer
from node.domain.profiles import is_profile_path
from node.domain.retention import RetentionPolicy, Watermarks
from node.domain.routing import OutputKind, Route, RouteChannel
from node.domain.series import CompletionPolicy
from node.inference.devices import DeviceName, Overflow, Precision, fault_of_precision
from node.sections import AETitle, Name, Port, Section


def _as_patterns(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_as_patterns), Field(min_length=1)]
Conditions = dict[str, Patterns]


def _as_network(value: str) -> str:
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        raise ValueError("neither an IP address nor a network such as 10.1.2.0/24") from None


def _as_storage_class(value: str) -> str:
    if value not in STORAGE_KEYWORDS:
        near = difflib.get_close_matches(value, STORAGE_KEYWORDS, n=1)
        raise ValueError("not a storage SOP class" + (f", do you mean {near[0]!r}?" if near else ""))
    return STORAGE_KEYWORDS[value]


Networks = Annotated[tuple[Annotated[str, AfterValidator(_as_network)], ...], BeforeValidator(_as_patterns)]
StorageClass = Annotated[str, AfterValidator(_as_storage_class)]


# ONNX Runtime starts as many threads as it is told, until the machine stands still.
MOST_THREADS = 256


class NodeSection(Section):
    """``[node]``."""

    ae_title: AETitle = "DELINEATE"
    host: str = "127.0.0.1"
    port: Port = 11112
    data_dir: Path = Path("var")
    database: str = ""
    machine: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
    device: DeviceName = "auto"
    device_id: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "f32"
    on_overflow: Overflow = "rerun"
    threads: Annotated[int, Field(ge=0, le=MOST_THREADS)] = 0
    model_dirs: tuple[Path, ...] = ()
    minimum_free_gb: Annotated[float, Field(ge=0)] = 2.0
    log_format: Literal["text", "json"] = "text"


class TlsSection(Section):
    """``[receiver.tls]``."""

    port: Port = 2762
    certificate: Path
    key: Path
    client_ca: Path | None = None
    only: bool = False


class ReceiverSection(Section):
    """``[receiver]``."""

    require_called_ae_title: bool = False
    maximum_associations: Annotated[int, Field(ge=1)] = 50
    maximum_associations_per_address: Annotated[int, Field(ge=1)] = 25
    maximum_waiting: Annotated[int, Field(ge=1)] = 500
    association_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    message_timeout_s: Annotated[float, Field(ge=1)] = 60.0
    idle_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    maximum_object_mb: Annotated[int, Field(ge=1)] = 2048
    maximum_series_instances: Annotated[int, Field(ge=1)] = 20_000
    transport: Literal["spooling", "stock"] = "spooling"
    processes: Annotated[int, Field(ge=1, le=16)] = 1
    tls: TlsSection | None = None


class PeerSection(Section):
    """One ``[[peers]]`` entry."""

    name: Name
    ae_title: Annotated[str, Field(min_length=1, max_length=16)]
    addresses: Networks = ()
    may_send: tuple[StorageClass, ...] = ()
    maximum_associations: Annotated[int, Field(ge=1)] | None = None
    # Where results go that are returned to it.
    host: str | None = None
    port: Port | None = None

    def peer(self) -> Peer:
        """Give the value that admission decides on."""
        return Peer(
            name=self.name,
            ae_title=self.ae_title,
            addresses=self.addresses,
            storage_classes=frozenset(self.may_send),
            maximum_associations=self.maximum_associations,
        )


class CompletionSection(Section):
    """``[completion]``."""

    settle_s: Annotated[float, Field(ge=0)] = 3.0
    quiet_period_s: Annotated[float, Field(ge=0)] = 60.0
    known_after_series: Annotated[int, Field(ge=1, le=50)] = 3
    new_senders: Literal["wait", "settle"] = "wait"
    minimum_slices: Annotated[int, Field(ge=2)] = 3
    spacing_tolerance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05

    def policy(self) -> CompletionPolicy:
        """Give the policy that ``assess`` takes."""
        return CompletionPolicy(**self.model_dump())


class RouteCompletion(Section):
    """What a route changes of ``[completion]``: ``completion = { quiet_period_s = 30 }``."""

    settle_s: Annotated[float, Field(ge=0)] | None = None
    quiet_period_s: Annotated[float, Field(ge=0)] | None = None
    new_senders: Literal["wait", "settle"] | None = None


class ArchiveSection(Section):
    """One ``[[archives]]`` entry."""

    calling_ae_titles: Patterns
    ae_title: AETitle
    host: str
    port: Port
    timeout_s: Annotated[float, Field(gt=0, le=25)] = 5.0


class ContouringSection(Section):
    """``[contouring]``."""

    stall_s: Annotated[float, Field(ge=1)] = 900.0
    timeout_s: Annotated[float, Field(ge=0)] = 21_600.0


class DeliverySection(Section):
    """``[delivery]``."""

    first_retry_s: Annotated[float, Field(gt=0)] = 5.0
    longest_retry_s: Annotated[float, Field(gt=0)] = 3600.0
    give_up_after_days: Annotated[float, Field(gt=0)] = 30.0
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    probe_s: Annotated[float, Field(gt=0)] = 30.0
    alarm_after_hours: Annotated[float, Field(gt=0)] = 4.0
    commitment_timeout_minutes: Annotated[float, Field(gt=0)] = 60.0


class RetentionSection(Section):
    """``[retention]``."""

    images_days: Annotated[float, Field(ge=0)] = 7.0
    declined_days: Annotated[float, Field(ge=0)] = 14.0
    failed_days: Annotated[float, Field(ge=0)] = 0.0
    results_days: Annotated[float, Field(ge=0)] = 30.0
    rejected_days: Annotated[float, Field(ge=0)] = 30.0
    early_margin_gb: Annotated[float, Field(ge=0)] = 2.0
    early_until_margin_gb: Annotated[float, Field(ge=0)] = 4.0

    def policy(self) -> RetentionPolicy:
        """Give for how many days what is kept."""
        return RetentionPolicy(**self.model_dump(exclude={"early_margin_gb", "early_until_margin_gb"}))

    def watermarks(self, minimum_free_gb: float) -> Watermarks:
        """Give when the disk is low, and until when it stays so."""
        below, until = minimum_free_gb + self.early_margin_gb, minimum_free_gb + self.early_until_margin_gb
        return Watermarks(below=below * 1e9, until=until * 1e9)


class HotFolderSection(Section):
    """``[hot_folder]``."""

    # Without it there is none.
    folder: Path | None = None
    stable_s: Annotated[float, Field(gt=0)] = 2.0
    polling: Literal["auto", "always"] = "auto"
    rescan_s: Annotated[float, Field(gt=0)] = 10.0


class ChannelSection(Section):
    """One ``[[routes.channels]]`` entry."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    when: Annotated[Conditions, Field(min_length=1)]
    unless: Conditions = Field(default_factory=dict)

    def channel(self) -> RouteChannel:
        """Give the value that routing decides on."""
        return RouteChannel(name=self.name, when=self.when, unless=self.unless)


class RouteSection(Section):
    """One ``[[routes]]`` entry."""

    name: Name
    when: Conditions = Field(default_factory=dict)
    unless: Conditions = Field(default_factory=dict)
    models: Annotated[tuple[Name, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputKind, ...], Field(min_length=1)] = ("rtstruct", "seg")
    destinations: Annotated[tuple[Name, ...], Field(min_length=1)]
    negative_results: bool = False
    channels: tuple[ChannelSection, ...] = ()
    priority: Literal["routine", "stat"] = "routine"
    completion: RouteCompletion = RouteCompletion()

    def route(self) -> Route:
        """Give the value that routing decides on."""
        simple = {
            name: getattr(self, name) for name in type(self).model_fields if name not in ("channels", "completion")
        }
        return Route(**simple, channels=tuple(one.channel() for one in self.channels))


class Config(Section):
    """The whole configuration file."""

    node: NodeSection = NodeSection()
    receiver: ReceiverSection = ReceiverSection()
    peers: tuple[PeerSection, ...] = ()
    completion: CompletionSection = CompletionSection()
    contouring: ContouringSection = ContouringSection()
    delivery: DeliverySection = DeliverySection()
    retention: RetentionSection = RetentionSection()
    archives: tuple[ArchiveSection, ...] = ()
    hot_folder: HotFolderSection = HotFolderSection()
    destinations: tuple[Destination, ...] = ()
    routes: tuple[RouteSection, ...] = ()

    def policies(self) -> dict[str, CompletionPolicy]:
        """Give how long is waited for series of each route, by its name."""
        return {
            route.name: replace(self.completion.policy(), **route.completion.model_dump(exclude_none=True))
            for route in self.routes
        }

    def destination(self, name: str) -> Destination:
        """Give the destination of that name; routes were checked to name only existing ones."""
        return next(destination for destination in self.destinations if destination.name == name)


def load(path: Path) -> Config:
    """Read and validate a configuration file.

    Relative folders in it are taken from the current folder.

    Raises
    ------
    SetupError
        The file is missing or not TOML, or a key or value is wrong: every fault in one message.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"The configuration {path} cannot be read: {error.strerror}.",
            "Name an existing file with --config; conf/node.toml is a commented example.",
        ) from error
    except UnicodeDecodeError as error:
        raise SetupError(f"The configuration {path} is not UTF-8 text.", "Save it as UTF-8.") from error
    try:
        return _with_absolute_folders(parse(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"The configuration {path} is not valid TOML: {error}.", "Mend that line.") from error
    except SetupError as error:
        raise SetupError(f"The configuration {path} is wrong:\n{error.reason}", error.remedy) from error


def _with_absolute_folders(config: Config) -> Config:
    # What is printed and logged must not depend on where the reader stands.
    folders = {
        "data_dir": config.node.data_dir.absolute(),
        "model_dirs": tuple(folder.absolute() for folder in config.node.model_dirs),
    }
    tls = config.receiver.tls
    if tls is not None:
        files = {"certificate": tls.certificate.absolute(), "key": tls.key.absolute()}
        if tls.client_ca is not None:
            files["client_ca"] = tls.client_ca.absolute()
        tls = tls.model_copy(update=files)
    return config.model_copy(
        update={
            "node": config.node.model_copy(update=folders),
            "receiver": config.receiver.model_copy(update={"tls": tls}),
            "hot_folder": _with_absolute_folder(config.hot_folder),
            "destinations": tuple(
                _with_absolute_files(_with_absolute_profile(_with_absolute_folder(destination)))
                for destination in config.destinations
            ),
        }
    )


_WithFolder = TypeVar("_WithFolder", HotFolderSection, Destination)


def _with_absolute_folder(section: _WithFolder) -> _WithFolder:
    return section if section.folder is None else section.model_copy(update={"folder": section.folder.absolute()})


def _with_absolute_profile(destination: Destination) -> Destination:
    if not is_profile_path(destination.profile):
        return destination
    return destination.model_copy(update={"profile": str(Path(destination.profile).absolute())})


def _with_absolute_files(destination: Destination) -> Destination:
    named = ("tls_ca", "tls_certificate", "tls_key", "token_file", "login_file")
    files = {key: path for key in named if (path := getattr(destination, key)) is not None}
    return destination.model_copy(update={key: path.absolute() for key, path in files.items()})


def parse(values: dict[str, Any]) -> Config:
    """Validate configuration values as ``tomllib`` gives them.

    Raises
    ------
    SetupError
        Names every unknown key with the nearest known one, every wrong value, every reference that leads nowhere.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        faults = [
            _fault(details["loc"], details["type"], details["msg"], details["input"]) for details in error.errors()
        ]
        raise SetupError("\n".join(f"  {fault}" for fault in faults), REMEDY) from error
    faults = [*_dangling(config), *faults_of_destinations(config.destinations), *_overlapping(config)]
    if faults:
        raise SetupError("\n".join(f"  {fault}" for fault in faults), REMEDY)
    return config


REMEDY = "Mend the lines named; conf/node.toml explains every key."


def _fault(place: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    where = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if kind == "extra_forbidden":
        return f"{where}: unknown key{_nearest(str(place[-1]), _known_keys(place[:-1]))}"
    if kind == "missing":
        return f"{where}: missing"
    return f"{where}: {message[0].lower()}{message[1:]} (it is {value!r})"


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    section: Any = Config
    sections = {
        "node": NodeSection,
        "receiver": ReceiverSection,
        "tls": TlsSection,
        "peers": PeerSection,
        "completion": CompletionSection,
        "archives": ArchiveSection,
        "contouring": ContouringSection,
        "delivery": DeliverySection,
        "retention": RetentionSection,
        "hot_folder": HotFolderSection,
        "destinations": Destination,
        "routes": RouteSection,
        "channels": ChannelSection,
    }
    for part in place:
        inner = section.model_fields.get(str(part)) if section is RouteSection else None
        section = RouteCompletion if inner and inner.annotation is RouteCompletion else sections.get(str(part), section)
    return list(section.model_fields)


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" — did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def _dangling(config: Config) -> list[str]:
    faults = []
    if fault := fault_of_precision(config.node.device, config.node.precision):
        faults.append(f"node.precision: {fault}")
    if config.receiver.processes > 1 and config.receiver.transport == "stock":
        faults.append("receiver: several processes need transport = 'spooling'")
    if config.retention.early_until_margin_gb < config.retention.early_margin_gb:
        faults.append("retention.early_until_margin_gb: less than early_margin_gb")
    destinations = [destination.name for destination in config.destinations]
    for kind, names in (
        ("destinations", destinations),
        ("routes", [route.name for route in config.routes]),
        ("peers", [peer.name for peer in config.peers]),
    ):
        faults += [f"{kind}: the name {name!r} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    for route in config.routes:
        for name in route.destinations:
            if name not in (*destinations, SENDER):
                faults.append(
                    f"routes.{route.name}: no destination {name!r}{_nearest(name, destinations or ['(none)'])}"
                )
        faults += _wrong_channels(route)
        tables: tuple[RouteSection | ChannelSection, ...] = (route, *route.channels)
        for rules in tables:
            for keyword in (*rules.when, *rules.unless):
                if keyword not in ROUTING_KEYWORDS:
                    near = _nearest(keyword, list(ROUTING_KEYWORDS))
                    faults.append(f"routes.{route.name}: unknown keyword {keyword!r}{near}")
    return faults


def _wrong_channels(route: RouteSection) -> list[str]:
    names = [channel.name for channel in route.channels]
    twice = sorted({name for name in names if names.count(name) > 1})
    faults = [f"routes.{route.name}.channels: the name {name!r} is there twice" for name in twice]
    if len(names) == 1:
        faults.append(f"routes.{route.name}.channels: one alone; a model that takes one image needs none")
    return faults


def _overlapping(config: Config) -> list[str]:
    """Name folders within the hot folder, or around it: what is written there would be taken in again."""
    if config.hot_folder.folder is None:
        return []
    hot = _plain(config.hot_folder.folder)
    others = {"node.data_dir": config.node.data_dir}
    others |= {f"destinations.{one.name}.folder": one.folder for one in config.destinations if one.folder is not None}
    return [
        f"hot_folder.folder: {name} is the same folder, or one lies in the other; keep them apart"
        for name, folder in others.items()
        if _plain(folder).is_relative_to(hot) or hot.is_relative_to(_plain(folder))
    ]


def _plain(folder: Path) -> Path:
    return Path(os.path.normpath(folder.absolute()))
