from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from apps.ray_serve import RayOptions, app
from composer.configs import load_yaml
from sam.errors import EnvironmentProblem, UsageError

CONFIG = Path(__file__).parents[3] / "configs/serve/ray.yaml"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "below min_replicas"),
        ({"replicas": 2}, "Extra inputs are not permitted"),
        ({"min_replicas": 0}, "greater than or equal to 1"),
        ({"target_ongoing_requests": 0}, "greater than 0"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RayOptions.model_validate(given)


def test_files_are_read_where_the_application_is_started(tmp_path: Path) -> None:
    limits, tokens = tmp_path / "limits.yaml", tmp_path / "tokens.txt"
    limits.write_text("queue_size: 5\n")
    tokens.write_text("ann:0123456789abcdef\n")
    options = RayOptions(limits=limits, token_file=tokens, quota=7, max_replicas=3)
    chosen = options.serve_options()
    assert chosen.limits.queue_size == 5
    assert options.in_front(chosen.limits).queue_size == 15
    assert list(chosen.settings.tokens.values()) == ["ann"]
    assert chosen.settings.quota == 7
    assert not chosen.demo


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.txt: cannot be read"):
        RayOptions(token_file=tmp_path / "none.txt").serve_options()


def test_the_shipped_config_says_what_the_defaults_are() -> None:
    config = load_yaml(CONFIG)
    (application,) = config["applications"]
    module, _, name = application["import_path"].partition(":")
    assert getattr(sys.modules[module], name) is app
    assert RayOptions.model_validate(application["args"]) == RayOptions()


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "apps.ray_serve.deploying", raising=False)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'sam-composer\[ray\]'"):
        app(RayOptions())
