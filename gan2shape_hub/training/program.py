"""The program that makes a checkpoint: the phases in their order, each skipped where it has been done."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gan2shape_hub import hub
from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.results.image_files import write_image
from gan2shape_hub.training.context import Context, Phase
from gan2shape_hub.training.phase1_taps import Taps
from gan2shape_hub.training.phase2_turn import Turn
from gan2shape_hub.training.phase3_light import Light
from gan2shape_hub.training.phase4_average import Average
from gan2shape_hub.training.phase5_pool import Pool
from gan2shape_hub.training.phase6_poses import Poses
from gan2shape_hub.training.phase7_persons import Persons
from gan2shape_hub.training.phase8_networks import Networks
from gan2shape_hub.training.phase9_units import Units

PHASES: tuple[Phase, ...] = (Taps(), Turn(), Light(), Average(), Pool(), Poses(), Persons(), Networks(), Units())
DONE, RESULT, PICTURE = "done.json", "checkpoint", "page.png"


def choose(names: Sequence[str]) -> tuple[Phase, ...]:
    """The phases of these names, in their order; all where there are none. ValueError names an unknown one."""
    known = [phase.name for phase in PHASES]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no phase '{name}': they are {', '.join(known)}.")
    return tuple(phase for phase in PHASES if not names or phase.name in names)


def redo(work: Path, name: str) -> None:
    """Forget what ``work`` knows of the phase ``name`` and of those after it."""
    (first,) = choose([name])
    for phase in PHASES[PHASES.index(first) :]:
        shutil.rmtree(work / phase.name, ignore_errors=True)


def run_program(context: Context, phases: Sequence[Phase] = PHASES) -> Context:
    """Run what has not been done of ``phases``; the context after the last one. They go on from what the folder has of
    the phases before them.

    ``context.work`` has a folder a phase: the state it goes on from, ``page.png``, ``checkpoint/`` with everything as
    it was after the phase, and ``done.json``, which is written last. After every phase the checkpoint is read again, so
    that a run that was stopped ends with the same bits as one that was not.

    Raises:
        ValueError: the folder holds a run of another recipe, or phases were done in another order.
    """
    started: str | None = None
    before = PHASES[: PHASES.index(phases[0])] if phases else ()
    done = [phase for phase in before if (context.folder(phase.name) / DONE).exists()]
    for number, phase in enumerate((*done, *phases), 1 - len(done)):
        folder = context.folder(phase.name)
        if (folder / DONE).exists():
            if started is not None:
                raise ValueError(f"'{phase.name}' was done before '{started}': pass --redo {phase.name}.")
            _check_recipe(context, phase)
        else:
            started = phase.name
            context.log(f"phase {number} of {len(phases)}: {phase.name}")
            _do(context, phase)
        if (folder / RESULT).is_dir():
            config, components = hub.load_components(folder / RESULT, device=context.accelerator.device)
            context = context.replace(config=config, components=components)
    return context


def _do(context: Context, phase: Phase) -> None:
    folder, accelerator = context.folder(phase.name), context.accelerator
    begun, reason = time.perf_counter(), phase.lacks(context)
    folder.mkdir(parents=True, exist_ok=True)
    after = context
    if reason is None and (phase.shared or accelerator.is_main_process):
        after = phase.run(context)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if reason is None:
            hub.save_components(folder / RESULT, after.config, after.components, recipe=context.recipe.to_json())
            picture = phase.picture(after)
            if picture is not None:
                write_image(folder / PICTURE, picture)
        seconds = round(time.perf_counter() - begun)
        context.log(f"{phase.name}: {f'skipped, {reason}' if reason else f'done in {seconds} s'}")
        note = {"recipe": _section(context, phase), "seconds": seconds, "skipped": reason}
        with atomic_file(folder / DONE) as part:
            part.write_text(json.dumps(note, indent=2) + "\n")
    accelerator.wait_for_everyone()


def _check_recipe(context: Context, phase: Phase) -> None:
    note = json.loads((context.folder(phase.name) / DONE).read_text())
    if note["recipe"] != _section(context, phase):
        raise ValueError(
            f"{context.work} did '{phase.name}' by another recipe: pass --redo {phase.name}, or choose another folder."
        )


def _section(context: Context, phase: Phase) -> dict:
    """What of the recipe decides the phase."""
    own = getattr(context.recipe, phase.name)
    return json.loads(json.dumps({"seed": context.recipe.seed, **asdict(own)}))
