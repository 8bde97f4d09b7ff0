"""Whether a primary can keep what is written while a replica, or a target of slots, copies it.

Rules: a copy takes as long as there is data, and all that is written meanwhile waits in an output
buffer; above `client-output-buffer-limit replica` the server drops the connection and the copy
starts again, without an end where writes do not pause. Whether that happens depends on the writes
to come, so it is reported and not refused.
"""

from __future__ import annotations

from .topology import NodeView

_MIB = 1 << 20
# Of the data that is copied; with the default of 256 MiB this is reported from 2.5 GiB on.
_SMALL = 10


def warning(primary: NodeView, size: int) -> str:
    """Return a warning if a full copy of this size may never complete, otherwise nothing."""
    limit = primary.replica_buffer
    if not limit or limit * _SMALL >= size:
        return ""
    return (
        f"{primary.name} drops a copy of its {size / _MIB:.1f} MiB once {limit / _MIB:.1f} MiB of "
        "writes wait for it (client-output-buffer-limit replica)"
    )
