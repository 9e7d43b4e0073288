"""The demo's API, called as other programs call it."""

import re
import urllib.request
from pathlib import Path

import httpx
import numpy as np
import pytest
import trimesh
from app_server import save_tiny, served
from conftest import tiny_pipeline
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from gan2shape_hub.cli.demo import checker


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with served(save_tiny(tiny_pipeline(), folder / "checkpoint"), root=folder / "work") as running:
        yield running


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server[0], verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="module")
def result(server, tmp_path_factory):
    """(model, picture, settings) of the generated image of seed 5, of a client that makes no other one."""
    maker = Client(server[0], verbose=False, download_files=str(tmp_path_factory.mktemp("result")))
    yield maker.predict(seed=5, preset="fast", api_name="/reconstruct")
    maker.close()


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), float)


def test_the_documented_endpoints_and_no_others_are_public(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/reconstruct", "/relight", "/rotate", "/sample", "/download", "/stop"}
    arguments = [p["parameter_name"] for p in named["/relight"]["parameters"]]
    assert arguments == ["result_id", "right", "up", "ambient", "diffuse", "photographic", "environment"]
    answers = {name: [answer["label"] for answer in endpoint["returns"]] for name, endpoint in named.items()}
    assert answers == {
        "/reconstruct": ["model", "picture", "settings"],
        "/relight": ["picture"],
        "/rotate": ["picture"],
        "/sample": ["picture", "seed"],
        "/download": ["file"],
        "/stop": ["words"],
    }


def test_reconstruct_a_generated_image(result, tmp_path_factory):
    model, picture, told = result
    assert len(trimesh.load(model, force="mesh").faces) > 8
    assert pixels(picture).std() > 1
    assert told["preset"] == "fast"
    assert "--seed 5 " in told["command"]
    assert len(told["result_id"]) > 16
    assert told["checkpoint"] == "checkpoint"
    assert str(tmp_path_factory.getbasetemp()) not in str(told), "where it lies on the server is nobody's business"


def test_reconstruct_a_photograph(client, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    _, _, told = client.predict(image=handle_file(str(path)), preset="instant", api_name="/reconstruct")
    assert told["psnr_db"] is not None
    assert "photo.png" in told["command"]


def test_relight_and_rotate_by_id_from_another_client(server, result):
    other = Client(server[0], verbose=False)
    left = pixels(other.predict(result_id=result[2]["result_id"], right=-0.9, api_name="/relight"))
    right = pixels(other.predict(result_id=result[2]["result_id"], right=0.9, api_name="/relight"))
    window = pixels(other.predict(result_id=result[2]["result_id"], environment="window", api_name="/relight"))
    assert min(abs(window.astype(float) - one).mean() for one in (left, right)) > 0.5
    assert left.shape == (512, 512, 3)
    assert np.abs(left - right).mean() > 1
    turned = pixels(other.predict(result_id=result[2]["result_id"], yaw=30, api_name="/rotate"))
    assert turned.shape == (384, 384, 3)
    photographic = other.predict(result_id=result[2]["result_id"], yaw=20, photographic=True, api_name="/rotate")
    assert pixels(photographic).shape == (64, 64, 3)


def test_sample_repeats_itself(client):
    first, seed = client.predict(seed=9, api_name="/sample")
    again, _ = client.predict(seed=9, api_name="/sample")
    other, drawn = client.predict(api_name="/sample")
    assert seed == 9
    assert np.array_equal(pixels(first), pixels(again))
    assert drawn >= 0
    assert pixels(other).shape == pixels(first).shape


def test_downloads(client, result):
    path = client.predict(result_id=result[2]["result_id"], kind="ply", api_name="/download")
    assert Path(path).read_bytes()[:3] == b"ply"
    with pytest.raises(AppError, match="must be one of glb"):
        client.predict(result_id=result[2]["result_id"], kind="stl", api_name="/download")


@pytest.mark.parametrize(
    ("endpoint", "arguments", "sentence"),
    [
        ("/reconstruct", {}, "either an image or the seed"),
        ("/reconstruct", {"seed": 1, "preset": "paper"}, "preset is 'paper'"),
        ("/reconstruct", {"seed": -1}, "seed is -1"),
        ("/relight", {"right": 5}, "and up are 5 and 0.2"),
        ("/relight", {"environment": "../room.hdr"}, "must be one of studio, window, sunset"),
        ("/rotate", {"result_id": "guessed"}, "no result of that id"),
        ("/sample", {"seed": 1, "checkpoint": "no/such-checkpoint"}, "no/such-checkpoint"),
    ],
)
def test_mistakes_are_answered_by_a_sentence(client, endpoint, arguments, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(**arguments, api_name=endpoint)


def test_a_new_client_has_no_result_of_its_own(server, result):
    with pytest.raises(AppError, match="no result yet"):
        Client(server[0], verbose=False).predict(yaw=10, api_name="/rotate")


def test_with_a_password_only_who_knows_it_comes_in(tmp_path):
    checkpoint = save_tiny(tiny_pipeline(), tmp_path / "checkpoint")
    with served(checkpoint, root=tmp_path / "work", auth=checker("secret")) as (address, _):
        with pytest.raises(ValueError, match="Could not login"):
            Client(address, verbose=False, auth=("me", "guessed"))
        client = Client(address, verbose=False, auth=("me", "secret"), download_files=str(tmp_path))
        assert client.predict(seed=1, api_name="/sample")[1] == 1
    assert checker(None) is None
    assert checker("") is None


def test_the_configuration_shows_no_place_of_the_checkpoint(server):
    with urllib.request.urlopen(f"{server[0]}config") as answer:
        text = answer.read().decode()
    assert '"checkpoint"' in text, "its public name"
    assert not re.findall(r'"(/[^"]*checkpoint[^"]*)"', text)


def test_a_folder_is_no_photograph_and_a_large_request_is_refused(server):
    address, desk = server
    upload = httpx.post(f"{address}gradio_api/upload", files={"files": ("a.png", b"x")}).json()[0]
    data = [{"path": str(Path(upload).parent)}, None, "", "", 0, False, 0]
    begun = httpx.post(f"{address}gradio_api/call/reconstruct", json={"data": data})
    told = httpx.get(f"{address}gradio_api/call/reconstruct/{begun.json()['event_id']}", timeout=60).text
    assert "no uploaded file" in told
    files = [("files", (f"{k}.png", bytes(15_000_000))) for k in range(2)]
    assert httpx.post(f"{address}gradio_api/upload", files=files, timeout=60).status_code == 413
    assert len(list(desk.workspace.root.rglob("?.png"))) == 1
