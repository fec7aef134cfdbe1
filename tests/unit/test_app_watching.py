"""A whole service, and what it tells to others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import trio

from dms.app import serve
from dms.config import load_settings
from dms.identity.keys import generate_key
from dms.identity.keystore import Keystore
from dms.testing.web import Answer, Asked, web_server

PASSPHRASE = "correct horse battery"
KEY = "ZWxhc3RpYzprZXk="


async def test_a_service_is_scraped_and_tells_elasticsearch_of_its_life_without_its_secrets(tmp_path: Path) -> None:
    documents: list[dict[str, Any]] = []

    async def bulk(asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        assert asked.headers["authorization"] == f"ApiKey {KEY}"
        documents.extend(json.loads(line) for line in asked.body.splitlines()[1::2])
        return Answer(200, b'{"errors":false}')

    Keystore(tmp_path / "user/key", scrypt_n=2).save("dms", generate_key(), PASSPHRASE)
    file = tmp_path / "dms_config.json"
    (tmp_path / "es.key").write_text(KEY)
    async with web_server(bulk) as web:
        elastic = {"enabled": True, "url": web.url, "api_key": f"file:{tmp_path / 'es.key'}", "flush_interval": 3600}
        file.write_text(
            json.dumps(
                {
                    "general": {"user_dir": str(tmp_path / "user"), "work_dir": str(tmp_path / "work"), "env": "test"},
                    "rest": {"port": 0},
                    "p2p": {"listen_address": ["/ip4/127.0.0.1/tcp/0"], "bootstrap_peers": []},
                    "observability": {"elastic": elastic},
                }
            )
        )
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            ready = await nursery.start(serve, load_settings(file, {}, {}), "dms", PASSPHRASE, stop)
            async with httpx2.AsyncClient() as http:
                scraped = await http.get(f"http://127.0.0.1:{ready.rest_port}/metrics")
            stop.set()
    assert 'dms_output_up{output="elastic"} 1\n' in scraped.text
    assert f'did="{ready.did}"' in scraped.text
    told = {document["message"]: document for document in documents}
    assert {"started", "node_started", "node_stopping", "statistics"} <= told.keys()
    assert told["node_started"]["labels"] == ["node"]
    assert told["statistics"]["labels"] == ["metric"]
    assert all(document["did"] == ready.did for document in documents)
    log = (tmp_path / "work/logs/nunet-dms-logs.jsonl").read_text()
    for secret in (PASSPHRASE, KEY):
        assert secret not in log
        assert secret not in json.dumps(documents)
