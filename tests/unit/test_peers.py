"""Who may open an association, and what it may send."""

from typing import Any

import pytest

from node.domain.peers import Admission, AssociationPolicy, Call, Peer, Rejection, admit, classes_for, peer_of

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def call(calling: str = "CT1", called: str = "DELINEATE", address: str = "10.1.7.9") -> Call:
    return Call(calling_ae_title=calling, called_ae_title=called, address=address)


def policy(*peers: Peer, **settings: Any) -> AssociationPolicy:
    return AssociationPolicy(ae_title="DELINEATE", peers=peers, **settings)


CT_1 = Peer(name="ct-1", ae_title="CT?", addresses=("10.1.7.0/24",), maximum_associations=2)


def test_without_a_list_everybody_may_call() -> None:
    assert admit(call("ANYBODY", "SOMEBODY"), policy(), []) == Admission(peer=None)


def test_with_a_list_title_and_address_must_fit_together() -> None:
    other = Peer(name="other", ae_title="OTHER", addresses=("10.1.8.1",))

    assert admit(call(), policy(other, CT_1), []) == Admission(peer=CT_1)
    for stranger in (call("MR1"), call(address="10.1.8.1"), call("OTHER")):
        rejection = admit(stranger, policy(other, CT_1), [])
        assert isinstance(rejection, Rejection)
        # PS3.8 Table 9-21: rejected permanently, by the service user: calling AE title not recognised.
        assert (rejection.result, rejection.source, rejection.diagnostic) == (1, 1, 3)


def test_the_reason_says_whether_title_or_address_is_unknown() -> None:
    by_title, by_address = admit(call("MR1"), policy(CT_1), []), admit(call(address="10.9.9.9"), policy(CT_1), [])

    assert isinstance(by_title, Rejection)
    assert by_title.reason == "its AE title is not on the list of peers"
    assert isinstance(by_address, Rejection)
    assert by_address.reason == "its AE title is on the list of peers, its address is not"


def test_another_called_title_is_rejected_only_where_ours_is_required() -> None:
    rejection = admit(call(called="OTHER"), policy(require_called_ae_title=True), [])

    assert isinstance(rejection, Rejection)
    assert (rejection.result, rejection.source, rejection.diagnostic) == (1, 1, 7)
    assert isinstance(admit(call(called="OTHER"), policy(), []), Admission)


@pytest.mark.parametrize(
    ("settings", "peers", "open_calls", "whose"),
    [
        ({"maximum_associations": 3}, (), [call(address=f"10.0.0.{n}") for n in range(3)], "the node"),
        ({"maximum_associations_per_address": 2}, (), [call("A"), call("B")], "its address"),
        ({}, (CT_1,), [call("CT1"), call("CT2", address="10.1.7.1")], "peer ct-1"),
    ],
)
def test_each_limit_rejects_for_now(
    settings: dict[str, int], peers: tuple[Peer, ...], open_calls: list[Call], whose: str
) -> None:
    rejection = admit(call(), policy(*peers, **settings), open_calls)

    assert isinstance(rejection, Rejection)
    # Rejected transiently, presentation related: local limit exceeded.
    assert (rejection.result, rejection.source, rejection.diagnostic) == (2, 3, 2)
    assert rejection.reason.startswith(f"{whose} has ")
    assert isinstance(admit(call(), policy(*peers, **settings), open_calls[1:]), Admission)


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("10.1.7.255", True),
        ("::ffff:10.1.7.1", True),
        ("10.1.8.0", False),
        ("fe80::1%eth0", False),
        ("nonsense", False),
    ],
)
def test_addresses_are_compared_as_addresses(address: str, fits: bool) -> None:
    assert (peer_of(call(address=address), (CT_1,)) is CT_1) is fits


def test_a_peer_may_send_its_classes_or_all() -> None:
    taken = {CT: "CT", MR: "MR"}

    assert classes_for(None, taken) == taken
    assert classes_for(CT_1, taken) == taken
    assert classes_for(Peer(name="x", ae_title="X", storage_classes=frozenset({MR, "1.2.3"})), taken) == {MR: "MR"}
