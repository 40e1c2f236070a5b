"""What a metric is: declared once, as an entry of `METRICS` in the module of its family, beside the function that computes it.

A family is any module of `benchmark.metrics` that has `METRICS`, or one of a user's own; being there is enough. Scorers, plans, checks of
cards and records, and reports all read these entries, so that a new metric needs its own module and nothing else. Of the user's own a job
computes the families that its task names (`only_own`). Imports no framework.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import pkgutil
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal, Protocol

import numpy as np

from benchmark.errors import CardError, LobeError
from benchmark.own import catalogue
from benchmark.own.contract import names_in
from benchmark.own.loading import load
from benchmark.own.rooms import PlannedModule

CLASS = "class"  # the field of a name that stands for a class
SEVERAL_CLASSES = "several_classes"  # a field of the statistics of every split with more than one
VALIDATION_LOSS = "validation_loss"  # what training alone knows
INFINITE = math.inf
SHARE = (0.0, 1.0)
ANY = (-INFINITE, INFINITE)
_ROUNDING = 1e-9  # a mean of ones may come out above one
_FIELD = re.compile(r"\{(\w+)\}")
_CHOSEN: ContextVar[frozenset[str] | None] = ContextVar("the user's own families of metrics", default=None)


class PooledMetric(Protocol):
    """A metric of a split, as a function of image weights."""

    def __call__(self, weights: np.ndarray | None = None, /) -> float | None:
        """The value; None when undefined.

        Args:
            weights: (n_images,) int64 copies of each image; None for the split itself.
        """


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric, or one rule for several names.

    Attributes:
        name: as records store it. `{class}` stands for a class's name, any other field for the keys of `values`.
        title: as people see it, with the same fields.
        target: ground truth that it scores predictions against, as in a task card.
        needs: fields of a split's statistics that it reads (`Statistics.fields`); a split without one of them does not have the metric.
        compute: view of the statistics (`Statistics.view`), then one argument per field of the name (a class's index, a key of `values`)
            -> the metric as a function of image weights. None where a job computes it and records only the value.
        undefined: why a split may have no value of it; may hold the fields of the name.
        low, high: least and largest value, both possible.
        better: which end is good; "neither" says nothing of quality.
        unit: a "share" is shown in per cent, a "ratio" times a hundred as its title says, a "count" as it is.
        selects: known after every epoch, so that a task may choose its epoch by it.
        values: key -> how the title says it.
        family: the module it is declared in; filled in by `specs`.
    """

    name: str
    title: str
    target: str
    needs: tuple[str, ...] = ()
    compute: Callable[..., PooledMetric] | None = None
    undefined: str = ""
    low: float = 0.0
    high: float = 1.0
    better: Literal["higher", "lower", "neither"] = "higher"
    unit: Literal["share", "ratio", "count"] = "share"
    selects: bool = False
    values: Mapping[Any, str] = field(default_factory=dict)
    family: str = ""

    def reads_only(self, fields: Collection[str]) -> bool:
        """Whether these fields are all it needs."""
        return set(self.needs) <= set(fields)

    def names(self, class_names: Sequence[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Every name it stands for on these classes, with the arguments of `compute`."""
        choices = [list(enumerate(class_names)) if one == CLASS else [(key, key) for key in self.values] for one in self._fields]
        for chosen in itertools.product(*choices):
            said = {one: text for one, (_, text) in zip(self._fields, chosen, strict=True)}
            yield self.name.format(**said), tuple(argument for argument, _ in chosen)

    def fields_of(self, metric: str) -> dict[str, str] | None:
        """What stands in the name's fields, as the title says it; None where the metric is another one."""
        found = self._pattern.fullmatch(metric)
        if found is None:
            return None
        words = {str(key): word for key, word in self.values.items()}
        return {one: text if one == CLASS else words[text] for one, text in found.groupdict().items()}

    def why_undefined(self, metric: str) -> str:
        """Why a split may have no value of one of its names."""
        found = self._pattern.fullmatch(metric)
        return self.undefined.format(**(found.groupdict() if found else {}))

    @cached_property
    def _fields(self) -> list[str]:
        return _FIELD.findall(self.name)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        plain, fields = _FIELD.split(self.name)[::2], self._fields
        keys = "|".join(re.escape(str(key)) for key in self.values)
        groups = [f"(?P<{one}>{'.+' if one == CLASS else keys})" for one in fields]
        return re.compile("".join(itertools.chain(*itertools.zip_longest(map(re.escape, plain), groups, fillvalue=""))))


@dataclass(frozen=True)
class NamedMetric:
    """A metric under its full name.

    Attributes:
        class_name: the class whose own metric it is; None for a metric of the whole split.
    """

    spec: MetricSpec
    title: str
    class_name: str | None


def specs() -> tuple[MetricSpec, ...]:
    """Every declared metric, family by family; those known after every epoch come first. Of the user's own those that can be used."""
    return _specs(_own())


def specs_of(target: str) -> tuple[MetricSpec, ...]:
    return _specs_of(target, _own())


def find(metric: str, target: str) -> NamedMetric | None:
    """The metric of that name, a name without fields before a rule; None where no family declares it."""
    return _find(metric, target, _own())


def own_specs(planned: PlannedModule) -> tuple[MetricSpec, ...]:
    """The metrics of a family of the user's own.

    Raises:
        LobeError: its module cannot be used, declares something else than metrics, or one that LOBE has.
    """
    given = load(planned).METRICS
    where = f"{planned.module.file}:{names_in(planned.module.file).get('METRICS', 1)}"
    if not isinstance(given, tuple | list) or not all(isinstance(one, MetricSpec) for one in given):
        raise CardError(f"{where}: METRICS is a tuple of benchmark.metrics.spec.MetricSpec; here it is {given!r:.80}.")
    for one in given:
        there = (each for each in _shipped() if (each.name, each.target) == (one.name, one.target))
        if (other := next(there, None)) is not None:
            raise CardError(f"{where}: LOBE has a metric {one.name} already, benchmark/metrics/{other.family}.py. Give it another name.")
    return tuple(replace(one, family=planned.module.name) for one in given)


@contextlib.contextmanager
def only_own(families: Collection[str]) -> Iterator[None]:
    """While it lasts, in this thread, there are no other families of the user's own: a job computes what its key names."""
    before = _CHOSEN.set(frozenset(families))
    try:
        yield
    finally:
        _CHOSEN.reset(before)


def forget() -> None:
    """Looks for families anew when next asked."""
    for cached in (_shipped, _usable, _specs, _specs_of, _find, _range_of):
        cached.cache_clear()


def title_of(metric: str, target: str) -> str:
    """As people see it; the name itself where no family declares it."""
    found = find(metric, target)
    return metric if found is None else found.title


def rises(metric: str) -> bool:
    """Whether more of it is better. A name that no family declares passes: whether a task has it is another question."""
    return all(spec.better == "higher" for spec in _named(metric))


def names_with(target: str, class_names: Sequence[str], fields: Collection[str], *, selects: bool = False) -> frozenset[str]:
    """Names of all metrics of a split whose statistics have these fields, or only of those known after every epoch."""
    there = {*fields, *((SEVERAL_CLASSES,) if len(class_names) > 1 else ()), *((VALIDATION_LOSS,) if selects else ())}
    chosen = (spec for spec in specs_of(target) if spec.reads_only(there) and (spec.selects or not selects))
    return frozenset(name for spec in chosen for name, _ in spec.names(class_names))


def range_of(metric: str, undeclared: tuple[float, float] = SHARE) -> tuple[float, float]:
    """Least and largest value of a metric over all its targets, both possible; `undeclared` where no family declares it."""
    return _range_of(metric, _own()) or undeclared


def fault_of(metrics: Mapping[str, float], undeclared: tuple[float, float] = SHARE) -> str:
    """The first value that its metric cannot have, as a clause; empty when all can be.

    Args:
        undeclared: what a metric may be that no family declares, as one of somebody's own whose module is not here.
    """
    own = _own()
    for name, value in metrics.items():
        low, high = _range_of(name, own) or undeclared
        if not math.isfinite(value):
            return f"{name} is {value}, which is no number"
        if not low - _ROUNDING <= value <= high + _ROUNDING:
            return f"{name} is {value:g}, outside its range from {low:g} to {high:g}"
    return ""


def _named(metric: str, own: tuple[PlannedModule, ...] | None = None) -> list[MetricSpec]:
    """Declarations of a name for all targets; one without fields before a rule."""
    every = _specs(_own() if own is None else own)
    return [spec for spec in every if spec.name == metric] or [spec for spec in every if spec.fields_of(metric) is not None]


def _own() -> tuple[PlannedModule, ...]:
    """The user's own families that are there. One that cannot be used stops the job that computes it, and is not there for others."""
    chosen = _CHOSEN.get()
    if chosen is not None:
        return tuple(catalogue.planned("metrics", name) for name in sorted(chosen))
    names = catalogue.names("metrics")
    if not names:
        return ()
    found = []
    for name in names:
        with contextlib.suppress(LobeError):
            found.append(catalogue.planned("metrics", name))
    return tuple(one for one in found if _usable(one))


@cache
def _usable(planned: PlannedModule) -> bool:
    try:
        own_specs(planned)
    except LobeError:
        return False
    return True


@cache
def _shipped() -> tuple[MetricSpec, ...]:
    package = importlib.import_module("benchmark.metrics")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return tuple(replace(spec, family=name) for name, module in zip(names, modules, strict=True) for spec in getattr(module, "METRICS", ()))


# Kept by the modules that they were made from: a record names the same few metrics in every epoch.
@cache
def _specs(own: tuple[PlannedModule, ...]) -> tuple[MetricSpec, ...]:
    found = (*_shipped(), *(one for module in own for one in own_specs(module)))
    return tuple(sorted(found, key=lambda spec: not spec.selects))


@cache
def _specs_of(target: str, own: tuple[PlannedModule, ...]) -> tuple[MetricSpec, ...]:
    return tuple(spec for spec in _specs(own) if spec.target == target)


@cache
def _find(metric: str, target: str, own: tuple[PlannedModule, ...]) -> NamedMetric | None:
    for spec in sorted(_specs_of(target, own), key=lambda spec: spec.name != metric):
        fields = spec.fields_of(metric)
        if fields is not None:
            return NamedMetric(spec, spec.title.format(**fields), fields.get(CLASS))
    return None


@cache
def _range_of(metric: str, own: tuple[PlannedModule, ...]) -> tuple[float, float] | None:
    named = _named(metric, own)
    return (min(spec.low for spec in named), max(spec.high for spec in named)) if named else None
