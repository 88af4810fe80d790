"""One sitting: this process makes blocks ready, times them in rounds, and tells each result at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from jmsnas.errors import StorageError
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.energy import find_meter, measure_energy_j, measure_idle_power_w
from jmsnas.profiler.timing.paired_timing import TimedLoop, measure
from jmsnas.space import BlockOrPart

# Called with the index of the block that is run next, -1 while none is: so that who watches knows what hangs.
OnStart = Callable[[int], None]
# Share of a sitting's work that making the blocks ready takes, for the progress shown.
_PREPARING = 0.3
# Copies of the reference block that take turns.
REFERENCE_COPIES = 5


def run_job(job: ProfileJob, report: EventHandler, starting: OnStart = lambda index: None) -> None:
    """Measure the blocks of a job in this process.

    A block that the run time refuses is told as failed, and the others go on.

    Raises
    ------
    MeasurementError
        When the run time cannot run here at all, not even the reference block.
    StorageError
        When the cache of exported models cannot be written.
    """
    references = prepare([REFERENCE_BLOCK] * REFERENCE_COPIES, job.key, job.cache, job.seed)
    ready = _ready(job, report, starting)
    blocks = [timed for timed in ready if timed is not None]
    indices = [index for index, timed in enumerate(ready) if timed is not None]

    def finished(position: int, found: Measurement) -> None:
        report({"row": indices[position], **asdict(found)})

    with pinned(job.key):
        measure(
            blocks,
            references,
            finished,
            job.config,
            job.seed,
            partial(_told, report, _PREPARING, 1.0),
            core_clock=time.thread_time_ns if job.key.processor == "cpu" else None,
            starting=lambda position: starting(indices[position]),
        )
        starting(-1)
        if job.energy:
            _measure_energy(job.key, blocks, indices, report)


def _ready(job: ProfileJob, report: EventHandler, starting: OnStart) -> list[TimedLoop | None]:
    told = partial(_told, report, 0.0, _PREPARING)
    if not job.one_by_one:
        try:
            return [*prepare(job.subjects, job.key, job.cache, job.seed, told)]
        except StorageError:
            raise
        except Exception:  # a run time's own errors share no base; one by one it is seen whose fault it is
            told(0, 1, "a block failed")
    found: list[TimedLoop | None] = []
    for index, subject in enumerate(job.subjects):
        starting(index)
        told(index, len(job.subjects), "making blocks ready one by one")
        found.append(_ready_alone(subject, index, job, report))
    starting(-1)
    return found


def _ready_alone(subject: BlockOrPart, index: int, job: ProfileJob, report: EventHandler) -> TimedLoop | None:
    try:
        (timed,) = prepare([subject], job.key, job.cache, job.seed)
        with pinned(job.key):
            timed(1)
        return timed
    except StorageError:
        raise
    except Exception as error:  # whatever a run time throws at one block must not end the sweep
        reason = str(error).partition("\n")[0] or type(error).__name__
        report({"failed": index, "why": reason})
        return None


def _told(report: EventHandler, start: float, end: float, done: float, of: float, what: str) -> None:
    report({"progress": [start + (end - start) * done / of if of else end, 1.0, what]})


def _measure_energy(
    key: RuntimeKey, blocks: Sequence[TimedLoop], indices: Sequence[int], report: EventHandler
) -> None:
    meter = find_meter(key.processor)
    if meter is None:
        return
    idle_power_w = measure_idle_power_w(meter, 1.0)
    for done, (index, timed) in enumerate(zip(indices, blocks, strict=True)):
        report({"progress": [done / len(blocks), 1.0, f"energy by {meter.name}"]})
        joules = measure_energy_j(meter, timed, idle_power_w)
        if joules is not None:
            report({"energy": index, "j": joules})
