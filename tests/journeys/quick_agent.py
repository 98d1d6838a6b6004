"""An agent whose trainer takes milliseconds: everything but the recipe is as it always is."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from modelops.adapters.local.jobs import LocalJobBackend
from modelops.cli import main

TRAINER = str(Path(__file__).with_name("quick_trainer.py"))
start = LocalJobBackend.start


def start_quickly(self, spec):
    env = {**spec.env, "MARKS": os.environ["MARKS"]}
    start(self, replace(spec, argv=(sys.executable, "-I", "-S", TRAINER), env=env))


LocalJobBackend.start = start_quickly
main()
