"""One image file as 32 x 32 pixels of three colours, and what had to be done to it on the way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from models.tinyvgg import IMAGE_SIZE

FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD"),
    *("QOI", "SGI", "TIFF", "WEBP"),
)
"""Known by their first bytes; Pillow's others are guesses, no pictures, or run other programs."""

FOREIGN = (
    *(".arw", ".avif", ".cr2", ".dng", ".eps", ".exr", ".heic", ".heif", ".jp2", ".jxl", ".nef"),
    *(".qoi", ".svg", ".tga", ".xcf"),
)
"""Names of pictures that this Pillow may not read: refused rather than taken for other files."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class ImageError(Exception):
    """An image cannot be used; the message says why and what to do, without the file's name."""


@dataclass(frozen=True)
class Picture:
    """An image as it is trained on.

    Attributes:
        pixels: (32, 32, 3); scaled, and cropped around the middle.
        changes: what was done to it beside that, in words.
    """

    pixels: Pixels
    changes: tuple[str, ...]


def is_image(file: Path) -> bool:
    """Whether `file` is an image by its name or by its first bytes."""
    if file.suffix.lower() in _suffixes():
        return True
    try:
        with Image.open(file, formats=_formats()):
            return True
    except Exception:  # a decoder that meets what is no image may raise anything
        return False


def read(file: Path) -> Picture | None:
    """The image in `file`; None where it is none.

    It is turned as its EXIF data says; of several frames the first one counts; what is transparent
    shows a white page; 16 bits of grey become 8.

    Raises:
        ImageError: an image by its name or its first bytes cannot be read, or not without losing
            what it means.
    """
    if not is_image(file):
        return None
    try:
        with Image.open(file, formats=_formats()) as image:
            colours, changes = _colours(image)
        fitted = ImageOps.fit(colours, (IMAGE_SIZE, IMAGE_SIZE))
    except Exception as error:  # decoders of damaged files raise anything
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise ImageError(
            f"cannot be read ({' '.join(str(reason).split()) or type(error).__name__}); "
            "repair it, save it as PNG with 8 bits, or take it away"
        ) from error
    return Picture(np.asarray(fitted), tuple(changes))


def _colours(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The upright image in RGB, and what was changed."""
    changes = []
    if getattr(image, "is_animated", False):
        changes.append("first of several frames")
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        changes.append("turned as EXIF says")
    deep = image.mode == "F" or image.mode.startswith("I")
    if deep and not _is_grey_of_16_bits(image):
        raise ValueError(f"nothing says which of its {image.mode} values are black and white")
    ImageOps.exif_transpose(image, in_place=True)
    if deep:
        # Pillow's own conversion makes all above 255 white.
        changes.append("16 bits to 8")
        image = Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            changes.append("transparent on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in ("1", "L", "P", "RGB"):
        changes.append(f"{image.mode} to RGB")
    return image.convert("RGB"), changes


def _is_grey_of_16_bits(image: Image.Image) -> bool:
    """Whether 0 is black, 65,535 white and nothing transparent."""
    if "transparency" in image.info:
        return False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits, polarity = tags.get(BITSPERSAMPLE), tags.get(PHOTOMETRIC_INTERPRETATION)
        return (bits, polarity, tags.get(SAMPLEFORMAT, (1,))) == ((16,), 1, (1,))
    # A PNM of any depth comes scaled to 16 bits.
    return image.format == "PNG" or (image.format == "PPM" and image.mode == "I")


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def _suffixes() -> frozenset[str]:
    known = Image.registered_extensions().items()
    return frozenset(FOREIGN) | {suffix for suffix, name in known if name in _formats()}
