"""A process that is killed anywhere within a save leaves the old file or the new one, and either can be loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from dms.capability.store import edit_context, load_context, save_context
from dms.capability.token import TokenList
from dms.testing.parties import Party, StoppedClock

CLOCK = StoppedClock()
NODE, USER, ORG = (Party(name, clock=CLOCK) for name in ("node", "user", "org"))

# One child per call into the system: it counts them with the interpreter's profiler and kills itself at the n-th.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from dms.capability.store import load_context, save_context
from dms.testing.parties import Party, StoppedClock

path, copies = Path(sys.argv[1]), Path(sys.argv[2])
node, clock = Party("node"), StoppedClock()
calls = {"open", "write", "flush", "fsync", "rename", "replace", "close", "mkdir", "fdopen", "link", "unlink", "chmod"}

def save_until(step):
    context = load_context(path, node.trust, clock_ns=clock)
    context.add_roots([Party("org").did])
    count = 0
    def count_calls(_frame, event, function):
        nonlocal count
        if event in ("c_call", "c_return") and function.__name__ in calls:
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
    sys.setprofile(count_calls)
    save_context(context, path)
    sys.setprofile(None)

before, step = path.read_bytes(), 0
while True:
    path.write_bytes(before)
    child = os.fork()
    if not child:
        save_until(step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    (copies / str(step)).write_bytes(path.read_bytes())
    if not os.WIFSIGNALED(status):
        break
    step += 1
"""


def test_a_kill_at_any_step_of_a_save_leaves_a_whole_file(tmp_path: Path) -> None:
    path, copies = tmp_path / "cap" / "node.cap", tmp_path / "copies"
    copies.mkdir()
    context = Party("node", clock=CLOCK).context
    context.add_roots([USER.did], TokenList.of(NODE.issue(USER, "/a")))
    save_context(context, path)
    old = path.read_bytes()
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(copies)],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    states = [(copies / str(step)).read_bytes() for step in range(len(list(copies.iterdir())))]
    new = states[-1]
    assert len(states) > 10, "it was killed at every step"
    assert new != old
    changed = states.index(new)
    assert states == [old] * changed + [new] * (len(states) - changed)
    assert changed > 5, "the file is replaced at the end only"
    for data in (old, new):
        path.write_bytes(data)
        assert load_context(path, NODE.trust, clock_ns=CLOCK).load_problems == ()


def test_the_lock_of_a_killed_editor_does_not_outlive_it(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    save_context(Party("node", clock=CLOCK).context, path)
    script = (
        "import sys\nfrom pathlib import Path\nfrom dms.capability.store import edit_context\n"
        "from dms.testing.parties import Party, StoppedClock\n"
        "with edit_context(Path(sys.argv[1]), Party('node').trust, clock_ns=StoppedClock()):\n"
        "    print('locked', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as editor:
        assert editor.stdout is not None
        assert editor.stdout.readline() == b"locked\n"
        editor.send_signal(signal.SIGKILL)
        editor.wait(timeout=20)
    with edit_context(path, NODE.trust, clock_ns=CLOCK) as context:
        context.add_roots([ORG.did])
    assert load_context(path, NODE.trust, clock_ns=CLOCK).list_roots()[0] == (ORG.did,)
