"""Run a profiling job in this process: prepare blocks, time them in rounds, report each result at once."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from jmsnas.errors import StorageError
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.energy import find_meter, measure_energy_j, measure_idle_power_w
from jmsnas.profiler.timing.paired_timing import Clocks, TimedLoop, measure
from jmsnas.space import BlockOrPart

# Called with the index of the block that runs next, or -1 for none, to identify a block that hangs.
OnStart = Callable[[int], None]
# Share of a job's progress that preparing the blocks takes.
_PREPARING = 0.3
# Copies of the reference block that are used in turn.
REFERENCE_COPIES = 5


def run_job(job: ProfileJob, on_event: EventHandler, on_start: OnStart = lambda index: None) -> None:
    """Measure the blocks of a job in this process.

    A block that the runtime refuses is reported as failed, and the others are measured.

    Raises MeasurementError when the runtime is not available or refuses even the reference block, and
    StorageError when the cache of exported models cannot be written.
    """
    references = prepare([REFERENCE_BLOCK] * REFERENCE_COPIES, job.key, job.cache, job.seed)
    prepared = _prepare(job, on_event, on_start)
    blocks = {index: timed for index, timed in enumerate(prepared) if timed is not None}
    indices = [*blocks]

    def finished(position: int, found: Measurement) -> None:
        on_event({"row": indices[position], **asdict(found)})

    with pinned(job.key):
        measure(
            [partial(_announced, on_start, index, timed) for index, timed in blocks.items()],
            references,
            finished,
            job.config,
            job.seed,
            progress=partial(_report_progress, on_event, _PREPARING, 1.0),
            clocks=Clocks(core=time.thread_time_ns if job.key.processor == "cpu" else None),
        )
        on_start(-1)
        if job.energy:
            _measure_energy(job.key.processor, blocks, on_event)


def _prepare(job: ProfileJob, on_event: EventHandler, on_start: OnStart) -> list[TimedLoop | None]:
    progress = partial(_report_progress, on_event, 0.0, _PREPARING)
    if not job.one_by_one:
        try:
            return [*prepare(job.subjects, job.key, job.cache, job.seed, progress)]
        except StorageError:
            raise
        except Exception:  # exceptions of runtimes have no common base class; one by one shows which block
            progress(0, 1, "a block failed")
    found: list[TimedLoop | None] = []
    for index, subject in enumerate(job.subjects):
        on_start(index)
        progress(index, len(job.subjects), "preparing blocks one by one")
        found.append(_prepare_one(subject, index, job, on_event))
    on_start(-1)
    return found


def _prepare_one(
    subject: BlockOrPart, index: int, job: ProfileJob, on_event: EventHandler
) -> TimedLoop | None:
    try:
        (timed,) = prepare([subject], job.key, job.cache, job.seed)
        with pinned(job.key):
            timed(1)
        return timed
    except StorageError:
        raise
    except Exception as error:  # no exception of a runtime for one block may end the session
        reason = str(error).partition("\n")[0] or type(error).__name__
        on_event({"failed": index, "why": reason})
        return None


def _announced(on_start: OnStart, index: int, timed: TimedLoop, loops: int) -> float:
    on_start(index)
    return timed(loops)


def _report_progress(
    on_event: EventHandler, start: float, end: float, done: float, total: float, text: str
) -> None:
    on_event({"progress": [start + (end - start) * done / total if total else end, 1.0, text]})


def _measure_energy(processor: str, blocks: dict[int, TimedLoop], on_event: EventHandler) -> None:
    meter = find_meter(processor)
    if isinstance(meter, str):
        return
    idle_power_w = measure_idle_power_w(meter, 1.0)
    for done, (index, timed) in enumerate(blocks.items()):
        on_event({"progress": [done / len(blocks), 1.0, f"energy by {meter.name}"]})
        joules = measure_energy_j(meter, timed, idle_power_w)
        if joules is not None:
            on_event({"energy": index, "j": joules})
