"""What other programs can call, by gradio_client, HTTP or MCP (docs/demo.md); the page's edits are the same."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gan2shape_hub.demo import results
from gan2shape_hub.demo.desk import Desk, own_result
from gan2shape_hub.demo.results import DOWNLOADS, Finished
from gan2shape_hub.demo.runs import Order
from gan2shape_hub.demo.visitors import DemoError, Session, told


class Endpoints:
    """Named endpoints. Their answers hold a ``result_id``, which later calls may come back to from anywhere, until the
    same client has its next result, or leaves; an empty one means the caller's own last result."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def _session(self, request: gr.Request | None) -> Session:
        """The caller's session; a new one for each call that comes by MCP, whose callers look like one to Gradio."""
        return self.desk.session(None if _by_mcp(request) else request)

    def _result(self, result_id: str | None, request: gr.Request | None) -> tuple[Session, Finished]:
        if not result_id:
            if _by_mcp(request):
                raise DemoError("name the result_id that /reconstruct answered.")
            session = self.desk.session(request)
            return session, own_result(session)
        found = self.desk.workspace.result(result_id)
        if found is None:
            raise DemoError("there is no result of that id (any more): reconstruct once more.")
        return found

    @told
    def reconstruct(
        self,
        image: dict[str, Any] | None = None,
        seed: float | None = None,
        preset: str = "",
        checkpoint: str = "",
        run_seed: float = 0,
        tuned: bool = False,
        face: float = 0,
        request: gr.Request | None = None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio is asked for a progress tracker)
    ) -> tuple[str, str, dict[str, Any]]:
        """Reconstruct the 3D shape of a photograph, or of the generated image of a seed.

        Args:
            image: the photograph; its largest face is taken. Leave it out to use seed.
            seed: of a generated image; used without image.
            preset: instant, fast or balanced, as far as the checkpoint has them; empty takes its default.
            checkpoint: one that is offered; empty takes the default.
            run_seed: of the reconstruction's randomness.
            tuned: adapt a copy of the generator to the photograph: closer, slower.
            face: which face of several, 0 being the largest.

        Returns:
            The textured model (GLB), the reconstruction as a picture, and a dictionary: result_id, the command that
            repeats the run, and the run's settings.
        """
        shelf, session = self.desk.shelf, self._session(request)
        checkpoint = checkpoint or shelf.default
        presets, default = shelf.presets(checkpoint)
        preset = preset or default
        if preset not in shelf.config(checkpoint).schedules:
            raise DemoError(f"the preset is '{preset}', must be one of {', '.join(presets)}.")
        if image is not None:
            path = self.desk.workspace.own(session, image.get("path"))
            subject = shelf.photograph(path, checkpoint, face_index=int(face or 0) or None)
        elif seed is not None:
            subject = shelf.drawn(checkpoint, int(seed))
        else:
            raise DemoError("give either an image or the seed of a generated one.")
        session.order = order = Order.of(session, subject, preset, run_seed, tuned)
        order.begun = True
        try:
            for item in self.desk.workshop.run(order):
                if isinstance(item, Finished):
                    self.desk.workspace.finish(session, item)
                elif item.state == "stopped":
                    raise DemoError("the run was stopped.")
                else:
                    progress(item.fraction, desc=item.text)
        finally:
            session.order = None
        results.forget_older(item, session.folder)
        picture = session.picture("reconstruction.png", results.turned(item, 0, 0))
        model = str(results.file_of(item, session.folder, "glb"))
        return model, picture, {"result_id": item.id, **results.settings(item)}

    @told
    def stop(self, request: gr.Request | None = None) -> str:
        """Stop the caller's own run; it ends within a second."""
        if _by_mcp(request):
            raise DemoError("a run that was started by MCP cannot be stopped.")
        self.desk.stop(request)
        return "asked to stop"

    @told
    def sample(
        self, seed: float | None = None, variety: float = -1, checkpoint: str = "", request: gr.Request | None = None
    ) -> tuple[str, float]:
        """Draw an image of the generator.

        Args:
            seed: the same seed gives the same image; leave it out for a random one.
            variety: 0 is the average image, 1 the whole variety; -1 takes the checkpoint's.
            checkpoint: one that is offered; empty takes the default.

        Returns:
            The image, and its seed.
        """
        shelf = self.desk.shelf
        seed = self.desk.random_seed() if seed is None else int(seed)
        subject = shelf.drawn(checkpoint or shelf.default, seed, None if variety < 0 else variety)
        return self._session(request).picture("sample.png", subject.crop), seed

    @told
    def relight(
        self,
        result_id: str = "",
        right: float = -0.7,
        up: float = 0.2,
        ambient: float = 0.4,
        diffuse: float = 0.8,
        photographic: bool = False,
        environment: str = "",
        request: gr.Request | None = None,
    ) -> str:
        """Show a result under another light.

        Args:
            result_id: of /reconstruct; empty takes the caller's last result.
            right, up: where the light sits on a ball in front of the face, -1..1; 0, 0 is the camera.
            ambient, diffuse: strengths, 0 or more; about 1 in sum for a normal exposure.
            photographic: let the generator make the picture at its full size.
            environment: studio, window or sunset, light from all around in the place of the ball's; empty for the ball.

        Returns:
            The picture: 512 pixels, or the generator's size.
        """
        if not (abs(right) <= 1 and abs(up) <= 1):
            raise DemoError(f"right and up are {right:g} and {up:g}, must be between -1 and 1.")
        session, finished = self._result(result_id, request)
        shelf = self.desk.shelf if photographic else None
        picture = results.relit(finished, (right, up, ambient, diffuse), environment, shelf)
        finished.cache["edited"] = picture if photographic else environment or None
        return session.picture("relit_gan.png", picture) if photographic else session.picture("relit.jpg", picture)

    @told
    def rotate(
        self,
        result_id: str = "",
        yaw: float = 30,
        pitch: float = 0,
        photographic: bool = False,
        request: gr.Request | None = None,
    ) -> str:
        """Show a result from another side.

        Args:
            result_id: of /reconstruct; empty takes the caller's last result.
            yaw, pitch: degrees; a positive yaw turns the face to the image's left, a positive pitch down.
            photographic: let the generator make the picture at its full size; it reaches less far round.

        Returns:
            The picture: 384 pixels, or the generator's size.
        """
        session, finished = self._result(result_id, request)
        picture = results.turned(finished, yaw, pitch, self.desk.shelf if photographic else None)
        return session.picture("turned_gan.png", picture) if photographic else session.picture("turned.webp", picture)

    @told
    def download(self, result_id: str = "", kind: str = "obj", request: gr.Request | None = None) -> str:
        """A file of a result.

        Args:
            result_id: of /reconstruct; empty takes the caller's last result.
            kind: glb, obj, ply, maps, turntable, contact or settings.

        Returns:
            The file.
        """
        session, finished = self._result(result_id, request)
        if kind not in DOWNLOADS:
            raise DemoError(f"the kind of file is '{kind}', must be one of {', '.join(DOWNLOADS)}.")
        return str(results.file_of(finished, session.folder, kind))


def _by_mcp(request: gr.Request | None) -> bool:
    return request is not None and request.headers.get("x-gradio-user") == "mcp"
