"""A whole service that keeps its records on a server."""

import json
from pathlib import Path

import pytest
import trio

from dms.app import serve
from dms.config import load_settings
from dms.devnet.processes import read_health
from dms.identity.keys import generate_key
from dms.identity.keystore import Keystore
from dms.store import DATABASE, EntityRepository, Store
from dms.store.examine import examine
from dms.store.schema import HEAD, onboarding_config
from dms.testing.postgres import PostgresServer
from dms.types.resources import RAM


@pytest.mark.postgres
async def test_a_service_keeps_its_records_on_the_server_that_its_settings_name(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.new_schema()
    Keystore(tmp_path / "user/key", scrypt_n=2).save("dms", generate_key(), "p")
    file, secret = tmp_path / "dms_config.json", tmp_path / "url"
    secret.write_text(url.engine_url.set(drivername="postgresql").render_as_string(hide_password=False))
    sections = {
        "general": {"user_dir": str(tmp_path / "user"), "work_dir": str(tmp_path / "work"), "env": "test"},
        "rest": {"port": 0},
        "p2p": {"listen_address": ["/ip4/127.0.0.1/tcp/0"], "bootstrap_peers": []},
        "database": {"url": f"file:{secret}"},
    }
    file.write_text(json.dumps(sections))
    for _ in range(2):
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            ready = await nursery.start(serve, load_settings(file, {}, {}), "dms", "p", stop)
            assert await trio.to_thread.run_sync(read_health, ready.rest_port) is not None
            stop.set()
    assert (examine(url).revision, examine(url).problems) == (HEAD, ())
    assert not (tmp_path / "work" / DATABASE).exists()
    async with await Store.open(url) as store:
        assert await EntityRepository(store, onboarding_config, RAM).history() == ()
