from collections.abc import Mapping
from pathlib import Path

import pytest

from dms.config import ConfigUnreadable, InvalidSetting, SettingNotFound, UnknownKey, load_settings
from dms.config.keys import keys
from dms.config.load import differences, load_again, unknown_variables, with_live
from dms.config.origin import Source
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


SAMPLES = {
    "number": ("20000", 20000),
    "true or false": ("true", True),
    "text": ("/x", "/x"),
    "position": ("52.52, 13.4", "52.52, 13.4"),
    "path": ("/x", Path("/x")),
    "file": ("/x", "/x"),
    "duration": ("5d", "5d"),
    "log level": ("ERROR", "ERROR"),
    "auto, on or off": ("off", "off"),
    "name": ("acme-lab", "acme-lab"),
    "address": ("http://a.b/c/", "http://a.b/c"),
    "secret": ("s3cret", "s3cret"),
    "secret address": ("postgresql://u:s3cret@h/d?x=y", "postgresql://u:s3cret@h/d?x=y"),
    "list of texts": ('["a", "b"]', ("a", "b")),
    "list of paths": ("/a, /b", (Path("/a"), Path("/b"))),
    "list of multiaddresses": ('["/a", "/b"]', ("/a", "/b")),
    "list of peer ids": (
        '["12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3"]',
        ("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3",),
    ),
    "list of networks": ("10.0.0.0/8", ("10.0.0.0/8",)),
    "list of name servers": ("system, 9.9.9.9", ("system", "9.9.9.9")),
}
"""Of every kind: how it is written, and what it is."""


@pytest.mark.parametrize("key", keys())
def test_every_key_can_be_set_by_its_environment_variable(env: Mapping[str, str], key: str) -> None:
    text, value = SAMPLES[keys()[key].kind]
    settings = load_settings(env={**env, keys()[key].variable: text})
    assert settings.value(key) == value
    assert (settings.origin(key).source, settings.origin(key).place) == (Source.ENVIRONMENT, keys()[key].variable)


def test_a_bad_address_of_a_database_is_refused_and_not_repeated(env: Mapping[str, str]) -> None:
    for text in ("mysql://u:s3cret@h/d", "postgresql://u:s3cret@h", "u:s3cret", "postgresql://u:s3cret@h/a b"):
        with pytest.raises(InvalidSetting, match="write it like postgresql://") as caught:
            load_settings(env={**env, "DMS_DATABASE_URL": text})
        assert "s3cret" not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize("text", ["Acme", "a/b", "a" * 33, "-a"])
def test_what_cannot_be_the_name_of_a_network_is_refused(env: Mapping[str, str], text: str) -> None:
    with pytest.raises(InvalidSetting, match="not the name of a network"):
        load_settings(env={**env, "DMS_P2P_NETWORK_ID": text})


def test_no_two_keys_share_a_variable() -> None:
    assert len({key.variable for key in keys().values()}) == len(keys())


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
    assert settings.observability.elastic.url == "http://x"
    assert settings.flat_keys == tuple(
        f"observability.{name}" for name in ("log_level", "max_size", "elasticsearch_url", "max_age")
    )


def test_unknown_keys_are_named_all_at_once_with_the_nearest_key(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"rest": {"prot": 1}, "profiler": {"enabled": true}, "zzz": 1}')
    with pytest.raises(UnknownKey) as caught:
        load_settings(path, env=env)
    assert caught.value.message == (
        f'unknown keys in {path}: "rest.prot" (line 1), "profiler.enabled" (line 1), "zzz" (line 1)'
    )
    assert 'rest.prot: did you mean "rest.port"?' in caught.value.hint
    assert "profiler.enabled: it belongs to a part that this release does not have" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rest": {"port": "9"}}', 'rest.port in {path}:1: input should be a valid integer, got "9"'),
        ('{"rest": {"port": true}}', "rest.port in {path}:1: input should be a valid integer, got true"),
        (
            '{"rest": {"port": 65536}}',
            "rest.port in {path}:1: input should be less than or equal to 65535, got 65536",
        ),
        ('{"general": {"debug": "yes"}}', 'general.debug in {path}:1: input should be a valid boolean, got "yes"'),
        ('{"general": {"work_dir": 7}}', "general.work_dir in {path}:1: "),
        ('{"p2p": {"listen_address": [1]}}', "p2p.listen_address in {path}:1: input should be a valid string, got 1"),
        ('{"p2p": {"listen_address": ["x"]}}', 'p2p.listen_address in {path}:1: "x" is not a multiaddress'),
        ('{"p2p": {"bootstrap_peers": "/a"}}', "p2p.bootstrap_peers in {path}:1: "),
        ('{"identity": {"prism_resolver_url": "ftp://x"}}', "identity.prism_resolver_url in {path}:1: "),
        ('{"identity": {"prism_resolver_url": "http://a:b@x"}}', "identity.prism_resolver_url in {path}:1: "),
        ('{"rest": 5}', "rest in {path}:1: expected an object with settings, got 5"),
        ('{"observability": {"log_level": "loud"}}', 'observability.logging.level in {path}:1: "loud" is not a level'),
        (
            '{"general": {"port_available_range_from": 9, "port_available_range_to": 9}}',
            "general in {path}:1: port_available_range_from must be below port_available_range_to",
        ),
        (
            '{"p2p": {"swarm_key_file": "/k", "listen_address": ["/ip4/0.0.0.0/udp/9000/quic-v1"]}}',
            "p2p in {path}:1: swarm_key_file does not protect QUIC: take the /quic addresses out of listen_address",
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


def test_a_network_key_goes_with_the_default_addresses_and_its_path_may_begin_at_home(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    path = config(tmp_path, '{"p2p": {"swarm_key_file": "~/swarm.key"}}')
    assert load_settings(path, env=env).p2p.swarm_key_file == str(Path(env["HOME"], "swarm.key"))
    assert load_settings(env=env).p2p.swarm_key_file == ""


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


@pytest.mark.parametrize("text", ["forever", "30", "3x"])
def test_how_long_deployments_are_kept_is_a_duration(env: Mapping[str, str], tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"deployments.keep.*write it like 30d"):
        load_settings(config(tmp_path, f'{{"deployments": {{"keep": "{text}"}}}}'), env=env)


def test_an_unknown_key_is_told_with_file_and_line_and_the_nearest_key(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{\n  // mine\n  "rest": {\n    "addr": "::1",\n    "prot": 1\n  }\n}')
    with pytest.raises(UnknownKey) as caught:
        load_settings(path, env=env)
    assert caught.value.message == f'unknown key "rest.prot" in {path}:5'
    assert caught.value.hint == 'did you mean "rest.port"?'


def test_every_value_tells_where_it_comes_from(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{\n"rest": {"port": 1},\n"observability": {"max_age": 3}\n}')
    settings = load_settings(path, {"general.debug": True}, {**env, "DMS_P2P_FD": "5", "BOOTSTRAP_PEERS": "/x"})
    told = {key: str(settings.origin(key)) for key in keys() if settings.origin(key).source is not Source.DEFAULT}
    assert told == {
        "general.debug": "flag",
        "rest.port": f"file {path}:2",
        "p2p.bootstrap_peers": "environment BOOTSTRAP_PEERS",
        "p2p.fd": "environment DMS_P2P_FD",
        "observability.logging.rotation.max_age_days": f"file {path}:3",
    }


# what changes while the node runs ------------------------------------------------------------------------------------


def test_what_is_set_at_run_time_lies_over_the_file_and_under_variables_and_flags(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    path = config(
        tmp_path, '{"deployments": {"keep": "1d"}, "offer": {"max_hours": 1}, "messages": {"public_burst": 1}}'
    )
    settings = load_settings(path, {"offer.max_hours": 2}, {**env, "DMS_MESSAGES_PUBLIC_BURST": "2"})
    live = with_live(settings, {"deployments.keep": "9d", "offer.max_hours": 9, "messages.public_burst": 9})
    assert (live.deployments.keep, live.offer.max_hours, live.messages.public_burst) == ("9d", 2, 2)
    assert live.origin("deployments.keep").source is Source.LIVE
    assert live.source == path
    assert differences(settings, live) == ("deployments.keep",)
    with pytest.raises(InvalidSetting, match=r"deployments.keep \(set while the node runs\): .*write it like 30d"):
        with_live(settings, {"deployments.keep": "long"})


def test_settings_are_loaded_again_from_the_same_sources(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"rest": {"port": 1}}')
    settings = load_settings(path, {"general.debug": True}, env)
    path.write_text('{"rest": {"port": 2}}')
    again = load_again(settings)
    assert (again.rest.port, again.general.debug) == (2, True)
    assert differences(settings, again) == ("rest.port",)


# secrets -------------------------------------------------------------------------------------------------------------


def test_secrets_are_hidden_wherever_settings_are_shown(env: Mapping[str, str], tmp_path: Path) -> None:
    path = config(tmp_path, '{"observability": {"elastic": {"api_key": "s3cret-1"}}}')
    settings = load_settings(path, env={**env, "DMS_APM_API_KEY": "s3cret-2", "DMS_PASSPHRASE": "s3cret-3"})
    assert settings.value("observability.elastic.api_key") == "s3cret-1"
    assert settings.apm.api_key.get_secret_value() == "s3cret-2"
    shown = [settings.as_dict(), settings, settings.get("apm"), settings.get("apm.api_key"), settings._sources]
    assert "s3cret" not in f"{shown} {shown!r} {settings.model_dump_json()}"
    assert settings.get("apm.api_key") == "[hidden]"
    assert settings.get("apm.secret_token") == ""


def test_a_secret_may_lie_in_a_file_of_its_own(env: Mapping[str, str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    path = config(tmp_path, f'{{"apm": {{"api_key": "file:{key}"}}}}')
    assert load_settings(path, env=env).value("apm.api_key") == "s3cret"
    assert load_settings(env={**env, "DMS_APM_API_KEY": f"file:{key}"}).value("apm.api_key") == "s3cret"
    key.unlink()
    with pytest.raises(ConfigUnreadable, match=rf"apm.api_key in {path}:1: cannot read the secret in {key}: No such"):
        load_settings(path, env=env)


def test_a_bad_secret_is_refused_without_being_told(env: Mapping[str, str]) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load_settings(env={**env, "DMS_APM_API_KEY": "s3c\x1bret"})
    assert caught.value.message == "apm.api_key (environment variable DMS_APM_API_KEY): a secret is one line of text"


# variables -----------------------------------------------------------------------------------------------------------


def test_variables_that_look_like_settings_and_are_none_are_found(env: Mapping[str, str]) -> None:
    found = unknown_variables(
        {"DMS_REST_PROT": "1", "DMS_REST_PORT": "1", "DMS_PASSPHRASE": "x", "DMS_CONN_LOGS": "1", "DMS_APM_ZZZZ": ""}
    )
    assert found == {"DMS_APM_ZZZZ": "", "DMS_REST_PROT": "DMS_REST_PORT"}


def test_what_is_no_peer_id_is_refused_and_those_of_all_kinds_of_keys_are_not(env: Mapping[str, str]) -> None:
    good = ("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3", "QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9NP")
    assert load_settings(env={**env, "DMS_P2P_ALLOW_PEERS": ",".join(good)}).p2p.allow_peers == good
    for text in ("node1", good[0][:-1], good[1] + "0", f"/ip4/1.2.3.4/tcp/9000/p2p/{good[0]}"):
        with pytest.raises(InvalidSetting, match="is not a peer id"):
            load_settings(env={**env, "DMS_P2P_DENY_PEERS": text})
