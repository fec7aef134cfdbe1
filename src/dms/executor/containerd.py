"""Engine parameters of type ``containerd`` (``spec/execution.md`` 4.1): understood, and refused.

Jobs of the newest era may ask for containerd, and in it for Kata's microVMs. We read these parameters, so that a mistake in
them is told as such, and then say that this is not run here: containers run by ``docker``, microVMs by ``qemu`` and
``firecracker``.
"""

from __future__ import annotations

from dataclasses import dataclass

from dms.executor.docker.params import image_name
from dms.executor.errors import Unsupported
from dms.executor.params import Params
from dms.types.resources import SpecConfig

ENGINE = "containerd"
RUNC, KATA = "io.containerd.runc.v2", "io.containerd.kata.v2"
RUNTIMES = {"": RUNC, "runc": RUNC, "kata": KATA}
"""Short names; others stand for themselves."""


@dataclass(frozen=True, slots=True)
class ContainerdParams:
    """The parameters, checked."""

    image: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    runtime: str

    @classmethod
    def parse(cls, spec: SpecConfig) -> ContainerdParams:
        """Check. Unknown parameters are ignored.

        :raises InvalidEngineSpec: with the parameter and the reason.
        """
        params = Params(spec, ENGINE)
        image = image_name(params)
        params.environment()
        runtime = params.text("runtime").strip()
        return cls(
            image,
            params.texts("entrypoint"),
            params.texts("cmd"),
            params.texts("environment"),
            params.text("working_directory"),
            RUNTIMES.get(runtime, runtime),
        )


def refusal(params: ContainerdParams | None = None) -> Unsupported:
    """Why it is not run here, and what would be."""
    if params is not None and params.runtime == KATA:
        return Unsupported("Kata's microVMs are not run by this version", hint="use the executor qemu or firecracker")
    return Unsupported("containerd is not run by this version", hint="use the executor docker: images are the same")
