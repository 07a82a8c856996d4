"""A mistake in a YAML file is answered with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer import configs
from composer.configs import check_keys, config_error, configs_folder, load_yaml
from sam.errors import EnvironmentProblem, UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text)
    return path


def test_the_folder_of_this_checkout_is_found() -> None:
    assert (configs_folder() / "limits.yaml").is_file()


def test_a_wheels_own_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "configs", tmp_path / "composer" / "configs"):
        folder.mkdir(parents=True)
        (folder / "limits.yaml").touch()
    monkeypatch.setattr(configs, "__file__", str(tmp_path / "composer" / "configs.py"))
    assert configs_folder() == tmp_path / "composer" / "configs"


def test_an_incomplete_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "__file__", str(tmp_path / "composer" / "configs.py"))
    with pytest.raises(EnvironmentProblem, match="reinstall") as caught:
        configs_folder()
    assert caught.value.exit_code == 6


def test_plain_values(tmp_path: Path) -> None:
    assert load_yaml(write(tmp_path, "a: 1\nb: [x, 2.5]\nc: {d: null}\n")) == {
        "a": 1,
        "b": ["x", 2.5],
        "c": {"d": None},
    }
    assert load_yaml(write(tmp_path, "# only a comment\n")) == {}
    assert load_yaml(write(tmp_path, "base: &b {x: 1}\nmore:\n  <<: *b\n  y: 2\n"))["more"] == {
        "x": 1,
        "y": 2,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a: 1\nb: !!python/object/apply:os.system [ls]\n",
            r"some\.yaml:2: unknown tag 'tag:yaml\.org,2002:python/object",
        ),
        ("a: 1\n\nb: !mine 3\n", r"some\.yaml:3: unknown tag '!mine'"),
        ("a: 1\na: 2\n", r"some\.yaml:2: key 'a' is given twice"),
        ("a: 1\nb: {c: 1\n", r"some\.yaml:3: "),
        ("a: [1, 2\nb: 3\n", r"some\.yaml:2: "),
        ("- a\n- b\n", r"some\.yaml: expected a mapping of keys to values, not a list"),
        ("just text\n", r"not a str"),
        ("a: 2020-99-99\n", r"not readable as YAML"),
        ("[" * 5000 + "]" * 5000, r"some\.yaml"),
        ("{a: 1}: 2\n", r"some\.yaml:1: found unhashable key"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_yaml(write(tmp_path, text))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_tag_is_never_carried_out(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(UsageError):
        load_yaml(write(tmp_path, f"a: !!python/object/apply:os.mkdir ['{mark}']\n"))
    assert not mark.exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is a folder"):
        load_yaml(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8 text"):
        load_yaml(binary)
    binary.write_bytes(b"#" * (configs.MAX_CONFIG_BYTES + 1))
    with pytest.raises(UsageError, match="over 1 MiB"):
        load_yaml(binary)


def test_an_unknown_key_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "good: 1\n\nencoder:\n  depth: 2\n  heids: 3\n")
    values = load_yaml(path)
    with pytest.raises(
        UsageError, match=r"some\.yaml:5: encoder\.heids: unknown key; did you mean 'heads'\?"
    ) as caught:
        check_keys(values["encoder"], {"depth", "heads"}, path, "encoder")
    assert caught.value.field == "encoder.heids"
    with pytest.raises(UsageError, match=r"some\.yaml:1: good: unknown key; known: encoder, zzz"):
        check_keys(values, {"encoder", "zzz"}, path)
    check_keys(values, {"good", "encoder"}, path)


def test_an_error_without_a_line_still_names_file_and_key(tmp_path: Path) -> None:
    assert (
        str(config_error(tmp_path / "gone.yaml", ("a", "b"), "bad")) == f"{tmp_path / 'gone.yaml'}: a.b: bad"
    )
    path = write(tmp_path, "a: 1\n")
    assert str(config_error(path, ("a", "b"), "missing")) == f"{path}:1: a.b: missing"
