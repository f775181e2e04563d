"""From a cell of an image column to an upright RGB image, or the outcome that says why not.

    fetch     a cell's value -> bytes; paths and URIs are read through `storage`
    links     an http:// or https:// link -> bytes, never from a private network
    decode    bytes -> upright 8-bit RGB
    encoded   which bytes stay with the pixels, for an engine that takes images as they are

    fault                                                    outcome
    null; null bytes and no path; an empty path              missing_input
    a path or object that does not exist                     missing_input
    one that may not be read, or is a folder                 missing_input
    a URI of an unsupported protocol (`ftp://`)              missing_input
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
    more pixels than `max_pixels` (checked before decoding)  decode_error
    cut off or damaged (never a half-grey image)             decode_error
    32-bit floating point pixels (no agreed range)           decode_error

Resizing and normalisation are the model's processor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.images.decode import decode_image
from pipeline.images.fetch import (
    THIS_MACHINE,
    ImageLimits,
    StoreError,
    fetch_image,
    store_of,
)
from pipeline.profiling.stopwatch import step

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.storage.location import Location

__all__ = ["THIS_MACHINE", "ImageLimits", "StoreError", "load_image", "store_of"]


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
