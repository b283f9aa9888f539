"""`outrider` inside the test's own process: seconds of imports are saved where a process of its own proves nothing."""

import logging

import torch
from typer.testing import CliRunner

from outrider.cli.main import app


def invoke(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error. An exception that the command lets through is raised."""
    threads, logger = torch.get_num_threads(), logging.getLogger("outrider")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    try:
        done = CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    finally:
        torch.set_num_threads(threads)
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)
    return done.exit_code, done.stdout, done.stderr
