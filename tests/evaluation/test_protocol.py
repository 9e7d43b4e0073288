import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch

from gan2shape_hub.evaluation.canonical_face import canonical_mesh
from gan2shape_hub.evaluation.face_protocol import FaceResult, Protocol, measure_face
from gan2shape_hub.evaluation.face_report import AVERAGE, ELLIPSOID, markdown, summarise
from gan2shape_hub.evaluation.facemesh import FaceLandmarks

ROOT = Path(__file__).resolve().parents[2]


class FrontalEverywhere:
    """A judge that sees the same frontal face in every picture, or in none."""

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind

    def landmarks(self, image):
        if self.blind:
            return None
        size = image.shape[-1]
        points = canonical_mesh() * size / 2 + torch.tensor([(size - 1) / 2, (size - 1) / 2, 0.0])
        return FaceLandmarks(points.float(), (size, size), 0.99)


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("evaluate", ROOT / "scripts" / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_face_is_measured_and_survives_json(pipeline):
    result, strip = measure_face(pipeline, FrontalEverywhere(), 1000, Protocol(preset="fast"))
    assert -1 <= result.face.correlation <= 1
    assert result.prior.correlation > 0
    assert result.average.correlation == pytest.approx(1, abs=1e-6)
    assert math.isfinite(result.psnr_db)
    assert result.seconds > 0
    assert [t.requested_deg for t in result.turns["gan"]] == [-25, -12.5, 0, 12.5, 25]
    assert all(t.measured_deg == pytest.approx(0, abs=1e-3) for t in result.turns["rendered"])
    assert len(result.lights["gan"]) == 5
    assert strip.width > 5 * strip.height
    again = FaceResult.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False)))
    assert again.face.correlation == pytest.approx(result.face.correlation, abs=1e-3)
    assert again.turns == result.turns
    assert again.lights == result.lights


def test_a_face_that_the_judge_does_not_see(pipeline):
    result, _ = measure_face(pipeline, FrontalEverywhere(blind=True), 1000, Protocol(preset="fast"))
    assert result.face is None
    assert FaceResult.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))).face is None
    report = summarise([result], "fast")
    assert report["depth"]["fast"]["mean"] is None
    assert "| fast | - | - |" in markdown(report)


def test_report_and_tables(pipeline):
    results = [measure_face(pipeline, FrontalEverywhere(), seed, Protocol(preset="fast"))[0] for seed in (1000, 1001)]
    report = summarise(results, "fast")
    json.dumps(report, allow_nan=False)
    assert set(report["depth"]) == {"fast", ELLIPSOID, AVERAGE}
    text = markdown(report, [{**report, "name": "fast", "depth": report["depth"]}])
    assert text.count("| fast |") == 2
    for word in ("seconds", "through the GAN", "rendered mesh", "rank correlation", "PSNR inside the mask"):
        assert word in text


def test_command_line_resumes_and_refuses_another_runs_folder(script, pipeline, tmp_path, monkeypatch, capsys):
    import gan2shape_hub
    from gan2shape_hub.evaluation import face_protocol, facemesh

    monkeypatch.setattr(facemesh, "FaceMesh", lambda wheel: FrontalEverywhere())
    monkeypatch.setattr(gan2shape_hub.GAN2ShapePipeline, "from_pretrained", lambda *args, **kwargs: pipeline)
    out = tmp_path / "out"
    command = ["facemesh", "--checkpoint", "org/tiny", "--wheel", "w", "--output", str(out), "--quiet", "--json"]
    command += ["--parts", "relighting"]
    assert script.main([*command, "--count", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["faces"] == 2
    assert "rotation" not in report
    assert {p.name for p in out.iterdir()} == {
        "faces", "settings.json", "report.json", "report.md", "worst.png", "best.png",
    }  # fmt: skip

    measured = []
    real = face_protocol.measure_face
    monkeypatch.setattr(
        face_protocol, "measure_face", lambda p, m, seed, k: measured.append(seed) or real(p, m, seed, k)
    )
    assert script.main([*command, "--count", "3"]) == 0
    assert measured == [1002]
    assert script.main([*command, "--count", "3", "--truncation", "0.5"]) == 1
    assert "choose another --output" in capsys.readouterr().err


def test_mistakes_on_the_command_line(script, tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.parse_arguments(["facemesh", "--output", "x", "--parts", "depth,pose"])
    assert "'pose'" in capsys.readouterr().err
    assert script.main(["facemesh", "--output", str(tmp_path), "--compare", str(tmp_path / "none")]) == 1
    assert "is not a report" in capsys.readouterr().err


def test_reports_say_nothing_of_the_machine(tmp_path):
    spec = importlib.util.spec_from_file_location("evaluate_cli", Path(__file__).parents[2] / "scripts" / "evaluate.py")
    cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cli)
    (tmp_path / "checkpoints" / "cat").mkdir(parents=True)
    assert cli.checkpoint_name(str(tmp_path / "checkpoints" / "cat")) == "checkpoints/cat"
    assert cli.checkpoint_name("org/name") == "org/name"
