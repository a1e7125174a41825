"""What runs on a replica, without Ray: jobs, their stages and the stream of events that the Dispatcher reads."""
