"""Job runners for tests, a real one in this process and one with synthetic results, and synthetic rows."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.session.run_job import run_job
from jmsnas.profiler.table.latency_table import AnyRow, BlockRow, PartRow, RuntimeKey
from jmsnas.profiler.table.measurement import TARGET_HALF_WIDTH, Measurement, summarise
from jmsnas.space import HEAD, IDENTITY, STEM, Block, BlockOrPart, Candidate, Layer, Part

BLOCKS = tuple(
    Block(candidate, layer)
    for layer in (Layer(8, 8, 1, 4, 4), Layer(8, 8, 1, 2, 2))
    for candidate in (Candidate(3, 3, True), Candidate(5, 3), IDENTITY)
)
PART = Part(
    (
        Block(STEM, Layer(1, 8, 2, 8, 8, "stem")),
        Block(Candidate(3, 3), Layer(8, 8, 1, 4, 4)),
        Block(HEAD, Layer(8, 3, 1, 4, 4, "head", 16)),
    )
)
EAGER = RuntimeKey("torch")
# A search space of three blocks that are measured soon.
TINY_SPACE = """
name = "tiny"
input = [1, 4, 4]
classes = 3
[candidates]
kernel_sizes = [3]
expansions = [1]
identity = true
[stem]
channels = 4
stride = 1
[[stage]]
layers = 1
channels = 4
stride = 1
[head]
channels = 8
"""
Tick = Callable[[], None]


def run_job_here(job: ProfileJob, on_event: EventHandler, tick: Tick) -> None:
    """Measure in this process, without the wait for a steady level and without energy."""
    config = replace(job.config, warm_up_s=1e-3)
    run_job(replace(job, config=config, energy=False), lambda event: (on_event(event), tick())[0])


@dataclass
class SyntheticRunner:
    """Reports a synthetic row of every block; in its n-th job all blocks are n per cent slower."""

    half_width: float = 0.005
    interrupted: float = 0.0
    jobs: list[ProfileJob] = field(default_factory=list)

    def __call__(self, job: ProfileJob, on_event: EventHandler, tick: Tick) -> None:
        self.jobs.append(job)
        for index, subject in enumerate(job.subjects):
            ratio = 1 + zlib.crc32(str(subject).encode()) % 100
            found = a_measurement(ratio * (1 + 0.01 * len(self.jobs)), self.half_width)
            on_event({"row": index, **asdict(replace(found, interrupted=self.interrupted))})
            tick()
            on_event({"progress": [index + 1, len(job.subjects), "measuring"]})


def samples_of(ratio: float, half_width: float = 0.005) -> tuple[float, ...]:
    """Twenty-one samples whose median is `ratio`, with a 95 % interval of that half width."""
    # The interval of 21 goes from the 6th to the 16th: the last but one of the low ones, the second high one.
    return tuple(ratio * (1 + half_width * side) for side in (-1, 0, 1) for _ in range(7))


def a_measurement(ratio: float = 1.0, half_width: float = 0.005, level_s: float = 1e-4) -> Measurement:
    return summarise(samples_of(ratio, half_width), level_s, TARGET_HALF_WIDTH)


def a_row(
    subject: BlockOrPart = BLOCKS[0],
    ratios: Sequence[float] = (1.0,),
    key: RuntimeKey = EAGER,
    level_s: float = 1e-4,
    half_width: float = 0.005,
) -> AnyRow:
    """A measured row, to which as many processes contributed as there are `ratios`."""
    samples = tuple(sample for ratio in ratios for sample in samples_of(ratio, half_width))
    found = summarise(samples, level_s, TARGET_HALF_WIDTH)
    make = BlockRow if isinstance(subject, Block) else PartRow
    return make(
        device="local",
        key=key,
        block=subject,  # type: ignore[arg-type]
        kind="measured",
        median_s=found.ratio * level_s,
        low_s=found.ratio_low * level_s,
        high_s=found.ratio_high * level_s,
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        reference_s=level_s,
        min_s=min(samples) * level_s,
        p90_s=max(samples) * level_s,
        rounds=len(samples),
        converged=found.converged,
        environment="abc",
        measured_at="2026-11-23T00:00:00+00:00",
        source="a test",
        samples=samples,
        process_rounds=(21,) * len(ratios),
    )
