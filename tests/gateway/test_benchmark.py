"""`outrider bench gateway`, for a moment: its figures are of the requests that it sent."""

from typer.testing import CliRunner

from outrider.cli.main import app


def test_the_gateway_is_measured_streaming_and_not(tmp_path) -> None:
    """Both rows, the memory and whether torch is there; and the figures as a file."""
    output = tmp_path / "figures.json"
    arguments = ["bench", "gateway", "--seconds", "0.2", "--rounds", "1", "--output", str(output)]
    result = CliRunner().invoke(app, arguments)

    assert 0 == result.exit_code, result.output
    assert all(word in result.output for word in ("streaming", "whole", "torch is not imported"))
    assert '"requests_per_second"' in output.read_text()
