"""What other programs can call, by gradio_client, HTTP or MCP. docs/demo.md describes each endpoint."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gan2shape_hub.demo import edits, files
from gan2shape_hub.demo.desk import Desk
from gan2shape_hub.demo.edits import BallLight
from gan2shape_hub.demo.messages import told
from gan2shape_hub.demo.shelf import DemoError
from gan2shape_hub.demo.subject import draw_sample, prepare_photograph
from gan2shape_hub.demo.work import Finished, reconstruct
from gan2shape_hub.demo.workspace import Session


class Endpoints:
    """Named endpoints. Their answers hold a ``result_id``, which later calls may come back to from anywhere, until the
    same client has its next result, or leaves; an empty one means the caller's own last result."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def _session(self, request: gr.Request | None) -> Session:
        """The caller's session; a new one for each call that comes by MCP, whose callers look like one to Gradio."""
        return self.desk.session(None if _by_mcp(request) else request)

    @told
    def reconstruct(
        self,
        image: str | None = None,
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
            checkpoint: a folder or Hub id; empty takes the default.
            run_seed: of the reconstruction's randomness.
            tuned: adapt a copy of the generator to the photograph: closer, slower.
            face: which face of several, 0 being the largest.

        Returns:
            The textured model (GLB), the reconstruction as a picture, and a dictionary: result_id, the command that
            repeats the run, and the run's settings.
        """
        desk = self.desk
        session = self._session(request)
        checkpoint = checkpoint or desk.shelf.default
        config = desk.shelf.config(checkpoint)
        preset = preset or (config.default_preset if config.default_preset in desk.presets(checkpoint) else "")
        if preset not in config.schedules:
            raise DemoError(f"the preset is '{preset}', must be one of {', '.join(desk.presets(checkpoint))}.")
        if image is not None:
            desk.workspace.own(session, image)
            subject = prepare_photograph(image, checkpoint, desk.shelf, face_index=int(face) or None)
        elif seed is not None:
            subject = draw_sample(checkpoint, desk.shelf, int(seed))
        else:
            raise DemoError("give either an image or the seed of a generated one.")
        options = {"preset": preset, "seed": int(run_seed), "tuned": bool(tuned and subject.is_photograph)}
        finished = None
        for item in reconstruct(session, subject, options, desk.shelf, desk.line, desk.speeds):
            if isinstance(item, Finished):
                finished = item
            elif item.state == "stopped":
                raise DemoError("the run was stopped.")
            else:
                progress(item.fraction, desc=item.text)
        if finished is None:
            raise DemoError("the run ended without a result: try again.")
        files.forget_older(finished, session.folder)
        desk.workspace.finish(session, finished)
        model = files.file_of(finished, session.folder, files.DOWNLOADS[0])
        picture = edits.turned(finished, 0, 0)
        told_settings = {"result_id": finished.id, **files.settings(finished)}
        return str(model), desk._picture(session, "reconstruction.png", picture), told_settings

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
            checkpoint: a folder or Hub id; empty takes the default.

        Returns:
            The image, and its seed.
        """
        desk = self.desk
        seed = desk.random_seed() if seed is None else int(seed)
        checkpoint = checkpoint or desk.shelf.default
        subject = draw_sample(checkpoint, desk.shelf, seed, None if variety < 0 else variety)
        return desk._picture(self._session(request), "sample.png", subject.crop), seed

    @told
    def relight(
        self,
        result_id: str = "",
        right: float = -0.7,
        up: float = 0.2,
        ambient: float = 0.4,
        diffuse: float = 0.8,
        photographic: bool = False,
        request: gr.Request | None = None,
    ) -> str:
        """Show a result under another light.

        Args:
            result_id: of /reconstruct; empty takes the caller's last result.
            right, up: where the light sits on a ball in front of the face, -1..1; 0, 0 is the camera.
            ambient, diffuse: strengths, 0 or more; about 1 in sum for a normal exposure.
            photographic: let the generator make the picture at its full size.

        Returns:
            The picture: 512 pixels, or the generator's size.
        """
        session, finished = self._result(result_id, request)
        ball = BallLight(right, up, ambient, diffuse)
        if photographic:
            picture = edits.relit_through_gan(finished, ball, self.desk.shelf)
        else:
            picture = edits.relit(finished, ball)
        return self.desk._picture(session, "relit.png", picture)

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
            photographic: let the generator make the picture at its full size.

        Returns:
            The picture: 384 pixels, or the generator's size.
        """
        session, finished = self._result(result_id, request)
        if photographic:
            picture = edits.turned_through_gan(finished, yaw, pitch, self.desk.shelf)
        else:
            picture = edits.turned(finished, yaw, pitch)
        return self.desk._picture(session, "rotated.png", picture)

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
        known = {download.key: download for download in files.DOWNLOADS}
        if kind not in known:
            raise DemoError(f"the kind of file is '{kind}', must be one of {', '.join(known)}.")
        return str(files.file_of(finished, session.folder, known[kind]))

    def _result(self, result_id: str, request: gr.Request | None) -> tuple[Session, Finished]:
        if not result_id:
            if _by_mcp(request):
                raise DemoError("name the result_id that /reconstruct answered.")
            return self.desk.finished(request)
        found = self.desk.workspace.result(result_id)
        if found is None:
            raise DemoError("there is no result of that id (any more): call /reconstruct first.")
        return found


def _by_mcp(request: gr.Request | None) -> bool:
    return request is not None and request.headers.get("x-gradio-user") == "mcp"
