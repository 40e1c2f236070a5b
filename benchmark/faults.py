"""Which faults are the environment's: a full disk, a lost device, too little memory, a node that went away, a missing package, inputs that
are not those of the plan.

They say nothing of the job that met them, so they are never kept as its result: the same command computes it again. A fault of the job
itself (bad input, code that is wrong) lasts, and is kept until somebody asks for it again.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from benchmark.cards import Failure
from benchmark.errors import ChangedSince, EnvironmentProblem, LobeError, StoreError
from benchmark.files import FULL

OUT_OF_MEMORY = "OutOfMemoryError"  # kind of every failure for want of memory

_ERRNOS = (
    FULL
    | {errno.EIO, errno.EROFS, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ESTALE}
    | {errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH}
)
# As records of earlier releases name them, which kept no more than a type's name and a sentence.
_KINDS = frozenset({OUT_OF_MEMORY, "MemoryError", "WorkerLost", EnvironmentProblem.__name__, StoreError.__name__})
_AGAIN = re.compile(r"[Rr]un the same command again")  # ends the sentences of inputs that changed
_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED", "Insufficient memory")
_LOST_DEVICE = re.compile(
    r"CUDA (driver |unknown )?error|NCCL|nccl\w*Error|\bECC\b|device lost|No CUDA GPUs are available|no CUDA-capable device"
    r"|Found no NVIDIA driver|(CUDNN|CUBLAS|CUFFT)_STATUS_(NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR|ARCH_MISMATCH)"
)
_WORDS = ("does not fit into memory", "can't start new thread")
_SYSTEM = re.compile("|".join([*(re.escape(os.strerror(number)) for number in sorted(_ERRNOS)), *_WORDS]))


def is_environment(error: BaseException) -> bool:
    """True when the error, or what it was made of, is the environment's."""
    return any(
        isinstance(one, EnvironmentProblem | StoreError | ChangedSince)
        or type(one).__name__ in _KINDS
        or (isinstance(one, OSError) and one.errno in _ERRNOS)
        or is_of_memory(one)
        or _tells_of_it(str(one), foreign=not isinstance(one, LobeError))
        for one in _chain(error)
    )


def no_room(error: BaseException) -> EnvironmentProblem | None:
    """What to do, where a file could not be written for want of room; None for any other error."""
    full = next((one for one in _chain(error) if isinstance(one, OSError) and one.errno in FULL), None)
    if full is None:
        return None
    where = f" for {full.filename}" if isinstance(full.filename, str | os.PathLike) else ""
    return EnvironmentProblem(
        f"No room left on the disk{where} ({full.strerror}). Make room, or choose a folder on another disk, and run the same command "
        "again: it goes on from what is stored."
    )


def is_of_memory(error: BaseException) -> bool:
    """Torch has a type of its own for a full GPU, but none for a full machine or a library that cannot allocate; OpenCV has one for all."""
    if isinstance(error, MemoryError) or type(error).__name__ == OUT_OF_MEMORY:
        return True
    foreign = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    return foreign and any(sign in str(error) for sign in _MEMORY)


def of_environment(failure: Failure | None) -> bool:
    """True of a failure that is the environment's, in records of earlier releases too."""
    if failure is None:
        return False
    if failure.environment or failure.kind in _KINDS:
        return True
    # A withheld message leaves the type alone: a system error without a type of its own is a disk's or a device's.
    withheld = failure.kind == "OSError" and "message withheld" in failure.sentence
    foreign = failure.sentence.startswith(f"{failure.kind}: ")
    changed = not foreign and _AGAIN.search(failure.sentence) is not None
    return withheld or changed or _tells_of_it(failure.sentence, foreign=foreign)


def _tells_of_it(sentence: str, *, foreign: bool) -> bool:
    """By the words of the system, which libraries repeat; a device's words count only where no sentence of ours repeats them."""
    return _SYSTEM.search(sentence) is not None or (foreign and _LOST_DEVICE.search(sentence) is not None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from or while handling, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]
