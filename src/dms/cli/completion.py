"""``nunet completion``: scripts for shells."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print a script that lets a shell complete commands and options.

    Examples:
      source <(nunet completion bash)
      nunet completion zsh > ~/.zfunc/_nunet
      nunet completion fish > ~/.config/fish/completions/nunet.fish
    """
    from typer import completion as framework

    from dms.cli.commands import COMPLETE_VARIABLE, PROGRAM

    script = framework.get_completion_script  # type: ignore[attr-defined]  # it has no public name
    print(script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell.value))
