"""The model card of a converted checkpoint: what is known from the files, and plainly what is not."""

from __future__ import annotations

from torch import nn

from gan2shape_hub.cards import CardFacts, Figure, Source, generate_card
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.hub.card import SAMPLES

from .public import PublicWeights

_METHOD = "https://github.com/XingangPan/GAN2Shape"


def card(
    config: CategoryConfig,
    components: dict[str, nn.Module],
    report_lines: list[str],
    origin: PublicWeights | None = None,
) -> str:
    """README.md of a checkpoint; ``components`` by name, ``report_lines`` as ``Report.lines`` gives them, ``origin`` of
    public weights."""
    start = (
        "Reconstructions start from the pretrained shape networks."
        if "depth_net" in components
        else "There are no pretrained shape networks: every reconstruction starts from the ellipsoid."
    )
    other = config.license == "other"  # the Hub wants a name and a link beside it
    facts = CardFacts(
        title=f"GAN2Shape: {origin.title.lower() if origin else config.category}",
        category=config.category,
        name="path/to/this/folder",
        license=config.license,
        license_name=(origin.terms.name if origin else "see-source") if other else "",
        license_link=(origin.terms.link if origin else _METHOD) if other else "",
        tags=("stylegan2", config.category),
        summary=f"{config.description}. A converted checkpoint: the networks are those of the files named below, their "
        "tensors checked one by one after conversion.",
        figures=(Figure(SAMPLES, f"Samples of the generator, truncated at {config.truncation:g}"),),
        preparation="\n".join(f"- {line}" for line in report_lines),
        intended_use="Depth, albedo, light and viewpoint of one image that the generator can reproduce, for research "
        "and illustration.",
        out_of_scope="Identifying people, or measuring anything.",
        limits=(
            "The generator knows only what its training images show: other subjects, poses and crops are pulled "
            "towards them.",
            "Shape is recovered up to the method's own prior; sides that training images rarely show are guessed.",
            start,
        ),
        bias="The generator reproduces the make-up of its training images, and so does everything derived from it.",
        training_data=f"{origin.data if origin else 'That of the generator: see where the files came from.'} The "
        "conversion trains nothing.",
        sources=(Source("generator and discriminator", origin.address, origin.terms.title),) if origin else (),
        license_text=f"The licence of the source files holds for the converted weights "
        f"({f'{origin.terms.title}, not for commercial use' if origin else config.license}); the code is MIT.",
    )
    networks = {
        name: f"{type(network).__name__}, {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters"
        for name, network in components.items()
    }
    return generate_card(facts, config, components=networks)
