"""The door for jobs: a process that takes them from the queue, each under a lease."""
