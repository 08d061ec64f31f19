"""The one exception hierarchy of dicom-node: every error says what, why and how to fix it."""

from __future__ import annotations


class NodeError(Exception):
    """An error that a user meets: it names the thing, the reason and the way out.

    None of the three texts may hold patient data; UIDs and our own ids are fine.

    Args:
        what: The thing that is wrong, named so that the reader can find it.
        why: The reason, in one sentence.
        fix: What the reader can do about it.
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why} ({fix})")
        self.what = what
        self.why = why
        self.fix = fix


class ConfigError(NodeError):
    """`node.yaml` or a file it names cannot be used as it stands."""


class StoreError(NodeError):
    """The database or the spool refused to hold something."""


class TransitionError(StoreError):
    """A state change that the state's table of allowed transitions forbids."""


class SpoolError(StoreError):
    """A file could not be written to or found in the spool."""


class NotCutError(SpoolError):
    """The disk refused to cut an inbox file to its image; the file is as it was."""


class RefusedInstanceError(NodeError):
    """A received data set cannot be filed; `status` is the C-STORE status that says so.

    Source: PS3.4 Table B.2-1 (C-STORE Response Status Values).
    """

    def __init__(self, status: int, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.status = status


class HostAwayError(NodeError):
    """A host that holds a file does not answer; it may do so later."""


class PipelineError(NodeError):
    """A pipeline's bundle, `dicom.yaml` or weights cannot be used, or its run failed."""


class ImageError(PipelineError):
    """The pixels of an image cannot be read or do not make an image a pipeline can take."""


class DataFolderError(NodeError):
    """A folder of labelled data cannot be used for training or evaluation as it stands."""


class ReportError(NodeError):
    """A result object could not be built or did not pass its check before sending."""


class DeliveryError(NodeError):
    """A peer did not take an object."""


class RetrieveError(NodeError):
    """A peer was asked for studies, and its answer was no."""


class UnreachableError(RetrieveError):
    """A peer that was asked for studies did not answer; it may do so later."""


class AssociationError(NodeError):
    """No association with a peer could be made."""


class ServiceRefusedError(AssociationError):
    """The peer is there, and accepts none of the services that were proposed."""
