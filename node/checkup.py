"""``delineate check``: try everything a working node needs, and say what to do about each failure."""

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from node.adapters.database import best_sqlite, journal_pragmas
from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import devices
from node.adapters.processes import hold_lock
from node.adapters.profile_store import load_profile
from node.adapters.query_scu import count_instances
from node.adapters.shared_folder import file_system_of
from node.adapters.spooling_check import fault_of_spooling
from node.adapters.storage_scp import check_receiver
from node.config import ArchiveSection, Config
from node.destination_checkup import attempts_at_destinations, write_and_rename
from node.domain.delivery import PeerAddress
from node.domain.errors import NodeError, PeerError, SetupError
from node.domain.routing import Route, refuse_other_channels
from node.domain.tg263 import faults_of
from node.machine_checkup import check_clock, check_folder, check_machine, check_server
from node.service import Node, model_store, receiver_settings
from node.warm_models import opener


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tried. One that holds and yet says what to do is a warning."""

    subject: str
    holds: bool
    said: str
    what_to_do: str = ""


def check(config: Config) -> Iterator[Finding]:
    """Try folders, database, port, models, device and destinations, one after the other."""
    yield tried("data folder", lambda: _data_folder(config.node.data_dir, config.node.minimum_free_gb))
    yield from _database_and_machines(config)
    for subject, port in _ports(config).items():
        yield tried(subject, lambda port=port: _port(config, port))  # type: ignore[misc]
    if config.receiver.tls is not None:
        yield tried("certificate", lambda: _certificate(config))
    if config.receiver.transport == "spooling":
        yield tried("transport", _transport)
    yield _device(config)
    if not config.routes:
        remedy = "Add a [[routes]] entry; conf/node.toml shows one."
        yield Finding(subject="routes", holds=False, said="there is none: nothing is contoured", what_to_do=remedy)
    store = model_store(config.node.model_dirs)
    for model in sorted({model for route in config.routes for model in route.models}):
        yield tried(f"model {model}", lambda model=model: _model(config, model))  # type: ignore[misc]
        yield from warn_of_names(store, model)
    for route in config.routes:
        yield from _channels(route.route(), store)
    for profile in sorted({destination.profile for destination in config.destinations}):
        yield tried(f"profile {profile}", lambda profile=profile: load_profile(profile).title)  # type: ignore[misc]
    for archive in config.archives:
        yield tried(f"archive {archive.ae_title}", lambda archive=archive: _archive(config, archive))  # type: ignore[misc]
    if config.hot_folder.folder is not None:
        hot = config.hot_folder.folder
        yield tried("hot folder", lambda: _hot_folder(hot))
    for subject, attempt in attempts_at_destinations(config):
        yield tried(subject, attempt)


def tried(subject: str, attempt: Callable[[], str]) -> Finding:
    """Try something that says what it found, or raises."""
    try:
        return Finding(subject=subject, holds=True, said=attempt())
    except NodeError as error:
        return Finding(subject=subject, holds=False, said=error.reason, what_to_do=error.remedy)
    except OSError as error:
        return Finding(subject=subject, holds=False, said=str(error), what_to_do="Mend what the system says.")


def _data_folder(folder: Path, minimum_free_gb: float) -> str:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        # Tried, not asked: rights alone do not tell of read-only and foreign file systems.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        remedy = "Give node.data_dir a folder that the node may write to."
        raise NodeError(f"{existing} cannot be written to: {error.strerror}.", remedy) from error
    free_gb = shutil.disk_usage(existing).free / 1e9
    if free_gb < minimum_free_gb:
        raise NodeError(
            f"{free_gb:.1f} GB are free; below minimum_free_gb = {minimum_free_gb} every instance is refused.",
            "Free disk space, or move node.data_dir.",
        )
    return f"{folder} can be written to, {free_gb:.1f} GB free"


def _database_and_machines(config: Config) -> Iterator[Finding]:
    node = Node(config=config, process="check")
    if not node.is_shared:
        yield tried("database", lambda: _database(node))
        return
    server = tried("database", lambda: check_server(node.database))
    yield server
    if server.holds:
        yield tried("clock", lambda: check_clock(node.database))
        file_system = file_system_of(config.node.data_dir)
        yield tried("shared folder", lambda: check_folder(node.ledger, config.node.data_dir, file_system))
        yield tried("machine name", lambda: check_machine(node.ledger, node.machine))


def _database(node: Node) -> str:
    file_system = file_system_of(node.data_dir)
    if file_system.is_network:
        raise SetupError(
            f"{node.database_path} is on {file_system.kind}: locks of SQLite cannot be trusted on a network.",
            "Give node.data_dir a folder on a disk of this machine, or node.database a PostgreSQL database.",
        )
    if node.database_path.exists():
        _ = node.ledger  # says if another version made it
    version = best_sqlite().sqlite_version_info
    journal, synchronous = journal_pragmas(version)
    return f"SQLite {'.'.join(map(str, version))}, journal {journal}, synchronous {synchronous}"


def _ports(config: Config) -> dict[str, int]:
    tls = config.receiver.tls
    ports = {} if tls is not None and tls.only else {"port": config.node.port}
    return ports if tls is None else {**ports, "TLS port": tls.port}


def _certificate(config: Config) -> str:
    receiver_settings(config)
    tls = config.receiver.tls
    assert tls is not None
    clients = "clients must show one, too" if tls.client_ca is not None else "clients need none"
    return f"{tls.certificate} and its key can be used; {clients}"


def _transport() -> str:
    fault = fault_of_spooling(check_receiver)
    if fault is not None:
        remedy = "Install a pynetdicom that Delineate was tested with; until then receiving is several times slower."
        raise NodeError(f"the spooling transport does not work with this pynetdicom: {fault}.", remedy)
    return "data sets go from the socket to the disk"


def _port(config: Config, port: int) -> str:
    host = config.node.host
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return f"{host}:{port} is free"
    except OSError as error:
        if _is_at_work(config):
            return f"{host}:{port} is taken by this node, which is at work"
        remedy = "Give another port, or stop the other program (ss -ltnp names it)."
        raise NodeError(f"{host}:{port} cannot be opened: {error.strerror}.", remedy) from error


def _is_at_work(config: Config) -> bool:
    return any(_is_held(lock) for lock in Node(config=config).machine_dir.glob("node*.lock"))


def _is_held(lock: Path) -> bool:
    try:
        hold_lock(lock, wait_s=0.0, holder="A node").close()
    except SetupError:
        return True
    return False


def _device(config: Config) -> Finding:
    section = config.node
    facts = {fact.name.split(":")[0]: fact for fact in devices(section.device_id, section.precision)}
    cpu, cuda, openvino = (facts[name] for name in ("cpu", "cuda", "openvino"))
    told = [cuda, openvino] if openvino.usable or section.device == "openvino" else [cuda]
    words = [
        f"{each.name.split(':')[0]}{':' if each.usable else ' cannot be used:'} {each.detail}" for each in (*told, cpu)
    ]
    said = "; ".join([f"device = {section.device!r}, precision = {section.precision!r}", *words])
    remedies = {
        "cuda": "Mend the driver or install the extra 'cuda', or set node.device to 'auto' or 'cpu'.",
        "openvino": "Install the extra 'openvino', or set node.device to 'cpu'; bf16 needs AMX, set node.precision to "
        "'f32' without.",
    }
    holds = section.device == "auto" or facts[section.device].usable
    return Finding(subject="device", holds=holds, said=said, what_to_do="" if holds else remedies[section.device])


def _model(config: Config, name: str) -> str:
    loaded = model_store(config.node.model_dirs).load(name)
    predictor = opener(config.node)(loaded)
    structures = ", ".join(structure.name for structure in loaded.package.structures)
    return f"version {loaded.package.version} ({structures}); {predictor.computed_by}"


def _channels(route: Route, store: ModelStore) -> Iterator[Finding]:
    """Tell whether a route says which series are the images that its models take; nothing where all take one."""
    try:
        wanted = {model: store.describe(model).image_names for model in route.models}
    except SetupError:
        # The model's own finding says it.
        return
    if route.channels or any(len(names) > 1 for names in wanted.values()):
        yield tried(f"channels of route {route.name}", lambda: _told(route, wanted))


def _told(route: Route, wanted: Mapping[str, tuple[str, ...]]) -> str:
    for model, names in wanted.items():
        refuse_other_channels(route, model, names)
    return f"{', '.join(channel.name for channel in route.channels)}, as {', '.join(wanted)} takes them"


def warn_of_names(store: ModelStore, model: str) -> Iterator[Finding]:
    """Warn of names that TG-263 would have otherwise; names that collide are a fault of the manifest."""
    try:
        names = [structure.name for structure in store.describe(model).structures]
        faults = {name: found for name in names if (found := faults_of(name, store.structures))}
    except SetupError:
        # The model's own finding says it.
        return
    if faults:
        said = "; ".join(f"{name} {' and '.join(each)}" for name, each in faults.items())
        remedy = "Rename them in the package's model.toml (TG-263), or leave them: receivers get them as they are."
        yield Finding(subject=f"names of model {model}", holds=True, said=said, what_to_do=remedy)


def _archive(config: Config, archive: ArchiveSection) -> str:
    peer = PeerAddress(name=archive.ae_title, ae_title=archive.ae_title, host=archive.host, port=archive.port)
    try:
        count_instances(
            peer, "2.25.1", "2.25.1", calling_ae_title=config.node.ae_title, timeout_s=archive.timeout_s
        )  # of a study that nobody has
    except PeerError as error:
        remedy = (
            "Start it; correct its host, port and AE title in [[archives]]; make our AE title known to it. Until then "
            "the node does not know how many instances its series have."
        )
        raise NodeError(f"{archive.host}:{archive.port}: {error.reason}", remedy) from error
    return f"{archive.ae_title} at {archive.host}:{archive.port} answers C-FIND"


def _hot_folder(folder: Path) -> str:
    write_and_rename(folder, "Make it, or mount it, and let the node write to it; or change hot_folder.folder.")
    return f"{folder} can be emptied"
