"""The benchmark of inversion, with a judge that says what is asked of it."""

import json
import math

import pytest
import torch
from conftest import tiny_pipeline

from gan2shape_hub.evaluation.canonical_face import canonical_mesh
from gan2shape_hub.evaluation.edits import Turn
from gan2shape_hub.evaluation.facemesh import FaceLandmarks
from gan2shape_hub.evaluation.inversion import Inverted, inversion_tables, measure_inversion, summarise_inversion


class Judge:
    """Sees the same face in every picture; the pictures after the first are turned by ``yaw_deg``."""

    def __init__(self, yaw_deg: float) -> None:
        angle, self.calls = math.radians(yaw_deg), 0
        c, s = math.cos(angle), math.sin(angle)
        self.turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)

    def landmarks(self, image):
        self.calls += 1
        points = canonical_mesh() if self.calls == 1 else canonical_mesh() @ self.turn.T
        size = image.shape[-1]
        return FaceLandmarks((points * size / 2).float(), (size, size), 0.99)


class Blind:
    def landmarks(self, image):
        return None


def test_a_generated_face_is_measured_beside_its_own_latent(pipeline):
    sample = pipeline.sample(seed=5)
    result, strip = measure_inversion(pipeline, Judge(10.0), "seed 5", sample.image, "fast", sample=sample)
    assert [t.requested_deg for t in result.turns] == [-25, -12.5, 0, 12.5, 25]
    assert all(abs(t.measured_deg) == pytest.approx(10, abs=0.1) for t in (*result.turns, *result.known))
    assert len(result.known) == 5
    assert 0 < result.psnr_db < 100
    assert math.isfinite(result.object_db)
    assert result.tuned_db is None
    assert result.cpu_seconds > 0
    assert strip.width > 3 * strip.height
    assert Inverted.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result


def test_a_photograph_without_a_face_for_the_judge(pipeline):
    picture = pipeline.sample(seed=5).image
    result, _ = measure_inversion(pipeline, Blind(), "one", picture, "fast", tuned=True)
    assert result.turns == result.known == ()
    assert result.tuned_db > result.psnr_db
    assert result.tuned_cpu_seconds >= 0
    table = inversion_tables(summarise_inversion([], [result]))
    assert "| one |" in table
    assert "no face found" in table


def test_the_networks_are_left_as_they_are():
    pipeline = tiny_pipeline()
    before = {n: v.clone() for n, v in pipeline.components["depth_net"].state_dict().items()}
    sample = pipeline.sample(seed=5)
    result, _ = measure_inversion(pipeline, Blind(), "a", sample.image, "fast", sample=sample)
    assert result.known == ()
    assert all(torch.equal(v, before[n]) for n, v in pipeline.components["depth_net"].state_dict().items())


def made(name, psnr, tuned=None, error=5.0):
    turns = tuple(Turn(yaw, yaw + error, 0.0) for yaw in (-20.0, 0.0, 20.0))
    return Inverted(name, psnr, psnr + 1, tuned, 30.0, 50.0, None, 110.0 if tuned else None, turns, turns[:2])


def test_report_and_table():
    report = summarise_inversion([made("seed 1", 24.0), made("seed 2", 28.0)], [made("someone", 19.5, 25.0)])
    json.dumps(report, allow_nan=False)
    assert report["generated"]["psnr_db"]["mean"] == pytest.approx(26.0)
    assert report["generated"]["psnr_db"]["min"] == pytest.approx(24.0)
    assert report["generated"]["rotation"]["mean_error_deg"] == pytest.approx(5.0)
    assert report["generated"]["rotation"]["slope"] == pytest.approx(1.0)
    text = inversion_tables(report)
    assert "26.0 (24.0)" in text
    assert "| someone | 19.5 | 20.5 | 25.0 |" in text
    widths = {line.count("|") for line in text.splitlines()}
    assert widths == {8}
