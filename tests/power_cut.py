"""What a power cut leaves behind, told from the system calls of a process alone.

strace writes down every call that changes files and every answer that leaves on a socket. ``answers`` plays the calls
back and gives, for each C-STORE response, the files that survive a power cut at that very moment under every outcome:

- what was written to a file survives only a sync of that file that began after the write had ended;
- a name in a folder (created, linked, renamed to) survives only a sync of that folder that began after it was made;
  until then it may be there or not, and what it replaced or removed may be there or not;
- so a file survives where its bytes, its name and the names of all folders above it do.

That is what POSIX promises and less than most file systems do: ext4 makes more durable than it says.

>>> calls = parse(Path("trace").read_text(), cwd=Path("/"))
>>> disk = Disk(data_dir)
>>> for answer in answers(calls, disk):
...     assert "inbox/1.2.3/image.dcm" in answer.survivors
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# What strace is asked for: everything that changes files, makes them durable, or answers.
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice", "fallocate")
SIZES = ("truncate", "ftruncate")
SEEKS = ("lseek",)
SYNCS = ("fsync", "fdatasync", "sync", "syncfs")
OPENS = ("open", "openat", "openat2", "creat")
NAMES = ("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat")
REMOVALS = ("unlink", "unlinkat", "rmdir")
FOLDERS = ("mkdir", "mkdirat")
SENDS = ("sendto", "sendmsg", "sendmmsg")
# They could change files behind the back of this model.
UNKNOWN_TO_THE_MODEL = ("io_uring_setup", "sync_file_range")
TRACED = (*WRITES, *SIZES, *SEEKS, *SYNCS, *OPENS, *NAMES, *REMOVALS, *FOLDERS, *SENDS, *UNKNOWN_TO_THE_MODEL)

C_STORE_RSP = 0x8001
# Of what is written, so much is in the trace.
LONGEST_WRITE_SHOWN = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One system call: when it began and ended, counted in lines of the trace."""

    name: str
    arguments: str
    # -1 for a failure.
    result: int
    # What its descriptor or that of its result is, as strace shows it between angle brackets.
    described: str
    began: int
    ended: int
    cwd: Path

    @property
    def texts(self) -> list[bytes]:
        """Give the strings among its arguments."""
        return [_from_hex(one) for one in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', self.arguments)]

    @property
    def descriptors(self) -> list[str]:
        """Give what each descriptor among its arguments is, in order."""
        return [_from_hex(one).decode() for one in re.findall(r"<((?:\\x[0-9a-f]{2})*)>", self.arguments)]

    @property
    def leaves_on_a_socket(self) -> bool:
        """Tell whether it sends."""
        to_socket = bool(self.descriptors) and self.descriptors[0].startswith("socket:")
        return self.name in SENDS or (self.name in WRITES and to_socket)

    def paths(self) -> list[Path]:
        """Give its paths, absolute."""
        pairs = re.findall(
            r'(?:(?:\d+|AT_FDCWD)(?:<((?:\\x[0-9a-f]{2})*)>)?, )?"((?:\\x[0-9a-f]{2})*)"', self.arguments
        )
        return [
            (Path(_from_hex(folder).decode()) if folder else self.cwd) / _from_hex(name).decode()
            for folder, name in pairs
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One C-STORE response as it left, and what a power cut at that moment leaves for certain."""

    message_id: int
    status: int
    # Path below the root -> numbers of the files of which one is there, whole, by that name. More than one where a file
    # took the place of another and nobody synced the folder since. The number stays when the file is renamed.
    survivors: dict[str, frozenset[int]]
    # Paths that may be there as well, and the numbers of their files.
    uncertain: dict[str, int]
    # Files that would be torn: not all that was written is durable.
    torn: frozenset[int]


def strace(trace: Path) -> list[str]:
    """Give the command that goes before the command to be traced."""
    calls = ",".join(f"?{name}" for name in TRACED)
    return [
        "strace",
        "-f",
        "-y",
        "-xx",
        "-s",
        str(LONGEST_WRITE_SHOWN),
        "--seccomp-bpf",
        "-e",
        f"trace={calls}",
        "-o",
        str(trace),
    ]


# Reading the trace ---------------------------------------------------------------------------------------------------

_WHOLE = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)(?:<([^>]*)>)?.*$")
_BEGUN = re.compile(r"^(\w+)\((.*?),?\s*<unfinished \.\.\.>$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)\)\s+= (-?\d+|\?)(?:<([^>]*)>)?.*$")


def parse(trace: str, cwd: Path) -> list[Call]:
    """Read what strace wrote (``-f -y -xx``); calls in the order in which they ended."""
    calls: list[Call] = []
    begun: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        thread, _, said = line.strip().partition(" ")
        said = said.strip()
        if whole := _WHOLE.match(said):
            name, arguments, result, described = whole.groups()
            calls.append(_call(name, arguments, result, described, number, number, cwd))
        elif started := _BEGUN.match(said):
            begun[thread] = (number, started[1], started[2])
        elif (resumed := _RESUMED.match(said)) and thread in begun:
            began, name, arguments = begun.pop(thread)
            calls.append(_call(name, arguments + resumed[2], resumed[3], resumed[4], began, number, cwd))
    for began, name, arguments in begun.values():
        # Under way when the process ended: it may have done its work or not.
        calls.append(_call(name, arguments, "-1", None, began, began, cwd))
    return calls


def _call(name: str, arguments: str, result: str, described: str | None, began: int, ended: int, cwd: Path) -> Call:
    return Call(
        name=name,
        arguments=arguments,
        result=-1 if result == "?" else int(result),
        described=_from_hex(described or "").decode(),
        began=began,
        ended=ended,
        cwd=cwd,
    )


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


# Playing it back -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Change:
    """A write, or a change to one name of a folder, that no sync has covered yet."""

    # What the name leads to now; None where it was removed. Writes have no name.
    name: str = ""
    node: "_Node | None" = None
    # Only then can a sync that begins cover it.
    has_ended: bool = False


@dataclass(eq=False)
class _Node:
    """A file or a folder, whatever its name is."""

    number: int
    is_folder: bool
    # What a reader sees now.
    entries: dict[str, "_Node"] = field(default_factory=dict)
    # What was written to it, and where the next write goes; None where the trace does not tell all of it.
    content: bytearray | None = field(default_factory=bytearray)
    position: int = 0
    # What is on the disk for certain, but for the changes that are not covered.
    synced_entries: dict[str, "_Node"] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)


class Disk:
    """The files below a root, as they are and as they would be after a power cut."""

    def __init__(self, root: Path) -> None:
        self._root_path = PurePosixPath(root)
        self._root = _Node(number=0, is_folder=True)
        self._files: list[_Node] = []
        self._under_way: dict[int, list[tuple[_Node, _Change]]] = {}
        self._syncing: dict[int, list[tuple[_Node, _Change]]] = {}

    def begins(self, call: Call) -> None:
        """Take note that a call may now do its work."""
        if call.name in UNKNOWN_TO_THE_MODEL and call.result >= 0:
            raise NotImplementedError(f"{call.name} is not in the model")
        if call.name in SYNCS:
            self._syncing[id(call)] = [
                (node, change) for node in self._nodes_of_sync(call) for change in node.changes if change.has_ended
            ]
            return
        changes = self._changes(call) if call.result >= 0 else []
        for node, change in changes:
            node.changes.append(change)
        self._under_way[id(call)] = changes

    def ends(self, call: Call) -> None:
        """Take note that a call has done its work."""
        if call.name in SYNCS:
            self._synced(call)
            return
        for node, change in self._under_way.pop(id(call), []):
            change.has_ended = True
            if not change.name:
                _write(node, call)
            if change.name and change.node is None:
                node.entries.pop(change.name, None)
            elif change.node is not None:
                node.entries[change.name] = change.node

    def survivors(self) -> dict[str, frozenset[int]]:
        """Give the files that a power cut now leaves for certain, whole and by that name."""
        return {
            path: frozenset(node.number for node in nodes)
            for path, nodes in _certain(self._root, "")
            if not any(node.is_folder or node.changes for node in nodes)
        }

    def uncertain(self) -> dict[str, int]:
        """Give the files that may be there as well after a power cut."""
        certain = self.survivors()
        possible = {path: node.number for path, node in _possible(self._root, "") if not node.is_folder}
        return {path: number for path, number in possible.items() if path not in certain}

    def torn(self) -> frozenset[int]:
        """Give the files of which a power cut now may leave a part, or nothing."""
        return frozenset(node.number for _, node in _possible(self._root, "") if not node.is_folder and node.changes)

    def contents(self) -> dict[int, bytes]:
        """Give what every file holds or held that was ever there, and of which the trace tells all."""
        return {node.number: bytes(node.content) for node in self._files if node.content is not None}

    def paths(self) -> dict[int, str]:
        """Give where each file is now, as a reader sees it."""
        return {node.number: path for path, node in _visible(self._root, "") if not node.is_folder}

    def _nodes_of_sync(self, call: Call) -> list[_Node]:
        if call.name in ("sync", "syncfs"):
            return [self._root, *(node for _, node in _visible(self._root, ""))]
        node = self._node_of(call.descriptors[0])
        return [node] if node else []

    def _synced(self, call: Call) -> None:
        covered = self._syncing.pop(id(call))
        if call.result != 0:
            return
        for node, change in covered:
            if change not in node.changes:  # another sync that ran beside this one covered it
                continue
            node.changes.remove(change)
            if change.node is not None:
                node.synced_entries[change.name] = change.node
            elif change.name:
                node.synced_entries.pop(change.name, None)

    def _changes(self, call: Call) -> list[tuple[_Node, _Change]]:
        if call.name in OPENS:
            return self._opened(call)
        if call.name in FOLDERS:
            return self._named(call.paths()[0], self._new(is_folder=True))
        if call.name in REMOVALS:
            return self._named(call.paths()[0], None)
        if call.name in NAMES:
            return self._moved(call)
        if call.name in SEEKS:
            self._sought(call)
            return []
        node = self._at(call.paths()[0]) if call.name == "truncate" else self._written(call)
        return [(node, _Change())] if node else []

    def _sought(self, call: Call) -> None:
        if node := self._node_of(call.descriptors[0]):
            node.position = call.result

    def _written(self, call: Call) -> _Node | None:
        if call.name not in (*WRITES, "ftruncate"):
            return None
        # The target of two of them is their second descriptor.
        target = call.descriptors[1:] if call.name in ("copy_file_range", "splice") else call.descriptors
        return self._node_of(target[0]) if target else None

    def _opened(self, call: Call) -> list[tuple[_Node, _Change]]:
        path = Path(call.described) if call.described else call.paths()[0]
        if "O_TMPFILE" in call.arguments and self._below(path) is not None:
            raise NotImplementedError("O_TMPFILE is not in the model")
        node = self._at(path)
        if node is not None:
            return [(node, _Change())] if "O_TRUNC" in call.arguments or call.name == "creat" else []
        return self._named(path, self._new(is_folder=False)) if "O_CREAT" in call.arguments else []

    def _moved(self, call: Call) -> list[tuple[_Node, _Change]]:
        source, target = call.paths()[:2]
        if call.name.startswith("symlink"):
            return self._named(target, self._new(is_folder=False))
        node = self._at(source)
        if node is None:
            if self._below(target) is not None:
                raise NotImplementedError(f"{source} came from outside the root")
            return []
        if "RENAME_EXCHANGE" in call.arguments:
            raise NotImplementedError("RENAME_EXCHANGE is not in the model")
        removed = self._named(source, None) if call.name.startswith("rename") else []
        return self._named(target, node) + removed

    def _named(self, path: Path, node: _Node | None) -> list[tuple[_Node, _Change]]:
        folder = self._at(path.parent)
        return [(folder, _Change(name=path.name, node=node))] if folder else []

    def _new(self, *, is_folder: bool) -> _Node:
        self._files.append(_Node(number=len(self._files) + 1, is_folder=is_folder))
        return self._files[-1]

    def _node_of(self, described: str) -> _Node | None:
        return self._at(Path(described))

    def _below(self, path: Path) -> tuple[str, ...] | None:
        absolute = PurePosixPath(path)
        return absolute.relative_to(self._root_path).parts if absolute.is_relative_to(self._root_path) else None

    def _at(self, path: Path) -> _Node | None:
        parts = self._below(path)
        if parts is None:
            return None
        node: _Node | None = self._root
        for part in parts:
            node = node.entries.get(part) if node else None
        return node


def _write(node: _Node, call: Call) -> None:
    """Keep what was written, where the trace shows all of it."""
    written = b"".join(call.texts)
    emptied = call.name in OPENS or (call.name in SIZES and call.arguments.endswith(" 0"))
    if emptied:
        node.content, node.position = bytearray(), 0
    elif node.content is None or call.name not in ("write", "writev", "pwrite64") or len(written) < call.result:
        node.content = None
    elif call.name == "pwrite64":
        start = int(call.arguments.rpartition(", ")[2])
        node.content[start : start + call.result] = written[: call.result]
    else:
        node.content[node.position : node.position + call.result] = written[: call.result]
        node.position += call.result


def _certain(folder: _Node, above: str) -> Iterator[tuple[str, list[_Node]]]:
    for name, synced in folder.synced_entries.items():
        changes = [change.node for change in folder.changes if change.name == name]
        nodes = [synced, *(node for node in changes if node is not None)]
        if None in changes or (len(nodes) > 1 and any(node.is_folder for node in nodes)):
            continue
        yield above + name, nodes
        yield from _certain(nodes[0], f"{above}{name}/")


def _possible(folder: _Node, above: str) -> Iterator[tuple[str, _Node]]:
    changes = [(change.name, change.node) for change in folder.changes if change.node is not None]
    for name, node in [*folder.synced_entries.items(), *changes]:
        yield above + name, node
        yield from _possible(node, f"{above}{name}/")


def _visible(folder: _Node, above: str) -> Iterator[tuple[str, _Node]]:
    for name, node in folder.entries.items():
        yield above + name, node
        yield from _visible(node, f"{above}{name}/")


def answers(calls: Sequence[Call], disk: Disk) -> Iterator[Answer]:
    """Play the calls back on a disk; yields every C-STORE response at the moment in which it begins to leave."""
    # At one line a call begins before it ends.
    moments = sorted(
        [(call.began, 0, number) for number, call in enumerate(calls)]
        + [(call.ended, 1, number) for number, call in enumerate(calls)]
    )
    for _, is_end, number in moments:
        call = calls[number]
        if is_end:
            disk.ends(call)
            continue
        disk.begins(call)
        if call.leaves_on_a_socket:
            for message_id, status in _responses(b"".join(call.texts)):
                yield Answer(
                    message_id=message_id,
                    status=status,
                    survivors=disk.survivors(),
                    uncertain=disk.uncertain(),
                    torn=disk.torn(),
                )


def _responses(sent: bytes) -> Iterator[tuple[int, int]]:
    """Read the C-STORE responses in what was sent: PS3.8 9.3.5, one PDV with a whole command each; PS3.7 E."""
    while len(sent) >= 6:
        length = int.from_bytes(sent[2:6], "big")
        pdu, sent = sent[: 6 + length], sent[6 + length :]
        if pdu[0] != 0x04 or len(pdu) < 12 or not pdu[11] & 1:
            continue
        elements = dict(_command_elements(pdu[12:]))
        if elements.get(0x0100) == C_STORE_RSP:
            yield elements[0x0120], elements[0x0900]


def _command_elements(command: bytes) -> Iterator[tuple[int, int]]:
    """Give the elements of two bytes of a command set."""
    while len(command) >= 8:
        element, length = int.from_bytes(command[2:4], "little"), int.from_bytes(command[4:8], "little")
        if length == 2:
            yield element, int.from_bytes(command[8:10], "little")
        command = command[8 + length :]
