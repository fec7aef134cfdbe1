import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.resources.errors import CapacityNotMet
from dms.resources.offer import gpus_of, shortfalls
from dms.types.errors import BadInput
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

GIB, GB = 1 << 30, 10**9
MACHINE = (GPU(index=0, uuid="a", vram=10 * GIB, model="A"), GPU(index=3, uuid="b", vram=16 * GIB, model="B"))


def test_gpus_are_offered_by_index_and_memory() -> None:
    found = gpus_of("0:4, 3:8GB", MACHINE)
    assert [(g.uuid, g.model, g.vram) for g in found] == [("a", "A", 4 * GIB), ("b", "B", 8 * GB)]
    assert [g.vram for g in gpus_of("3:50%,0:512MiB", MACHINE)] == [8 * GIB, GIB // 2]
    assert gpus_of("", MACHINE) == gpus_of(" , ", MACHINE) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", 'invalid GPU "0"'),
        ("0:", 'invalid GPU "0:"'),
        (":4", 'invalid GPU ":4"'),
        ("first:4", 'invalid GPU "first:4"'),
        ("-1:4", 'invalid GPU "-1:4"'),
        ("0:4,0:5", "GPU 0 is offered twice"),
        ("0:lots", 'invalid VRAM value: "lots"'),
        ("0:101%", 'invalid VRAM value: "101%"'),
        ("0:x%", 'invalid VRAM value: "x%"'),
        ("0:1" + ",0:1" * 2000, "the list of GPUs is too long"),
    ],
)
def test_what_is_not_written_like_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        gpus_of(text, MACHINE)
    assert caught.value.message == message


def test_a_gpu_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(CapacityNotMet) as caught:
        gpus_of("1:4", MACHINE)
    assert (caught.value.message, caught.value.hint) == ("GPU 1 does not exist on this machine", "there are: 0, 3")
    with pytest.raises(CapacityNotMet) as caught:
        gpus_of("0:4", ())
    assert caught.value.hint == "there are: none"


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    with contextlib.suppress(BadInput):
        gpus_of(text, MACHINE)


def offer(clock: float, ram: int, disk: int, *vram: int) -> Resources:
    return Resources(
        cpu=CPU(cores=1, clock_speed=clock),
        ram=RAM(size=ram),
        disk=Disk(size=disk),
        gpus=tuple(GPU(index=i, vram=v) for i, v in enumerate(vram)),
    )


@pytest.mark.parametrize(
    ("offered", "little"),
    [
        (offer(2e9, 4 * GB, 10 * GB), []),
        (offer(1.9e9, 4 * GB, 10 * GB), ["clock"]),
        (offer(2e9, 4 * GB - 1, 9 * GB), ["RAM", "disk"]),
        (offer(3e9, 8 * GB, 50 * GB, 4 * GB), []),
        (offer(2e9, 4 * GB, 10 * GB, 4 * GB, GB), ["clock", "RAM", "disk", "VRAM of GPU 1"]),
    ],
)
def test_less_than_the_minimum_is_told(offered: Resources, little: list[str]) -> None:
    assert [text.split(":")[0] for text in shortfalls(offered)] == little


def test_a_shortfall_has_figures_of_one_kind() -> None:
    assert shortfalls(offer(2e9, 4 * GIB // 2, 10 * GB)) == (
        "RAM: 2.1 GB, recommended for a machine without GPU are 4.0 GB or more",
    )
