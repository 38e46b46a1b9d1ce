"""What the tests of `bench.doctor` share."""

from __future__ import annotations

from bench.doctor.finding import Finding

TOKEN = "hf_secret_of_a_test"


def told(found: Finding, state: str, *words: str) -> None:
    """Asserts the state of a finding, and what its line says."""
    assert found.state == state, found
    for each in words:
        assert each in str(found), found
