"""Leave an inspect-ai log made beforehand as the log of this job: for evaluations that need no answers of their own.

python -I -S leave_log.py TEMPLATE [ARGUMENTS], with the environment that a job's script is given; needs nothing
installed. The arguments are those of `inspect eval`, of which only --log-dir matters.
"""

import json
import os
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

if __name__ == "__main__":
    task_id = uuid4().hex
    folder = Path(dict(pairwise(sys.argv)).get("--log-dir", os.environ["INSPECT_LOG_DIR"]))
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(sys.argv[1]) as template, zipfile.ZipFile(folder / f"{task_id}.eval", "w") as own:
        for member in template.namelist():
            content = template.read(member)
            if member in ("header.json", "_journal/start.json"):
                header = json.loads(content)
                header["eval"] |= {"tags": [os.environ["INSPECT_EVAL_TAGS"]], "task_id": task_id}
                content = json.dumps(header).encode()
            own.writestr(member, content)
