"""Any image the user has, to the prepared square that the other stages work on.

Reading is defensive: whatever is wrong with an image is reported by one sentence (:class:`InputError`) that names
the image and says what to do about it; whatever can be handled (rotation tags, palettes, CMYK, 16 bits, colour
profiles, transparency, the first frame of an animation) is handled.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from gan2shape_hub.arguments import user_path
from gan2shape_hub.errors import InputError, InputWarning

MAX_PIXELS = 80_000_000
"""Default limit of :func:`load_image`: beyond any ordinary photograph, 240 MB once decoded."""
MIN_SIDE = 32
"""Shorter sides (pixels) carry too little to reconstruct from and are refused."""
MATTE = 128
"""Grey level (0..255) behind transparent pixels: the middle of the range, so that it pulls no colour either way."""

ImageSource: TypeAlias = str | Path | Image.Image | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Prepared:
    """A photograph cut and scaled to the squares the stages need."""

    image: torch.Tensor
    """(1, 3, S, S) in -1..1, what the networks see."""
    source: torch.Tensor
    """(1, 3, T, T) in -1..1, S <= T <= ``source_size``: the same square as sharp as the photograph allows."""
    mask: torch.Tensor | None
    """(1, 1, S, S) in 0..1, the photograph's alpha channel; None where it is opaque."""


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, name: str = "image") -> Image.Image:
    """Read an image from a file, a PIL image, an array or a tensor.

    Args:
        source: a path; a PIL image of any mode; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a tensor
            (H, W) or (C, H, W) with C = 1, 3 or 4, or a batch of one of them. uint8 is 0..255, uint16 is 0..65535,
            floating point is 0..1.
        max_pixels: width times height above which the image is refused, before it is decoded.
        name: what error messages call a ``source`` that is not a path.

    Returns:
        An ``RGB`` image in sRGB, or ``RGBA`` where some pixels are transparent; upright (EXIF rotation applied). The
        caller's own image is never modified. Of an animation it is the first frame, with a ``UserWarning``.

    Raises:
        InputError: the file is missing, unreadable, truncated or not an image; it is larger than ``max_pixels`` or
            has a side below 32 pixels; an array has another shape or type, or values that are not finite or in range.
    """
    if isinstance(source, (str, Path)):
        source = user_path(source)
        label, image = f"'{source}'", _open_file(source, max_pixels)
    elif isinstance(source, Image.Image):
        label, image = name, source
    elif isinstance(source, torch.Tensor):
        label, image = name, _from_array(_tensor_to_array(source, name), name)
    elif isinstance(source, np.ndarray):
        label, image = name, _from_array(source, name)
    else:
        raise InputError(
            f"{name} is of type {type(source).__name__}: pass a path, a PIL image, a numpy array or a torch tensor.",
            code="bad-array",
        )
    width, height = image.size
    _check_size(label, width, height, max_pixels)
    _warn_if_animated(label, image)
    try:
        # exif_transpose decodes lazily opened files and returns a copy, so the caller's image stays as it is.
        image = ImageOps.exif_transpose(image)
        return _to_rgb(image, label)
    except InputError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, zlib.error, ...
        raise InputError(
            f"{label} is corrupt or truncated ({_reason(error)}): download or save it again.", code="corrupt"
        ) from None


def prepare_square(image: Image.Image, size: int = 128, *, source_size: int = 1024, center_crop: int = 0) -> Prepared:
    """Cut the central square out of ``image`` and scale it to the sizes the stages work at.

    Args:
        image: ``RGB`` or ``RGBA``, as :func:`load_image` returns it; transparent pixels become mid-grey.
        size: side S of ``Prepared.image``, pixels.
        source_size: largest side T of ``Prepared.source``; a smaller photograph is not blown up beyond S.
        center_crop: side of the square to keep, in pixels of ``image``; 0 keeps the largest one there is.

    Returns:
        :class:`Prepared`; every scaling is antialiased.

    Raises:
        InputError: ``image`` has another mode, or ``center_crop`` is negative.
    """
    if image.mode not in ("RGB", "RGBA"):
        raise InputError(f"image has mode {image.mode}, must be RGB or RGBA: read it with load_image first.")
    if center_crop < 0:
        raise InputError(f"center_crop is {center_crop}, must be 0 (no crop) or a number of pixels.")
    width, height = image.size
    side = min(width, height, center_crop or width)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))

    mask = None
    if square.mode == "RGBA":
        alpha = square.getchannel("A")
        matte = Image.new("RGB", square.size, (MATTE,) * 3)
        matte.paste(square, mask=alpha)
        square = matte
        mask = torch.from_numpy(np.array(_resize(alpha, size), dtype=np.float32) / 255)[None, None]

    sharp = _resize(square, max(size, min(side, source_size)))
    return Prepared(image=_to_tensor(_resize(square, size)), source=_to_tensor(sharp), mask=mask)


def _resize(image: Image.Image, side: int) -> Image.Image:
    # Lanczos as Pillow does it widens its kernel when shrinking, so it is antialiased. Masks use BOX: no overshoot.
    kernel = Image.Resampling.BOX if image.mode == "L" else Image.Resampling.LANCZOS
    return image.copy() if image.size == (side, side) else image.resize((side, side), kernel)


def _to_tensor(image: Image.Image) -> torch.Tensor:
    """PIL RGB -> (1, 3, H, W) in -1..1."""
    return torch.from_numpy(np.array(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def _open_file(path: str | Path, max_pixels: int) -> Image.Image:
    """Open without decoding. PIL's own guard against decompression bombs answers for us above its limits."""
    if str(path).startswith(("http://", "https://")):
        raise InputError(
            f"'{path}' is an address, not a file: download the image first and pass its path.", code="not-found"
        )
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist: check the path.", code="not-found") from None
    except IsADirectoryError:
        raise InputError(f"'{path}' is a folder: pass the path of an image file.", code="not-found") from None
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be read ({_reason(error)}): check its permissions.", code="unreadable"
        ) from None
    if not data:
        raise InputError(f"'{path}' is empty: download or save it again.", code="corrupt")
    try:
        with warnings.catch_warnings():
            # Between 1x and 2x of PIL's limit it only warns; load_image's own limit decides there.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        raise InputError(
            f"'{path}' has over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, must have at most {max_pixels:,}: "
            "scale it down first.",
            code="too-large",
        ) from None
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"heim", b"heis", b"hevc"):
            raise InputError(f"'{path}' is a HEIC photograph: convert it to JPEG or PNG first.", code="heic") from None
        raise InputError(
            f"'{path}' is not an image in a known format: pass a JPEG, PNG, WebP, TIFF, BMP or GIF file.",
            code="not-an-image",
        ) from None
    except Exception as error:  # damaged headers surface as all kinds of exceptions
        raise InputError(
            f"'{path}' is corrupt ({_reason(error)}): download or save it again.", code="corrupt"
        ) from None


def _check_size(label: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InputError(
            f"{label} is {width} x {height} pixels, must have at most {max_pixels:,} in all: scale it down first.",
            code="too-large",
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{label} is {width} x {height} pixels, must be at least {MIN_SIDE} on each side: use a larger original.",
            code="too-small",
        )


def _warn_if_animated(label: str, image: Image.Image) -> None:
    # Phones write MPO files: one photograph plus a preview or depth map, which is nothing to warn about.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        text = f"{label} has several frames: only the first one is used."
        warnings.warn(InputWarning(text, code="several-frames"), stacklevel=3)


def _to_rgb(image: Image.Image, label: str) -> Image.Image:
    """A decoded image of any mode to sRGB ``RGB``, or ``RGBA`` where it has transparent pixels."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _deep_grey(image, label)
    image = _to_srgb(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        lowest_alpha = image.getchannel("A").getextrema()[0]
        if lowest_alpha < 255:
            return image
    return image.convert("RGB")


def _deep_grey(image: Image.Image, label: str) -> Image.Image:
    """Greyscale with more than 8 bits -> ``L``. PIL's own conversion would clip at 255 and return white."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise InputError(f"{label} has values that are NaN or infinite: replace them first.", code="bad-array")
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 255:
            raise InputError(
                f"{label} has floating point values from {low:g} to {high:g}, must be in 0..1 or 0..255: rescale them.",
                code="bad-array",
            )
        grey = values * (255 if high <= 1 else 1)
    else:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise InputError(
                f"{label} has values from {low} to {high}, must be 8 or 16 bits: save it again as such.",
                code="bad-array",
            )
        grey = values / 257  # 65535 / 255
    return Image.fromarray(np.round(grey).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply an embedded colour profile (wide-gamut phones, printing CMYK); without one, colours are taken as sRGB."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=target)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken or foreign profile: a slight cast is better than no result


def _tensor_to_array(tensor: torch.Tensor, name: str) -> np.ndarray:
    """(H, W), (C, H, W) or (1, C, H, W) -> (H, W) or (H, W, C)."""
    shape = tuple(tensor.shape)
    if tensor.ndim == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4):
        tensor = tensor.permute(1, 2, 0)
    elif tensor.ndim != 2:
        raise InputError(
            f"{name} is a tensor of shape {shape}, must be (H, W) or (C, H, W) with 1, 3 or 4 channels: "
            "pass one image, channels first.",
            code="bad-array",
        )
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    """(H, W[, 1|3|4]) of uint8, uint16 or float in 0..1 -> PIL."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.size == 0:
        raise InputError(
            f"{name} has shape {array.shape}, must be (H, W) or (H, W, C) with 1, 3 or 4 channels: "
            "pass one image, channels last (tensors: channels first).",
            code="bad-array",
        )
    if array.dtype == np.uint16:
        array = np.round(array / 257.0).astype(np.uint8)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InputError(f"{name} has values that are NaN or infinite: replace them first.", code="bad-array")
        low, high = float(array.min()), float(array.max())
        if low < -1e-3 or high > 1 + 1e-3:
            raise InputError(
                f"{name} has floating point values from {low:g} to {high:g}, must be in 0..1: rescale it, "
                "or pass uint8 for 0..255.",
                code="bad-array",
            )
        array = np.round(array.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(
            f"{name} has type {array.dtype}, must be uint8, uint16 or floating point: convert it first.",
            code="bad-array",
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _reason(error: BaseException) -> str:
    """An exception's text as part of a sentence."""
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")
    return text.splitlines()[0] if text else type(error).__name__
