"""What `prefvec run --validate` found: does each source's own vector steer it?"""

from prefvec.paths import RESULTS, slug
from prefvec.profile import Profile
from prefvec.report.cells import own_vector
from prefvec.traits import load_trait


def as_text(profile: Profile) -> str:
    """One line a source and trait: verdict H1, share of answers that moved, layer and dose."""
    lines = []
    for source in dict.fromkeys(source for source, _ in profile.pairs):
        for trait in (load_trait(name).name for name in profile.traits):
            found = own_vector(profile.name, source, trait)
            folder = RESULTS / profile.name / slug(source) / trait
            value, low, high = found["h1_direction"]
            lines.append(
                f"{trait} in {source}: H1 {'passed' if found['h1_passed'] else 'NOT passed'}, "
                f"{value:.0%} [{low:.0%}, {high:.0%}] of the answers moved as steered "
                f"(layer {found['layer']}, dose {found['dose']:g}); {folder}"
            )
    return "\n".join(lines)
