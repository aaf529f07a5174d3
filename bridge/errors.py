"""Every error that Headrace raises, named after who is to blame.

::

    HeadraceError
    ├── ConfigError (ValueError)              a configuration file, table or argument is wrong
    ├── MissingExtra (ImportError)            an optional dependency is not installed
    ├── SchemaError (ValueError)              what was put does not fit what was declared
    │   └── FrameOrderError                   steps go backwards or come twice
    ├── ProtocolError (ValueError)            bytes or messages that the wire format does not allow
    │   ├── VersionMismatch                   the peer speaks another protocol version
    │   ├── MessageTooLarge                   a size above the stated limit
    │   └── CorruptData                       a checksum does not match
    ├── TransportError (ConnectionError)      the way to a peer
    │   ├── NobodyListening (TimeoutError)    no answer within the time limit
    │   ├── AddressInUse                      the address is taken by somebody else
    │   ├── AuthenticationFailed              a key was refused, or is missing
    │   └── ConnectionLost                    the peer went away and did not come back in time
    ├── StagingError (RuntimeError)           what the stager refuses
    │   ├── UnknownTopic (LookupError)        no such topic
    │   ├── OffsetOutOfRange (LookupError)    the offset was released, or is not written yet
    │   ├── StaleIncarnation                  a newer life of this simulation took over
    │   ├── StreamFull (TimeoutError)         no space came free within the time limit
    │   ├── StorageFull (OSError)             the disk or the byte limit is exhausted
    │   └── CorruptSegment (OSError)          stored bytes do not match their checksum
    ├── PipelineError (RuntimeError)          a pipeline is ill-formed
    │   └── OperatorFailed                    an operator raised; its name and input are told
    ├── EngineError (RuntimeError)            a stream engine or its cluster failed, or is away
    ├── RegistryError (RuntimeError)          a registry of models cannot be used as asked
    │   └── Overtaken                         somebody else changed it first
    ├── SteeringError (RuntimeError)          a command that cannot be given
    │   ├── CommandRefused                    outside the bounds, expired, or not allowed
    │   └── UnknownCommand (LookupError)      no command has this id
    └── MemberFailed (RuntimeError)           a simulation process ended with an error
"""

from __future__ import annotations

__all__ = [
    "AddressInUse",
    "AuthenticationFailed",
    "CommandRefused",
    "ConfigError",
    "ConnectionLost",
    "CorruptData",
    "CorruptSegment",
    "EngineError",
    "FrameOrderError",
    "HeadraceError",
    "MemberFailed",
    "MessageTooLarge",
    "MissingExtra",
    "NobodyListening",
    "OffsetOutOfRange",
    "OperatorFailed",
    "Overtaken",
    "PipelineError",
    "ProtocolError",
    "RegistryError",
    "SchemaError",
    "StagingError",
    "StaleIncarnation",
    "SteeringError",
    "StorageFull",
    "StreamFull",
    "TransportError",
    "UnknownCommand",
    "UnknownTopic",
    "VersionMismatch",
    "error_from_code",
]


class HeadraceError(Exception):
    """Root of every error that Headrace raises on purpose."""


class ConfigError(HeadraceError, ValueError):
    """A configuration file, table, environment variable or argument is wrong."""


class MissingExtra(HeadraceError, ImportError):
    """An optional dependency is not installed.

    Parameters
    ----------
    package
        The import name that failed.
    extra
        The extra of the distribution ``headrace`` that brings it.
    purpose
        What it is needed for, as the end of the sentence "… is needed for".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"The package {package!r} is needed for {purpose} and is not installed; "
            f"install it with: pip install 'headrace[{extra}]'."
        )
        self.package = package
        self.extra = extra


class SchemaError(HeadraceError, ValueError):
    """What was put does not fit what the stream declared."""


class FrameOrderError(SchemaError):
    """A frame's step is not greater than the step of the frame before it."""


class ProtocolError(HeadraceError, ValueError):
    """Bytes or messages that the wire format does not allow."""


class VersionMismatch(ProtocolError):
    """The peer, or the file, speaks another version of the wire format."""


class MessageTooLarge(ProtocolError):
    """A size is above the stated limit."""


class CorruptData(ProtocolError):
    """A checksum does not match the bytes that it was made from."""


class TransportError(HeadraceError, ConnectionError):
    """The way to a peer failed."""


class NobodyListening(TransportError, TimeoutError):
    """No answer came within the time limit."""


class AddressInUse(TransportError):
    """The address to bind is taken by another process."""


class AuthenticationFailed(TransportError):
    """A key was refused, is missing, or is not in the allow-list."""


class ConnectionLost(TransportError):
    """The peer went away and did not come back within the time limit."""


class StagingError(HeadraceError, RuntimeError):
    """The stager refuses a request."""


class UnknownTopic(StagingError, LookupError):
    """No topic of that name exists."""


class OffsetOutOfRange(StagingError, LookupError):
    """The offset was released already, or is beyond the end."""


class StaleIncarnation(StagingError):
    """A newer life of this simulation has taken the stream over."""


class StreamFull(StagingError, TimeoutError):
    """No space came free in the stream within the time limit."""


class StorageFull(StagingError, OSError):
    """The disk, the RAM file system or the stager's byte limit is exhausted."""


class CorruptSegment(StagingError, OSError):
    """Stored bytes do not match the checksum that was stored for them."""


class PipelineError(HeadraceError, RuntimeError):
    """A pipeline is ill-formed."""


class OperatorFailed(PipelineError):
    """An operator raised; the message names the operator and the frames it was given."""


class EngineError(HeadraceError, RuntimeError):
    """A stream engine, or its cluster, failed or cannot be reached."""


class RegistryError(HeadraceError, RuntimeError):
    """A registry of models cannot be used as asked: locked for too long, or lacking something."""


class Overtaken(RegistryError):
    """Somebody else changed the history of a name after it was looked at."""


class SteeringError(HeadraceError, RuntimeError):
    """A command cannot be given."""


class CommandRefused(SteeringError):
    """A command is outside the declared bounds, expired, or not allowed."""


class UnknownCommand(SteeringError, LookupError):
    """No command of this id was decided on."""


class MemberFailed(HeadraceError, RuntimeError):
    """A simulation process ended with an error."""


_BY_NAME: dict[str, type[HeadraceError]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, HeadraceError) and value is not MissingExtra
}


def error_from_code(code: str, message: str) -> HeadraceError:
    """Make the error that a peer named in a refusal.

    Parameters
    ----------
    code
        Class name of an error of this module; an unknown one gives a `StagingError`.
    message
        The peer's sentence.
    """
    return _BY_NAME.get(code, StagingError)(message)
