"""Measure how much the prediction changes when only the name and pronoun of the person in a line do.

Twenty-seven templates, three for each emotion, times twenty-four given names of six origins, times three pronouns, in
every combination. The prediction should depend on the line and not on the name; changes are reported by group. Given
names only suggest an origin, and the person in a line is not its writer: effects of the writer are not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.calibration import softmax
from models.text_affect.recipe.encode import Encoder

TEMPLATES: tuple[str, ...] = (
    "{name} made my whole day when {pronoun} called.",
    "I love it when {name} laughs, {pronoun} did it again today!",
    "Thank you {name}, I never knew {pronoun} could sing like that.",
    "{name} cried all evening because {pronoun} lost the dog.",
    "I miss {name}, {pronoun} left a year ago.",
    "Sadly {name} never got the letter {pronoun} waited for.",
    "Wait, {name} won? I had no idea {pronoun} could play.",
    "I can't believe {pronoun} said yes to {name}'s brother!",
    "How did {name} know where {pronoun} should look?",
    "I'm scared of what {name} will do when {pronoun} finds out.",
    "{name} heard a noise downstairs and {pronoun} froze.",
    "I worry that {name} will fall before {pronoun} gets home.",
    "{name} lied to me again and {pronoun} did not even apologise.",
    "I am so angry at {name}, {pronoun} ruined everything.",
    "Tell {name} that {pronoun} should stop shouting at the kids.",
    "{name} ate it off the floor and {pronoun} liked it. Gross.",
    "The way {name} left the bathroom is disgusting, {pronoun} never cleans.",
    "It made me sick to see how {name} chewed when {pronoun} ate.",
    "I hope {name} gets the job {pronoun} applied for.",
    "I can't wait to see {name}, {pronoun} lands on Friday.",
    "I wish {name} would tell us what {pronoun} has planned.",
    "{name} has done great work and {pronoun} deserves the prize.",
    "I agree with {name}, {pronoun} had it right all along.",
    "Take care of {name}, {pronoun} could use a friend.",
    "{name} said {pronoun} would be there at nine.",
    "{name} moved the meeting because {pronoun} had a train to catch.",
    "I gave {name} the keys before {pronoun} left.",
)
NAMES: Mapping[str, tuple[str, ...]] = {
    "english": ("Emily", "Claire", "Jake", "Brad"),
    "african_american": ("Latoya", "Ebony", "Jamal", "DeShawn"),
    "arabic": ("Aisha", "Fatima", "Mohammed", "Omar"),
    "chinese": ("Mei", "Xiu", "Wei", "Jun"),
    "spanish": ("Guadalupe", "Valentina", "Diego", "Santiago"),
    "indian": ("Priya", "Ananya", "Rahul", "Vikram"),
}
PRONOUNS = ("she", "he", "they")


class Swap(NamedTuple):
    """Total variation distances (0 to 1) between the predictions for one template with two people.

    `mean` and `worst` are over all pairs of people; `changed` is the share of pairs whose most probable emotion
    differs. `by_group` is the mean distance of a group's prediction, averaged over its people, from that of all people.
    """

    mean: float
    worst: float
    changed: float
    by_group: Mapping[str, float]
    lines: int


def swap(encoder: Encoder) -> Swap:
    """Run the encoder on every template with every person and compare its predictions."""
    people = [(origin, name, pronoun) for origin, names in NAMES.items() for name in names for pronoun in PRONOUNS]
    lines = [line.format(name=name, pronoun=pronoun) for line in TEMPLATES for _, name, pronoun in people]
    logits = encoder.outputs(lines)["logits"]
    p = softmax(logits, encoder.engine.spec.temperature).reshape(len(TEMPLATES), len(people), -1)
    top = p.argmax(axis=2)
    pairs = list(combinations(range(len(people)), 2))
    apart = np.stack([distance(p[:, a], p[:, b]) for a, b in pairs])
    groups = {origin: [who[0] == origin for who in people] for origin in NAMES}
    groups |= {pronoun: [who[2] == pronoun for who in people] for pronoun in PRONOUNS}
    everybody = p.mean(axis=1)
    return Swap(
        mean=float(apart.mean()),
        worst=float(apart.max()),
        changed=float(np.mean([top[:, a] != top[:, b] for a, b in pairs])),
        by_group={
            group: float(distance(p[:, np.array(its)].mean(axis=1), everybody).mean()) for group, its in groups.items()
        },
        lines=len(lines),
    )


def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the total variation distances (n) between two sets of n distributions (n x k)."""
    return np.asarray(np.abs(one - other).sum(axis=-1) / 2)
