"""The reference for the Python interface: which names are public. Their text is their docstrings, which mkdocstrings reads."""

from __future__ import annotations

PUBLIC = {
    "The benchmark": (
        "`from benchmark import Lobe` and what its methods give. Guide: [from Python](../python.md).",
        ("front.lobe.Lobe", "front.results.Results", "front.features.Features", "front.probes.Probe", "front.probes.Boxes"),
    ),
    "A backbone": (
        "What the author of a backbone writes. Guide: [your backbone](../your-backbone.md).",
        (
            "cards.backbones.BackboneSpec",
            "cards.backbones.Normalisation",
            "encoders.base.Backbone",
            "encoders.base.VisionLanguageBackbone",
            "encoders.base.ImageEmbedding",
            "encoders.base.TextEmbedding",
        ),
    ),
    "A reader": (
        "What the author of a reader writes. Guide: [code of your own](../your-code.md).",
        ("readers.base.Reader", "readers.base.Sample", "readers.base.Phrase"),
    ),
    "A head": (
        "What the author of a head writes. Guide: [code of your own](../your-code.md).",
        ("cards.heads.HeadFacts", "heads.base.HeadRequest", "heads.base.Head", "heads.base.Targets", "heads.base.ImageDetections"),
    ),
    "A metric": (
        "What the author of a metric writes. Guide: [code of your own](../your-code.md). All of LOBE's: [metrics](metrics.md).",
        ("metrics.spec.MetricSpec", "metrics.spec.PooledMetric"),
    ),
    "Errors": (
        "Everything that LOBE raises on purpose is a `LobeError`, whose message says what is wrong, where, and what to do next.",
        ("errors",),
    ),
}


def page() -> str:
    """The public names under their headings, each with the mark that mkdocstrings replaces by its documentation."""
    lines = [
        "# Python interface",
        "",
        "Made from docstrings when the site is built. What is not named here may change without a line in the changelog.",
    ]
    for title, (about, names) in PUBLIC.items():
        lines += ["", f"## {title}", "", about]
        for name in names:
            lines += ["", f"::: benchmark.{name}"]
    return "\n".join(lines) + "\n"
