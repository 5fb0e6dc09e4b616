"""The errors a user reads. Each message is one sentence: what is wrong, and what to do about it."""


class FantasyIDError(Exception):
    """Base of every error this package raises on purpose; its text is shown to the artist as it is."""


class InputError(FantasyIDError, ValueError):
    """An image, mesh, size or setting that this stage cannot work with."""


class NoFaceError(InputError):
    """No face was found; the message says what was tried."""


class MissingFileError(FantasyIDError):
    """A model file is absent; the message says its name, folder, size, licence and where to get it."""


class MissingLibraryError(FantasyIDError):
    """An optional library is absent or broken; only the backend that needs it is disabled."""


class CheckpointError(FantasyIDError):
    """A model file is not what it should be (truncated, another family, mis-shaped, unsafe)."""
