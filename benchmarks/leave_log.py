"""Leave an inspect-ai log made beforehand as the log of this job: for evaluations that only take time.

python -I -S leave_log.py TEMPLATE NAME, with the environment that a job's script is given; needs nothing installed.
"""

import json
import os
import sys
import zipfile
from uuid import uuid4

if __name__ == "__main__":
    template, name = sys.argv[1:]
    with zipfile.ZipFile(template) as made, zipfile.ZipFile(f"{os.environ['INSPECT_LOG_DIR']}/{name}.eval", "w") as own:
        for member in made.namelist():
            content = made.read(member)
            if member in ("header.json", "_journal/start.json"):
                header = json.loads(content)
                header["eval"] |= {"tags": [os.environ["INSPECT_EVAL_TAGS"]], "task_id": uuid4().hex}
                content = json.dumps(header).encode()
            own.writestr(member, content)
