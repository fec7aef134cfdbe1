"""Everything that fuzzing ever found interesting, on every run of the tests; and that the fuzzer finds what is wrong.

``make fuzz`` searches on: see CONTRIBUTING.md.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.fuzz import runner
from tests.fuzz.mutation import MAX_INPUT_BYTES, mutate
from tests.fuzz.targets import TARGETS, Target

from dms.types.errors import BadInput

MUTATIONS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_that_was_ever_interesting_does_harm(name: str) -> None:
    target, report = TARGETS[name], runner.Report(name)
    inputs = runner.inputs_of(target)
    assert len(inputs) > len(target.seeds())
    for data in inputs:
        runner.examine(target, data, report)
    assert not report.findings, report.findings
    assert report.runs == len(inputs)
    assert len(report.outcomes) > 1


@pytest.mark.parametrize("name", TARGETS)
def test_neighbours_of_good_inputs_do_no_harm(name: str) -> None:
    target = TARGETS[name]
    report = runner.run(target, random.Random(name), lambda runs: runs < MUTATIONS, target.seeds())
    assert not report.findings, report.findings


def test_the_corpus_holds_nothing_but_targets() -> None:
    assert {path.name for path in runner.CORPUS.iterdir()} == set(TARGETS)
    assert all(len(path.read_bytes()) <= MAX_INPUT_BYTES for path in runner.CORPUS.glob("*/*"))


def test_the_fuzzer_finds_what_is_wrong_and_keeps_it(tmp_path: Path) -> None:
    """A decoder that trips over a duplicate key behind a certain value, and one that raises what is not ours."""

    def check(data: bytes) -> str:
        if data.count(b'"deep"') >= 2:
            raise KeyError("planted")
        if b"9223372036854775807" in data:
            raise BadInput("ours")
        return "fine"

    target = Target("planted", lambda: [b'{"deep":{"number":7},"list":[1,2]}'], check)
    report = runner.run(target, random.Random(1), lambda runs: runs < 3000, target.seeds())
    (finding,) = report.findings
    assert finding[0].count(b'"deep"') >= 2
    assert "KeyError: 'planted'" in finding[1]
    written = runner.keep(report, tmp_path)
    assert any(path.read_bytes() == finding[0] for path in written if path.name.startswith("finding-"))
    assert len(runner.inputs_of(target, tmp_path)) == 1 + len(written)


def test_a_run_can_be_repeated() -> None:
    seeds = TARGETS["envelope"].seeds()
    one, two = (
        [mutate(random.Random(f"7/{number}"), seeds[number % len(seeds)], seeds) for number in range(200)]
        for _ in range(2)
    )
    assert one == two
    assert len(set(one)) > 150
