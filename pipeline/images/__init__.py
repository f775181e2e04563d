"""From a cell of an image column to an upright RGB image, or the outcome that says why not.

    fetch     a cell's value -> bytes, or an open video; paths and URIs are read through `storage`
    links     an http:// or https:// link -> bytes, never from a private network
    decode    bytes -> upright 8-bit RGB
    jpeg_xl   what a JPEG XL image declares
    frames    which frames of a video are shown
    video     an open video -> those frames, as `decode` gives images
    encoded   which bytes stay with the pixels, for an engine that takes images as they are

    fault                                                    outcome
    null; null bytes and no path; an empty path              missing_input
    a path or object that does not exist                     missing_input
    one that may not be read, or is a folder                 missing_input
    a URI of an unsupported protocol (`ftp://`)              missing_input
    `abfs://`, where the extra `azure` is not installed      missing_input
    a store that stays unreachable, or denies access         missing_input, or the run ends: see
                                                             `stages.store_faults`
    credentials that a store does not accept                 the run ends
    a link to an address that is not global                  missing_input
    a link whose host is unknown, or not trusted (TLS)       missing_input
    a link that answers 401, 403, 404, 410, any other 4xx    missing_input
    408, 425, 429, 5xx, resets, timeouts, after the last try missing_input
    more than 5 redirects, or one to another protocol        missing_input
    not complete within `fetch_seconds`                      missing_input
    no bytes; more than `max_bytes`                          decode_error
    not an image, or outside `contract.image_formats`        decode_error
    JPEG XL, where the extra `images` is not installed       decode_error
    more pixels than `max_pixels` (checked before decoding)  decode_error
    cut off or damaged (never a half-grey image)             decode_error
    32-bit floating point pixels (no agreed range)           decode_error

A video is fetched and decoded with the same outcomes (ten times `max_bytes`), and besides

    no video in it (sound, or sound with a cover)            decode_error
    a codec that is unknown                                  decode_error
    less than nine tenths of the seconds that it declares    decode_error
    not decoded within `video_seconds`                       decode_error

Resizing and normalisation are the model's processor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.images.decode import decode_image
from pipeline.images.fetch import (
    THIS_MACHINE,
    VIDEO_SECONDS,
    ImageLimits,
    StoreError,
    fetch_image,
    open_video,
    store_of,
)
from pipeline.images.frames import Frame
from pipeline.profiling.stopwatch import step

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.storage.location import Location

__all__ = [
    "THIS_MACHINE",
    "VIDEO_SECONDS",
    "Frame",
    "ImageLimits",
    "StoreError",
    "load_image",
    "load_video",
    "store_of",
]


def load_image(value: object, root: Location, limits: ImageLimits) -> Image.Image:
    """Fetch and decode the image of one cell.

    Args:
        value: What the cell holds; see `fetch_image`.
        root: The folder that relative paths start from.
        limits: Size and time limits.

    Returns:
        An RGB image, 8 bits a channel, upright.

    Raises:
        RowError: `missing_input` or `decode_error`, as the table above says.
        StoreError: The fault may be the whole store's.
    """
    with step("fetch"):
        body = fetch_image(value, root, limits)
    with step("decode"):
        return decode_image(body, limits.max_pixels, keep_encoded=limits.keep_encoded)


def load_video(
    value: object, root: Location, limits: ImageLimits, *, most: int, fps: float | None
) -> tuple[Frame, ...]:
    """Fetch one cell's video and decode the frames of it that are shown.

    Args:
        value: What the cell holds; see `fetch_image`.
        root: The folder that relative paths start from.
        limits: Size and time limits.
        most: Most frames; see `frames.chosen`.
        fps: Frames a second; None for `most` frames, however long the video is.

    Returns:
        Frames in order, at least one.

    Raises:
        RowError: `missing_input` or `decode_error`, as the table above says.
        StoreError: The fault may be the whole store's.
    """
    from pipeline.images.video import decode_video

    with step("fetch"):
        file = open_video(value, root, limits)
    with step("decode"), file:
        return decode_video(
            file, most=most, fps=fps, max_pixels=limits.max_pixels, seconds=limits.video_seconds
        )
