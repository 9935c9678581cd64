"""The configuration: what is shipped works, and every slip is named with what was meant."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from node.config import (
    ArchiveSection,
    ChannelSection,
    CompletionSection,
    Config,
    ContouringSection,
    DeliverySection,
    HotFolderSection,
    NodeSection,
    PeerSection,
    ReceiverSection,
    RetentionSection,
    RouteSection,
    TlsSection,
    load,
    parse,
)
from node.destination_section import Destination
from node.domain.errors import SetupError
from node.domain.peers import Peer
from node.domain.retention import Watermarks
from node.resources import shipped

SHIPPED = shipped("conf") / "node.toml"


def minimal(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "node": {"ae_title": "DELINEATE", "host": "127.0.0.1", "port": 11112, "data_dir": "var"},
        "destinations": [{"name": "tps", "ae_title": "TPS", "host": "127.0.0.1", "port": 11113}],
        "routes": [
            {
                "name": "planning-ct",
                "when": {"Modality": "CT"},
                "models": ["body-bones"],
                "outputs": ["rtstruct", "seg"],
                "destinations": ["tps"],
            }
        ],
    }
    return {**values, **changes}


def test_the_shipped_configuration_is_valid() -> None:
    config = load(SHIPPED)

    assert config.node.ae_title == "DELINEATE"
    assert config.node.port == 11112
    assert config.destination("tps").port == 11113
    assert config.routes[0].route().when == {"Modality": ("CT",)}


@pytest.mark.parametrize(
    ("header", "section"),
    [
        ("node", NodeSection),
        ("receiver", ReceiverSection),
        (r"receiver\.tls", TlsSection),
        ("peers", PeerSection),
        ("completion", CompletionSection),
        ("archives", ArchiveSection),
        ("contouring", ContouringSection),
        ("delivery", DeliverySection),
        ("retention", RetentionSection),
        ("hot_folder", HotFolderSection),
        ("destinations", Destination),
        ("routes", RouteSection),
    ],
)
def test_the_shipped_configuration_explains_every_key(header: str, section: Any) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    part = re.split(r"^(?:# )?\[+", text, flags=re.MULTILINE)
    body = next(one for one in part if re.match(rf"{header}\]", one))

    keys = set(re.findall(r"^(?:# )?([a-z_]+) = ", body, flags=re.MULTILINE))

    # [receiver.tls] is a table of its own.
    assert keys == set(section.model_fields) - ({"tls"} if section is ReceiverSection else set())


def test_the_shipped_configuration_explains_every_key_of_a_channel_by_an_example_that_works() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    (example,) = re.findall(r"^# channels = \[\n(?:#   .*\n)+# \]$", text, flags=re.MULTILINE)

    (values,) = tomllib.loads(re.sub("^# ", "", example, flags=re.MULTILINE)).values()
    route = {**minimal()["routes"][0], "channels": values}

    channels = parse(minimal(routes=[route])).routes[0].route().channels
    assert set(values[0]) == set(ChannelSection.model_fields)
    assert [one.name for one in channels] == ["T1", "T2"]
    assert channels[0].unless == {"SeriesDescription": ("*contrast*",)}


EXAMPLES = "tls_[a-z]+|confirm|fail_over =|stow|token_file|login_file"


def test_commented_keys_show_the_defaults() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    # Tables that are examples as a whole: from their commented heading to the next heading.
    text = re.sub(r"^# \[.*?(?=^(?:# )?\[|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    # The examples that no default could be.
    uncommented = re.sub(
        rf"^# (?!calling_ae_title|unless|completion|channels|folder|{EXAMPLES})([a-z_]+ = .*)$",
        r"\1",
        text,
        flags=re.MULTILINE,
    )

    assert parse(tomllib.loads(uncommented)) == parse(tomllib.loads(text))


def test_commented_tables_are_examples_that_work() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    examples = re.findall(r"^# \[.*?(?=^(?:# )?\[|\Z)", text, flags=re.MULTILINE | re.DOTALL)

    for example in examples:
        parse(tomllib.loads(re.sub(r"^# (\[|[a-z_]+ = )", r"\1", example, flags=re.MULTILINE)))

    assert len(examples) >= 2


def test_folders_are_absolute_wherever_they_are_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load(SHIPPED).node.data_dir == tmp_path / "var"


def test_an_unknown_key_is_named_with_the_nearest() -> None:
    with pytest.raises(SetupError, match=r"node\.prot: unknown key — did you mean 'port'\?"):
        parse(minimal(node={"prot": 11112}))


def test_a_route_changes_only_what_it_names_of_the_completion() -> None:
    route = {**minimal()["routes"][0], "completion": {"quiet_period_s": 30, "new_senders": "settle"}}

    policy = parse(minimal(routes=[route], completion={"settle_s": 2.0})).policies()["planning-ct"]

    assert (policy.quiet_period_s, policy.settle_s, policy.new_senders) == (30.0, 2.0, "settle")


def test_a_route_that_names_nothing_waits_as_the_node_does() -> None:
    config = parse(minimal(completion={"quiet_period_s": 90}))

    assert config.policies() == {"planning-ct": config.completion.policy()}


def test_an_unknown_key_of_a_routes_completion_is_named_with_the_nearest() -> None:
    route = {**minimal()["routes"][0], "completion": {"quiet_period": 30}}

    with pytest.raises(SetupError, match=r"completion\.quiet_period: unknown key — did you mean 'quiet_period_s'\?"):
        parse(minimal(routes=[route]))


def test_an_unknown_section_is_named_with_the_nearest() -> None:
    with pytest.raises(SetupError, match=r"route: unknown key — did you mean 'routes'\?"):
        parse(minimal(route=[]))


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SetupError) as caught:
        parse(minimal(node={"port": 70000, "device": "gpu"}, delivery={"timeout": 3}))

    assert "node.port" in caught.value.reason
    assert "node.device" in caught.value.reason
    assert "delivery.timeout: unknown key — did you mean 'timeout_s'?" in caught.value.reason


@pytest.mark.parametrize(
    ("device", "precision", "said"),
    [
        ("auto", "f16", "'f16' needs device = 'cuda', not 'auto'"),
        ("cpu", "bf16", "'bf16' needs device = 'openvino', not 'cpu'"),
        ("openvino", "tf32", "'tf32' needs device = 'cuda', not 'openvino'"),
    ],
)
def test_a_precision_that_the_device_does_not_compute_in_is_refused(device: str, precision: str, said: str) -> None:
    with pytest.raises(SetupError, match=f"node.precision: {said}"):
        parse(minimal(node={"device": device, "precision": precision}))


@pytest.mark.parametrize(("device", "precision"), [("cuda", "f16"), ("cuda", "tf32"), ("openvino", "bf16")])
def test_a_precision_that_the_device_computes_in_is_taken(device: str, precision: str) -> None:
    assert parse(minimal(node={"device": device, "precision": precision})).node.precision == precision


def test_a_route_to_nowhere_is_named() -> None:
    routes = [{"name": "a", "models": ["m"], "destinations": ["tsp"]}]

    with pytest.raises(SetupError, match=r"no destination 'tsp' — did you mean 'tps'\?"):
        parse(minimal(routes=routes))


def test_an_unknown_keyword_in_a_condition_is_named() -> None:
    routes = [{"name": "a", "when": {"Modalty": "CT"}, "models": ["m"], "destinations": ["tps"]}]

    with pytest.raises(SetupError, match="unknown keyword 'Modalty' — did you mean 'Modality'"):
        parse(minimal(routes=routes))


def test_two_destinations_of_one_name_are_refused() -> None:
    twice = minimal()["destinations"] * 2

    with pytest.raises(SetupError, match="'tps' is there twice"):
        parse(minimal(destinations=twice))


@pytest.mark.parametrize("title", ["", " " * 4, "A" * 17, "BACK\\SLASH", "ÜBER"])
def test_an_impossible_ae_title_is_refused(title: str) -> None:
    with pytest.raises(SetupError, match=r"node\.ae_title"):
        parse(minimal(node={"ae_title": title}))


@pytest.mark.parametrize("content", [b"[node\n", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_an_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)

    with pytest.raises(SetupError, match=r"broken\.toml"):
        load(path)


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        load(tmp_path / "none.toml")

    assert "none.toml" in caught.value.reason
    assert "--config" in caught.value.remedy


def test_an_empty_configuration_has_defaults() -> None:
    assert parse({}) == Config()


def test_a_destination_may_be_a_folder() -> None:
    config = parse(minimal(destinations=[{"name": "tps", "folder": "/srv/results"}]))

    assert config.destination("tps").folder == Path("/srv/results")


def test_a_destination_that_is_nowhere_is_named_with_what_it_lacks() -> None:
    with pytest.raises(SetupError) as caught:
        parse(minimal(destinations=[{"name": "tps", "host": "127.0.0.1"}]))

    assert "destinations.tps.ae_title: missing" in caught.value.reason
    assert "destinations.tps.port: missing" in caught.value.reason


def test_a_destination_that_is_a_folder_and_a_peer_is_refused() -> None:
    with pytest.raises(SetupError, match=r"destinations\.tps\.port: a folder has none"):
        parse(minimal(destinations=[{"name": "tps", "folder": "/srv/results", "port": 104}]))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tls": True}, r"tls_ca: missing"),
        ({"tls_ca": "ca.pem"}, r"tls: missing"),
        ({"tls": True, "tls_ca": "ca.pem", "tls_key": "key.pem"}, r"tls_key: a certificate and its key come together"),
        ({"commitment": True, "confirm": "find"}, r"confirm: commitment is the stronger proof"),
        ({"fail_over": "nobody"}, r"fail_over: no other destination is called 'nobody'"),
        ({"fail_over": "tps"}, r"fail_over: no other destination is called 'tps'"),
        ({"stow": "https://pacs/dicom-web"}, r"ae_title: a DICOMweb server has none"),
        ({"token_file": "token"}, r"token_file: an application entity has none"),
        ({"name": "sender"}, r"'sender' stands for whoever sent the images"),
    ],
)
def test_a_slip_in_a_destination_is_named(keys: dict[str, Any], said: str) -> None:
    tps = {"name": "tps", "ae_title": "TPS", "host": "tps", "port": 104}

    with pytest.raises(SetupError, match=said):
        parse(minimal(destinations=[{**tps, **keys}]))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"stow": "http://pacs/dicom-web", "token_file": "token"}, r"a secret would go unencrypted"),
        ({"stow": "https://pacs/d", "token_file": "a", "login_file": "b"}, r"there is a token_file"),
        ({"stow": "http://pacs/dicom-web", "tls_ca": "ca.pem"}, r"http is not encrypted"),
        ({"stow": "https://pacs/dicom-web", "commitment": True}, r"commitment: a DICOMweb server has none"),
        ({"stow": "pacs/dicom-web"}, r"stow"),
    ],
)
def test_a_slip_in_a_dicomweb_destination_is_named(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        parse(minimal(destinations=[{"name": "tps", **keys}]))


def test_a_route_may_return_results_to_the_sender() -> None:
    route = {**minimal()["routes"][0], "destinations": ["sender"]}

    assert parse(minimal(routes=[route])).routes[0].destinations == ("sender",)


@pytest.mark.parametrize("folder", ["/srv/node", "/srv/node/drop", "/srv", "/srv/results/drop", "/srv/x/../results"])
def test_a_hot_folder_that_would_take_in_our_own_files_is_refused(folder: str) -> None:
    values = minimal(
        node={"data_dir": "/srv/node"},
        hot_folder={"folder": folder},
        destinations=[{"name": "tps", "folder": "/srv/results"}],
    )

    with pytest.raises(SetupError, match="keep them apart"):
        parse(values)


def test_folders_beside_each_other_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "node.toml"
    path.write_text(
        '[hot_folder]\nfolder = "drop"\n[[destinations]]\nname = "shelf"\nfolder = "dropped"\n', encoding="utf-8"
    )

    config = load(path)

    assert config.hot_folder.folder == tmp_path / "drop"
    assert config.destination("shelf").folder == tmp_path / "dropped"


def test_a_peer_is_named_by_networks_and_keywords() -> None:
    peer = {"name": "ct-1", "ae_title": "CT*", "addresses": ["10.1.7.9/24", "fd00::1"], "may_send": "CTImageStorage"}

    config = parse(minimal(peers=[{**peer, "may_send": ["CTImageStorage"]}]))

    assert config.peers[0].peer() == Peer(
        name="ct-1",
        ae_title="CT*",
        addresses=("10.1.7.0/24", "fd00::1/128"),
        storage_classes=frozenset({"1.2.840.10008.5.1.4.1.1.2"}),
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("addresses", ["10.1.7"], "neither an IP address nor a network"),
        ("may_send", ["CTImageStorag"], "do you mean 'CTImageStorage'?"),
        ("adresses", ["10.1.7.1"], "did you mean 'addresses'?"),
    ],
)
def test_a_slip_in_a_peer_is_named(key: str, value: Any, said: str) -> None:
    with pytest.raises(SetupError) as raised:
        parse(minimal(peers=[{"name": "ct-1", "ae_title": "CT1", key: value}]))

    assert said in raised.value.reason


def with_channels(*channels: dict[str, Any]) -> dict[str, Any]:
    return minimal(routes=[{**minimal()["routes"][0], "channels": list(channels)}])


T1, T2 = (
    {"name": name, "when": {"SeriesDescription": f"*{name}*"}, "unless": {"SeriesDescription": ["*scout*"]}}
    for name in ("T1", "T2")
)


def test_channels_are_tables_under_their_route() -> None:
    text = """
    [[routes.channels]]
    name = "T1"
    when = { SeriesDescription = "*t1*" }
    [[routes.channels]]
    name = "T2"
    when = { SeriesDescription = ["*t2*", "*tse*"] }
    """
    routes = tomllib.loads(f"[[routes]]\nname = 'brain'\nmodels = ['m']\ndestinations = ['tps']\n{text}")["routes"]

    first, second = parse(minimal(routes=routes)).routes[0].route().channels

    assert (first.name, first.when, first.unless) == ("T1", {"SeriesDescription": ("*t1*",)}, {})
    assert second.when == {"SeriesDescription": ("*t2*", "*tse*")}


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ((T1, {**T2, "wen": {}}), r"routes\[1\]\.channels\[2\]\.wen: unknown key — did you mean 'when'\?"),
        ((T1, {"name": "T2"}), r"routes\[1\]\.channels\[2\]\.when: missing"),
        ((T1, {"name": "T2", "when": {}}), r"routes\[1\]\.channels\[2\]\.when: .*at least 1"),
        ((T1, {**T2, "when": {"Modalty": "MR"}}), "routes.planning-ct: unknown keyword 'Modalty' — did you mean"),
        ((T1, {**T2, "unless": {"Modalty": "MR"}}), "routes.planning-ct: unknown keyword 'Modalty' — did you mean"),
        ((T1, T1), r"routes\.planning-ct\.channels: the name 'T1' is there twice"),
        ((T1,), r"routes\.planning-ct\.channels: one alone; a model that takes one image needs none"),
    ],
)
def test_every_slip_in_a_channel_is_named(channels: tuple[dict[str, Any], ...], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        parse(with_channels(*channels))


def test_the_disk_is_low_before_instances_are_refused() -> None:
    marks = parse(minimal(node={"minimum_free_gb": 5}, retention={"early_margin_gb": 20, "early_until_margin_gb": 50}))

    assert marks.retention.watermarks(5) == Watermarks(below=25e9, until=55e9)
    with pytest.raises(SetupError, match=r"early_until_margin_gb: less than early_margin_gb"):
        parse(minimal(retention={"early_margin_gb": 20, "early_until_margin_gb": 10}))
