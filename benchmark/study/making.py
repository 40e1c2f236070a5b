"""Pretrains the members of a study that are not there yet, several at a time; one that fails stops no other.

Each member has a folder by the digest of its recipe and seed, and its own pretraining finds what is made and resumes what was stopped.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark import private, registry
from benchmark.cards import PretrainingCard
from benchmark.errors import LobeError
from benchmark.readers.kit.withheld import without_names
from benchmark.study.members import Member

CHECKPOINT_EVERY_S = 60.0
LOST = "its process was lost, as happens when memory runs out. Give fewer --workers; the same call tries it again."
Told = Callable[[str, int], None]  # label of a member, pairs shown so far


@dataclass(frozen=True)
class MadeMember:
    """A member that is there.

    Attributes:
        cards: pairs -> the backbone's card after them; of the start there is none.
        held_out: pairs -> (N,) shares of `loop.percentiles`.
        patients: (N,) numbers of the held-out images' patients.
        ids: digest of the held-out images' ids.
    """

    member: Member
    cards: dict[int, Path]
    held_out: dict[int, list[float]]
    patients: list[int]
    was_there: bool
    ids: str = ""


@dataclass
class Making:
    """What came of the members, by label."""

    made: dict[str, MadeMember] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Where:
    """What every member needs to know.

    Attributes:
        roots: dataset -> its folder.
        cache: folder of all caches, from which frames are mapped: members at work share them.
        included: folders of one's own cards.
    """

    out: Path
    roots: dict[str, Path]
    cache: Path
    threads: int
    device_type: str
    included: tuple[Path, ...]


def make(members: Sequence[Member], where: Where, workers: int, told: Told, ended: Callable[[str, Making], None]) -> Making:
    """Makes all members, `workers` at a time.

    Args:
        told: called as pairs are shown.
        ended: called after each member.
    """
    making = Making()

    def end(member: Member, found: MadeMember | str) -> None:
        if isinstance(found, str):
            making.failed[member.label] = found
        else:
            making.made[member.label] = found
        ended(member.label, making)

    if workers == 1:
        for member in members:
            end(member, attempted(member, where, told))
        return making
    lost = []
    with _pool(workers, where, told) as pool:
        asked = {pool.submit(_in_worker, member): member for member in members}
        for future in as_completed(asked):
            if isinstance(future.exception(), BrokenProcessPool):
                lost.append(asked[future])
            else:
                end(asked[future], future.result())
    for member in lost:  # one of them took the others along: alone, each shows whether it was the one
        with _pool(1, where, told) as pool:
            alone = pool.submit(_in_worker, member)
            end(member, LOST if isinstance(alone.exception(), BrokenProcessPool) else alone.result())
    return making


def attempted(member: Member, where: Where, told: Told) -> MadeMember | str:
    """The member, or the sentence that says why there is none. What is wrong with one, a fault of its code included, stops no other."""
    try:
        return one(member, where, told)
    except Exception as error:
        return why(error, member.recipe, where.roots)


def why(error: Exception, recipe: PretrainingCard, roots: Mapping[str, Path]) -> str:
    """The sentence of a failure.

    Where the dataset's agreement lets nothing leave, names are withheld, and so is the message of a foreign error, which may quote data.
    """
    dataset, kind = registry.dataset(recipe.pairs.dataset), type(error).__name__
    is_restricted = private.is_restricted(dataset.redistribution)
    if isinstance(error, LobeError):
        return without_names(str(error), roots.get(dataset.name)) if is_restricted else str(error)
    if is_restricted:
        return f"{kind}: message withheld, it may quote data that must not be passed on."
    return f"{kind}: {(str(error).splitlines() or ['no more is known'])[0]}"


def one(member: Member, where: Where, told: Told) -> MadeMember:
    """Makes a member, or finds it made."""
    from benchmark.pretraining import export, run

    card = member.recipe
    folder = private.folder(member.folder(where.out).parent)
    found = run.pretrain(
        card,
        where.roots[card.pairs.dataset],
        folder,
        member.seed,
        threads=where.threads,
        device_type=where.device_type,
        validations=4,
        checkpoint_every_s=CHECKPOINT_EVERY_S,
        keeps=member.keeps,
        loaded=loaded_pairs(card, where.roots[card.pairs.dataset], member.seed, where.cache),
        tell=run.Telling(step=lambda step, n_steps: told(member.label, step.pairs)),
    )
    told(member.label, member.keeps[-1])
    cards = {n: export.kept_card(found.card.parent, n) for n in member.keeps[:-1] if n} | {member.keeps[-1]: found.card}
    shown = {step * card.budget.batch: shares for step, shares in found.held_out.each.items()}
    return MadeMember(member, cards, shown, found.held_out.patients, found.was_there, found.held_out.ids)


_kept: dict[Any, Any] = {}


def loaded_pairs(card: PretrainingCard, root: Path, seed: int, cache: Path) -> Any:
    """Pairs of a recipe and seed, put together once for all members in a row that show the same."""
    from benchmark.pretraining import pairs

    asked = (card.pairs.model_copy(update={"sentences": "all"}).canonical, root, card.image.size, seed)
    if asked not in _kept:
        _kept.clear()
        _kept[asked] = pairs.load(card.pairs, root, card.image.size, seed, cache=cache)
    return _kept[asked]


@contextlib.contextmanager
def _pool(workers: int, where: Where, told: Told) -> Iterator[ProcessPoolExecutor]:
    """Processes that make members and tell how far they are."""
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    done = threading.Event()

    def listen() -> None:
        while True:
            try:
                told(*said.get(timeout=0.2))
            except queue.Empty:
                if done.is_set():
                    return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, context, _begin, (where, said))
    try:
        yield pool
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        done.set()
        listener.join()


_of_worker: list[Any] = []


def _begin(where: Where, said: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers
    for folder in where.included:
        registry.include(folder)
    said.cancel_join_thread()  # one that dies while it tells something keeps no other from ending
    _of_worker[:] = [where, said]


def _in_worker(member: Member) -> MadeMember | str:
    where, said = _of_worker
    return attempted(member, where, lambda label, pairs: said.put((label, pairs)))
