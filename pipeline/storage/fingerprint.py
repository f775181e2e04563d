"""Decides a file's tag: what tells one content from another, on every machine and at little cost.

On an object store it is the ETag, the generation or a hash, whichever the store has. On a disk it
is a hash of the file's size and both its ends: unlike the modification time it stays the same when
a dataset is copied, so units keep their ids. A change in the middle of a file that keeps its size
does not change the tag, only the modification time.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.storage.location import FileInfo, Location

END = 64 * 1024
"""Bytes read at each end of a file."""
UNREADABLE = "unreadable"
"""The tag of a file that is gone or may not be read; reading it will raise the error."""


def fingerprint(location: Location, info: FileInfo) -> str:
    """The tag of one file.

    Args:
        location: The file.
        info: Its entry in a listing.
    """
    return _hash_of_ends(location.path, info.size) if location.is_local else info.stamp


def fingerprints(root: Location, files: Iterable[FileInfo]) -> Iterator[str]:
    """The tags of files below `root`, in their order, each made when it is due."""
    if not root.is_local:
        return (file.stamp for file in files)
    return in_order(lambda file: fingerprint(root / file.path, file), files)


def is_still(location: Location, size: int, tag: str) -> bool:
    """Whether a file still is what it was when it got its tag; text may have been appended to it.

    Args:
        location: The file.
        size: Its size then, in bytes.
        tag: Its tag; nothing is told by an empty one, nor by one of a store whose listings and
            replies are not known to agree.

    Raises:
        OSError: The store does not say.
    """
    if location.is_local:
        return tag in ("", UNREADABLE) or _hash_of_ends(location.path, size) == tag
    is_known = {"s3", "gs"} & {*location.fs.protocol}
    return not (tag and is_known) or location.info().stamp == tag


def _hash_of_ends(path: str, size: int) -> str:
    content = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    last = max(END, size - END)
    try:
        with open(path, "rb") as file:
            content.update(file.read(min(END, size)))
            file.seek(last)
            content.update(file.read(max(0, size - last)))
    except OSError:
        return UNREADABLE
    return content.hexdigest()
