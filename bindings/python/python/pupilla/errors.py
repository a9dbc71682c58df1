"""The exceptions of Pupilla. Their texts are those of the program: each names the file or the setting, and what to do."""

from __future__ import annotations


class PupillaError(Exception):
    """Anything that goes wrong in Pupilla, and the base of all other exceptions here."""


class SettingError(PupillaError, ValueError):
    """A setting is unknown, out of its range, or contradicts another setting."""


class ImageError(PupillaError, ValueError):
    """An image or a mask cannot be read, or is not what was expected."""


class DatasetError(PupillaError):
    """A folder or a manifest holds no usable data set."""


class ModelError(PupillaError):
    """A file is no model of this version, or is damaged."""


class DeviceError(PupillaError):
    """The device cannot compute."""


class TrainingError(PupillaError):
    """A training could not begin, or did not succeed."""


class InspectionError(PupillaError):
    """A model cannot score an image, for example because the image is too small."""


class PupillaWarning(UserWarning):
    """Something a person should know, which does not stop the work."""
