"""One way to run a command, in this process, with what it printed kept apart from its messages."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from atofx.cli.app import app


@pytest.fixture
def atofx_command() -> Callable[..., Result]:
    """`atofx_command("inspect", "resnet20")` -> result with .exit_code, .stdout, .stderr."""

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
