"""The worker side of a task, without Ray: jobs, their stages and the stream of events that the Dispatcher reads."""
