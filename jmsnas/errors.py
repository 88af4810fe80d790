"""Exception hierarchy of JMSNAS; every message is one line with the value, what was expected and a remedy.

* JmsnasError
  + InputError (exit code 2: invalid input)
    - UnitError
    - SpaceError
    - TopologyError
    - DeviceError
    - TableError
    - EstimatorError
    - DatasetError
    - InfeasibleError
      * SearchLimitError
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
    """Base class of all JMSNAS errors; `exit_code` is the exit code of the command line."""

    exit_code = 1


class InputError(JmsnasError):
    """Invalid input; nothing was changed."""

    exit_code = 2


class UnitError(InputError):
    """A duration, rate, size, power or energy that cannot be parsed."""


class SpaceError(InputError):
    """An invalid search space, layer, block or candidate."""


class TopologyError(InputError):
    """An invalid topology of devices and links, or an invalid topology file."""


class DeviceError(InputError):
    """An unknown device, or a device that does not support the request."""


class TableError(InputError):
    """A latency table that is damaged, not of JMSNAS, or of another schema version."""


class EstimatorError(InputError, ValueError):
    """An estimator that is missing, stale, or cannot be fitted; a ValueError too, as scikit-learn expects."""


class DatasetError(InputError):
    """An unknown data set, or one that does not fit the search space."""


class InfeasibleError(InputError):
    """No model or split satisfies the latency target and the constraints."""


class SearchLimitError(InfeasibleError):
    """The exact search reached its node limit without a solution or a proof of infeasibility."""


class FrameError(InputError):
    """A network message that cannot be decoded."""


class PartError(InputError):
    """A model part that is unsigned, for another device, outdated, damaged, or unlike its manifest."""


class CertificateError(InputError):
    """A certificate or key that is missing, expired, of another CA, or readable by other users."""


class RunError(JmsnasError):
    """The input was valid, but the run failed."""


class StorageError(RunError):
    """A file could not be written: full disk, read-only folder, quota."""


class MeasurementError(RunError):
    """A block could not be measured."""


class TrainingError(RunError):
    """Training diverged (NaN or infinite loss) or lost its GPU."""


class DeployError(RunError):
    """A device was lost, refused a part or a request, or did not answer in time."""
