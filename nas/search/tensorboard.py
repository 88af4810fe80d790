"""TensorBoard files of a run: a curve for each metric of the log."""

from dataclasses import asdict
from pathlib import Path

from jmsnas.errors import InputError
from jmsnas.nas.search.stages import EpochRecord


class TensorBoardLog:
    """Writer of the epochs of a run for TensorBoard; `before`: number of epochs already written."""

    def __init__(self, folder: Path, before: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                "--tensorboard needs the package tensorboard: pip install 'jmsnas[tensorboard]'"
            ) from error
        self.step = before
        self.writer = SummaryWriter(str(folder), purge_step=before + 1)

    def __call__(self, epoch: EpochRecord) -> None:
        """Write the metrics of an epoch."""
        self.step += 1
        for name, value in asdict(epoch).items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{epoch.stage}/{name}", value, self.step)
        self.writer.flush()
