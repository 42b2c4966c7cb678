"""Runs a bench command, for the scripts beside this file."""

import json
import os
import shlex
import subprocess
import sys


def run(command):
    """The rows a bench command prints as JSON; stops the script when it fails."""
    script = os.path.basename(sys.argv[0])
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        sys.exit(f"{script}: cannot run {command[0]}: {error.strerror}")
    if done.returncode != 0:
        sys.exit(f"{script}: {shlex.join(command)} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError as error:
        sys.exit(f"{script}: {shlex.join(command)} printed no JSON: {error}\n{done.stdout[:500]}")
