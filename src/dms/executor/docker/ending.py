"""How a container ended: the truth behind its exit code, out of what the engine remembers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dms.executor.docker.api import Json
from dms.executor.protocol import EndReason

SIGNAL_EXIT_CODES = {128 + 9: "SIGKILL", 128 + 15: "SIGTERM"}
COMMAND_EXIT_CODES = {126: ": its command cannot be executed", 127: ": its command was not found"}
CANCELLED_EXIT_CODE = 143
KILLED_EXIT_CODE = 137
MAX_TEXT_CHARS = 500


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What we know beside the engine's record."""

    is_cancelled: bool = False
    engine_was_gone: bool = False
    """It did not answer for a while: an engine that ends abruptly ends its containers when it comes back."""
    disk_limit_bytes: int = 0
    """Not 0: we ended it because it wrote more than this."""
    was_signalled: bool = False
    """Somebody sent a signal through the engine."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What a result says."""

    exit_code: int
    reason: EndReason
    text: str = ""


def ending_of(container: Json | None, about: Circumstances) -> Ending:
    """``container`` is the engine's record, ``None`` when it has none any more."""
    if about.disk_limit_bytes:
        text = f"it wrote more than its {about.disk_limit_bytes} bytes of disk"
        return Ending(KILLED_EXIT_CODE, EndReason.DISK_LIMIT, text)
    if container is None and about.is_cancelled:
        return Ending(CANCELLED_EXIT_CODE, EndReason.CANCELLED, "its container was removed")
    if container is None:
        return Ending(KILLED_EXIT_CODE, EndReason.KILLED, "its container was removed")
    state = container.get("State") or {}
    code = int(state.get("ExitCode") or 0)
    if about.is_cancelled:
        return Ending(code or CANCELLED_EXIT_CODE, EndReason.CANCELLED, "cancelled")
    if state.get("OOMKilled") and code:
        limit = (container.get("HostConfig") or {}).get("Memory")
        return Ending(code, EndReason.OUT_OF_MEMORY, f"it needed more than its {limit} bytes of memory")
    if state.get("Error"):
        return Ending(-1, EndReason.INFRASTRUCTURE, str(state["Error"])[:MAX_TEXT_CHARS])
    signal = SIGNAL_EXIT_CODES.get(code, "")
    if about.engine_was_gone and (signal or code == 255):
        return Ending(-1, EndReason.INFRASTRUCTURE, f"the engine was stopped while it ran; its exit code was {code}")
    if about.was_signalled or signal:
        by = "a signal through the engine" if about.was_signalled else signal
        return Ending(code, EndReason.KILLED, f"killed from outside by {by}")
    if code:
        meaning = COMMAND_EXIT_CODES.get(code, "")
        return Ending(code, EndReason.EXITED, f"the program ended with exit code {code}{meaning}")
    return Ending(0, EndReason.EXITED)
