"""Every error JMSNAS raises on purpose; each says what was got, what was expected, what to do.

* JmsnasError
  + InputError (exit code 2: the input was wrong)
    - UnitError
    - SpaceError
    - NetworkError
    - DeviceError
    - TableError
    - EstimatorError
    - DatasetError
    - TargetError
      * UndecidedError
    - FrameError
    - PartError
    - CertificateError
  + RunError (exit code 1: the run failed)
    - StorageError
    - MeasurementError
    - TrainingError
    - DeployError
"""


class JmsnasError(Exception):
    """Base of all; `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(JmsnasError):
    """What was given cannot be used; nothing was changed."""

    exit_code = 2


class UnitError(InputError):
    """A duration or a rate that cannot be read."""


class SpaceError(InputError):
    """A search space, a layer or a candidate that cannot be."""


class TopologyError(InputError):
    """A network of devices and links that cannot be, or whose file is wrong."""


class DeviceError(InputError):
    """A device nobody knows, or one that may not be used as asked."""


class TableError(InputError):
    """A latency table that is broken, foreign, or of another schema version."""


class EstimatorError(InputError, ValueError):
    """An estimator that is missing, stale, or cannot be fitted; a ValueError too, as scikit-learn expects."""


class DatasetError(InputError):
    """A data set nobody knows, or one that does not fit the space."""


class InfeasibleError(InputError):
    """A latency target that no network meets."""


class SearchLimitError(InfeasibleError):
    """A search ended at its limit before it found a network, or the proof that there is none."""


class FrameError(InputError):
    """A message from another device that cannot be read."""


class PartError(InputError):
    """A part that is not signed, not for this device, too old, damaged, or not what it says it is."""


class CertificateError(InputError):
    """A certificate or key that is missing, expired, foreign, or readable by others."""


class RunError(JmsnasError):
    """The input was right, the run failed."""


class StorageError(RunError):
    """A file could not be written: full disk, read-only folder, quota."""


class MeasurementError(RunError):
    """A block could not be measured."""


class TrainingError(RunError):
    """Training left the numbers it can work with (NaN or infinite loss)."""


class DeployError(RunError):
    """A device was lost, refused its part or a request, or did not answer in time."""
