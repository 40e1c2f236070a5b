"""What is read of a report: sections in an order, as a recipe asks for them. Text only; nothing here is ever logged."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.cards.pretraining import PairsCard
from benchmark.encoders.sentence_rules import RULES

WHOLE = "report"  # the one section of a report whose sections nobody tells apart


def said(sections: Mapping[str, str], card: PairsCard) -> tuple[str, ...]:
    """Sentences that a pair is made with; none where the report does not have what the recipe needs.

    Args:
        sections: name -> text of the report, as `benchmark.pretraining.sources.sections_of` gives them. One that is `WHOLE` is read by
            every recipe.
    """
    wanted = tuple(sections) if not card.sections or tuple(sections) == (WHOLE,) else card.sections
    texts = [sections[name] for name in wanted if sections.get(name)]
    if not texts or (card.needs_sections and len(texts) < len(wanted)):
        return ()
    return tuple(RULES[card.sentence_rule](texts))
