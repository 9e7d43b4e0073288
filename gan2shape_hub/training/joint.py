"""Joint pretraining of the shape nets and the latent encoder over many generated identities (paper section 3.4).

The method's own loop, with one set of nets for all identities. No 3D labels, landmarks or face models: everything
that is learnt comes from the generator's images and from rendering. Three things are added to the reference because
they make it converge in an hour instead of days:

* the encoder starts as a regressor of the principal components of generated images (their latents are known);
* the view and light nets start by reading off the view and light of renders of the current shape (known, since we
  rendered them);
* directions of W along which heads turn are read off those nets (``directions.py``), and views turned along them join
  the projected ones;
* an iteration takes several identities at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig, ScheduleConfig
from gan2shape_hub.generator import Generator, sample_latents
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.plan import step
from gan2shape_hub.records import Progress, Targets
from gan2shape_hub.run import Run
from gan2shape_hub.stages.decompose import decompose
from gan2shape_hub.stages.explore import project_views, render_pseudo, train_projection
from gan2shape_hub.stages.prior import fit_prior
from gan2shape_hub.stages.refine import refine
from gan2shape_hub.state import State
from gan2shape_hub.training.directions import (
    ViewDirections,
    collect_turned_views,
    find_view_directions,
    warm_up_view,
    with_directions,
)


@dataclass(frozen=True)
class JointTraining:
    """What pretraining does; iterations of the steps are those of ``schedule``'s rounds."""

    schedule: ScheduleConfig
    identities: int = 420
    """New identities in every round."""
    truncation: tuple[float, float] = (0.6, 0.9)
    encoder_images: int = 2500
    encoder_iterations: int = 600
    warm_up_iterations: int = 160
    turned_views: int = 4
    """Views of every identity turned along directions of W; 0: projected views only (the paper)."""
    seed: int = 0


def make_targets(generator: Generator, count: int, training: JointTraining, size: int, rng: torch.Generator) -> Targets:
    """Generated identities: their images (as 8-bit images are, in -1..1) and latents."""
    latents = sample_latents(generator, count, rng, training.truncation)
    with torch.no_grad():
        images = torch.cat([generator.image_at(w, size).clamp(-1, 1) for w in latents.split(1)])
    return Targets(images=images, latents=latents, originals=images)


def train_component_encoder(
    state: State, iterations: int, run: Run, log: Callable[[str], None], batch: int = 24
) -> State:
    """Teach the encoder the normalised principal components of the latents of generated images.

    Images are jittered in brightness, contrast and sharpness, so that crude renders do not throw it off later.
    """
    generator, targets, nets = state.generator, state.targets, state.nets.learning("encoder")
    encoder = nets.encoder
    centred = targets.latents - generator.latent_mean
    components = centred @ generator.component_basis.T / generator.component_std
    importance = generator.component_std / generator.component_std.mean()
    held_out = max(len(targets) // 20, 1)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for iteration in range(iterations):
        pick = held_out + run.integers(len(targets) - held_out, batch)
        loss = (importance * (encoder(_jitter(targets.images[pick], run)) - components[pick]).square()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if (iteration + 1) % 100 == 0:
            with torch.no_grad():
                encoder.eval()
                error = (encoder(targets.images[:held_out]) - components[:held_out]).square().mean(dim=0)
                encoder.train()
            r2 = float((1 - error / components[:held_out].var(dim=0))[:12].mean())
            log(f"encoder {iteration + 1}/{iterations}: loss {loss:.3f}, unseen R2 of components 1-12 {r2:.3f}")
    return state.replace(nets=nets.frozen())


def warm_up_view_light(state: State, iterations: int, run: Run, log: Callable[[str], None]) -> State:
    """Teach the view and light nets to read the known view and light off renders of the current shapes."""
    targets, scene, nets = state.targets, state.seen(run.config), state.nets.learning("view", "light")
    optimizer = torch.optim.Adam(nets.parameters("view", "light"), lr=5e-4)
    for iteration in range(iterations):
        pick = run.integers(len(targets), 16)
        images, _, view, light = render_pseudo(scene, pick, targets.select(pick), run)
        view_error = F.smooth_l1_loss(nets.predict_view(images, run.config), view, beta=0.1)
        light_error = F.smooth_l1_loss(nets.predict_light(images, run.config), light.clamp(-1, 1), beta=0.1)
        optimizer.zero_grad(set_to_none=True)
        (4 * view_error + light_error).backward()
        optimizer.step()
        if (iteration + 1) % 50 == 0:
            log(f"view and light {iteration + 1}/{iterations}: {view_error:.4f} {light_error:.4f}")
    return state.replace(nets=nets.frozen(), scene=None)


def train_jointly(
    config: CategoryConfig,
    generator: Generator,
    perceptual: nn.Module | None,
    nets: ShapeNets,
    training: JointTraining,
    *,
    folder: Path,
    log: Callable[[str], None],
    after_phase: Callable[[str, int, ShapeNets], None] | None = None,
    accelerator: Accelerator | None = None,
) -> tuple[CategoryConfig, ShapeNets]:
    """Train copies of ``nets``; returns ``config`` with the directions of W along which the object turns, and them.

    Finished phases are saved in ``folder`` and skipped when it is run again.
    """
    accelerator = accelerator or Accelerator()
    rounds = training.schedule.rounds
    phases = [
        ("encoder", 0),
        ("prior", 0),
        ("albedo", 0),
        ("view", 0),
        ("project", 0),
        ("directions", 0),
        ("refine", 0),
    ]
    phases += [(name, r) for r in range(1, len(rounds)) for name in ("albedo", "project", "refine")]
    nets = nets.clone().frozen()
    done, directions = _resume(folder, nets)
    targets, made = None, None
    for number, (phase, round_index) in enumerate(phases):
        if number < done:
            continue
        if directions is not None:
            config = with_directions(config, directions)
        run = Run(
            config=config,
            schedule=training.schedule,
            rng=torch.Generator().manual_seed(training.seed * 1000 + number),
            perceptual=perceptual,
            precision=accelerator.mixed_precision,
            device=accelerator.device,
            callback=_logger(log),
        )
        log(f"phase {number + 1}/{len(phases)}: {phase} of round {round_index + 1}")
        # The identities of a round are the same in all its phases, and new in the next one; the encoder and the
        # directions need more of them.
        count = training.encoder_images if phase in ("encoder", "directions") else training.identities
        if made != (count, round_index):
            identity_rng = torch.Generator().manual_seed(training.seed * 1000 + 500 + round_index)
            targets = make_targets(generator, count, training, config.image_size, identity_rng)
            made = (count, round_index)
        state = State(targets, LatentProjection(generator, config.projection), nets)
        this_round = rounds[round_index]
        if phase == "encoder":
            state = train_component_encoder(state, training.encoder_iterations, run, log)
        elif phase == "prior":
            state = fit_prior(state, run.at(step("prior", training.schedule.prior_iterations)))
        elif phase == "albedo":
            state = decompose(state, run.at(step("decompose", this_round.decompose, round_index + 1)))
        elif phase == "view":
            state = warm_up_view_light(state, training.warm_up_iterations, run, log)
        elif phase == "project":
            state = train_projection(state, run.at(step("explore", this_round.explore, round_index + 1)))
        elif phase == "directions":
            if training.turned_views:
                directions = find_view_directions(state, run, log)
        else:
            state = _refine_round(state, directions, round_index, training, run, log)
        nets = state.nets
        _save(folder, nets, number + 1, directions)
        if after_phase is not None:
            after_phase(phase, round_index, nets)
    return config if directions is None else with_directions(config, directions), nets


def _refine_round(
    state: State,
    directions: ViewDirections | None,
    round_index: int,
    training: JointTraining,
    run: Run,
    log: Callable[[str], None],
) -> State:
    """Step 3 on views turned along the directions (and, from the second round on, on projected ones too)."""
    views = None
    if directions is not None:
        views = collect_turned_views(state, directions, training.turned_views, run)
        if round_index == 0:
            state = warm_up_view(state, views, directions, training.warm_up_iterations, run, log)
    if directions is None or round_index > 0:
        each = training.schedule.collected_batches
        batches = len(state.targets) * -(-each // training.schedule.batch_size)
        projected = project_views(state, each, run.at(step("collect", batches, round_index + 1)))
        views = projected if views is None else views.joined(projected)
    iterations = training.schedule.rounds[round_index].refine
    return refine(state.replace(views=views), run.at(step("refine", iterations, round_index + 1)))


def _jitter(images: Tensor, run: Run) -> Tensor:
    n = len(images)
    gain, shift = run.uniform(0.7, 1.25, n, 1, 1, 1), run.uniform(-0.2, 0.2, n, 1, 1, 1)
    images = images * gain + shift
    if run.coin():
        small = F.avg_pool2d(images, 2)
        images = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    return images.clamp(-1, 1)


def _logger(log: Callable[[str], None]) -> Callable[[Progress], None]:
    sums: dict[str, float] = {}

    def callback(progress: Progress) -> None:
        sums[progress.step] = sums.get(progress.step, 0.0) + progress.loss
        if progress.iteration % 50 == 0 and progress.step != "collect":
            log(f"{progress.step} {progress.iteration}/{progress.iterations}: {sums.pop(progress.step) / 50:.4f}")

    return callback


def _resume(folder: Path, nets: ShapeNets) -> tuple[int, ViewDirections | None]:
    path = folder / "nets.pt"
    if not path.exists():
        return 0, None
    state = torch.load(path, weights_only=True, map_location=next(nets.view.parameters()).device)
    for name, module in nets.modules():
        module.load_state_dict(state[name])
    found = state.get("directions")
    return int(state["phases"]), None if found is None else ViewDirections(found["directions"], found["units"])


def _save(folder: Path, nets: ShapeNets, phases: int, directions: ViewDirections | None) -> None:
    found = None if directions is None else {"directions": directions.directions, "units": directions.units}
    temporary = folder / "nets.tmp"
    state = {name: module.state_dict() for name, module in nets.modules()}
    torch.save({"phases": phases, "directions": found, **state}, temporary)
    temporary.replace(folder / "nets.pt")
