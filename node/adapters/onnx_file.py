"""Two facts of an ONNX file, read from its protocol buffer without the `onnx` package.

Fields (onnx.proto): ModelProto graph = 7, opset_import = 8; OperatorSetIdProto domain = 1, version = 2;
GraphProto initializer = 5; TensorProto data_location = 14, EXTERNAL = 1.
"""

from collections.abc import Iterator

from node.domain.errors import SetupError


def default_opset(model: bytes) -> int:
    """Give the version of the default operator set; 0 where the file imports none.

    Raises
    ------
    SetupError
        The bytes are no protocol buffer.
    """
    for field, imported in _fields(memoryview(model)):
        if field == 8 and isinstance(imported, memoryview):
            values = dict(_fields(imported))
            domain, version = values.get(1, memoryview(b"")), values.get(2, 0)
            if isinstance(domain, memoryview) and bytes(domain) in (b"", b"ai.onnx") and isinstance(version, int):
                return version
    return 0


def holds_external_weights(model: bytes) -> bool:
    """Tell whether an initializer's values lie in another file.

    Raises
    ------
    SetupError
        The bytes are no protocol buffer.
    """
    graphs = (value for field, value in _fields(memoryview(model)) if field == 7 and isinstance(value, memoryview))
    return any(
        (14, 1) in [(at, what) for at, what in _fields(value) if isinstance(what, int)]
        for graph in graphs
        for field, value in _fields(graph)
        if field == 5 and isinstance(value, memoryview)
    )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Walk over the fields of one message; nested ones are not entered."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                value, at = _varint(message, at)
                yield key >> 3, value
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise _damaged()
                yield key >> 3, message[at : at + length]
                at += length
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                raise _damaged()


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _damaged()
        value |= (message[at] & 0x7F) << shift
        at += 1
        if not message[at - 1] & 0x80:
            return value, at
    raise _damaged()


def _damaged() -> SetupError:
    return SetupError("The graph file is no ONNX model.", "Copy the model package again from its source.")
