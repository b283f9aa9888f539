"""Spans, metrics and their exporters; the only folder that knows OpenTelemetry. Knows nothing of who calls it."""
