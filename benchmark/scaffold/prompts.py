"""A set of prompts to start from, and what has to be known of its wording."""

from __future__ import annotations

from pathlib import Path

from benchmark import registry
from benchmark.errors import UsageError
from benchmark.scaffold.own_files import Started, card_name, start

_CARD = """\
# Prompts of zero-shot classification. A task asks with them: `words: {prompts: @NAME@}` (docs/tasks.md).
# Freeze them before a test split is opened.
prompts:
  - name: @NAME@
    title: @NAME@
    source: your own # where the wording comes from
    combine: mean # how the prompts of a class become one score: mean or max
    templates: # each is a paraphrase of its own; `{}` stands for the class's words, and `negative` asks for the class's absence
      - {positive: "{}", negative: "no {}"}
      - {positive: "findings suggesting {}", negative: "no findings suggesting {}"}
    classes: # class of the dataset -> lists of words; its prompts are all combinations, one word of each list
      opacity: [[opacity, pneumonia]]
      pneumothorax: [[pneumothorax]]
"""


def new(name: str, folder: Path) -> Started:
    """Writes `tasks/<name>.yaml` with a set of prompts. Raises UsageError where the name cannot be one or is taken."""
    if card_name(name) in registry.prompts():
        raise UsageError(f"There is a set of prompts {name} already: take another name.")
    return start(folder, {f"tasks/{name}.yaml": _CARD.replace("@NAME@", name)}, "lobe validate-cards {folder}")
