"""Where large envelopes lie outside of the database: Huey's storage, files, object stores.

`payload_store_for` picks the store that a name or a URL means.  What a store
promises stands in `base`; this module knows only which is which.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError
from .base import PayloadStore, checked_key, made_at, new_key

__all__ = ["HUEY", "PayloadStore", "checked_key", "made_at", "new_key", "payload_store_for"]

#: What stands for Huey's own key/value storage, in place of a URL.
HUEY = "huey"


def payload_store_for(huey: Any, store: PayloadStore | str) -> PayloadStore:
    """Return the payload store that ``store`` is or means.

    Args:
        huey: The Huey instance whose envelopes it will hold.
        store: ``"huey"``, a URL of fsspec (``file:///var/lib/app/payloads``,
            ``s3://bucket/folder``), or a store.

    Raises:
        ConfigurationError: Nothing of these, or a driver is not installed.
    """
    # Imported late, because each needs what the others live without.
    if isinstance(store, PayloadStore):
        return store
    if store == HUEY:
        from .in_huey import HueyPayloads

        return HueyPayloads(huey)
    if not isinstance(store, str) or "://" not in store:
        raise ConfigurationError(
            "a payload store is 'huey', a URL like 'file:///folder' or 's3://bucket/folder', "
            "or a PayloadStore"
        )
    scheme, _, path = store.partition("://")
    if scheme in ("file", "local"):
        from .in_files import FilePayloads

        return FilePayloads(path)
    from .in_fsspec import FsspecPayloads

    return FsspecPayloads(store)
