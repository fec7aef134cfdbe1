"""Capabilities of all kinds, drawn from few values, so that what is drawn meets what is drawn often enough."""

from hypothesis import strategies as st

from dms.resources.capability import (
    KYC,
    Connectivity,
    HardwareCapability,
    Library,
    Locality,
    Price,
    StorageUnit,
    Time,
    normalized,
)
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

gpus = st.lists(
    st.builds(
        GPU,
        index=st.integers(0, 2),
        vendor=st.sampled_from(("NVIDIA", "Intel")),
        model=st.sampled_from(("A", "AB")),
        vram=st.integers(0, 3),
    ),
    max_size=2,
    unique_by=lambda gpu: gpu.index,
).map(tuple)

resources = st.builds(
    Resources,
    cpu=st.builds(
        CPU,
        cores=st.integers(0, 3).map(lambda n: n / 100),
        clock_speed=st.sampled_from((1e9, 2e9)),
        architecture=st.sampled_from(("x86_64", "aarch64")),
    ),
    ram=st.builds(RAM, size=st.integers(0, 3)),
    disk=st.builds(Disk, size=st.integers(0, 3)),
    gpus=gpus,
)


def sets(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2).map(tuple)


libraries = st.lists(
    st.builds(
        Library,
        name=st.sampled_from(("cuda", "torch")),
        constraint=st.sampled_from(("", "=", ">=")),
        version=st.sampled_from(("1.0", "1.1", "2.0")),
    ),
    max_size=2,
).map(tuple)
storage = st.lists(
    st.builds(StorageUnit, type=st.sampled_from(("ssd", "hdd")), size=st.integers(0, 2), amount=st.integers(0, 2)),
    max_size=3,
).map(tuple)
prices = st.lists(
    st.builds(
        Price,
        currency=st.sampled_from(("NTX", "ADA")),
        currency_per_hour=st.integers(0, 2).map(float),
        total_per_job=st.integers(0, 1).map(float),
        preference=st.integers(0, 2),
    ),
    max_size=1,  # several are alternatives, and alternatives are not transitive
).map(tuple)
times = st.builds(
    Time,
    units=st.sampled_from(("seconds", "minutes", "hours")),
    max_time=st.sampled_from((0, 1, 2, 60, 90)),
    preference=st.integers(0, 2),
)
proofs = st.lists(
    st.builds(KYC, type=st.sampled_from(("id", "company")), data=st.sampled_from(("", "x"))), max_size=2
).map(tuple)

capabilities = st.builds(
    HardwareCapability,
    executor=sets("docker", "wasm"),
    type=sets("batch", "recurring"),
    resources=resources,
    libraries=libraries,
    locality=st.lists(st.builds(Locality, kind=st.just("country"), name=st.sampled_from(("DE", "FR"))), max_size=2).map(
        tuple
    ),
    storage=storage,
    connectivity=st.builds(
        Connectivity, ports=st.lists(st.sampled_from((80, 443)), max_size=2).map(tuple), vpn=st.booleans()
    ),
    price=prices,
    time=times,
    kycs=proofs,
).map(normalized)
