from collections.abc import Mapping
from pathlib import Path

import pytest

from dms.config import ConfigError, InvalidSetting, SettingNotFound, UnknownKey, load_settings, set_key
from dms.config.keys import kinds
from dms.config.schema import BOOTSTRAP_PEERS


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return {"HOME": str(tmp_path / "home")}


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.json"
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_specification(env: Mapping[str, str]) -> None:
    settings = load_settings(env=env)
    home = Path(env["HOME"])
    assert settings.source is None
    assert settings.general.env == "production"
    assert settings.general.user_dir == home / ".nunet"
    assert settings.general.work_dir == home / "nunet"
    assert settings.general.data_dir == home / "nunet" / "data"
    assert settings.observability.logging.file == home / "nunet/logs/nunet-dms-logs.jsonl"
    assert (settings.general.port_available_range_from, settings.general.port_available_range_to) == (16384, 65536)
    assert (settings.rest.addr, settings.rest.port) == ("127.0.0.1", 9999)
    assert settings.p2p.listen_address == ("/ip4/0.0.0.0/tcp/9000", "/ip4/0.0.0.0/udp/9000/quic-v1")
    assert settings.p2p.bootstrap_peers == BOOTSTRAP_PEERS
    assert not settings.job.allow_privileged_docker
    assert settings.observability.logging.rotation.model_dump() == {
        "max_size_mb": 100,
        "max_backups": 3,
        "max_age_days": 28,
    }


def test_the_first_file_of_the_search_wins_and_files_are_not_merged(env: Mapping[str, str]) -> None:
    places = [
        Path.cwd() / "dms_config.json",
        Path(env["HOME"]) / ".nunet/dms_config.json",
        Path(env["HOME"]) / ".config/nunet/dms_config.json",
    ]
    for number, path in enumerate(places, 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"rest": {{"port": {number}}}, "general": {{"host_city": "c{number}"}}}}')
    for number, path in enumerate(places, 1):
        settings = load_settings(env=env)
        assert (settings.source, settings.rest.port, settings.general.host_city) == (path, number, f"c{number}")
        path.unlink()
    other = Path(env["HOME"]) / "xdg"
    (other / "nunet").mkdir(parents=True)
    (other / "nunet/dms_config.json").write_text("{}")
    assert load_settings(env={**env, "XDG_CONFIG_HOME": str(other)}).source == other / "nunet/dms_config.json"


def test_flag_beats_environment_beats_file_beats_default(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"rest": {"port": 1, "addr": "1.1.1.1"}, "p2p": {"fd": 3}}')
    env = {**env, "DMS_REST_PORT": "2", "DMS_P2P_FD": "4", "DMS_GENERAL_DEBUG": "true"}
    settings = load_settings(path, {"rest.port": 3, "general.user_dir": Path("/u"), "rest.addr": None}, env)
    assert (settings.rest.port, settings.rest.addr, settings.p2p.fd, settings.p2p.memory) == (3, "1.1.1.1", 4, 1024)
    assert settings.general.debug
    assert settings.general.user_dir == Path("/u")
    assert load_settings(path, {}, env).rest.port == 2
    assert settings.source == path


def test_every_key_can_be_set_by_its_environment_variable(env: Mapping[str, str]) -> None:
    texts = {"number": "20000", "boolean": "true", "text": "/x", "list": '["/a", "/b"]'}
    for key, kind in kinds().items():
        special = dict.fromkeys(("prism_resolver_url", "ipfs_gateway", "ipfs_api"), "http://a.b/c")
        special |= {"level": "ERROR", "keep": "5d", "orphan_grace": "1h", "allowed_networks": '["10.0.0.0/8"]'}
        text = special.get(key.rpartition(".")[2], texts[kind])
        value = load_settings(env={**env, "DMS_" + key.upper().replace(".", "_"): text}).get(key)
        listed = ("10.0.0.0/8",) if key.endswith("networks") else ("/a", "/b")
        expected: object = {"number": 20000, "boolean": True, "list": listed}.get(kind, text)
        if key.endswith(("roots", "_dirs")):
            expected = (Path("/a"), Path("/b"))
        assert value == (Path("/x") if isinstance(value, Path) else expected), key


def test_what_is_no_network_or_address_is_refused(env: Mapping[str, str]) -> None:
    for name, text in {
        "DMS_STORAGE_ALLOWED_NETWORKS": '["10.1.2.3/8"]',
        "DMS_STORAGE_IPFS_GATEWAY": "localhost:8080",
        "DMS_STORAGE_IPFS_API": "/ip4/127.0.0.1/tcp/5001",
    }.items():
        with pytest.raises(InvalidSetting, match="write it like"):
            load_settings(env={**env, name: text})


def test_directories_follow_the_work_directory_and_expand_the_home(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"general": {"work_dir": "~/w", "user_dir": "$HOME/u"}}')
    settings = load_settings(path, env=env)
    home = Path(env["HOME"])
    assert settings.general.work_dir == home / "w"
    assert settings.general.user_dir == home / "u"
    assert settings.general.data_dir == home / "w/data"
    assert settings.observability.logging.file == home / "w/logs/nunet-dms-logs.jsonl"
    relative = load_settings(overrides={"general.work_dir": "w"}, env=env)
    assert relative.general.work_dir == Path.cwd() / "w"


def test_bootstrap_peers_come_from_their_own_variable_and_the_prefixed_one_wins(env: Mapping[str, str]) -> None:
    env = {**env, "BOOTSTRAP_PEERS": "/ip4/1.2.3.4/tcp/1/p2p/A, /ip4/1.2.3.4/tcp/2/p2p/B"}
    assert load_settings(env=env).p2p.bootstrap_peers == ("/ip4/1.2.3.4/tcp/1/p2p/A", "/ip4/1.2.3.4/tcp/2/p2p/B")
    assert load_settings(env={**env, "DMS_P2P_BOOTSTRAP_PEERS": "[]"}).p2p.bootstrap_peers == ()


def test_bootstrap_peers_of_earlier_releases_give_way(env: Mapping[str, str], tmp_path: Path) -> None:
    old = "/dnsaddr/bootstrap.p2p.nunet.io/p2p/QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9NP"
    path = config(tmp_path, f'{{"p2p": {{"bootstrap_peers": ["{old}", "/ip4/1.1.1.1/tcp/1/p2p/A"]}}}}')
    assert load_settings(path, env=env).p2p.bootstrap_peers == ("/ip4/1.1.1.1/tcp/1/p2p/A", *BOOTSTRAP_PEERS)


def test_flat_keys_of_old_files_are_read_and_nested_ones_win(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(
        tmp_path,
        '{"observability": {"log_level": "debug", "max_size": 7, "elasticsearch_url": "http://x",'
        ' "max_age": 1, "logging": {"rotation": {"max_age_days": 2}}}}',
    )
    settings = load_settings(path, env=env)
    assert settings.observability.logging.level == "DEBUG"
    assert settings.observability.logging.rotation.max_size_mb == 7
    assert settings.observability.logging.rotation.max_age_days == 2
    assert settings.ignored == ("observability.elasticsearch_url",)


def test_unknown_keys_are_named_all_at_once_with_the_nearest_key(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"rest": {"prot": 1}, "profiler": {"enabled": true}, "zzz": 1}')
    with pytest.raises(UnknownKey) as caught:
        load_settings(path, env=env)
    assert caught.value.message == f'unknown keys "rest.prot", "profiler.enabled", "zzz" in {path}'
    assert 'rest.prot: did you mean "rest.port"?' in caught.value.hint
    assert "profiler.enabled: it belongs to a part that this release does not have" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rest": {"port": "9"}}', 'rest.port in {path}: input should be a valid integer, got "9"'),
        ('{"rest": {"port": true}}', "rest.port in {path}: input should be a valid integer, got true"),
        (
            '{"rest": {"port": 65536}}',
            "rest.port in {path}: input should be less than or equal to 65535, got 65536",
        ),
        ('{"general": {"debug": "yes"}}', 'general.debug in {path}: input should be a valid boolean, got "yes"'),
        ('{"general": {"work_dir": 7}}', "general.work_dir in {path}: "),
        ('{"p2p": {"listen_address": [1]}}', "p2p.listen_address in {path}: input should be a valid string, got 1"),
        ('{"p2p": {"listen_address": ["x"]}}', 'p2p.listen_address in {path}: "x" is not a multiaddress'),
        ('{"p2p": {"bootstrap_peers": "/a"}}', "p2p.bootstrap_peers in {path}: "),
        ('{"identity": {"prism_resolver_url": "ftp://x"}}', "identity.prism_resolver_url in {path}: "),
        ('{"identity": {"prism_resolver_url": "http://a:b@x"}}', "identity.prism_resolver_url in {path}: "),
        ('{"rest": 5}', "rest in {path}: expected an object with settings, got 5"),
        ('{"observability": {"log_level": "loud"}}', 'observability.logging.level in {path}: "loud" is not a level'),
        (
            '{"general": {"port_available_range_from": 9, "port_available_range_to": 9}}',
            "general in {path}: port_available_range_from must be below port_available_range_to",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_names_the_key_and_the_file(
    env: Mapping[str, str], tmp_path: Path, text: str, message: str
) -> None:
    path = config(tmp_path, text)
    with pytest.raises(InvalidSetting) as caught:
        load_settings(path, env=env)
    assert caught.value.message.startswith(message.format(path=path))


def test_a_bad_variable_is_named(env: Mapping[str, str]) -> None:
    with pytest.raises(
        InvalidSetting, match=r"rest.port \(environment variable DMS_REST_PORT\): expected a number, got 'x'"
    ):
        load_settings(env={**env, "DMS_REST_PORT": "x"})
    with pytest.raises(InvalidSetting, match="DMS_GENERAL_DEBUG"):
        load_settings(env={**env, "DMS_GENERAL_DEBUG": "perhaps"})
    with pytest.raises(InvalidSetting, match="DMS_REST_PORT"):
        load_settings(env={**env, "DMS_REST_PORT": "-1"})
    with pytest.raises(InvalidSetting, match="not a JSON list"):
        load_settings(env={**env, "BOOTSTRAP_PEERS": "[1,"})


def test_other_variables_of_the_program_and_empty_ones_are_no_settings(env: Mapping[str, str]) -> None:
    load_settings(env={**env, "DMS_PASSPHRASE": "secret", "DMS_CONN_LOGS": "", "DMS_REST_PORT": ""})


def test_a_bad_flag_is_named(env: Mapping[str, str]) -> None:
    with pytest.raises(SettingNotFound, match=r'key "rest\.prot" not found'):
        load_settings(overrides={"rest.prot": 1}, env=env)
    with pytest.raises(InvalidSetting, match=r"rest.port \(command line\)"):
        load_settings(overrides={"rest.port": -1}, env=env)


def test_get_answers_for_keys_and_sections(env: Mapping[str, str]) -> None:
    settings = load_settings(env=env)
    assert settings.get("REST.port") == 9999
    assert settings.get("rest") == {"addr": "127.0.0.1", "port": 9999}
    assert settings.as_dict()["observability"]["logging"]["level"] == "INFO"
    for key in ("rest.prot", "rest.port.x", "", "_source", "source", "model_fields"):
        with pytest.raises(SettingNotFound, match=f'key "{key}" not found'):
            settings.get(key)
    with pytest.raises(SettingNotFound) as caught:
        settings.get("rest.prot")
    assert caught.value.hint == 'did you mean "rest.port"?'
    assert caught.value.exit_code == 4


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


@pytest.mark.parametrize("text", ["forever", "30", "3x"])
def test_how_long_deployments_are_kept_is_a_duration(env: Mapping[str, str], tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"deployments.keep.*write it like 30d"):
        load_settings(config(tmp_path, f'{{"deployments": {{"keep": "{text}"}}}}'), env=env)
