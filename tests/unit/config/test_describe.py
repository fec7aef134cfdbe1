"""The settings for editors and people: what the schema and the example say is what the loader takes."""

import json
import re
from pathlib import Path

from dms.config import load_settings
from dms.config.describe import example, json_schema, told
from dms.config.file import without_comments
from dms.config.keys import keys, sections


def test_the_example_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dms_config.json"
    path.write_text(example())
    env = {"HOME": str(tmp_path)}
    assert load_settings(path, env=env).as_dict() == load_settings(env=env).as_dict()


def test_every_setting_of_the_example_works_when_its_comment_is_taken_away(tmp_path: Path) -> None:
    text = re.sub(r'(?m)^( *)// ("\w+": .*,)$', r"\1\2", example())
    path = tmp_path / "dms_config.json"
    path.write_text(text)
    env = {"HOME": str(tmp_path)}
    settings = load_settings(path, env=env)
    assert settings.as_dict() == load_settings(env=env).as_dict()
    assert {key for key in keys() if settings.origin(key).place.startswith(str(path))} == set(keys())
    assert max(len(line) for line in example().splitlines() if not re.match(r' *// "', line)) <= 100


def test_the_schema_describes_every_key_and_admits_no_other() -> None:
    schema = json_schema()
    for name, key in keys().items():
        node = schema
        for part in name.split("."):
            assert node["additionalProperties"] is False
            node = node["properties"][part]
        assert node["description"] == told(key)
        assert node["default"] == key.default
        assert ("minimum" in node, "maximum" in node) == (key.minimum is not None, key.maximum is not None)
    assert json.loads(json.dumps(schema)) == schema


def test_an_editor_may_be_told_the_schema_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "dms_config.json"
    path.write_text('{"$schema": "./schema.json", "rest": {"port": 5}}')
    assert load_settings(path, env={"HOME": "/h"}).rest.port == 5


def test_every_section_and_key_is_explained() -> None:
    assert all(section.__doc__ and section.__doc__.endswith(".") for _, section in sections())
    assert all(key.meaning and not key.meaning.endswith(".") for key in keys().values())
    assert without_comments(example()).strip() != example().strip()
