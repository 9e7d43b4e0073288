"""Photograph to the square that the category's generator was trained on: FFHQ's alignment for faces.

FFHQ's published tool (dataset-tool of Karras et al., arXiv 1812.04948) lays a square by the eyes and the mouth: its
side is the longer of 2.0 eye-to-eye and 1.8 eye-to-mouth distances (halved), its centre a tenth of the way from the
eyes to the mouth; beyond the photograph it mirrors and blurs. That tool measures 68 landmarks; here BlazeFace gives six
points, of which the mouth is a centre, not two corners, so the numbers were fitted on 300 generated faces, which are
aligned as FFHQ is: the square found is the whole picture with an error of 1.0 % of its side (rms; 95 % under 1.6 %;
turned by 1.1 degrees, scaled by 3.3 %).
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from gan2shape_hub.arguments import whole
from gan2shape_hub.config import AlignConfig
from gan2shape_hub.errors import InputError, InputWarning
from gan2shape_hub.models.face_detector import (
    SIDE,
    Face,
    decode,
    detect_faces,
    load_blazeface,
    looks,
    merge,
    to_input,
)
from gan2shape_hub.records import Alignment

DEFAULT = AlignConfig()
LOOKS = ((1.0, False), (1.0, True), (1.12, False), (1.12, True))
"""The last looks at a face: how much of its square is seen, and whether mirrored. Their mean is steadier than one."""
LOOK_SIDE, MIDDLE = 160, 0.55
"""Pixels of the square that is looked at, and where in it the middle of a face's box lies (both ways)."""
_OUTSIDE = 0.2
"""Part of the face's box that may lie beyond the photograph without a warning."""


def align_photograph(
    photograph: Image.Image,
    how: str,
    min_size: int,
    face_index: int | None = None,
    name: str = "image",
    config: AlignConfig = DEFAULT,
    frame: tuple[float, float] = (1.0, 1.0),
) -> Alignment:
    """``align_face`` where ``how`` (``CategoryConfig.align``) is "face", else ``align_center``, or ``align_frame``
    where there is a ``frame`` (``CategoryConfig.frame``) that is no square.

    InputError: see ``align_face``; and a ``face_index`` where faces are not looked for.
    """
    if how == "face":
        return align_face(photograph, min_size=min_size, face_index=face_index, name=name, config=config)
    if face_index is not None:
        raise InputError(
            "face_index chooses a face, but faces are not looked for here: leave it out.", code="no-such-face"
        )
    return align_center(photograph) if min(frame) == 1 else align_frame(photograph, frame)


def align_face(
    photograph: Image.Image,
    *,
    size: int = 1024,
    min_size: int = 128,
    face_index: int | None = None,
    name: str = "image",
    config: AlignConfig = DEFAULT,
) -> Alignment:
    """Find a face and cut it out as FFHQ's faces are cut.

    Args:
        photograph: ``RGB`` or ``RGBA``, as ``load_image`` returns it.
        size: largest side of the square, pixels; a smaller face is not blown up beyond ``min_size``.
        min_size: smallest side of the square, pixels.
        face_index: which face, counted from 0, the largest first; None: the largest.
        name: what messages call the photograph.

    Returns:
        Alignment. A square picture that is aligned already comes back as it is. A face that the border cuts is
        completed by mirroring, with a ``UserWarning``.

    Raises:
        InputError: no face (with the size that was looked for), no such face, or one under 40 pixels.
    """
    found = find_faces(photograph, config)
    if not found:
        upright, turned = _searched(photograph.size, config)
        raise InputError(
            f"no face was found in {name}: upright ones of {upright:.0f} pixels or larger and turned ones of "
            f"{turned:.0f} were looked for, take a photograph that shows one from the front, or pass align=False "
            "(--no-align) if it is cut out already.",
            code="no-face",
            smallest_px=upright,
        )
    face_index = 0 if face_index is None else whole(face_index, "face_index", -(2**63), 2**63)
    if not 0 <= face_index < len(found):
        only = "one face: leave it out" if len(found) == 1 else f"{len(found)} faces: pass 0 to {len(found) - 1}"
        raise InputError(f"face_index is {face_index}, but {name} shows {only}, 0 is the largest.", code="no-such-face")
    face, matrix = found[face_index]
    if face.size < config.min_face_px:
        raise InputError(
            f"the face in {name} is only {face.size:.0f} pixels large, must be at least {config.min_face_px:g}: use a "
            "larger original or a closer photograph.",
            code="face-too-small",
        )
    if _aligned_already(matrix, photograph.size, config):
        matrix = np.array([[photograph.width, 0.0, 0.0], [0.0, photograph.height, 0.0]])
        square = photograph if photograph.width <= size else cut_square(photograph, matrix, size)
        return Alignment(photograph, square, matrix, face.box, face.score, len(found))
    if _part_outside(face.box, photograph.size) > _OUTSIDE:
        text = f"the face in {name} is cut by the border: what is missing is mirrored, use an original that shows all."
        warnings.warn(InputWarning(text, code="face-cut"), stacklevel=2)
    side = float(np.hypot(*matrix[:, 0]))
    square = cut_square(photograph, matrix, min(size, max(min_size, round(side))))
    return Alignment(photograph, square, matrix, face.box, face.score, len(found))


def align_center(photograph: Image.Image, *, center_crop: int = 0) -> Alignment:
    """The largest central square (of ``center_crop`` pixels at most, where that is not 0), pixel for pixel: for
    categories without key points, and for photographs that are cut out already."""
    width, height = photograph.size
    side = min(width, height, center_crop or width)
    left, top = (width - side) // 2, (height - side) // 2
    matrix = np.array([[side, 0.0, left], [0.0, side, top]], dtype=np.float64)
    return Alignment(photograph, photograph.crop((left, top, left + side, top + side)), matrix)


def align_frame(photograph: Image.Image, frame: tuple[float, float]) -> Alignment:
    """The largest central part of the proportions of ``frame`` (height, width, in parts of the square's side), pixel
    for pixel, in a square that is black around it: for generators of pictures that are no squares."""
    side = int(min(photograph.height / frame[0], photograph.width / frame[1]))
    height, width = (min(round(side * part), there) for part, there in zip(frame, photograph.size[::-1], strict=True))
    left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
    x, y = (side - width) // 2, (side - height) // 2
    square = Image.new("RGB", (side, side)).convert(photograph.mode)
    square.paste(photograph.crop((left + x, top + y, left + x + width, top + y + height)), (x, y))
    matrix = np.array([[side, 0.0, left], [0.0, side, top]], dtype=np.float64)
    return Alignment(photograph, square, matrix)


def find_faces(photograph: Image.Image, config: AlignConfig = DEFAULT) -> list[tuple[Face, np.ndarray]]:
    """Faces, the largest first, each with the (2, 3) matrix of its square (see ``Alignment.matrix``).

    Faces that are small for the photograph, or turned by more than a right angle, are looked for where there are no
    others, which takes a few seconds of one core (``face_detector.looks``). Every answer of the detector is looked at
    again in its own aligned square, where the network sees best: key points get sharper, turned heads upright, and what
    is no face is dropped.
    """
    image = photograph.convert("RGB")
    for look in looks(*image.size):  # small and turned faces are looked for where there are no others
        found: list[tuple[Face, np.ndarray]] = []
        for face in detect_faces(image, look):
            answer = _confirmed(image, face, config.confirmed if look.first else config.confirmed_later, config)
            if answer is not None and not any(_same(answer[1], other) for _, other in found):
                found.append(answer)
        if found:
            return sorted(found, key=lambda item: -item[0].size)
    return []


def _confirmed(
    image: Image.Image, face: Face, confidence: float, config: AlignConfig
) -> tuple[Face, np.ndarray] | None:
    """``face`` and its square, looked at twice more; None where it is none. One of which it is not sure is also looked
    at upside down: brows and a chin make a mouth and a forehead."""
    matrix = face_square(face.points.numpy(), config)
    found = _looked_at_twice(image, matrix, confidence, config)
    if found is None or found[0].score >= config.sure:
        return found
    x, y, corner = found[1].T
    other = _looked_at_twice(image, np.stack((-x, -y, corner + x + y), 1), confidence, config)
    return max((answer for answer in (found, other) if answer is not None), key=lambda answer: answer[0].score)


def _looked_at_twice(
    image: Image.Image, matrix: np.ndarray, confidence: float, config: AlignConfig
) -> tuple[Face, np.ndarray] | None:
    for views in (LOOKS[:1], LOOKS):
        answer = _look_again(image, matrix, views, confidence, config)
        if answer is None:
            return None
        matrix = answer[1]
    return answer


def _searched(size: tuple[int, int], config: AlignConfig) -> tuple[float, float]:
    """Pixels of the smallest upright and the smallest turned face that is found and taken."""
    every = looks(*size)
    return tuple(
        max(min(look.smallest(*size) for look in every if bool(look.turns) is turned), config.min_face_px)
        for turned in (False, True)
    )


def face_square(points: np.ndarray, config: AlignConfig = DEFAULT) -> np.ndarray:
    """Matrix (2, 3) of FFHQ's square for six key points (6, 2) in the same continuous pixels (``KEY_POINTS``)."""
    left, right, mouth = (complex(*map(float, points[i])) for i in (0, 1, 3))
    eyes = (left + right) / 2
    across, down = right - left, mouth - eyes
    length = max(abs(across) * config.eye_to_eye, abs(down) * config.eye_to_mouth, 1e-6)
    direction = across / max(abs(across), 1e-9) + config.mouth_weight * (-1j * down) / max(abs(down), 1e-9)
    x = 2 * length * direction / max(abs(direction), 1e-9)
    corner = eyes + config.drop * down - x * (0.5 + 0.5j)
    return np.array([[x.real, -x.imag, corner.real], [x.imag, x.real, corner.imag]])


def _look_again(
    image: Image.Image,
    matrix: np.ndarray,
    views: tuple[tuple[float, bool], ...],
    confidence: float,
    config: AlignConfig,
) -> tuple[Face, np.ndarray] | None:
    """The face in the square ``matrix`` of ``image`` and its own square, or None where there is none: the key points'
    mean over ``views`` of the square (how much of its side is seen, whether mirrored)."""
    square = to_input(cut_square(image, matrix, LOOK_SIDE))
    rows, scores = [], []
    for seen, mirrored in views:
        answer = _middle_face(square, seen, mirrored, confidence)
        if answer is None and not rows:
            return None
        if answer is not None:
            rows.append(answer[0])
            scores.append(answer[1])
    row = np.mean(rows, axis=0)
    points = np.concatenate((row, np.ones((8, 1))), 1) @ matrix.T
    side = float((row[1] - row[0]).max()) * float(np.hypot(*matrix[:, 0]))
    middle = points[:2].mean(0)  # of a box that is turned with the square; the upright one around it is as large
    box = (*(middle - side / 2).tolist(), *(middle + side / 2).tolist())
    face = Face(box, torch.from_numpy(points[2:]).float(), float(np.mean(scores)))
    return face, face_square(points[2:], config)


def _middle_face(square: Tensor, seen: float, mirrored: bool, confirmed: float) -> tuple[np.ndarray, float] | None:
    """(8, 2) corners and key points in 0..1 over ``square`` (1, 3, n, n) and the score of the face in its middle."""
    theta = torch.tensor([[[-seen if mirrored else seen, 0.0, 0.0], [0.0, seen, 0.0]]])
    grid = F.affine_grid(theta, (1, 3, SIDE, SIDE), align_corners=False)
    view = F.grid_sample(square, grid, align_corners=False, padding_mode="reflection")
    answers = merge(*decode(load_blazeface(), view, confirmed))
    # What is meant lies in the middle; a neighbour at the edge may be larger.
    answers = [a for a in answers if float((a[0][:2].mean(0) / SIDE - MIDDLE).norm()) < 0.27]
    if not answers:
        return None
    row, score = max(answers, key=lambda a: float((a[0][1] - a[0][0]).prod()))
    row = (row.double().numpy() / SIDE - 0.5) * seen
    if mirrored:
        row = row[[0, 1, 3, 2, 4, 5, 7, 6]]  # eyes and ears change sides; the corners are set right below
        row[:, 0] = -row[:, 0]
        row[:2, 0] = row[1::-1, 0]
    return row + 0.5, score


def _same(matrix: np.ndarray, other: np.ndarray) -> bool:
    """Whether two squares lie around the same face."""
    middle = np.array([0.5, 0.5, 1.0])
    larger = max(np.hypot(*matrix[:, 0]), np.hypot(*other[:, 0]))
    return float(np.linalg.norm((matrix - other) @ middle)) < 0.25 * larger


def _aligned_already(matrix: np.ndarray, size: tuple[int, int], config: AlignConfig) -> bool:
    if size[0] != size[1]:
        return False
    middle = matrix @ np.array([0.5, 0.5, 1.0]) / size[0]
    side = float(np.hypot(*matrix[:, 0])) / size[0]
    angle = abs(float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))))
    close = float(np.linalg.norm(middle - 0.5)) < config.kept_shift and abs(np.log(side)) < config.kept_log_scale
    return close and angle < config.kept_turn_deg


def _part_outside(box: tuple[float, float, float, float], size: tuple[int, int]) -> float:
    left, top, right, bottom = box
    inside = max(min(right, size[0]) - max(left, 0), 0) * max(min(bottom, size[1]) - max(top, 0), 0)
    return 1 - inside / max((right - left) * (bottom - top), 1e-6)


def cut_square(photograph: Image.Image, matrix: np.ndarray, side: int) -> Image.Image:
    """The square ``matrix`` (see ``Alignment.matrix``) of ``photograph`` as an image of ``side`` pixels, antialiased;
    the same mode. Beyond the borders the picture is mirrored and softly blurred; alpha is 0 there."""
    corners = matrix @ np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], dtype=np.float64)
    length = float(np.hypot(*matrix[:, 0]))
    border = max(round(length * 0.1), 3)
    low = np.floor(corners.min(1)).astype(int) - border
    high = np.ceil(corners.max(1)).astype(int) + border
    width, height = photograph.size
    box = (max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height))
    if box[0] >= box[2] or box[1] >= box[3]:
        return Image.new(photograph.mode, (side, side))
    # A face much larger than the square is first averaged down by a whole number, so that no pixel is skipped.
    shrink = max(int(length / side), 1)
    region = photograph.crop(tuple(int(v) for v in box))
    offset = np.array(box[:2], dtype=np.float64)
    pad = (box[0] - low[0], box[1] - low[1], high[0] - box[2], high[1] - box[3])  # left, top, right, bottom
    scale = np.ones(2)
    if shrink > 1:
        reduced = region.reduce(shrink)
        scale = np.array([shrink, shrink], dtype=np.float64)
        region, pad = reduced, tuple(-(-p // shrink) for p in pad)
    if max(pad) > 0 and _reaches_out(corners, photograph.size):
        region = _mirrored(region, pad, blur=length / shrink * 0.02)
        offset = offset - np.array(pad[:2]) * scale
    fine = side * 2
    affine = np.concatenate((matrix[:, :2] / fine, (matrix[:, 2:] - offset[:, None])), 1) / scale[:, None]
    warped = region.transform((fine, fine), Image.Transform.AFFINE, tuple(affine.ravel()), Image.Resampling.BICUBIC)
    return warped.reduce(2)


def _reaches_out(corners: np.ndarray, size: tuple[int, int]) -> bool:
    return bool((corners < 0).any() or (corners > np.array(size)[:, None]).any())


def _mirrored(region: Image.Image, pad: tuple[int, int, int, int], blur: float) -> Image.Image:
    """``region`` with ``pad`` pixels (left, top, right, bottom) mirrored around it, fading into a blur and, far out,
    into the median colour, as FFHQ's tool does."""
    left, top, right, bottom = pad
    alpha = None
    if region.mode == "RGBA":
        alpha = np.pad(np.asarray(region.getchannel("A")), ((top, bottom), (left, right)))
        region = region.convert("RGB")
    mode = "reflect" if min(region.size) > 1 else "edge"
    padded = np.pad(np.asarray(region), ((top, bottom), (left, right), (0, 0)), mode=mode)
    height, width = padded.shape[:2]
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]

    def inward(position: np.ndarray, before: int, after: int, length: int) -> np.ndarray:
        """0 at the outer edge, 1 where the picture begins."""
        first = position / before if before else np.full_like(position, np.inf)
        last = (length - 1 - position) / after if after else np.full_like(position, np.inf)
        return np.minimum(first, last)

    outside = np.maximum(1 - inward(x, left, right, width), 1 - inward(y, top, bottom, height))[..., None]
    image = padded.astype(np.float32)
    soft = np.asarray(Image.fromarray(padded).filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    image += (soft - image) * np.clip(outside * 3 + 1, 0, 1)
    image += (np.median(image, axis=(0, 1)) - image) * np.clip(outside, 0, 1)
    result = Image.fromarray(np.clip(np.round(image), 0, 255).astype(np.uint8))
    if alpha is not None:
        result.putalpha(Image.fromarray(alpha))
    return result
