"""What the page shows that is no component of Gradio: its look, the progress card, the ball that holds the light."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from PIL import Image

from gan2shape_hub.demo.faces import Faces
from gan2shape_hub.demo.runs import Report
from gan2shape_hub.plan import in_words

TITLE = "GAN2Shape: one picture in, a 3D model out"


STATIC = "/gan2shape"
"""Where browsers find what the page is made of; nothing of it is a visitor's."""
ASSETS = Path(__file__).parent / "assets"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


HEADER = _asset("header.html")
FOOTER = _asset("footer.html")
EMPTY = _asset("empty.html")
ANOTHER = _asset("another.html")
CSS = _asset("page.css")
HEAD = _asset("head.html")
BALL_HTML = _asset("ball.html")
BALL_CSS = _asset("ball.css")
BALL_JS = _asset("ball.js")
VIEWER_HTML = _asset("viewer.html")
VIEWER_JS = _asset("viewer.js")
FACES_JS = _asset("faces.js")


def theme() -> gr.themes.Base:
    """Indigo on slate. Gradio ships the fonts, so that no page asks another server for one; of this one, regular and
    bold are whole and the weights in between lack letters."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.fuchsia,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="linear-gradient(90deg, *primary_600, *primary_500)",
        button_primary_background_fill_hover="linear-gradient(90deg, *primary_700, *primary_600)",
        button_secondary_background_fill="*background_fill_primary",
        button_secondary_background_fill_hover="*background_fill_secondary",
        button_secondary_border_color="*border_color_primary",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_border_width="1px",
        button_large_text_weight="400",
        block_shadow="none",
        block_border_width="1px",
    )


def face_buttons(faces: Faces) -> str:
    """The faces to click, whose pictures their script fetches."""
    buttons = "".join(
        f'<button type="button" data-name="{face.name}" title="{html.escape(face.words)}" aria-pressed="false">'
        f'<img data-src="{STATIC}/examples/{face.file("jpg")}" alt="{html.escape(face.words)}"></button>'
        for face in faces.faces
    )
    return f'<p>Or a finished example</p><div class="faces" role="group" aria-label="Finished examples">{buttons}</div>'


def example_note(who: str, how: str) -> str:
    return (
        f'<div class="note">{html.escape(who)}. {html.escape(how)}. Press <b>Reconstruct</b> to make it anew here and '
        "then to relight it, turn it and take it away.</div>"
    )


def file_address(path: str | Path) -> str:
    """Where the page finds a file of a visitor's folder, below its own address."""
    return f"/gradio_api/file={quote(str(path))}"


def data_address(image: Image.Image) -> str:
    """A small picture as a data: address, so that a preview needs no file."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def progress_card(report: Report) -> str:
    """A report as HTML: what is done, how far, how long it still takes, and how it looks."""
    left = "" if report.left_s is None or report.state != "running" else f"about {in_words(report.left_s)} left"
    percent = round(100 * report.fraction)
    figures = "".join(
        f'<figure><img src="{data_address(picture)}" alt="Preview of the {html.escape(label)}">'
        f"<figcaption>{html.escape(label)}</figcaption></figure>"
        for label, picture in report.previews
    )
    bar = (
        f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><div style="width:{percent}%"></div></div>'
        if report.state in ("running", "loading", "waiting")
        else ""
    )
    return (
        f'<div class="card {report.state}" id="card" data-state="{report.state}">'
        f'<div class="line" role="status"><span>{html.escape(report.text)}</span><span>{left}</span></div>{bar}'
        + (f'<div class="looks">{figures}</div>' if figures else "")
        + "</div>"
    )


def command_box(command: str) -> str:
    return f'<code class="command">{html.escape(command)}</code>'
