"""Containers of a Docker or Podman engine (``spec/execution.md`` 2).

==============  ==================================================================================================
``executor``    :class:`~.executor.DockerExecutor`: what every backend can do, done with containers
``params``      engine parameters of every era
``container``   how a request becomes a container
``guard``       … the last look before the engine gets it
``mounts``      … what of the host it may see
``devices``     … which GPUs
``provision``   … what runs in it before the workload
``images``      names of images, credentials of registries, progress of a pull
``holder``      … a network namespace that is there before it
``launch``      from the image to the start
``watch``       from the start to the end
``streams``     … its output and the log files
``ending``      … how it ended
``execution``   one execution as it is known here
``engine``      which engine it is, where it listens and what it can do
``api``         HTTP on the engine's Unix socket, no SDK
``shapes``      … what its answers must look like
``facts``       what an engine tells of a container, as values
==============  ==================================================================================================

Containers do not need us: after a restart they are found by their labels, their logs are completed from what the engine
kept, and an end that nobody saw is read from the engine's record.
"""

from dms.executor.docker.executor import DockerExecutor

__all__ = ["DockerExecutor"]
