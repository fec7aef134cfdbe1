"""Containers of a Docker engine."""

from dms.executor.docker.executor import DockerExecutor

__all__ = ["DockerExecutor"]
