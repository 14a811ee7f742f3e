"""Which runtimes there are, by name; each is loaded only when it is chosen.

It raises nothing: what it makes has reserved names and addresses at most.
"""

from __future__ import annotations

from pathlib import Path

from chaos.runtime import Runtime, RuntimeFailure
from chaos.stack import Stack
from chaos.storage.mounting import missing, only_root

RUNTIMES = ("process", "docker")
DEFAULT = "process"


def abilities(name: str) -> frozenset[str]:
    """What the runtime of that name can do beyond what all can (see ABILITIES)."""
    if name == "docker":
        from chaos.runtime.docker import DockerRuntime

        return DockerRuntime.abilities
    from chaos.runtime.process import ProcessRuntime

    return ProcessRuntime.abilities


def no_arrays(name: str) -> str:
    """Why the runtime of that name can mount no array on this machine; '' when it can."""
    return missing() or (only_root() if name == "docker" else "")


def make(name: str, stack: Stack, run_folder: Path, seed: int | None = None) -> Runtime:
    """The runtime of that name for one stack. RuntimeFailure when there is none, or not here."""
    if stack.project is not None:
        if name != "docker":
            raise RuntimeFailure(
                f"stack {stack.name} names the Compose project {stack.project.name}, which runs "
                "in containers: --runtime docker"
            )
        from chaos.runtime.adopted import AdoptedRuntime

        return AdoptedRuntime(stack, run_folder, seed=seed)
    if name == "process":
        from chaos.runtime.process import ProcessRuntime

        return ProcessRuntime(stack, run_folder, seed=seed)
    if name == "docker":
        from chaos.runtime.docker import DockerRuntime

        return DockerRuntime(stack, run_folder, seed=seed)
    raise RuntimeFailure(f"unknown runtime {name!r}; this build has: {', '.join(RUNTIMES)}")
