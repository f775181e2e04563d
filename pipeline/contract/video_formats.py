"""Which video formats are read: FFmpeg's name of each demuxer, and the suffixes of its files.

`sources.listing` takes files by these suffixes, and `images.video` lets FFmpeg try these demuxers
only: they hold what they show. (A playlist, for one, would name other files and links to open.)
"""

from __future__ import annotations

SUFFIXES_BY_DEMUXER = {
    "mov": (".mp4", ".m4v", ".mov", ".3gp"),
    "matroska": (".mkv", ".webm"),
}
VIDEO_SUFFIXES = tuple(suffix for suffixes in SUFFIXES_BY_DEMUXER.values() for suffix in suffixes)
