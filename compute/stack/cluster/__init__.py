"""The Ray cluster of one machine, and HAProxy before it."""
