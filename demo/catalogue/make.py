"""Write the demo's catalogue (371 items and embeddings) from hand-written parts: `python -m demo.catalogue.make`.

Every subject of `parts.py` is combined with every form. An item's mood is its subject's plus its form's shift, clamped
to [-1, 1] and rounded to two digits; the emotion is the subject's. Patterns are taken in turn, not at random, so the
same parts always give the same items. Embeddings are those of `models/text_affect` for title and text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.catalogue.items import EMBEDDINGS, ITEMS
from demo.catalogue.parts import FORMS, SUBJECTS, Form, Subject
from kernels.engines import load
from kernels.text.tokens import TextTokens

GENERATOR = "affectstream demo catalogue 1"
MAX_TOKENS = 128
BATCH = 16
SMALL_WORDS = frozenset("a and at before behind between from in of on that the to under who".split())
LOW, HIGH = -0.2, 0.35
"""Arousal below which an item has its form's slow wording, and above which the fast one."""


def title_of(name: str) -> str:
    """Capitalise a name as a title: `the goodbye on platform nine` becomes `the Goodbye on Platform Nine`."""
    return " ".join(w if w in SMALL_WORDS else w[0].upper() + w[1:] for w in name.split())


def clamp(value: float) -> float:
    """Clamp a mood's coordinate to [-1, 1] and round it to two digits."""
    return round(min(max(value, -1.0), 1.0), 2)


def make_item(number: int, subject: Subject, form: Form) -> dict[str, Any]:
    """Make the item of a subject in a form; `number` selects the pattern, in turn."""
    valence, arousal = clamp(subject.valence + form.valence), clamp(subject.arousal + form.arousal)
    pace = form.paces[0 if arousal < LOW else 2 if arousal > HIGH else 1]
    title = title_of(subject.name)
    words = {"name": subject.name, "title": title, "Title": title[0].upper() + title[1:]}
    words |= {"scene": subject.scene, "pace": pace}
    title_pattern, text_pattern = form.patterns[number % len(form.patterns)]
    slug = "-".join("".join(c for c in subject.name if c.isalnum() or c in " -").split()[1:])
    return {
        "item_id": f"{form.kind}-{slug}",
        "title": title_pattern.format(**words),
        "text": text_pattern.format(**words),
        "tags": [form.kind, *subject.tags],
        "mood": {"valence": valence, "arousal": arousal, "emotion": subject.emotion},
        "provenance": {"generator": GENERATOR, "ai_generated": True},
    }


def make_items() -> list[dict[str, Any]]:
    """Make the items of all subjects in all forms."""
    pairs = ((s, f, form, subject) for s, subject in enumerate(SUBJECTS) for f, form in enumerate(FORMS))
    return [make_item(s + f, subject, form) for s, f, form, subject in pairs]


def embed(texts: Sequence[str]) -> NDArray[np.float16]:
    """Embed texts by the text model: (n, 384)."""
    engine = load("text_affect")
    tokens = TextTokens(engine.spec.folder / "tokenizer.json", max_tokens=MAX_TOKENS)
    rows = []
    for start in range(0, len(texts), BATCH):
        encoded = tokens.encode(list(texts[start : start + BATCH]))
        out = engine.infer({"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask})
        rows.append(np.asarray(out["embedding"], dtype=np.float16))
    return np.concatenate(rows)


def main() -> None:
    """Write both files."""
    items = make_items()
    ITEMS.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    np.save(EMBEDDINGS, embed([f"{item['title']}. {item['text']}" for item in items]))
    print(f"{len(items)} items in {ITEMS} and {EMBEDDINGS}")


if __name__ == "__main__":
    main()
