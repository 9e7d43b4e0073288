"""The page: layout and wiring only. docs/demo.md has what it does, and the API."""

from __future__ import annotations

import importlib.util
import os

import gradio as gr
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from gan2shape_hub.demo import kinds, markup, result_tabs
from gan2shape_hub.demo.desk import QUALITY, Desk
from gan2shape_hub.demo.door import middleware
from gan2shape_hub.demo.endpoints import Endpoints
from gan2shape_hub.demo.faces import FOLDER
from gan2shape_hub.demo.result_tabs import AT_ONCE, EDIT, QUIET
from gan2shape_hub.demo.visitors import LIFETIME_S
from gan2shape_hub.rendering.environment import ENVIRONMENTS

MAX_UPLOAD = "20mb"
RUN = {"concurrency_id": "runs", "concurrency_limit": 1}
RAW = {"preprocess": False}
"""Uploads come as Gradio stored them. It would open a photograph itself, and call a damaged one "Error"."""


def build(desk: Desk) -> gr.Blocks:
    """The page and its endpoints. What it writes goes to the desk's folder, which ends with the program."""
    # Uploads too, and so that Gradio serves the sessions' files from where they are, without copies of its own.
    os.environ["GRADIO_TEMP_DIR"] = str(desk.workspace.root)
    with gr.Blocks(title=markup.TITLE, delete_cache=(300, int(LIFETIME_S)), analytics_enabled=False) as demo:
        endpoints = Endpoints(desk)
        _endpoints(endpoints)  # first: events of the page are named too, after their handlers
        gr.HTML(markup.HEADER)
        # Not inside of the tabs: there each counts as one.
        shown, photographic, quick = gr.State(), gr.State(True), gr.State(False)
        surroundings = {name: gr.State(name) for name in ENVIRONMENTS}
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                make = _make(desk)
            with gr.Column(scale=6, min_width=320):
                empty = gr.Column(elem_id="empty", visible=not desk.offers_examples)
                with empty:
                    gr.HTML(markup.EMPTY)
                # Always there, hidden by its class: a viewer that appears together with its model stays empty.
                results = gr.Column(elem_id="results", elem_classes="ready" if desk.offers_examples else "waiting")
                with results:
                    another = gr.Row(visible=False, elem_id="another", equal_height=True)
                    with another:
                        gr.HTML(markup.ANOTHER, elem_classes="note")
                        adapt = gr.Button("Adapt to the person", elem_id="adapt", size="sm", min_width=150, scale=0)
                with results, gr.Tabs(elem_id="result_tabs"):
                    look = result_tabs.look(desk)
                    light = result_tabs.light(desk, endpoints, shown, photographic, quick, surroundings)
                    turn = result_tabs.turn(desk, endpoints, shown, photographic)
                    take = result_tabs.take(desk)
        gr.HTML(markup.FOOTER)

        outputs = [make["card"], make["start"], make["stop"]]
        order = [make["preset"], make["run_seed"], make["tuned"], make["checkpoint"]]
        place = [look["note"], look["maps"], light["tab"], turn["tab"], take["tab"]]
        preset, run_seed, _, checkpoint = order
        make["stop"].click(desk.stop, None, outputs, **AT_ONCE)
        for button, begin, asked in (
            (make["start"], desk.begin, order),
            (adapt, desk.adapt, [preset, run_seed, checkpoint]),
        ):
            begun = button.click(begin, asked, outputs, **QUIET)  # in the queue: outside of it nothing refused is told
            ran = begun.success(desk.run, None, outputs, **RUN, api_visibility="private", show_progress="minimal")
            ran.then(desk.make_room, None, [empty, results, *place], **AT_ONCE).then(
                desk.show,
                shown,
                [
                    shown,
                    look["viewer"],
                    look["surface"],
                    look["compare"],
                    look["depth"],
                    look["normals"],
                    take["command"],
                    take["settings"],
                    light["paste"],
                    another,
                ],
                **QUIET,
            ).then(desk.estimates, [checkpoint, make["tuned"]], preset, **QUIET)
        # A new result brings its own pictures; the event fires only when the result is another one.
        shown.change(endpoints.relight, [shown, *light["values"]], light["picture"], **QUIET)
        shown.change(endpoints.rotate, [shown, *turn["values"]], turn["picture"], **QUIET)
        shown.change(desk.strip, turn["values"][1], turn["strip"], **QUIET)
        shown.change(lambda: gr.Image(value=None, visible=False), None, light["pasted"], **AT_ONCE)
        shown.change(
            desk.make_files,
            None,
            [*take["buttons"], look["turntable"]],
            **QUIET,
            concurrency_id="files",
            concurrency_limit=1,
        )
        if desk.offers_examples:
            chosen = make["faces"].input(
                desk.example_shown, make["faces"], [look["viewer"], look["surface"], another, *place], **AT_ONCE
            )
            chosen.then(desk.example_prepared, [make["faces"], make["checkpoint"]], make["prepared"], **EDIT).then(
                desk.estimates, [make["checkpoint"], make["tuned"]], make["preset"], **QUIET
            )
        demo.load(desk.estimates, [make["checkpoint"], make["tuned"]], make["preset"], **QUIET)
    return demo


def _make(desk: Desk) -> dict[str, gr.Component]:
    """Choose or draw a picture, see how it is prepared, start and stop."""
    default = desk.shelf.default
    presets, chosen = desk.shelf.presets(default)
    config = desk.shelf.config(default)
    with gr.Tabs(elem_id="sources"):
        with gr.Tab("Photograph", id="photograph") as photograph_tab:
            photo = gr.Image(
                label="A face from the front: drop, paste, upload or take a picture",
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                height=140,
                elem_id="photo",
                buttons=[],
            )
            face = gr.Dropdown([("the largest", 0)], value=0, label="Face", visible=False, elem_id="face")
            cut_out = gr.Checkbox(False, label="Already cut out: take the central square", elem_id="cut_out")
        with gr.Tab("Generated face", id="generated") as generated_tab:
            with gr.Row(equal_height=True):
                seed = gr.Number(7, label="Seed", precision=0, minimum=0, elem_id="seed", min_width=90)
                surprise = gr.Button("Surprise me", elem_id="surprise", min_width=120)
            variety = gr.Slider(
                0,
                1,
                config.truncation,
                step=0.05,
                label="How unusual",
                info="0 is the average face, 1 anybody the generator can draw",
                elem_id="variety",
            )
            drawn = gr.Button("Draw this face", elem_id="draw")
    faces = gr.HTML(
        "",
        html_template=markup.face_buttons(desk.offered),
        js_on_load=markup.FACES_JS,
        elem_id="examples",
        visible=desk.offers_examples,
    )
    with gr.Row(equal_height=True, elem_id="prepared"):
        crop = gr.Image(label="What is reconstructed", interactive=False, height=104, elem_id="crop", buttons=[])
        mask = gr.Image(
            label="Inside the photograph",
            interactive=False,
            height=104,
            elem_id="mask",
            buttons=[],
            min_width=90,
        )
    note = gr.HTML("", elem_id="note", elem_classes="note")
    preset = gr.Radio(
        presets,
        value=chosen,
        label="Quality",
        info=QUALITY,
        elem_id="preset",
    )
    with gr.Row():
        start = gr.Button("Reconstruct", variant="primary", elem_id="start", scale=3)
        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop", scale=1, min_width=80)
    card = gr.HTML("", elem_id="progress")
    with gr.Accordion("Options", open=False, elem_id="options"):
        checkpoint = gr.Dropdown(
            desk.shelf.choices,
            value=default,
            label="Kind of picture",
            info="One is in memory at a time"
            if desk.shelf.only_listed
            else "A folder or the id of a Hub repository; one is in memory at a time",
            allow_custom_value=not desk.shelf.only_listed,
            elem_id="checkpoint",
        )
        about = gr.HTML("", elem_id="about", elem_classes="note")
        kinds.offer(desk.kinds, checkpoint)
        tuned = gr.Checkbox(False, label="Adapt the generator to the photograph (closer, slower)", elem_id="tuned")
        run_seed = gr.Number(0, label="Seed of the reconstruction", precision=0, minimum=0, elem_id="run_seed")

    prepared = [crop, mask, note]
    timed = {"fn": desk.estimates, "inputs": [checkpoint, tuned], "outputs": preset, **QUIET}
    gr.on(
        [photo.change, face.input, cut_out.input, photograph_tab.select],
        desk.photograph_chosen,
        [photo, checkpoint, face, cut_out],
        [photo, *prepared, face],
        **QUIET,
        **RAW,
    ).then(**timed)
    face_inputs = [seed, variety, checkpoint]
    gr.on(
        [drawn.click, seed.submit, generated_tab.select],
        desk.face_wanted,
        face_inputs,
        prepared,
        **EDIT,
        trigger_mode="always_last",
    ).then(**timed)
    surprise.click(desk.random_seed, None, seed, **AT_ONCE).then(desk.face_wanted, face_inputs, prepared, **EDIT)
    checkpoint.change(desk.checkpoint_chosen, checkpoint, [preset, about, crop, mask, note], **QUIET).then(**timed)
    tuned.change(**timed)
    return {
        "faces": faces,
        "prepared": prepared,
        "checkpoint": checkpoint,
        "tuned": tuned,
        "run_seed": run_seed,
        "preset": preset,
        "start": start,
        "stop": stop,
        "card": card,
    }


def _endpoints(endpoints: Endpoints) -> None:
    """Named endpoints, on components that nobody sees."""
    with gr.Column(visible=False):
        # An answer is called as its component's label.
        image, picture, file = gr.Image(type="filepath"), gr.Image(label="picture"), gr.File(label="file")
        seed, number, words = gr.Number(precision=0), gr.Number(label="seed"), gr.Textbox(label="words")
        preset, checkpoint, result_id, kind = gr.Textbox(""), gr.Textbox(""), gr.Textbox(""), gr.Textbox("obj")
        run_seed, face = gr.Number(0, precision=0), gr.Number(0, precision=0)
        tuned, photographic = gr.Checkbox(False), gr.Checkbox(False)
        model, told = gr.Model3D(label="model"), gr.JSON(label="settings")
        variety, right, up = gr.Number(-1), gr.Number(-0.7), gr.Number(0.2)
        environment = gr.Textbox("")
        ambient, diffuse, yaw, pitch = gr.Number(0.4), gr.Number(0.8), gr.Number(30), gr.Number(0)
        trigger = gr.Button()
    trigger.click(
        endpoints.reconstruct,
        [image, seed, preset, checkpoint, run_seed, tuned, face],
        [model, picture, told],
        api_name="reconstruct",
        **RUN,
        **RAW,
    )
    edit = {"concurrency_id": "edits"}
    trigger.click(endpoints.sample, [seed, variety, checkpoint], [picture, number], api_name="sample", **edit)
    trigger.click(
        endpoints.relight,
        [result_id, right, up, ambient, diffuse, photographic, environment],
        picture,
        api_name="relight",
        **edit,
    )
    trigger.click(endpoints.rotate, [result_id, yaw, pitch, photographic], picture, api_name="rotate", **edit)
    trigger.click(endpoints.download, [result_id, kind], file, api_name="download", **edit)
    trigger.click(endpoints.stop, None, words, api_name="stop", queue=False)


def launch(demo: gr.Blocks, desk: Desk, *, local: bool = False, **options) -> tuple:
    """Serve the page of a desk, ``local``: to this machine's browsers alone. ``options`` go to ``gr.Blocks.launch``;
    the manners are fixed here."""
    demo.queue(max_size=32, default_concurrency_limit=4)
    return demo.launch(
        theme=markup.theme(),
        css=markup.CSS,
        head=markup.HEAD,
        max_file_size=MAX_UPLOAD,
        run_history=False,  # it would keep people's photographs in the browser
        footer_links=["api", "settings"],
        mcp_server=importlib.util.find_spec("mcp") is not None,
        ssr_mode=False,
        app_kwargs={
            "middleware": middleware(desk.workspace, local),
            "routes": [
                Mount(f"{markup.STATIC}/examples", StaticFiles(directory=FOLDER)),
                Mount(markup.STATIC, StaticFiles(directory=markup.ASSETS)),
            ],
        },
        **options,
    )
