"""A small file in the format of SQuAD v1.1 that a tiny network can learn: ``python -m benchmarks.small_squad FILE``.

Every context states three facts in any order, every question asks for one: its words say whether a colour, a town or a
year is wanted, so a network that ignores the question is right one time in three at the most.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

_THINGS = "boat house lamp table wagon clock piano garden bridge tower kettle carpet".split()
_OWNERS = "Anna Bela Carlos Dora Emil Frida Gustav Hanna Igor Jana Karim Lena".split()
_COLOURS = "red blue green yellow white black orange purple".split()
_TOWNS = "Rome Oslo Lima Cairo Delhi Paris Quito Tokyo".split()
_YEARS = tuple(str(year) for year in range(1950, 1990, 5))


def small_squad(contexts: int = 120, seed: int = 0) -> dict[str, Any]:
    """The file as JSON types: so many contexts, three questions on each."""
    rng = random.Random(seed)
    paragraphs = [_paragraph(rng, str(number)) for number in range(contexts)]
    return {"version": "1.1", "data": [{"title": "Facts", "paragraphs": paragraphs}]}


def _paragraph(rng: random.Random, name: str) -> dict[str, Any]:
    thing, owner = rng.choice(_THINGS), rng.choice(_OWNERS)
    asked = [
        ("the paint on it is {}.", rng.choice(_COLOURS), f"What colour is the {thing}?"),
        ("the workers built it in {}.", rng.choice(_TOWNS), f"Where was the {thing} of {owner} built?"),
        ("the owner bought it in {}.", rng.choice(_YEARS), f"When did {owner} buy the {thing}?"),
    ]
    rng.shuffle(asked)
    context, questions = f"This is about the {thing} of {owner}:", []
    for number, (sentence, answer, question) in enumerate(asked):
        begin = len(context) + 1 + sentence.index("{}")
        context = f"{context} {sentence.format(answer)}"
        answers = [{"text": answer, "answer_start": begin}]
        questions.append({"id": f"{name}-{number}", "question": question, "answers": answers})
    return {"context": context, "qas": questions}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--contexts", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chosen.file.write_text(json.dumps(small_squad(chosen.contexts, chosen.seed), indent=1) + "\n", encoding="utf-8")
    print(f"{chosen.file}: {3 * chosen.contexts} questions on {chosen.contexts} contexts")


if __name__ == "__main__":
    main()
