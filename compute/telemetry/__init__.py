"""Telemetry of a process: log lines, traces, the figures behind metrics. Knows no Ray and no database."""
