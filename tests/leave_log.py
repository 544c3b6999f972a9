"""Leave an inspect-ai log made beforehand as the log of this job: for evaluations that need no answers of their own.

python -I -S leave_log.py TEMPLATE, with the environment that a job's script is given; needs nothing installed. Other
arguments are ignored: those of `inspect` may follow.
"""

import json
import os
import sys
import zipfile
from uuid import uuid4

if __name__ == "__main__":
    task_id = uuid4().hex
    own_log = f"{os.environ['INSPECT_LOG_DIR']}/{task_id}.eval"
    with zipfile.ZipFile(sys.argv[1]) as template, zipfile.ZipFile(own_log, "w") as own:
        for member in template.namelist():
            content = template.read(member)
            if member in ("header.json", "_journal/start.json"):
                header = json.loads(content)
                header["eval"] |= {"tags": [os.environ["INSPECT_EVAL_TAGS"]], "task_id": task_id}
                content = json.dumps(header).encode()
            own.writestr(member, content)
