"""What a model has that its photograph does not: a crown above the frame, a plain lower edge, a round outline."""

import torch
from face_scene import CAMERA

from gan2shape_hub.results import wide
from gan2shape_hub.results.mesh import build_mesh
from gan2shape_hub.results.outline import border_edges
from gan2shape_hub.results.solid import evened

SIDE = 84
TOP = round(SIDE * wide.MARGIN / (1 + 2 * wide.MARGIN))
AT = torch.linspace(-1, 1, SIDE)
RADIUS = (AT[:, None].square() + AT.square()).sqrt()
DISC = RADIUS < 0.7


def disc(centre: float, radius: float) -> torch.Tensor:
    """A mask (SIDE, SIDE), in pixels below the photograph's upper edge."""
    rows = torch.arange(SIDE)[:, None] - TOP - centre
    columns = torch.arange(SIDE) - (SIDE - 1) / 2
    return ((rows.square() + columns.square()).sqrt() < radius).float()


def test_a_round_head_that_the_frame_cuts_is_closed_by_the_arc_that_it_lost():
    whole = disc(22, 25)
    cut = whole.clone()
    cut[:TOP] = cut[TOP]
    made = wide.crowned(cut) > 0.5
    assert torch.equal(made[TOP:], whole[TOP:] > 0.5), "the photograph stays as it is"
    lost = whole[:TOP] > 0.5
    assert lost.sum() > 30
    assert (made[:TOP] & lost).sum() / (made[:TOP] | lost).sum() > 0.6


def test_upright_sides_get_a_vault_and_a_head_in_the_frame_nothing():
    box = torch.zeros(SIDE, SIDE)
    box[:, 22:62] = 1
    made = wide.crowned(box)[:TOP] > 0.5
    widths = made.sum(1)
    assert widths[0] == 0
    assert (widths.diff() >= 0).all(), "narrower upward"
    assert widths[-1] > 34, "it stands on the whole cut"
    inside = disc(30, 20)
    assert torch.equal(wide.crowned(inside), inside)


def test_the_lower_edge_is_a_plain_curve_and_what_is_above_it_stays():
    folds = 1 + 0.05 * AT.square() + 0.02 * (9 * AT).sin()
    depth = folds.expand(SIDE, SIDE)
    bottom = 60
    made = wide.hemmed(depth, torch.ones(SIDE, SIDE, dtype=torch.bool), bottom)
    powers = torch.stack((torch.ones(SIDE), AT, AT.square()), 1).double()
    edge = made[bottom].double()
    fitted = powers @ torch.linalg.lstsq(powers, edge[:, None]).solution
    inner = slice(8, -8)
    assert (edge - fitted[:, 0])[inner].abs().max() < 1e-3, "0.02 before"
    assert torch.equal(made[: bottom - 12], depth[: bottom - 12])


def test_a_balloon_over_a_disc_is_half_a_sphere():
    high = wide.balloon(DISC) * 2
    sphere = (0.7**2 - RADIUS.square()).clamp_min(0).sqrt()
    assert (high - sphere)[RADIUS < 0.66].abs().max() < 0.03
    assert (high[~DISC] == 0).all()


def test_what_is_round_stays_and_a_flange_is_turned_back():
    grown = torch.nn.functional.max_pool2d(DISC[None].float(), 5, 1, 2)[0] > 0
    ball = 1.1 - 0.4 * wide.balloon(grown)
    assert (wide.rounded(ball, DISC) - ball)[DISC].abs().max() < 2e-3
    flat = torch.where(RADIUS < 0.6, ball, ball[RADIUS < 0.6].max())  # a brim around a head
    made = wide.rounded(flat, DISC)
    rim, brim = (RADIUS > 0.66) & DISC, (RADIUS > 0.6) & (RADIUS < 0.64)
    assert made[rim].mean() - made[brim].mean() > 0.2 * (ball[rim].mean() - ball[brim].mean()), "0 before"
    middle = RADIUS < 0.2
    assert (made - flat)[middle].abs().max() < 5e-3, "a face stays"


def test_the_outline_is_even_in_depth():
    noise = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    sheet = build_mesh(1 + 0.1 * RADIUS + 0.02 * noise, CAMERA, mask=DISC.float(), max_stretch=float("inf"), upsample=1)
    made = evened(sheet)
    ends = border_edges(sheet.faces.numpy()).T
    step, before = ((m.vertices[ends[0], 2] - m.vertices[ends[1], 2]).abs().mean() for m in (made, sheet))
    assert step < 0.25 * before
    middle = (sheet.uv - 0.5).norm(dim=1) < 0.15
    assert (made.vertices - sheet.vertices)[middle].abs().max() < 2e-3
