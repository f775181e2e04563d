"""An image as a data URL.

As the row has it, if `images.encoded` found that every server reads that in the same way;
otherwise as PNG, which keeps every pixel.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from pipeline.images.encoded import ENCODED, Encoded

if TYPE_CHECKING:
    from PIL.Image import Image

FAST = 1
"""Level of PNG's compression: the image goes over the wire once."""


def data_url(image: Image) -> str:
    """A `data:` URL of an upright RGB image, in base64."""
    encoded = image.info.get(ENCODED)
    if not isinstance(encoded, Encoded):
        sink = io.BytesIO()
        image.save(sink, "PNG", compress_level=FAST, icc_profile=None)
        encoded = Encoded("image/png", sink.getvalue())
    return f"data:{encoded.kind};base64,{base64.b64encode(encoded.body).decode()}"
