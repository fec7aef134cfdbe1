"""Machines that were written down: trees of the kernel's small files, and answers of a vendor's library.

Each ``*.txt`` says where its layout comes from. A line is ``path = content`` (``\\n`` and ``\\t`` stand for what they do in
Python), ``path -> target`` of a link, or a comment.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent


def plant(name: str, root: Path) -> Path:
    """Make the tree ``name`` below ``root``; several may stand there together."""
    for line in (HERE / f"{name}.txt").read_text("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        link, arrow, target = line.partition(" -> ")
        path, _, content = line.partition(" =")
        place = root / (link if arrow else path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            place.symlink_to(target)
        else:
            place.write_text(content.strip(" ").replace("\\n", "\n").replace("\\t", "\t") + "\n", "utf-8")
    return root


class NVMLError(Exception):
    """As that of the bindings: ``value`` is the number of the error."""

    def __init__(self, value: int, text: str = "") -> None:
        super().__init__(text or f"error {value}")
        self.value = value


class RecordedNVML:
    """Stands in for the bindings of NVML: each call is looked up among the ``answers``, which may be changed.

    An answer that is not there is the library's "not supported", as of a function that an old driver does not have.
    """

    NVMLError = NVMLError
    NVML_ERROR_UNINITIALIZED = 1
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_GPU_IS_LOST = 15

    def __init__(self, name: str = "nvidia") -> None:
        self.answers: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text("utf-8"))["answers"]
        self.calls: list[str] = []

    def fail(self, call: str, value: int, text: str = "") -> None:
        """Answer a call with an error from now on."""
        self.answers[call] = {"error": value, "text": text}

    def __getattr__(self, function: str) -> Any:
        if not function.startswith("nvml"):
            raise AttributeError(function)

        def call(*arguments: object) -> Any:
            key = f"{function}({','.join(str(argument) for argument in arguments)})"
            self.calls.append(key)
            answer = self.answers.get(key, {"error": self.NVML_ERROR_NOT_SUPPORTED})
            if isinstance(answer, dict):
                if "error" in answer:
                    raise NVMLError(answer["error"], answer.get("text", ""))
                return SimpleNamespace(**answer)
            return answer

        return call
