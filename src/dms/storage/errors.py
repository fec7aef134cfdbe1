"""Errors of storage.

::

    DMSError
    └── StorageError
        ├── InvalidStorageSpec     parameters that cannot work                            (BadInput)
        ├── InvalidVolumeName      a name or path that could leave its directory          (BadInput)
        ├── UnsupportedIdentifier  neither a path nor a content id                        (BadInput)
        ├── UnsafeArchive          an archive that reaches out of its directory           (BadInput)
        ├── TooLarge               more bytes or files than allowed                       (BadInput)
        ├── PathNotGranted         a path of this machine that jobs may not see           (Denied)
        ├── AddressRefused         an address that jobs may not reach from here           (Denied)
        ├── AccessRefused          the other side did not let us in                       (Denied)
        ├── VolumeNotFound         no such volume                                         (NotFound)
        ├── SourceNotFound         the other side has no such thing                       (NotFound)
        ├── VolumeExists           the name is taken                                      (Conflict)
        ├── VolumeInUse            somebody works with it                                 (Conflict)
        ├── VolumeLocked           it changes no more                                     (Conflict)
        ├── VolumeNotLocked        it may still change                                    (Conflict)
        ├── VolumeSealed           it is encrypted, or not, and should be otherwise       (Conflict)
        ├── ContentMismatch        the bytes are not those that were named
        ├── CannotUnseal           wrong key, or an encrypted volume that was damaged
        ├── TransferRefused        the other node does not take a file                    (Conflict)
        ├── StorageFull            no room left                                           (Unavailable)
        ├── TransferFailed         the other side does not answer, or broke off           (Unavailable)
        └── ProviderMissing        a program or setting that is needed is not there       (Unavailable)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, Denied, DMSError, NotFound, Unavailable


class StorageError(DMSError):
    """Storage failed."""

    code = "storage"


class InvalidStorageSpec(BadInput, StorageError):
    """These storage parameters cannot work."""

    code = "invalid_storage_spec"


class InvalidVolumeName(BadInput, StorageError):
    """This name cannot be used."""

    code = "invalid_volume_name"


class UnsupportedIdentifier(BadInput, StorageError):
    """identifier type not supported"""

    code = "unsupported_identifier"


class UnsafeArchive(BadInput, StorageError):
    """The archive is not safe to unpack."""

    code = "unsafe_archive"


class TooLarge(BadInput, StorageError):
    """This is more than is allowed."""

    code = "storage_too_large"


class PathNotGranted(Denied, StorageError):
    """This path is not open to jobs."""

    code = "path_not_granted"
    default_hint = "the owner of the machine opens directories to jobs with storage.local_roots"


class AddressRefused(Denied, StorageError):
    """Jobs may not reach this address."""

    code = "address_refused"
    default_hint = "the owner of the machine opens private networks to jobs with storage.allowed_networks"


class AccessRefused(Denied, StorageError):
    """The storage provider refuses access."""

    code = "storage_access_refused"
    default_hint = "see that the credentials are right and may do this"


class VolumeNotFound(NotFound, StorageError):
    """volume not found"""

    code = "volume_not_found"


class SourceNotFound(NotFound, StorageError):
    """The storage provider has no such thing."""

    code = "source_not_found"


class VolumeExists(Conflict, StorageError):
    """There is a volume of this name already."""

    code = "volume_exists"


class VolumeInUse(Conflict, StorageError):
    """The volume is in use."""

    code = "volume_in_use"
    default_hint = "shut down what uses it first"


class VolumeLocked(Conflict, StorageError):
    """The volume is locked: it changes no more."""

    code = "volume_locked"


class VolumeNotLocked(Conflict, StorageError):
    """The volume is not locked: it may still change."""

    code = "volume_not_locked"
    default_hint = "lock it first"


class VolumeSealed(Conflict, StorageError):
    """The volume is encrypted."""

    code = "volume_sealed"
    default_hint = "decrypt it first"


class TransferRefused(Conflict, StorageError):
    """The other node does not take the file."""

    code = "transfer_refused"


class ContentMismatch(StorageError):
    """The content is not what was named."""

    code = "content_mismatch"


class CannotUnseal(StorageError):
    """The volume cannot be decrypted: the key is wrong or the file was damaged."""

    code = "cannot_unseal"


class StorageFull(Unavailable, StorageError):
    """No room left for volumes."""

    code = "storage_full"
    default_hint = "delete volumes, or free some space on the file system of general.work_dir"


class TransferFailed(Unavailable, StorageError):
    """The storage provider does not answer."""

    code = "transfer_failed"


class ProviderMissing(Unavailable, StorageError):
    """This machine cannot do that."""

    code = "storage_provider_missing"
