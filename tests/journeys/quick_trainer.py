"""A trainer without a recipe: it leaves a mark, and reports a result to whichever API answers."""

import http.client
import json
import os
import sys
import time

with open("job.json") as file:
    task = json.load(file)
with open("token") as file:
    token = file.read()
mark = f"{task['job_id']} {task['attempt']}\n".encode()
marks = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(marks, mark)
body = json.dumps({"result": {"metrics": {"mark": 1.0}}})
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
host = os.environ["MODELOPS_URL"].removeprefix("http://")
deadline = time.monotonic() + 150
while time.monotonic() < deadline:
    try:
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("POST", f"/v1/jobs/{task['job_id']}/result", body, headers)
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException):
        status = 0
    if status in (200, 201):
        sys.exit(0)
    if 400 <= status < 500:
        sys.exit(f"refused: {status}")
    time.sleep(0.2)
sys.exit("no API answered")
