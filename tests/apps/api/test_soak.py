"""A short soak: a few hundred mixed calls leave the server as it was. `make soak` sends ten thousand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.soak import soak


def test_mixed_requests_leave_nothing_behind(small_preset: Path) -> None:
    found = soak(300, 4, str(small_preset))
    assert found["ready"]
    answers = found["answers"]
    assert set(answers) <= {"200", "201", "400", "415", "422", "503", "gone"}, answers
    assert answers["200"] > 100 and answers["422"] >= 50 and answers["gone"] == 25
    assert found["temporary_files"] == 0
    assert found["files_after"] <= found["files_before"] + 2
    assert found["rss_growth_mib"] <= 40, "a leak of a request's image or body would show"
