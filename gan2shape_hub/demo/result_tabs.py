"""The tabs of a result: the model, another light, another side, the files."""

from __future__ import annotations

import gradio as gr

from gan2shape_hub.demo import markup
from gan2shape_hub.demo.desk import SURFACES, Desk, example_view
from gan2shape_hub.demo.endpoints import Endpoints
from gan2shape_hub.demo.results import DOWNLOADS, ball_of_preset
from gan2shape_hub.rendering.environment import ENVIRONMENTS
from gan2shape_hub.results.animation import video_available
from gan2shape_hub.results.edit import LIGHT_PRESETS

QUIET = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**QUIET, "queue": False}
LIVE = {**AT_ONCE, "trigger_mode": "always_last"}
PLAIN, ENLARGED = {"interactive": False, "buttons": []}, {"interactive": False, "buttons": ["fullscreen"]}
EDIT = {"api_visibility": "private", "concurrency_id": "edits", "concurrency_limit": 2, "show_progress": "minimal"}


def look(desk: Desk) -> dict[str, gr.Component]:
    """The model and its maps."""
    with gr.Tab("Model", id="model"):
        first = desk.offered.faces[0] if desk.offers_examples else None
        viewer = gr.HTML(
            example_view(first) if first else None,
            html_template=markup.VIEWER_HTML,
            js_on_load=markup.VIEWER_JS,
            elem_id="viewer",
        )
        note = gr.HTML(desk.example_note(first) if first else "", elem_id="made_beforehand")
        surface = gr.Radio(SURFACES[:2] if first else SURFACES, value="Textured", show_label=False, elem_id="surface")
        maps = gr.Column(visible=first is None, elem_id="maps")
        with maps:
            with gr.Row(equal_height=True):
                compare = gr.ImageSlider(label="Input and bare shape", height=300, elem_id="compare", **PLAIN)
                # Without an encoder the turntable is an animated picture, which a video element does not play.
                turning = {"label": "Turntable", "height": 300, "elem_id": "turntable", **PLAIN}
                turntable = gr.Video(autoplay=True, loop=True, **turning) if video_available() else gr.Image(**turning)
            with gr.Row():
                depth = gr.Image(label="Depth (near is bright)", elem_id="depth", **ENLARGED)
                normals = gr.Image(label="Normals", elem_id="normals", **ENLARGED)
    surface.input(desk.surface, surface, viewer, **EDIT)
    return {
        "viewer": viewer,
        "note": note,
        "surface": surface,
        "maps": maps,
        "compare": compare,
        "turntable": turntable,
        "depth": depth,
        "normals": normals,
    }


def light(
    desk: Desk, endpoints: Endpoints, shown: gr.State, yes: gr.State, no: gr.State, names: dict[str, gr.State]
) -> dict[str, gr.Component]:
    """Another light, while the slider moves."""
    right, up, ambient, diffuse = ball_of_preset("left")
    with gr.Tab("Relight", id="relight", interactive=not desk.offers_examples) as tab:
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                picture = gr.Image(
                    label="Relit", interactive=False, elem_id="relit", buttons=["download", "fullscreen"]
                )
            with gr.Column(scale=2, min_width=240):
                ball = gr.HTML(
                    [right, up],
                    html_template=markup.BALL_HTML,
                    css_template=markup.BALL_CSS,
                    js_on_load=markup.BALL_JS,
                    elem_id="ball",
                )
                with gr.Row(elem_classes="chips"):
                    chips = {name: gr.Button(name, size="sm", elem_id=f"light_{name}") for name in LIGHT_PRESETS}
                with gr.Row(elem_classes="chips"):
                    around = {name: gr.Button(name, size="sm", elem_id=f"light_{name}") for name in ENVIRONMENTS}
                sliders = [
                    gr.Slider(-1, 1, right, step=0.01, label="Left – right", elem_id="light_right"),
                    gr.Slider(-1, 1, up, step=0.01, label="Below – above", elem_id="light_up"),
                    gr.Slider(0, 1, ambient, step=0.01, label="Ambient", elem_id="light_ambient"),
                    gr.Slider(0, 1.2, diffuse, step=0.01, label="Diffuse", elem_id="light_diffuse"),
                ]
        with gr.Row():
            photographic = gr.Button("Photographic (through the GAN)", elem_id="relight_gan")
            paste = gr.Button("Paste into the photograph", elem_id="paste", visible=False)
        pasted = gr.Image(
            label="In the photograph",
            interactive=False,
            visible=False,
            elem_id="pasted",
            buttons=["download", "fullscreen"],
        )
    gr.on([slider.change for slider in sliders], endpoints.relight, [shown, *sliders], picture, **LIVE)
    ball.input(None, ball, sliders[:2], js="(p) => [p[0], p[1]]", **AT_ONCE)
    gr.on([s.input for s in sliders[:2]], None, sliders[:2], ball, js="(x, y) => [[x, y]]", **AT_ONCE)
    for name, chip in chips.items():
        values = list(ball_of_preset(name))
        chip.click(None, None, [*sliders, ball], js=f"() => [...{values}, {values[:2]}]", **AT_ONCE)
    for name, chip in around.items():
        chip.click(endpoints.relight, [shown, *sliders, no, names[name]], picture, **EDIT)
    photographic.click(endpoints.relight, [shown, *sliders, yes], picture, **EDIT)
    paste.click(desk.paste, sliders, pasted, **EDIT)
    return {"tab": tab, "values": sliders, "picture": picture, "paste": paste, "pasted": pasted}


def turn(desk: Desk, endpoints: Endpoints, shown: gr.State, yes: gr.State) -> dict[str, gr.Component]:
    """Another side."""
    yaw_limit, pitch_limit = desk.shelf.config(desk.shelf.default).generated_limit_deg
    with gr.Tab("Rotate", id="rotate", interactive=not desk.offers_examples) as tab:
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                picture = gr.Image(
                    label="Turned", interactive=False, elem_id="turned", buttons=["download", "fullscreen"]
                )
            with gr.Column(scale=2, min_width=240):
                yaw = gr.Slider(-yaw_limit, yaw_limit, min(25, yaw_limit), step=1, label="Yaw, degrees", elem_id="yaw")
                pitch = gr.Slider(-pitch_limit, pitch_limit, 0, step=1, label="Pitch, degrees", elem_id="pitch")
                photographic = gr.Button("Photographic (through the GAN)", elem_id="rotate_gan")
                with gr.Row():
                    rendered = gr.Button("Strip of views", elem_id="strip_quick")
                    synthesised = gr.Button("Photographic strip", elem_id="strip_gan")
        strip = gr.Gallery(
            label="Views",
            columns=5,
            height=190,
            object_fit="cover",
            interactive=False,
            elem_id="strip",
            buttons=["download_all", "fullscreen"],
        )
    gr.on([yaw.change, pitch.change], endpoints.rotate, [shown, yaw, pitch], picture, **LIVE)
    photographic.click(endpoints.rotate, [shown, yaw, pitch, yes], picture, **EDIT)
    rendered.click(desk.strip, pitch, strip, **EDIT)
    synthesised.click(desk.strip, [pitch, yes], strip, **EDIT)
    return {"tab": tab, "values": [yaw, pitch], "picture": picture, "strip": strip}


def take(desk: Desk) -> dict[str, gr.Component | list[gr.Component]]:
    """The files."""
    with gr.Tab("Take away", id="take", interactive=not desk.offers_examples) as tab:
        with gr.Row(elem_id="downloads"):
            buttons = [
                gr.DownloadButton(f"{label} …", interactive=False, elem_id=f"get_{kind}")
                for kind, (label, _) in DOWNLOADS.items()
            ]
        gr.HTML('<p class="note">The same result from the command line:</p>')
        command = gr.HTML("", elem_id="command")
        with gr.Accordion("All settings", open=False):
            settings = gr.JSON(show_label=False, elem_id="settings")
    return {"tab": tab, "buttons": buttons, "command": command, "settings": settings}
