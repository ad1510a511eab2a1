"""One executor process: takes jobs as lines of JSON, executes them one after another, ends with its parent.

Line in: `{"graph": {...}, "folder": "..."}`. First line out: `{"processes": [...]}`; then one line a job:
`{"files": [...], "values": n, "cpu": s, "memory": MB}` or `{"error": {"code": ..., "message": ...}}`.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Warm up, then execute what comes in until the parent closes the pipe (or is gone)."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(sys.stdin, jobs), daemon=True).start()
    from sandbox.execute import Engine  # noqa: PLC0415 - takes seconds: the parent is being watched already

    engine = Engine(sys.argv[1] if len(sys.argv) > 1 else None)
    _answer(answers, {"processes": engine.processes})
    while True:
        job = json.loads(jobs.get())
        _answer(answers, _execute(engine, job))


def _read(source: TextIO, jobs: queue.Queue[str]) -> None:
    """Hand on lines; end the process at once when the parent's end of the pipe closes, also in the middle of a job."""
    for line in source:
        jobs.put(line)
    os._exit(0)


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _execute(engine: Any, job: dict[str, Any]) -> dict[str, Any]:
    from sandbox.errors import OpenEOError  # noqa: PLC0415 - as above

    started = time.process_time()
    try:
        outcome = engine.run(job["graph"], Path(job["folder"]))
    except OpenEOError as error:
        return {"error": {"code": error.code, "message": error.message}}
    except MemoryError:
        return {"error": {"code": "OOM", "message": "Your job failed because an executor used too much memory."}}
    except Exception as error:  # noqa: BLE001 - a user's graph may raise anything; it ends in the job's logs
        traceback.print_exc()
        return {
            "error": {"code": "Internal", "message": f"Exception during process graph evaluation: {error!r}"[:2000]}
        }
    return {
        "files": [file.to_dict() for file in outcome.files],
        "values": outcome.values,
        "cpu": time.process_time() - started,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
