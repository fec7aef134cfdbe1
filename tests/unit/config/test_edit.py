"""Changes to the configuration file: one key at a time, and old keys to their new places."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from dms.config import ConfigError, ConfigUnwritable, SettingNotFound, load_settings, migrate_file, set_key, unset_key

NOW_S = 1_700_000_000


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return {"HOME": str(tmp_path / "home")}


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.json"
    path.write_text(text)
    return path


def test_set_key_writes_only_what_was_set(env: Mapping[str, str], tmp_path: Path) -> None:
    path = tmp_path / "new/deep/dms_config.json"
    assert set_key(path, "rest.port", "10000") is None
    set_key(path, "General.Host_City", "42")
    set_key(path, "p2p.listen_address", '["/ip4/0.0.0.0/tcp/9100"]')
    assert path.read_text() == (
        '{\n    "rest": {\n        "port": 10000\n    },\n    "general": {\n        "host_city": "42"\n    },\n'
        '    "p2p": {\n        "listen_address": [\n            "/ip4/0.0.0.0/tcp/9100"\n        ]\n    }\n}\n'
    )
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert load_settings(path, env=env).general.host_city == "42"


def test_set_key_refuses_what_would_not_load_and_leaves_the_file(tmp_path: Path) -> None:
    path = config(tmp_path, '{"rest": {"port": 1}}')
    for key, value in (("rest.port", "x"), ("rest.port", "99999"), ("p2p.listen_address", "tcp"), ("rest.prot", "1")):
        with pytest.raises(ConfigError):
            set_key(path, key, value)
    assert path.read_text() == '{"rest": {"port": 1}}'


def test_set_key_mends_the_very_value_that_is_wrong(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"rest": {"port": "x"}}')
    set_key(path, "rest.port", "2")
    assert load_settings(path, env=env).rest.port == 2


def test_set_key_keeps_a_copy_of_a_file_with_comments_and_keeps_mode_and_link(tmp_path: Path) -> None:
    text = '{ // mine\n "observability": {"log_level": "WARN"}}'
    path = config(tmp_path, text)
    path.chmod(0o600)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    kept = set_key(link, "rest.port", "5")
    assert kept is not None
    assert kept.read_text() == text
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_settings(path, env={"HOME": "/h"}).observability.logging.level == "WARN"
    assert set_key(link, "rest.port", "6") is None


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "dms_config.json"
    target.mkdir()
    with pytest.raises(ConfigError):
        set_key(target, "rest.port", "5")
    assert list(tmp_path.iterdir()) == [target]


def test_a_key_that_is_taken_out_has_its_default_again(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"rest": {"port": 1, "addr": "::1"}}')
    unset_key(path, "REST.port")
    assert path.read_text() == '{\n    "rest": {\n        "addr": "::1"\n    }\n}\n'
    assert load_settings(path, env=env).rest.port == 9999
    assert unset_key(path, "rest.port") is None
    with pytest.raises(SettingNotFound):
        unset_key(path, "rest.prot")


def test_flat_keys_are_written_where_they_belong_and_the_old_file_is_kept(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    old = (
        '{"log_level": "WARN", "observability": {"max_size": 7, "elasticsearch_enabled": true, "max_age": 1,'
        ' "logging": {"rotation": {"max_age_days": 2}}}, "rest": {"port": 3}}'
    )
    path = config(tmp_path, old)
    before = load_settings(path, env=env)
    kept = migrate_file(path, now=lambda: NOW_S + 0.5)
    assert kept == path.with_name(f"{path.name}.bk.{NOW_S}")
    assert kept.read_text() == old
    after = load_settings(path, env=env)
    assert after.as_dict() == before.as_dict()
    assert after.observability.logging.rotation.max_age_days == 2
    assert after.flat_keys == ()
    assert "log_level" not in path.read_text()
    assert migrate_file(path) is None


def test_no_copy_overwrites_another(tmp_path: Path) -> None:
    path = config(tmp_path, '{"log_level": "WARN"}')
    first = migrate_file(path, now=lambda: NOW_S)
    path.write_text('{"log_level": "INFO"}')
    second = migrate_file(path, now=lambda: NOW_S)
    assert first is not None
    assert second == first.with_name(f"{path.name}.bk.{NOW_S + 1}")
    assert "WARN" in first.read_text()


def test_a_file_that_cannot_be_written_is_told_and_stays(tmp_path: Path) -> None:
    inner = tmp_path / "a file"
    inner.write_text("")
    with pytest.raises(ConfigUnwritable, match=r"cannot write configuration file .*: File exists") as caught:
        set_key(inner / "dms_config.json", "rest.port", "5")
    assert caught.value.exit_code == 2
    assert "--config" in caught.value.hint
