"""What a process tells about its work: log lines, traces, the figures behind metrics. Knows no Ray and no database."""
