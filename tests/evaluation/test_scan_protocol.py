import importlib.util
import json
from pathlib import Path

import pytest
from conftest import tiny_pipeline
from test_scan import head

from gan2shape_hub.evaluation import scan as scan_module
from gan2shape_hub.evaluation.scan import ScanScore
from gan2shape_hub.evaluation.scan_protocol import SHOTS, Shot, ShotResult, measure_shot, scan_tables, summarise_scan

SHOT = Shot(17.0, "white", "as photographed")


def result(shot: Shot, mad: float | None) -> ShotResult:
    found = None if mad is None else ScanScore(0.9, 0.7, 2.0, 0.5, 2 * mad, mad, 1.0)
    return ShotResult(shot, 90.0, 80.0, 24.0, found, None if found else "no face was found in image.")


def test_every_picture_is_taken_once():
    assert len(SHOTS) == len({shot.name for shot in SHOTS}) == 20


@pytest.mark.filterwarnings("ignore:the generator reproduces")
def test_a_picture_is_measured_and_survives_json(pipeline):
    found, strip = measure_shot(pipeline, head(cells=24), SHOT, "fast")
    assert found.problem is None
    assert -1 <= found.score.correlation <= 1
    assert found.psnr_db > 0
    assert strip.width > 5 * strip.height
    assert ShotResult.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


def test_a_picture_without_a_face_is_counted():
    found, strip = measure_shot(tiny_pipeline(align="face"), head(cells=24), SHOT, "fast")
    assert found.score is None
    assert found.psnr_db is None
    assert "no face was found" in found.problem
    assert strip.width > strip.height


def test_report_and_tables():
    front = Shot(0.0, "grey", "as photographed")
    results = [result(front, 10.0), result(SHOT, 14.0), result(Shot(-30.0, "grey", "from the side"), None)]
    report = summarise_scan(results, "fast")
    json.dumps(report, allow_nan=False)
    assert report["means"]["all"]["mad_fitted_deg"] == pytest.approx(12)
    assert (report["means"]["all"]["pictures"], report["means"]["all"]["lost"]) == (3, 1)
    assert report["means"]["yaw 0 and +17, as photographed"]["mad_deg"] == pytest.approx(24)
    assert report["means"]["on white"]["mad_fitted_deg"] == 14
    assert "turned by 30" not in report["means"]  # its only picture is lost
    text = scan_tables([report])
    assert "| fast: on white | 1 | 14.0 | 28.0 | 2.00 | 0.900 | 0.70 | 0.500 |" in text
    assert "| yaw -30, grey, from the side | 24.0 | - |" in text


@pytest.mark.filterwarnings("ignore:the generator reproduces")
def test_the_command_line(pipeline, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("evaluate", Path(__file__).parents[2] / "scripts" / "evaluate.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    import gan2shape_hub

    monkeypatch.setattr(scan_module, "load_scan", lambda folder: head(cells=24))
    monkeypatch.setattr(gan2shape_hub.GAN2ShapePipeline, "from_pretrained", lambda *args, **kwargs: pipeline)
    command = ["scan", "--checkpoint", "org/tiny", "--output", str(tmp_path), "--quiet", "--json", "--yaws=-17"]
    command += ["--backgrounds", "white", "--lights"]
    assert script.main([*command, "from the side"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [p["shot"]["light"] for p in report["pictures"]] == ["from the side"]
    assert report == json.loads((tmp_path / "report.json").read_text())
    kept = tmp_path / "faces" / "yaw--17-white-from-the-side.json"
    written = kept.stat().st_mtime_ns
    assert script.main([*command, "from the side"]) == 0
    assert kept.stat().st_mtime_ns == written
    capsys.readouterr()
    assert script.main([*command, "dim"]) == 1
    assert "--lights names 'dim', must be some of as photographed" in capsys.readouterr().err
