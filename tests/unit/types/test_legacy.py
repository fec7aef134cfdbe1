import pytest

from dms.types import legacy
from dms.types.legacy import SHAPES, LegacyShape, recognise


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_whole_document_is_recognised(shape: LegacyShape) -> None:
    assert recognise(shape.keys) is shape


def test_a_request_with_its_optional_keys_left_out_is_recognised() -> None:
    assert recognise(["address_user", "max_ntx", "service_type", "params"]) is legacy.DEPLOYMENT_REQUEST
    assert recognise(["memory", "cpu", "ntx_price", "channel"]) is legacy.ONBOARDING


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["version", "allocations", "nodes"],
        ["cpu", "memory"],
        ["params"],
        ["params", "constraints", "nodes"],
        ["v1"],
    ],
)
def test_other_documents_are_not(keys: list[str]) -> None:
    assert recognise(keys) is None
