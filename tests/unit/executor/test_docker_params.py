"""Docker's engine parameters, and how a request becomes a container."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.executor.docker.container import Names, container_config
from dms.executor.docker.engine import Engine
from dms.executor.docker.guard import check
from dms.executor.docker.params import DockerParams
from dms.executor.docker.provision import PROVISION_RUNNER, effective_command, provision_files
from dms.executor.errors import InvalidEngineSpec, Unsupported
from dms.executor.protocol import ExecutionRequest, PortBinding
from dms.types.resources import CPU, RAM, Disk, Resources, SpecConfig

NAMES = Names("exe", "job", "ens_node.task")
IMAGE = {"Config": {"Entrypoint": ["/entry"], "Cmd": ["serve"]}}


def spec(**params: object) -> SpecConfig:
    return SpecConfig(type="docker", params=params)


def request(**params: object) -> ExecutionRequest:
    params.setdefault("image", "busybox")
    return ExecutionRequest("job", "ens_node.task", spec(**params), Resources(), Path("/results"))


def config(asked: ExecutionRequest, **more: object) -> dict[str, object]:
    parsed = DockerParams.parse(asked.engine)
    return container_config(asked, parsed, NAMES, IMAGE, **more)  # type: ignore[arg-type]


def host(asked: ExecutionRequest) -> dict[str, object]:
    made = config(asked)["HostConfig"]
    assert isinstance(made, dict)
    return made


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "invalid docker engine params: image cannot be empty"),
        ({"image": "  "}, "image cannot be empty"),
        ({"image": 7}, "image must be text"),
        ({"image": "a b"}, "is not the name of an image"),
        ({"image": "a?force=1"}, "is not the name of an image"),
        ({"image": "a", "cmd": "sh"}, "cmd must be a list of text"),
        ({"image": "a", "entrypoint": [1]}, "entrypoint must be text"),
        ({"image": "a", "environment": ["NAME"]}, 'environment holds "NAME"'),
        ({"image": "a", "privileged": "yes"}, "privileged must be true or false"),
    ],
)
def test_parameters_that_cannot_work_are_refused_with_the_reason(params: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidEngineSpec) as caught:
        DockerParams.parse(spec(**params))
    assert reason in caught.value.message


def test_another_type_is_refused() -> None:
    with pytest.raises(InvalidEngineSpec, match="expected docker, but received: wasm"):
        DockerParams.parse(SpecConfig(type="wasm", params={"image": "a"}))


def test_unknown_parameters_are_ignored_and_the_type_ignores_case() -> None:
    assert DockerParams.parse(SpecConfig(type=" Docker ", params={"image": "a", "colour": "red"})).image == "a"


def test_nothing_asked_for_means_small_limits_rather_than_none() -> None:
    made = host(request())
    assert (made["NanoCpus"], made["Memory"], made["MemorySwap"]) == (10**9, 512 * 1024**2, 512 * 1024**2)


def test_privileged_has_no_restrictions_left() -> None:
    made = host(request(privileged=True))
    assert (made["Privileged"], made["CapDrop"], made["SecurityOpt"]) == (True, [], [])


def test_ports_and_names_of_the_private_network() -> None:
    asked = replace(
        request(),
        ports=(PortBinding("10.0.0.2", 8080, 80), PortBinding("127.0.0.1", 8081, 80), PortBinding("", 53, 53, "udp")),
        gateway_ip="10.0.0.1",
    )
    made = config(asked)
    assert made["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert host(asked)["PortBindings"] == {
        "80/tcp": [{"HostIp": "10.0.0.2", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
    }
    assert host(asked)["Dns"] == ["10.0.0.1"]  # a second one would be told names of the ensemble
    assert host(asked)["DnsSearch"] == ["internal"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ("/entry", "serve")),
        ({"cmd": ["work"]}, ("/entry", "work")),
        ({"entrypoint": ["/mine"]}, ("/mine",)),
        ({"entrypoint": ["/mine"], "cmd": ["work"]}, ("/mine", "work")),
    ],
)
def test_what_runs_after_the_provision_scripts(params: dict[str, object], expected: tuple[str, ...]) -> None:
    assert effective_command(DockerParams.parse(spec(image="a", **params)), IMAGE) == expected


def test_an_image_without_a_command_cannot_be_provisioned() -> None:
    with pytest.raises(InvalidEngineSpec, match="has no command of its own"):
        effective_command(DockerParams.parse(spec(image="a")), {"Config": {"Entrypoint": None}})


def test_the_scripts_directory_is_mounted_read_only() -> None:
    asked = replace(request(), provision_scripts=(("a", b"true"),))
    made = config(asked, scripts_dir=Path("/private/scripts"))
    made_host = made["HostConfig"]
    assert isinstance(made_host, dict)
    inside = "/tmp/nunet/init-scripts-exe_job_ens_node.task"
    assert made["Entrypoint"] == ["/bin/sh", f"{inside}/{PROVISION_RUNNER}"]
    assert made["Cmd"] == ["/entry", "serve"]
    (mount,) = made_host["Mounts"]
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == ("/private/scripts", inside, True)


@given(
    st.lists(st.tuples(st.text(max_size=20), st.just(b"#!/bin/sh\n")), max_size=5),
)
def test_script_names_become_file_names_in_their_order(scripts: list[tuple[str, bytes]]) -> None:
    files = provision_files(scripts)
    assert len(files) == len(scripts) + 1
    assert all("/" not in name and not name.startswith(".") for name in files)
    assert list(files)[:-1] == sorted(list(files)[:-1])


def test_the_runner_is_a_script_that_any_shell_accepts(tmp_path: Path) -> None:
    scripts = [("first $(touch /tmp/x)`", b"#!/bin/sh\necho 1\n"), ('"; exit', b"#!/bin/sh\necho 2\n")]
    for name, body in provision_files(scripts).items():
        (tmp_path / name).write_bytes(body)
        (tmp_path / name).chmod(0o755)
    command = ["sh", str(tmp_path / PROVISION_RUNNER), "printf", "%s|", "a b", "$HOME", "*"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[1::2] == ["1", "2"]
    assert done.stdout.endswith("\na b|$HOME|*|")


words = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=20)


@given(words, words)
def test_labels_lead_back_to_the_ids(job_id: str, execution_id: str) -> None:
    names = Names("exe", job_id, execution_id)
    assert Names.read("exe", names.labels(Path("/r"))) == names
    assert Names.read("other", names.labels(Path("/r"))) is None


@given(words, words)
def test_the_containers_name_has_only_characters_that_engines_allow(job_id: str, execution_id: str) -> None:
    assert Names("exe", job_id, execution_id).container.isascii()


def test_parameters_of_every_era_are_understood() -> None:
    parsed = DockerParams.parse(
        spec(
            image="registry.example/app:1@sha256:" + "0" * 64,
            restart_policy="on-failure",
            registry_auth={"username": "ann", "password": "s3cr3t"},
            user="ann",
            read_only=True,
            tmpfs={"/cache": "16MiB"},
            shm_size="128MiB",
            pids_limit=64,
            args=["ignored"],
        )
    )
    assert (parsed.user, parsed.read_only, parsed.tmpfs) == ("ann", True, (("/cache", 16 * 1024**2),))
    assert (parsed.shm_bytes, parsed.pids_limit) == (128 * 1024**2, 64)
    assert parsed.registry_auth is not None
    assert parsed.registry_auth.password == "s3cr3t"
    assert "s3cr3t" not in repr(parsed)
    made = host(request(restart_policy="on-failure", read_only=True, tmpfs={"/cache": "16MiB"}, pids_limit=64))
    assert made["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 10}
    assert (made["ReadonlyRootfs"], made["PidsLimit"]) == (True, 64)
    mounts = made["Mounts"]
    assert isinstance(mounts, list)
    assert {mount["Target"] for mount in mounts} == {"/tmp", "/run", "/var/tmp", "/cache"}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"restart_policy": "sometimes"}, "is none of no, on-failure"),
        ({"registry_auth": {"username": "ann", "passwort": "s3cr3t"}}, "must hold username and password"),
        ({"registry_auth": "ann:s3cr3t"}, "must hold username and password"),
        ({"image": "app@sha256:12"}, "has a digest that is not"),
        ({"image": "../app"}, "is not the name of an image"),
        ({"tmpfs": {"/proc/x": "1MiB"}}, "nothing can be mounted"),
        ({"tmpfs": {"/x": "much"}}, "tmpfs"),
        ({"shm_size": "0"}, "must be larger than 0"),
        ({"pids_limit": 10**6}, "pids_limit must be a whole number from 1 to 4096"),
    ],
)
def test_newer_parameters_that_cannot_work_are_refused_and_secrets_are_not_quoted(
    params: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidEngineSpec) as caught:
        DockerParams.parse(spec(**{"image": "a", **params}))
    assert reason in caught.value.message
    assert "s3cr3t" not in caught.value.message


def test_nothing_of_the_machines_namespaces_is_shared_by_default() -> None:
    made = host(request())
    assert (made["IpcMode"], made["CgroupnsMode"], made["Privileged"]) == ("private", "private", False)
    assert not {"NetworkMode", "PidMode", "UTSMode", "UsernsMode", "Binds", "Devices"} & set(made)
    assert made["OomScoreAdj"] == 500
    assert {limit["Name"] for limit in made["Ulimits"]} == {"nofile", "core"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "opening",
    [
        {"NetworkMode": "host"},
        {"NetworkMode": "container:other"},
        {"PidMode": "host"},
        {"IpcMode": "host"},
        {"IpcMode": "shareable"},
        {"UTSMode": "host"},
        {"UsernsMode": "host"},
        {"CgroupnsMode": "host"},
        {"CgroupnsMode": "ns:/proc/1/ns/cgroup"},
        {"Binds": ["/:/host"]},
        {"VolumesFrom": ["other"]},
        {"Sysctls": {"kernel.x": "1"}},
        {"CgroupParent": "/"},
        {"Privileged": True},
        {"CapAdd": ["SYS_ADMIN"]},
        {"CapDrop": []},
        {"SecurityOpt": []},
        {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]},
        {"SecurityOpt": ["no-new-privileges:true", "apparmor:unconfined"]},
        {"Devices": [{"PathOnHost": "/dev/sda"}]},
        {"Devices": [{"PathOnHost": "/dev/dri"}]},
        {"NetworkMode": "Host"},
        {"NetworkMode": "ns:/proc/1/ns/net"},
        {"NetworkMode": "slirp4netns:allow_host_loopback=true"},
        {"NetworkMode": "pasta:--map-gw"},
        {"PidMode": "container:other"},
        {"UsernsMode": "keep-id"},
        {"Runtime": "nvidia"},
        {"MaskedPaths": []},
        {"ReadonlyPaths": []},
        {"DeviceCgroupRules": ["a *:* rwm"]},
        {"VolumeDriver": "local"},
        {"Annotations": {"run.oci.keep_original_groups": "1"}},
        {"ExtraHosts": ["registry:10.0.0.1"]},
        {"PublishAllPorts": True},
        {"OomKillDisable": True},
        {"CpuRealtimeRuntime": 950000},
        {"CpusetCpus": "0-7"},
        {"BlkioWeight": 1000},
        {"Cgroup": "container:x"},
        {"Isolation": "process"},
        {"AutoRemove": True},
        {"Memory": 0},
        {"Memory": -1, "MemorySwap": -1},
        {"MemorySwap": -1},
        {"NanoCpus": 0},
        {"PidsLimit": 0},
        {"PidsLimit": -1},
        {"PidsLimit": 10**6},
        {"OomScoreAdj": -1000},
        {"LogConfig": {"Type": "syslog"}},
        {"LogConfig": {"Type": "gelf", "Config": {"gelf-address": "udp://10.0.0.1:1"}}},
        {"SecurityOpt": ["no-new-privileges:true", "label=disable"]},
        {"SecurityOpt": ["no-new-privileges:true", "systempaths=x"]},
        {"SecurityOpt": ["no-new-privileges:false"]},
        {"Devices": [{"PathOnHost": "/dev/kfd", "CgroupPermissions": "rwm"}]},
        {"Devices": [{"PathOnHost": "/dev/dri/card0/../../sda", "CgroupPermissions": "rw"}]},
        {"DeviceRequests": [{"Driver": "nvidia", "Count": -1}]},
        {"DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": ["all"]}]},
        {"DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": ["0"]}]},
        {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=all"]}]},
        {"DeviceRequests": [{"Capabilities": [["gpu"]]}]},
        {"Mounts": [{"Type": "volume"}]},
        {"Mounts": [{"Type": "image"}]},
        {"Mounts": [{"Type": "cluster"}]},
        {"Mounts": [{"Type": "bind", "BindOptions": {"Propagation": "rshared"}}]},
    ],
)
def test_the_last_look_refuses_whatever_would_open_the_sandbox(opening: dict[str, object]) -> None:
    made = config(request())
    check(made)
    made_host = made["HostConfig"]
    assert isinstance(made_host, dict)
    with pytest.raises(Unsupported):
        check({**made, "HostConfig": made_host | opening})


@pytest.mark.parametrize("key", ["Volumes", "Domainname", "MacAddress", "OpenStdin", "StopTimeout", "NetworkingConfig"])
def test_the_last_look_refuses_settings_that_it_does_not_know(key: str) -> None:
    with pytest.raises(Unsupported, match=f"{key} is not for containers of jobs"):
        check({**config(request()), key: "x"})


def test_not_even_privileged_containers_share_namespaces() -> None:
    with pytest.raises(Unsupported, match="namespace"):
        config(request(privileged=True), network_mode="host")


OPENINGS = ["network_mode", "pid", "ipc", "uts", "userns_mode", "cap_add", "security_opt", "devices", "volumes"]
OPENINGS += ["NetworkMode", "PidMode", "IpcMode", "HostConfig", "Binds", "Privileged", "CapAdd", "SecurityOpt"]


@given(
    st.dictionaries(
        st.sampled_from(OPENINGS),
        st.sampled_from(["host", "container:x", True, ["SYS_ADMIN"], ["/:/h"], {"Privileged": True}]),
    )
)
def test_no_parameter_of_a_job_changes_the_isolation(params: dict[str, object]) -> None:
    assert host(request(**params)) == host(request())


def test_a_gpu_cannot_be_taken_by_a_variable() -> None:
    asked = request(environment=["NVIDIA_VISIBLE_DEVICES=all", "A=1"])
    assert config(asked)["Env"] == ["A=1"]
    environment = config(asked, engine=Engine(has_gpu_runtime=True))["Env"]
    assert isinstance(environment, list)
    assert environment[0] == "A=1"
    assert {"NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_MIG_CONFIG_DEVICES=void", "AMD_VISIBLE_DEVICES=void"} < set(
        environment
    )


def sized(cores: float, ram_bytes: int = 0, disk_bytes: int = 0) -> ExecutionRequest:
    resources = Resources(cpu=CPU(cores=cores), ram=RAM(size=ram_bytes), disk=Disk(size=disk_bytes))
    return replace(request(), resources=resources)


def test_a_sliver_of_a_processor_is_a_limit_and_not_none() -> None:
    assert host(sized(1e-12))["NanoCpus"] == 10**7


@pytest.mark.parametrize(
    "asked", [sized(-1), sized(float("nan")), sized(float("inf")), sized(1, -1), sized(1, disk_bytes=-1)]
)
def test_resources_that_are_none_do_not_lift_a_limit(asked: ExecutionRequest) -> None:
    with pytest.raises(InvalidEngineSpec, match="of no size"):
        config(asked)


def test_labels_of_an_image_are_not_those_of_its_containers() -> None:
    """Proxies, schedulers and updaters on the machine obey labels of containers."""
    labels = {"traefik.http.routers.x.rule": "Host(`bank.example`)", "nunet-executor": "other", "nunet-jobID": "x"}
    made = container_config(request(), DockerParams.parse(request().engine), NAMES, {"Config": {"Labels": labels}})
    assert made["Labels"] == {"traefik.http.routers.x.rule": "", **NAMES.labels(Path("/results"))}


def test_the_health_check_of_an_image_is_not_run_by_the_engine() -> None:
    assert config(request())["Healthcheck"] == {"Test": ["NONE"]}


def test_ids_that_become_the_same_name_have_containers_of_their_own() -> None:
    names = [
        Names("exe", "job", execution_id).container for execution_id in ("a:b", "a;b", "a-b", "a" * 300, "a" * 301)
    ]
    assert len(set(names)) == 5
    assert max(map(len, names)) < 200
