"""Which destination a name stands for: one of the configuration, or the sender of a series."""

from typing import Any

import pytest

from node.config import parse
from node.delivering import Destinations
from node.domain.delivery import DeliveryPlan, to_sender
from node.domain.errors import SetupError
from node.service import forms_of

TPS: dict[str, Any] = {"name": "tps", "ae_title": "TPS", "host": "tps.example", "port": 104, "segmentation": "labelmap"}
CT: dict[str, Any] = {"name": "scanners", "ae_title": "CT*", "host": "10.0.0.1", "port": 11112}


def destinations(*given: dict[str, Any], peers: tuple[dict[str, Any], ...] = ()) -> Destinations:
    return Destinations(parse({"destinations": list(given), "peers": list(peers)}))


def test_the_sender_is_the_destination_with_its_ae_title() -> None:
    assert destinations(TPS, peers=(CT,)).find(to_sender("TPS")).name == "tps"


def test_a_sender_that_is_a_peer_is_called_by_the_title_that_it_called_with() -> None:
    address = destinations(TPS, peers=(CT,)).find(to_sender("CT7")).address()

    assert (address.ae_title, address.host, address.port) == ("CT7", "10.0.0.1", 11112)


@pytest.mark.parametrize("title", ["MR1", ""])
def test_a_sender_of_whom_nothing_tells_where_it_listens_is_named_with_what_to_configure(title: str) -> None:
    with pytest.raises(SetupError, match=r"Add host and port to the \[\[peers\]\] entry"):
        destinations(TPS, peers=(CT,)).find(to_sender(title))


def test_a_destination_that_is_there_no_more_is_named() -> None:
    with pytest.raises(SetupError, match="no destination 'pacs' any more"):
        destinations(TPS).store("pacs", [])


def test_the_plan_of_a_destination_is_what_its_keys_say() -> None:
    keys = {"fail_over": "other", "fail_over_after_minutes": 5, "commitment": True}
    other = {"name": "other", "folder": "/srv/results"}

    plan = destinations({**TPS, **keys}, other).plan("tps")

    assert plan == DeliveryPlan(fail_over="other", fail_over_after_s=300.0, confirm="commitment")


def test_a_sender_gets_the_form_of_its_destination_and_any_other_what_everybody_takes() -> None:
    forms = forms_of(parse({"destinations": [TPS]}))([to_sender("TPS"), to_sender("CT1"), "tps"])

    assert [forms[name].segmentation for name in forms] == ["labelmap", "binary", "labelmap"]
    assert forms[to_sender("CT1")].profile.name == "generic"
