"""Which image formats are read: Pillow's name of each, and the suffixes of its files.

`sources.listing` takes files by these suffixes, and `images.decode` lets Pillow try these formats
only: they hold pixels and nothing else. (EPS, for one, would start Ghostscript.)
"""

from __future__ import annotations

SUFFIXES_BY_FORMAT = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".heics", ".heifs", ".hif"),
    "JXL": (".jxl",),
}
EXTRA = "images"
"""The extra of this package that brings Pillow's plugins for formats that few need: JPEG XL."""
IMAGE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES_BY_FORMAT.values() for suffix in suffixes)
OTHER_IMAGE_SUFFIXES = (
    *(".svg", ".psd", ".ico", ".tga", ".exr", ".eps"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
)
"""Suffixes of images that nothing here reads, so that a file that is left out can say why."""
