"""ZIP archives as they come from anywhere: members are read in pieces, and their names never become paths."""

import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO
from zlib import error as ZlibError  # noqa: N812 - a class with a lower-case name

from node.domain.errors import InputError

_PIECE_BYTES = 1 << 20
# zipfile withholds the piece in which it finds a wrong checksum, the last: a member larger than this comes in two at
# least, so that its beginning can say what it was.
_IN_ONE_PIECE = 1 << 16
_ENCRYPTED = 0x1
_MADE_BY_LINUX_LINK = 0o120000


class Member:
    """One file in an archive."""

    def __init__(self, archive: zipfile.ZipFile, number: int, stated: zipfile.ZipInfo) -> None:
        self._archive = archive
        self._stated = stated
        # From 1, in the order of the archive's directory: what a person is told instead of its name.
        self.number = number
        # As its directory states; never more is given.
        self.size = stated.file_size
        # Only to compare with: what a name like '../../x' would lead to is nobody's concern.
        self.parts = tuple(part for part in re.split(r"[/\\]", stated.filename) if part not in ("", "."))

    def pieces(self) -> Iterator[bytes]:
        """Give its content in pieces of about a megabyte.

        Raises
        ------
        InputError
            It is encrypted, packed in a way that we do not know, or damaged; also after some pieces.
        OSError
            The archive cannot be read.
        """
        if self._stated.flag_bits & _ENCRYPTED:
            raise InputError("encrypted")
        if self._stated.external_attr >> 16 & 0o170000 == _MADE_BY_LINUX_LINK:
            raise InputError("a link")
        try:
            first = self.size if self.size <= _IN_ONE_PIECE else min(_PIECE_BYTES, self.size // 2)
            with self._archive.open(self._stated) as content:
                yield content.read(first)
                while piece := content.read(_PIECE_BYTES):
                    yield piece
        except (zipfile.BadZipFile, ZlibError, EOFError, ValueError, RuntimeError) as error:
            # NotImplementedError, for a compression that zipfile does not know, is a RuntimeError.
            said = "packed in an unknown way" if isinstance(error, NotImplementedError) else "damaged"
            raise InputError(said) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # The decompressors' own (bz2, lzma); the system's have a number.
            raise InputError("damaged") from error


def members_of(file: BinaryIO) -> list[Member]:
    """Give the files in an archive.

    Raises
    ------
    InputError
        No archive, or its directory is damaged.
    """
    try:
        # Stays open as long as one of its members is there.
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, LookupError) as error:
        raise InputError("a damaged ZIP archive") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError("a damaged ZIP archive") from error
    # Not `is_dir`, which fails on a member without a name.
    files = [stated for stated in archive.infolist() if not stated.filename.endswith("/")]
    return [Member(archive, number, stated) for number, stated in enumerate(files, start=1)]
