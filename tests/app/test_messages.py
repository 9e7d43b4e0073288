"""What visitors are told, and what nobody is."""

import io
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from gan2shape_hub.demo.runs import Report
from gan2shape_hub.demo.visitors import DemoError, Workspace, told


def test_errors_are_told_without_details_in_the_log(capsys):
    @told
    def known():
        raise DemoError("the seed is -1, must be 0 or more.")

    @told
    def unknown():
        raise RuntimeError("visitor/private.jpg")

    @told
    def streaming():
        yield 1
        raise DemoError("stopped.")

    with pytest.raises(gr.Error, match="The seed is -1"):
        known()
    with pytest.raises(gr.Error, match="Something went wrong") as caught:
        unknown()
    assert "private" not in str(caught.value)
    log = capsys.readouterr()
    assert "RuntimeError" in log.err
    assert "private" not in log.err + log.out
    stream = streaming()
    assert next(stream) == 1
    with pytest.raises(gr.Error, match="Stopped"):
        next(stream)


def test_the_card_escapes_what_it_is_told():
    from gan2shape_hub.demo.markup import progress_card

    card = progress_card(Report("running", "<script>", 0.5, 30.0, (("shape", Image.new("RGB", (8, 8))),)))
    assert "<script>" not in card
    assert 'aria-valuenow="50"' in card
    assert "about 30 s left" in card
    assert 'alt="Preview of the shape"' in card


def test_pictures_for_the_page_carry_no_exif():
    # Photographs carry places and names in their EXIF; what is written for the page is made of pixels alone.
    exif = Image.Exif()
    exif[0x010E] = "a private remark"
    data = io.BytesIO()
    Image.new("RGB", (64, 64)).save(data, "JPEG", exif=exif)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(data.getvalue())
        space = Workspace(Path(folder))
        from gan2shape_hub.stages.prepare import load_image

        written = space.session("a").picture("crop.jpg", load_image(path))
        assert b"private remark" not in Path(written).read_bytes()
        space.close("a")
