"""Look at an A-ASSOCIATE-RQ before pynetdicom's threads do: what it cannot decode would end or hang them."""

from pynetdicom.pdu import A_ASSOCIATE_RQ


def fault_of_request(request: bytes) -> str | None:
    """Say what is wrong with a whole A-ASSOCIATE-RQ (PS3.8 9.3.2); None where pynetdicom can negotiate on it."""
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(request)
        contexts = pdu.to_primitive().presentation_context_definition_list
        if not contexts:
            return "its A-ASSOCIATE-RQ proposes no presentation context"
        for context in contexts:
            if not context.context_id % 2 or not context.abstract_syntax or not context.transfer_syntax:
                return "a presentation context in its A-ASSOCIATE-RQ is incomplete"
    except Exception:  # struct.error, ValueError, TypeError, IndexError, KeyError ...: whatever decoding garbage raises
        return "its A-ASSOCIATE-RQ cannot be decoded"
    return None
